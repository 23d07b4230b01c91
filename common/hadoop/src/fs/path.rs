//! Full paths: scheme, authority, absolute path.

use std::fmt;
use std::sync::Arc;

use super::FsError;

/// The file systems that are supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// HDFS through a NameNode or a nameservice.
    Hdfs,
    /// The file system of this machine.
    File,
}

impl Scheme {
    /// As it is written in a URI.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hdfs => "hdfs",
            Self::File => "file",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An absolute path on one file system; displayed as the full URI.
///
/// The path has no `.`, `..`, empty or trailing components. As in Hadoop nothing is percent-decoded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FsPath {
    scheme: Scheme,
    authority: Arc<str>,
    path: Box<str>,
}

impl FsPath {
    /// A path from its parts; `path` must be absolute and is normalized.
    ///
    /// # Errors
    /// [`FsError::InvalidPath`] if `path` is not absolute or leads above the root.
    pub fn new(scheme: Scheme, authority: &str, path: &str) -> Result<Self, FsError> {
        Ok(Self {
            scheme,
            authority: Arc::from(authority),
            path: normalize(path)?.into(),
        })
    }

    /// A path on this machine; it must be absolute.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn file(path: &str) -> Result<Self, FsError> {
        Self::new(Scheme::File, "", path)
    }

    /// The file system.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// `host:port` or the nameservice; empty for `file`.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The absolute path without scheme and authority.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The last component; nothing for the root.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.path.rsplit('/').next().filter(|name| !name.is_empty())
    }

    /// The directory that holds it; nothing for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (parent, name) = self.path.rsplit_once('/')?;
        if name.is_empty() {
            return None;
        }
        let parent = if parent.is_empty() { "/" } else { parent };
        Some(self.with_path(parent.to_owned()))
    }

    /// The path below this one; `relative` may have several components.
    ///
    /// # Errors
    /// [`FsError::InvalidPath`] if it leads above the root.
    pub fn join(&self, relative: &str) -> Result<Self, FsError> {
        let path = normalize(&format!("{}/{relative}", self.path))?;
        Ok(self.with_path(path))
    }

    /// It is the root of its file system.
    #[must_use]
    pub fn is_root(&self) -> bool {
        &*self.path == "/"
    }

    /// The same file system, another path that is normalized already.
    pub(super) fn with_path(&self, path: String) -> Self {
        Self {
            scheme: self.scheme,
            authority: Arc::clone(&self.authority),
            path: path.into(),
        }
    }

    /// Entry `name` of this directory, as a listing gives it.
    pub(super) fn child(&self, name: &str) -> Self {
        let base = self.path.trim_end_matches('/');
        self.with_path(format!("{base}/{name}"))
    }
}

impl fmt::Display for FsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)
    }
}

/// A path as a user writes it, split but not yet completed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written<'a> {
    /// The scheme, lower case.
    pub(super) scheme: Option<String>,
    /// The text between `//` and the next `/`.
    pub(super) authority: Option<&'a str>,
    /// The rest, absolute or relative.
    pub(super) path: &'a str,
}

/// Splits `scheme://authority/path`, `scheme:/path`, `/path` and `relative/path`.
pub(super) fn split(text: &str) -> Result<Written<'_>, FsError> {
    let invalid = |reason| FsError::InvalidPath {
        text: text.to_owned(),
        reason,
    };
    if text.is_empty() {
        return Err(invalid("it is empty"));
    }
    if text.contains('\0') {
        return Err(invalid("it holds a zero byte"));
    }
    let colon = text
        .find(':')
        .filter(|colon| text.find('/').is_none_or(|slash| *colon < slash));
    let (scheme, rest) = match colon {
        None => (None, text),
        Some(at) => {
            let scheme = &text[..at];
            let starts = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
            let is_scheme = scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
            if !starts || !is_scheme {
                return Err(invalid(
                    "text before `:` is no scheme, write ./ before a name with a colon",
                ));
            }
            (Some(scheme.to_ascii_lowercase()), &text[at + 1..])
        }
    };
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) if scheme.is_some() => {
            let end = rest.find('/').unwrap_or(rest.len());
            let path = if end == rest.len() { "/" } else { &rest[end..] };
            (
                Some(&rest[..end]).filter(|authority| !authority.is_empty()),
                path,
            )
        }
        Some(_) | None => (None, rest),
    };
    if scheme.is_some() && !path.starts_with('/') {
        return Err(invalid("a path with a scheme must be absolute"));
    }
    Ok(Written {
        scheme,
        authority,
        path,
    })
}

fn normalize(path: &str) -> Result<String, FsError> {
    let invalid = |reason| FsError::InvalidPath {
        text: path.to_owned(),
        reason,
    };
    if !path.starts_with('/') {
        return Err(invalid("it is not absolute"));
    }
    if path.contains('\0') {
        return Err(invalid("it holds a zero byte"));
    }
    let mut components = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                if components.pop().is_none() {
                    return Err(invalid("it leads above the root"));
                }
            }
            name => components.push(name),
        }
    }
    Ok(format!("/{}", components.join("/")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hdfs(path: &str) -> FsPath {
        FsPath::new(Scheme::Hdfs, "nn:8020", path).unwrap()
    }

    #[test]
    fn paths_are_normalized_and_displayed_in_full() {
        assert_eq!(hdfs("//a/./b//c/../").to_string(), "hdfs://nn:8020/a/b");
        assert_eq!(hdfs("/").to_string(), "hdfs://nn:8020/");
        assert_eq!(
            FsPath::file("/a b%20").unwrap().to_string(),
            "file:///a b%20"
        );
        assert!(FsPath::file("/../a").is_err());
        assert!(FsPath::file("a").is_err());
    }

    #[test]
    fn parts_can_be_taken_and_added() {
        let path = hdfs("/a/b");
        assert_eq!((path.name(), path.parent()), (Some("b"), Some(hdfs("/a"))));
        assert_eq!(hdfs("/a").parent(), Some(hdfs("/")));
        assert_eq!((hdfs("/").name(), hdfs("/").parent()), (None, None));
        assert_eq!(path.join("c/../d").unwrap(), hdfs("/a/b/d"));
        assert_eq!(hdfs("/").join("x").unwrap(), hdfs("/").child("x"));
        assert!(hdfs("/").is_root() && !path.is_root());
    }

    #[test]
    fn written_paths_are_split() {
        let split = |text| {
            let Written {
                scheme,
                authority,
                path,
            } = split(text).unwrap();
            (
                scheme.unwrap_or_default(),
                authority.unwrap_or_default().to_owned(),
                path.to_owned(),
            )
        };
        let parts = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(split("hdfs://nn:1/a"), parts("hdfs", "nn:1", "/a"));
        assert_eq!(split("HDFS://nn"), parts("hdfs", "nn", "/"));
        assert_eq!(split("hdfs:///a"), parts("hdfs", "", "/a"));
        assert_eq!(split("file:/a"), parts("file", "", "/a"));
        assert_eq!(split("//a"), parts("", "", "//a"));
        assert_eq!(split("a/b:c"), parts("", "", "a/b:c"));
    }

    #[test]
    fn what_is_no_path_says_why() {
        let reason = |text| super::split(text).unwrap_err().to_string();
        assert_eq!(reason(""), "`` is no path: it is empty");
        assert!(reason("a b:c").contains("no scheme"));
        assert!(reason("hdfs:a").contains("must be absolute"));
    }

    proptest! {
        #[test]
        fn no_text_makes_splitting_or_normalizing_panic(text in "[a/:.é\\\\ ]{0,16}") {
            if let Ok(written) = split(&text) {
                drop(normalize(written.path));
            }
        }

        #[test]
        fn normalizing_twice_changes_nothing(text in "/[a./]{0,16}") {
            if let Ok(once) = normalize(&text) {
                prop_assert_eq!(normalize(&once).unwrap(), once);
            }
        }
    }
}
