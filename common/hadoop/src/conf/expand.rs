//! `${…}` in values: other keys, the environment, and Java's well-known system properties.

/// Nesting of references beyond which Hadoop gives up, too.
const MAX_DEPTH: usize = 20;
/// A value that grows beyond this by expansion is a bomb, not a setting.
const MAX_LENGTH: usize = 1 << 20;

/// Why a value cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ExpandError {
    /// The keys, first one repeated last, that refer to each other in a ring.
    Loop(Vec<String>),
    /// References are nested too deeply, or the text grows without end.
    TooDeep,
}

/// Looks at the settings while a value is expanded.
pub(super) trait Lookup {
    /// The unexpanded value of a configuration key.
    fn raw(&self, key: &str) -> Option<&str>;
    /// The environment variable `name` as it was when the configuration was loaded.
    fn env(&self, name: &str) -> Option<&str>;
}

/// Replaces all references in the value of `key`; what nothing defines stays as written, as in Hadoop.
pub(super) fn expand(key: &str, text: &str, lookup: &dyn Lookup) -> Result<String, ExpandError> {
    let mut path = vec![key.to_owned()];
    expand_text(text, lookup, &mut path)
}

fn expand_text(
    text: &str,
    lookup: &dyn Lookup,
    path: &mut Vec<String>,
) -> Result<String, ExpandError> {
    if path.len() > MAX_DEPTH {
        return Err(ExpandError::TooDeep);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, name, after)) = next_reference(rest) {
        out.push_str(before);
        match resolve(name, lookup, path)? {
            Some(value) => out.push_str(&value),
            None => {
                out.push_str("${");
                out.push_str(name);
                out.push('}');
            }
        }
        if out.len() > MAX_LENGTH {
            return Err(ExpandError::TooDeep);
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn resolve(
    name: &str,
    lookup: &dyn Lookup,
    path: &mut Vec<String>,
) -> Result<Option<String>, ExpandError> {
    if let Some(variable) = name.strip_prefix("env.") {
        let (variable, fallback) = split_default(variable);
        let value = lookup.env(variable);
        // `:-` also replaces an empty variable, `-` only a missing one: the shell's rule, and Hadoop's.
        return Ok(match (value, fallback) {
            (Some(""), Some((fallback, true))) => Some(fallback.to_owned()),
            (Some(value), _) => Some(value.to_owned()),
            (None, Some((fallback, _))) => Some(fallback.to_owned()),
            (None, None) => None,
        });
    }
    let system = match name {
        "user.name" => lookup
            .env("HADOOP_USER_NAME")
            .or_else(|| lookup.env("USER")),
        "user.home" => lookup.env("HOME"),
        "java.io.tmpdir" => Some("/tmp"),
        _ => None,
    };
    if let Some(value) = system {
        return Ok(Some(value.to_owned()));
    }
    let Some(raw) = lookup.raw(name) else {
        return Ok(None);
    };
    if path.iter().any(|key| key == name) {
        let mut ring = path.clone();
        ring.push(name.to_owned());
        return Err(ExpandError::Loop(ring));
    }
    path.push(name.to_owned());
    let value = expand_text(raw, lookup, path)?;
    path.pop();
    Ok(Some(value))
}

/// `VAR:-text` or `VAR-text`: the variable, and the text with whether it stands in for an empty variable, too.
fn split_default(variable: &str) -> (&str, Option<(&str, bool)>) {
    match variable.split_once('-') {
        Some((name, fallback)) => match name.strip_suffix(':') {
            Some(name) => (name, Some((fallback, true))),
            None => (name, Some((fallback, false))),
        },
        None => (variable, None),
    }
}

/// Splits at the first `${name}`: text before, name, text after. A `$`, `}` or blank cannot be part of a name.
fn next_reference(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(at) = text[from..].find("${").map(|at| at + from) {
        let body = &text[at + 2..];
        match body.find(['}', '$', ' ']) {
            Some(end) if end > 0 && body[end..].starts_with('}') => {
                return Some((&text[..at], &body[..end], &body[end + 1..]));
            }
            _ => from = at + 2,
        }
    }
    None
}

/// The environment variables that `text` refers to.
pub(super) fn environment_names(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some((_, name, after)) = next_reference(rest) {
        if let Some(variable) = name.strip_prefix("env.") {
            names.push(split_default(variable).0);
        }
        rest = after;
    }
    names
}

/// The variables behind `${user.name}` and `${user.home}`.
pub(super) const SYSTEM_VARIABLES: [&str; 3] = ["HADOOP_USER_NAME", "USER", "HOME"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Fixed;

    impl Lookup for Fixed {
        fn raw(&self, key: &str) -> Option<&str> {
            match key {
                "host" => Some("rm.${domain}"),
                "domain" => Some("example.org"),
                "a" => Some("${b}"),
                "b" => Some("x${a}"),
                _ => None,
            }
        }

        fn env(&self, name: &str) -> Option<&str> {
            match name {
                "HOME" => Some("/home/ann"),
                "USER" => Some("ann"),
                "EMPTY" => Some(""),
                _ => None,
            }
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(expand("key", text, &Fixed).unwrap(), expected);
    }

    #[test]
    fn references_nest_and_unknown_ones_stay() {
        check("${host}:8032", "rm.example.org:8032");
        check("${nothing} and ${host}", "${nothing} and rm.example.org");
        check(
            "$x ${} ${ a} ${un ${domain}",
            "$x ${} ${ a} ${un example.org",
        );
    }

    #[test]
    fn the_environment_has_defaults_for_missing_and_for_empty() {
        check("${env.HOME}", "/home/ann");
        check("${env.NONE:-d-e}", "d-e");
        check(
            "[${env.EMPTY:-d}] [${env.EMPTY-d}] [${env.NONE-d}]",
            "[d] [] [d]",
        );
        check("${env.NONE}", "${env.NONE}");
    }

    #[test]
    fn java_system_properties_come_from_the_environment() {
        check(
            "/tmp/hadoop-${user.name}${user.home}",
            "/tmp/hadoop-ann/home/ann",
        );
    }

    #[test]
    fn a_ring_is_named() {
        let ring = ["a", "b", "a"].map(str::to_owned).to_vec();
        assert_eq!(expand("a", "${b}", &Fixed), Err(ExpandError::Loop(ring)));
    }

    proptest! {
        #[test]
        fn no_text_makes_expansion_panic(text in "(\\$|\\{|\\}|env\\.|a|:-| |host|é){0,24}") {
            drop(expand("key", &text, &Fixed));
            drop(environment_names(&text));
        }
    }
}
