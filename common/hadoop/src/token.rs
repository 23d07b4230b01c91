//! Tokens, and the credentials that a container finds in the file named by `HADOOP_TOKEN_FILE_LOCATION`.
//!
//! The same bytes travel in the launch context of a container (`ContainerLaunchContext.tokens`), so [`Credentials::encode`]
//! makes them, too. Passwords and secrets are [`Secret`]s: they are compared and used, never shown.

mod credentials;
pub mod identifier;
pub mod writable;

use std::fmt;

pub use credentials::{Credentials, CredentialsError, TOKEN_FILE_VARIABLE};

use crate::proto::common as pb;
use writable::{Malformed, Reader};

/// Bytes that are never printed.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The bytes themselves.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} secret bytes>", self.0.len())
    }
}

/// Who issued a token, and for what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TokenKind {
    /// ResourceManager to ApplicationMaster, for its scheduler port.
    AmRm,
    /// ResourceManager to ApplicationMaster, for one NodeManager.
    Nm,
    /// ResourceManager to ApplicationMaster, handed on in startContainers; not for authentication.
    Container,
    /// ResourceManager to its clients.
    RmDelegation,
    /// ResourceManager to clients, for an ApplicationMaster's own server.
    ClientToAm,
    /// NameNode to its clients.
    HdfsDelegation,
    /// NameNode to readers and writers of a block.
    HdfsBlock,
    /// Timeline server to its clients.
    TimelineDelegation,
    /// Any other, by its name on the wire.
    Other(String),
}

impl TokenKind {
    /// The name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::AmRm => "YARN_AM_RM_TOKEN",
            Self::Nm => "NMToken",
            Self::Container => "ContainerToken",
            Self::RmDelegation => "RM_DELEGATION_TOKEN",
            Self::ClientToAm => "YARN_CLIENT_TOKEN",
            Self::HdfsDelegation => "HDFS_DELEGATION_TOKEN",
            Self::HdfsBlock => "HDFS_BLOCK_TOKEN",
            Self::TimelineDelegation => "TIMELINE_DELEGATION_TOKEN",
            Self::Other(name) => name,
        }
    }
}

impl From<&str> for TokenKind {
    fn from(name: &str) -> Self {
        const KNOWN: [TokenKind; 8] = [
            TokenKind::AmRm,
            TokenKind::Nm,
            TokenKind::Container,
            TokenKind::RmDelegation,
            TokenKind::ClientToAm,
            TokenKind::HdfsDelegation,
            TokenKind::HdfsBlock,
            TokenKind::TimelineDelegation,
        ];
        KNOWN
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .unwrap_or_else(|| Self::Other(name.to_owned()))
    }
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A token: what it says, and the password that proves it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token {
    /// What the token says, opaque to its holder; [`identifier`] reads some.
    pub identifier: Vec<u8>,
    /// Proves the identifier to the service.
    pub password: Secret,
    /// Who issued it and for what.
    pub kind: TokenKind,
    /// Address of the service; empty for tokens that hold for every ResourceManager.
    pub service: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("kind", &self.kind)
            .field("service", &self.service)
            .field("password", &self.password)
            .finish_non_exhaustive()
    }
}

impl From<pb::Token> for Token {
    fn from(message: pb::Token) -> Self {
        Self {
            identifier: message.identifier,
            password: Secret(message.password),
            kind: TokenKind::from(message.kind.as_str()),
            service: message.service,
        }
    }
}

impl From<&Token> for pb::Token {
    fn from(token: &Token) -> Self {
        Self {
            identifier: token.identifier.clone(),
            password: token.password.0.clone(),
            kind: token.kind.as_str().to_owned(),
            service: token.service.clone(),
        }
    }
}

impl Token {
    /// The token as text, as the REST interfaces take it.
    pub fn to_url_text(&self) -> String {
        use base64::Engine as _;
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token from text as the REST interfaces give it.
    ///
    /// # Errors
    /// When the text is not base64url of a token.
    pub fn from_url_text(text: &str) -> Result<Self, Malformed> {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|_| Malformed {
                what: "base64url",
                offset: 0,
            })?;
        let mut reader = Reader::new(&bytes);
        let token = Self::read(&mut reader)?;
        reader.expect_end()?;
        Ok(token)
    }

    fn write(&self, out: &mut Vec<u8>) {
        writable::put_bytes(out, &self.identifier);
        writable::put_bytes(out, &self.password.0);
        writable::put_bytes(out, self.kind.as_str().as_bytes());
        writable::put_bytes(out, self.service.as_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            identifier: reader.bytes()?.to_vec(),
            password: Secret::from(reader.bytes()?),
            kind: TokenKind::from(reader.text()?),
            service: reader.text()?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            identifier: b"id".to_vec(),
            password: Secret::from(&b"pw"[..]),
            kind: TokenKind::Other("KIND".into()),
            service: "h:1".into(),
        }
    }

    #[test]
    fn a_token_as_text_is_hadoops() {
        assert_eq!(token().to_url_text(), "AmlkAnB3BEtJTkQDaDox");
        assert_eq!(
            Token::from_url_text("AmlkAnB3BEtJTkQDaDox").unwrap(),
            token()
        );
        assert!(Token::from_url_text("AmlkAnB3BEtJTkQ").is_err());
        assert!(
            Token::from_url_text("AmlkAnB3BEtJTkQDaDoxAA").is_err(),
            "bytes left over"
        );
    }

    #[test]
    fn kinds_keep_their_names() {
        for name in [
            "YARN_AM_RM_TOKEN",
            "NMToken",
            "kms-dt",
            "HDFS_DELEGATION_TOKEN",
        ] {
            assert_eq!(TokenKind::from(name).as_str(), name);
        }
        assert_eq!(TokenKind::from("NMToken"), TokenKind::Nm);
    }

    #[test]
    fn debug_output_shows_no_password() {
        let mut token = token();
        token.password = Secret::from(&b"hunter2"[..]);
        let shown = format!("{token:?}");
        assert!(
            shown.contains("<7 secret bytes>") && !shown.contains("104, 117"),
            "{shown}"
        );
    }
}
