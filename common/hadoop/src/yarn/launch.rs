//! Composing what a container is started with: its command, files, environment and size.
//!
//! # The quoting trap
//!
//! YARN joins the strings of a command by blanks and pastes them **between double quotes, without escaping**, into the
//! script that launches the container: `exec /bin/bash -c "<command>"`. A double quote inside breaks the script (exit
//! code 2); `$X`, backticks and backslashes are taken by the outer shell. Environment values are pasted the same way.
//! [`Command`] and [`environment`] refuse what would not arrive as written. What cannot be said there goes into a file.

use std::path::Path;

use crate::proto::yarn as pb;

pub use crate::proto::yarn::{LocalResourceType, LocalResourceVisibility};

/// Something that YARN would not carry to the container unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// Text with a character that the launch script interprets.
    #[error("`{text}` has {found:?} in it, which YARN's launch script would interpret")]
    Unsafe {
        /// The text.
        text: String,
        /// The character.
        found: char,
    },
    /// A variable's name that no shell takes.
    #[error("`{0}` is no name of an environment variable")]
    Name(String),
    /// Not `scheme://authority/path`.
    #[error("`{0}` is no URL with a scheme and an absolute path")]
    Url(String),
}

/// What the outer shell takes for itself between double quotes, and what ends a line of the script.
const fn is_taken_by_shell(c: char) -> bool {
    matches!(c, '"' | '$' | '`' | '\\' | '\n' | '\r' | '\0')
}

/// Checks that text arrives in a container as written; `{{NAME}}` and `<LOG_DIR>` are YARN's and pass.
///
/// # Errors
/// When it would not.
pub fn check(text: &str) -> Result<(), LaunchError> {
    match text.chars().find(|&c| is_taken_by_shell(c)) {
        Some(found) => Err(LaunchError::Unsafe {
            text: text.to_owned(),
            found,
        }),
        None => Ok(()),
    }
}

/// A command line for a container, each argument quoted for the inner shell.
///
/// ```
/// use spindle_hadoop::yarn::launch::Command;
///
/// let line = Command::new("./job")?.arg("--name")?.arg("it's two words")?.log_to("job")?.line();
/// assert_eq!(line, r#"./job --name 'it'"'"'s two words' 1><LOG_DIR>/job.out 2><LOG_DIR>/job.stderr"#.replace("\"'\"", "\\'"));
/// # Ok::<(), spindle_hadoop::yarn::launch::LaunchError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    line: String,
}

impl Command {
    /// Starts with the program, e.g. `./job` for a localized file.
    ///
    /// # Errors
    /// When it would not arrive as written.
    pub fn new(program: &str) -> Result<Self, LaunchError> {
        Ok(Self {
            line: quote(program)?,
        })
    }

    /// Adds an argument.
    ///
    /// # Errors
    /// When it would not arrive as written.
    pub fn arg(mut self, argument: &str) -> Result<Self, LaunchError> {
        self.line.push(' ');
        self.line.push_str(&quote(argument)?);
        Ok(self)
    }

    /// Sends output to `<name>.out` and errors to `<name>.stderr` in the container's log directory. Files named
    /// `*stderr*` are quoted in the container's diagnostics when it fails.
    ///
    /// # Errors
    /// When the name would not arrive as written.
    pub fn log_to(mut self, name: &str) -> Result<Self, LaunchError> {
        let name = quote(name)?;
        self.line.push_str(&format!(
            " 1><LOG_DIR>/{name}.out 2><LOG_DIR>/{name}.stderr"
        ));
        Ok(self)
    }

    /// The line for `ContainerLaunchContext.command`.
    pub fn line(self) -> String {
        self.line
    }
}

/// Quotes for the inner shell, in a way that survives the outer one.
fn quote(text: &str) -> Result<String, LaunchError> {
    check(text)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    // Between double quotes a backslash before a single quote is kept, so the usual escape reaches the inner shell.
    Ok(format!("'{}'", text.replace('\'', "'\\''")))
}

/// Environment entries for a launch context.
///
/// # Errors
/// When a name is none, or a value would not arrive as written.
pub fn environment<'a>(
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<pb::StringStringMap>, LaunchError> {
    variables
        .into_iter()
        .map(|(name, value)| {
            let first = name
                .chars()
                .next()
                .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
            if !first || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(LaunchError::Name(name.to_owned()));
            }
            check(value)?;
            Ok(pb::StringStringMap {
                key: Some(name.to_owned()),
                value: Some(value.to_owned()),
            })
        })
        .collect()
}

/// A file that the NodeManager fetches before the container starts; it arrives executable and read-only.
///
/// `size` (bytes) and `modified_ms` (ms since the epoch) are those of the file system's own status: with another time
/// the container fails. PUBLIC files must be readable by everybody, and all directories above them executable.
///
/// # Errors
/// When `url` is no URL with scheme and absolute path.
pub fn local_resource(
    url: &str,
    size: u64,
    modified_ms: u64,
    kind: LocalResourceType,
    visibility: LocalResourceVisibility,
) -> Result<pb::LocalResource, LaunchError> {
    Ok(pb::LocalResource {
        resource: Some(parse_url(url)?),
        size: Some(size.cast_signed()),
        timestamp: Some(modified_ms.cast_signed()),
        r#type: Some(kind.into()),
        visibility: Some(visibility.into()),
        pattern: None,
        should_be_uploaded_to_shared_cache: None,
    })
}

/// Files by the names under which they appear in the working directory.
pub fn local_resources<N: Into<String>>(
    files: impl IntoIterator<Item = (N, pb::LocalResource)>,
) -> Vec<pb::StringLocalResourceMap> {
    files
        .into_iter()
        .map(|(name, file)| pb::StringLocalResourceMap {
            key: Some(name.into()),
            value: Some(file),
        })
        .collect()
}

/// A URL in parts: `hdfs://[user@]host[:port]/path`; the host of an HA file system is its nameservice.
///
/// # Errors
/// When scheme or absolute path is missing, or the port is no port.
pub fn parse_url(url: &str) -> Result<pb::Url, LaunchError> {
    let parse = || {
        let (scheme, rest) = url.split_once("://")?;
        let slash = rest.find('/')?;
        let (authority, file) = rest.split_at(slash);
        let (user_info, host_port) = match authority.rsplit_once('@') {
            Some((user, host_port)) => (Some(user.to_owned()), host_port),
            None => (None, authority),
        };
        let (host, port) = match host_port.rsplit_once(':') {
            Some((host, port)) => (host, i32::from(port.parse::<u16>().ok()?)),
            None => (host_port, -1),
        };
        if scheme.is_empty() || !Path::new(file).is_absolute() {
            return None;
        }
        Some(pb::Url {
            scheme: Some(scheme.to_owned()),
            host: (!host.is_empty()).then(|| host.to_owned()),
            port: Some(port),
            file: Some(file.to_owned()),
            user_info,
        })
    };
    parse().ok_or_else(|| LaunchError::Url(url.to_owned()))
}

/// A size: memory in MiB, and virtual cores.
pub fn resource(memory_mb: u64, virtual_cores: u32) -> pb::Resource {
    pb::Resource {
        memory: Some(memory_mb.cast_signed()),
        virtual_cores: Some(virtual_cores.cast_signed()),
        resource_value_map: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_launch_script_would_interpret_is_refused() {
        for (text, found) in [
            ("a\"b", '"'),
            ("$HOME", '$'),
            ("`id`", '`'),
            ("a\\b", '\\'),
            ("a\nb", '\n'),
        ] {
            let expected = LaunchError::Unsafe {
                text: text.into(),
                found,
            };
            assert_eq!(
                Command::new("./x").unwrap().arg(text),
                Err(expected.clone())
            );
            assert_eq!(environment([("K", text)]), Err(expected));
        }
    }

    /// Does what YARN does: pastes the line between double quotes.
    #[test]
    fn arguments_arrive_through_both_shells_as_written() {
        let arguments = [
            "plain",
            "",
            "two words",
            "it's",
            "a'b'c",
            "*",
            ";",
            "#x",
            "<y>",
            "&&",
            "!x",
            "~",
            "é",
        ];
        let command = arguments.iter().fold(
            Command::new("printf").unwrap().arg("%s|").unwrap(),
            |command, argument| command.arg(argument).unwrap(),
        );
        let script = format!("exec /bin/bash -c \"{}\"", command.line());
        let output = std::process::Command::new("/bin/bash")
            .arg("-c")
            .arg(script)
            .output()
            .unwrap();
        let expected: String = arguments
            .iter()
            .map(|argument| format!("{argument}|"))
            .collect();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }

    #[test]
    fn urls_come_in_parts() {
        let url = parse_url("hdfs://127.0.0.1:8020/user/a b/x").unwrap();
        assert_eq!(
            (url.scheme(), url.host(), url.port(), url.file()),
            ("hdfs", "127.0.0.1", 8020, "/user/a b/x")
        );
        let ha = parse_url("hdfs://cluster/x").unwrap();
        assert_eq!((ha.host(), ha.port()), ("cluster", -1));
        for wrong in ["/x", "hdfs:/x", "hdfs://host", "hdfs://host:x/y", "://h/x"] {
            assert_eq!(parse_url(wrong), Err(LaunchError::Url(wrong.into())));
        }
    }

    #[test]
    fn names_of_variables_are_checked() {
        assert_eq!(
            environment([("A-B", "x")]),
            Err(LaunchError::Name("A-B".into()))
        );
        assert_eq!(
            environment([("", "x")]),
            Err(LaunchError::Name(String::new()))
        );
        assert!(environment([("_A1", "x y")]).is_ok());
    }
}
