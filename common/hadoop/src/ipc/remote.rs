//! Exceptions of the server.

use std::fmt;

use crate::proto::common::RpcResponseHeader;
use crate::proto::common::rpc_response_header::RpcStatus;

macro_rules! classes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// The Java class of a remote exception, as far as it makes a difference to a client.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ExceptionClass {
            $($(#[$doc])* $variant,)*
            /// Any other class, by its full name.
            Other(String),
        }

        impl ExceptionClass {
            /// The full name of the Java class.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Other(name) => name,
                }
            }
        }

        impl From<&str> for ExceptionClass {
            fn from(name: &str) -> Self {
                match name {
                    $($name => Self::$variant,)*
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        #[cfg(test)]
        const KNOWN: &[&str] = &[$($name),*];
    };
}

classes! {
    /// The passive half of an HA pair: fail over.
    Standby = "org.apache.hadoop.ipc.StandbyException",
    /// The same server, later.
    Retriable = "org.apache.hadoop.ipc.RetriableException",
    /// Authentication method not offered, or an access list.
    AccessControl = "org.apache.hadoop.security.AccessControlException",
    /// A token that is unknown, expired, or of an attempt that is over.
    InvalidToken = "org.apache.hadoop.security.token.SecretManager$InvalidToken",
    /// A wrong password.
    Sasl = "javax.security.sasl.SaslException",
    /// Service access list, or a proxy user.
    Authorization = "org.apache.hadoop.security.authorize.AuthorizationException",
    /// The server has no such method.
    NoSuchMethod = "org.apache.hadoop.ipc.RpcNoSuchMethodException",
    /// The server has no such protocol.
    NoSuchProtocol = "org.apache.hadoop.ipc.RpcNoSuchProtocolException",
    /// Another version of IPC or of the protocol.
    VersionMismatch = "org.apache.hadoop.ipc.RPC$VersionMismatch",
    /// A framing or state error.
    RpcServer = "org.apache.hadoop.ipc.RpcServerException",
    /// The ApplicationMaster has to register (again).
    ApplicationMasterNotRegistered = "org.apache.hadoop.yarn.exceptions.ApplicationMasterNotRegisteredException",
    /// The attempt is over: stop at once.
    ApplicationAttemptNotFound = "org.apache.hadoop.yarn.exceptions.ApplicationAttemptNotFoundException",
    /// A wrong response id, or a second registration.
    InvalidApplicationMasterRequest = "org.apache.hadoop.yarn.exceptions.InvalidApplicationMasterRequestException",
    /// No such application.
    ApplicationNotFound = "org.apache.hadoop.yarn.exceptions.ApplicationNotFoundException",
    /// No such container.
    ContainerNotFound = "org.apache.hadoop.yarn.exceptions.ContainerNotFoundException",
    /// An ask is too large or malformed; nothing of the allocate call was applied.
    InvalidResourceRequest = "org.apache.hadoop.yarn.exceptions.InvalidResourceRequestException",
    /// An ask names a node label that it may not; nothing of the allocate call was applied.
    InvalidLabelResourceRequest = "org.apache.hadoop.yarn.exceptions.InvalidLabelResourceRequestException",
    /// A wrong blacklist; nothing of the allocate call was applied.
    InvalidResourceBlacklistRequest = "org.apache.hadoop.yarn.exceptions.InvalidResourceBlacklistRequestException",
    /// A release of a foreign container; nothing of the allocate call was applied.
    InvalidContainerRelease = "org.apache.hadoop.yarn.exceptions.InvalidContainerReleaseException",
    /// The NodeManager is recovering: retry.
    NmNotYetReady = "org.apache.hadoop.yarn.exceptions.NMNotYetReadyException",
    /// Another error of YARN.
    Yarn = "org.apache.hadoop.yarn.exceptions.YarnException",
    /// A missing file (NameNode).
    FileNotFound = "java.io.FileNotFoundException",
    /// Any trouble with I/O at the server.
    Io = "java.io.IOException",
}

impl ExceptionClass {
    /// The name without its package.
    pub fn short_name(&self) -> &str {
        let name = self.name();
        name.rsplit(['.', '$']).next().unwrap_or(name)
    }

    /// Whether it says only that another server or another time may do better.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Standby | Self::Retriable | Self::NmNotYetReady)
    }

    /// Whether an allocate call was refused as a whole for what it asked.
    pub fn is_refused_ask(&self) -> bool {
        matches!(
            self,
            Self::InvalidResourceRequest
                | Self::InvalidLabelResourceRequest
                | Self::InvalidResourceBlacklistRequest
                | Self::InvalidContainerRelease
        )
    }
}

impl fmt::Display for ExceptionClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short_name())
    }
}

/// An exception that the server threw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteException {
    /// Its class.
    pub class: ExceptionClass,
    /// Its message, without the stack trace.
    pub message: String,
    /// Whether it ended the connection.
    pub fatal: bool,
    /// `RpcErrorCode` of rpc.proto, if the server gave one.
    pub code: Option<i32>,
}

impl RemoteException {
    /// Makes one of class and message; the stack trace behind the message is cut off.
    pub fn new(class: &str, message: &str) -> Self {
        Self {
            class: ExceptionClass::from(class),
            message: without_stack(message),
            fatal: false,
            code: None,
        }
    }

    /// The exception in a response header; `None` for a success.
    pub fn from_header(header: &RpcResponseHeader) -> Option<Self> {
        let fatal = match RpcStatus::try_from(header.status) {
            Ok(RpcStatus::Success) => return None,
            Ok(RpcStatus::Error) => false,
            // An unknown status is no success; the connection cannot be trusted after it.
            Ok(RpcStatus::Fatal) | Err(_) => true,
        };
        Some(Self {
            fatal,
            code: header.error_detail,
            ..Self::new(header.exception_class_name(), header.error_msg())
        })
    }

    /// The first line of the message.
    pub fn first_line(&self) -> &str {
        self.message.lines().next().unwrap_or("")
    }
}

impl fmt::Display for RemoteException {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.first_line())
    }
}

impl std::error::Error for RemoteException {}

/// Cuts at the first line that begins with a tab: there Java's stack trace starts.
fn without_stack(message: &str) -> String {
    let message = message.split("\n\t").next().unwrap_or(message);
    message.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_ends_before_the_stack_trace() {
        let exception = RemoteException::new(
            "org.apache.hadoop.yarn.exceptions.ApplicationNotFoundException",
            "Application with id 'x' doesn't exist\nin RM.\n\tat org.apache.Foo.bar(Foo.java:1)\n\tat x",
        );
        assert_eq!(exception.class, ExceptionClass::ApplicationNotFound);
        assert_eq!(
            exception.message,
            "Application with id 'x' doesn't exist\nin RM."
        );
        assert_eq!(
            exception.to_string(),
            "ApplicationNotFoundException: Application with id 'x' doesn't exist"
        );
    }

    #[test]
    fn classes_keep_their_names() {
        for &name in KNOWN {
            let class = ExceptionClass::from(name);
            assert!(!matches!(class, ExceptionClass::Other(_)), "{name}");
            assert_eq!(class.name(), name);
        }
        let other = ExceptionClass::from("java.lang.IllegalStateException");
        assert_eq!(
            (other.name(), other.short_name()),
            ("java.lang.IllegalStateException", "IllegalStateException")
        );
        assert_eq!(ExceptionClass::InvalidToken.short_name(), "InvalidToken");
    }

    #[test]
    fn an_unknown_status_is_fatal() {
        let header = RpcResponseHeader {
            status: 9,
            ..Default::default()
        };
        assert!(RemoteException::from_header(&header).unwrap().fatal);
        assert!(RemoteException::from_header(&RpcResponseHeader::default()).is_none());
    }
}
