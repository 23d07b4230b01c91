//! What can go wrong on a file system, with the operation and the path.

use std::error::Error;
use std::io;

use super::FsPath;
use crate::conf::ConfError;

/// A failed operation on a file system; `op` is a verb such as `read`.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// The path, or a directory on the way to it, does not exist.
    #[error("cannot {op} `{path}`: no such file or directory")]
    NotFound {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: FsPath,
    },
    /// The path exists, or another writer has it open.
    #[error("cannot {op} `{path}`: it already exists")]
    AlreadyExists {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: FsPath,
    },
    /// The user may not do this.
    #[error("cannot {op} `{path}`: permission denied ({detail})")]
    PermissionDenied {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: FsPath,
        /// Who was refused what, in the server's words.
        detail: String,
    },
    /// A component of the path is a file.
    #[error("cannot {op} `{path}`: not a directory")]
    NotADirectory {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: FsPath,
    },
    /// A file was expected.
    #[error("cannot {op} `{path}`: is a directory")]
    IsADirectory {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: FsPath,
    },
    /// A directory with something in it, and the operation is not recursive.
    #[error("cannot {op} `{path}`: directory is not empty")]
    NotEmpty {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: FsPath,
    },
    /// No NameNode answers.
    #[error("cannot {op} `{path}`: no NameNode answers at {address} (from {key})")]
    Unreachable {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: FsPath,
        /// The `host:port` tried; several are separated by commas.
        address: String,
        /// The configuration key each address came from and where that was set, in the same order.
        key: String,
        /// Why the last one failed.
        #[source]
        source: io::Error,
    },
    /// Bytes could not be moved from or to DataNodes.
    #[error("cannot {op} `{path}`: data transfer failed")]
    Transfer {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: FsPath,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Data is missing or damaged.
    #[error("cannot {op} `{path}`: data is missing or damaged ({detail})")]
    Corrupt {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: FsPath,
        /// What exactly.
        detail: String,
    },
    /// The NameNode threw an exception that none of the other variants stands for.
    #[error("cannot {op} `{path}`: {exception}: {message}")]
    Remote {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: FsPath,
        /// The Java class.
        exception: String,
        /// The first line of its message.
        message: String,
    },
    /// Text that is no path.
    #[error("`{text}` is no path: {reason}")]
    InvalidPath {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A URI of a file system that is not supported.
    #[error("`{uri}`: file system `{scheme}` is not supported, only hdfs and file are")]
    UnsupportedScheme {
        /// The URI.
        uri: String,
        /// Its scheme.
        scheme: String,
    },
    /// The configuration does not say where the file system is.
    #[error(transparent)]
    Conf(#[from] ConfError),
    /// Anything else.
    #[error("cannot {op} `{path}`")]
    Other {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: FsPath,
        /// Why it failed.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl FsError {
    /// An error of the operating system.
    pub(super) fn io(op: &'static str, path: &FsPath, source: io::Error) -> Self {
        let path = path.clone();
        // The kinds of `io::Error` are an open list.
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "io::ErrorKind is not ours and open"
        )]
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { op, path },
            io::ErrorKind::AlreadyExists => Self::AlreadyExists { op, path },
            io::ErrorKind::PermissionDenied => Self::PermissionDenied {
                op,
                path,
                detail: source.to_string(),
            },
            io::ErrorKind::NotADirectory => Self::NotADirectory { op, path },
            io::ErrorKind::IsADirectory => Self::IsADirectory { op, path },
            io::ErrorKind::DirectoryNotEmpty => Self::NotEmpty { op, path },
            _ => Self::Other {
                op,
                path,
                source: Box::new(source),
            },
        }
    }

    /// A Java exception that the NameNode answered with.
    pub(super) fn remote(
        op: &'static str,
        path: &FsPath,
        exception: String,
        message: &str,
    ) -> Self {
        let path = path.clone();
        let message = message.lines().next().unwrap_or("").trim().to_owned();
        match exception.rsplit(['.', '$']).next().unwrap_or("") {
            "FileNotFoundException" if message.contains("Path is not a file") => {
                Self::IsADirectory { op, path }
            }
            "FileNotFoundException" => Self::NotFound { op, path },
            "FileAlreadyExistsException" | "AlreadyBeingCreatedException" => {
                Self::AlreadyExists { op, path }
            }
            // So ordinary users learn that a component on the way is a file; the superuser gets other exceptions.
            "AccessControlException" if message.ends_with("(is not a directory)") => {
                Self::NotADirectory { op, path }
            }
            "AccessControlException" | "AuthorizationException" => Self::PermissionDenied {
                op,
                path,
                detail: message,
            },
            "ParentNotDirectoryException" | "PathIsNotDirectoryException" => {
                Self::NotADirectory { op, path }
            }
            "PathIsNotEmptyDirectoryException" => Self::NotEmpty { op, path },
            "BlockMissingException" | "CorruptBlockException" => Self::Corrupt {
                op,
                path,
                detail: message,
            },
            _ => Self::Remote {
                op,
                path,
                exception,
                message,
            },
        }
    }

    /// The path or a directory on the way to it does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// The path exists although it should not.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::AlreadyExists { .. })
    }

    /// No server answered: the same operation may succeed later.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(class: &str, message: &str) -> String {
        let path = FsPath::file("/a").unwrap();
        FsError::remote("stat", &path, class.to_owned(), message).to_string()
    }

    #[test]
    fn known_java_exceptions_become_variants_and_others_keep_class_and_first_line() {
        let head = "cannot stat `file:///a`: ";
        let check = |class: &str, message: &str, expected: &str| {
            assert_eq!(remote(class, message), format!("{head}{expected}"));
        };
        check(
            "java.io.FileNotFoundException",
            "x",
            "no such file or directory",
        );
        check(
            "java.io.FileNotFoundException",
            "Path is not a file: /a\n\tat x",
            "is a directory",
        );
        check(
            "org.apache.hadoop.security.AccessControlException",
            "Permission denied: user=eve, access=WRITE\n\tat",
            "permission denied (Permission denied: user=eve, access=WRITE)",
        );
        check(
            "org.apache.hadoop.security.AccessControlException",
            "/a/file (is not a directory)",
            "not a directory",
        );
        check(
            "org.apache.hadoop.fs.PathIsNotEmptyDirectoryException",
            "",
            "directory is not empty",
        );
        check(
            "org.apache.hadoop.hdfs.server.namenode.SafeModeException",
            "Name node is in safe mode.\nmore",
            "org.apache.hadoop.hdfs.server.namenode.SafeModeException: Name node is in safe mode.",
        );
    }
}
