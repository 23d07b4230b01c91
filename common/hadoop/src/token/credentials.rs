//! The credentials file: tokens and secrets by alias.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use prost::Message as _;

use super::writable::{self, Malformed, Reader};
use super::{Secret, Token, TokenKind};
use crate::proto::common as pb;

/// Names the credentials file in a container's environment.
pub const TOKEN_FILE_VARIABLE: &str = "HADOOP_TOKEN_FILE_LOCATION";

const MAGIC: &[u8; 4] = b"HDTS";
const FORMAT_WRITABLE: u8 = 0;
const FORMAT_PROTOBUF: u8 = 1;

/// Credentials could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The environment names no file.
    #[error("{TOKEN_FILE_VARIABLE} is not set: this process was not started by YARN")]
    NotInContainer,
    /// The file could not be read.
    #[error("cannot read the credentials file `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file does not hold credentials.
    #[error("`{}` is not a valid credentials file", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<Self>,
    },
    /// The bytes do not start with `HDTS`.
    #[error("credentials do not start with `HDTS`")]
    Magic,
    /// A format that is neither 0 (writable) nor 1 (protobuf).
    #[error("unknown credentials format {0}")]
    Format(u8),
    /// Format 0, but broken.
    #[error("malformed credentials")]
    Malformed(#[source] Malformed),
    /// Format 1, but broken.
    #[error("malformed credentials (protobuf)")]
    Protobuf(#[source] prost::DecodeError),
}

impl From<Malformed> for CredentialsError {
    fn from(cause: Malformed) -> Self {
        Self::Malformed(cause)
    }
}

/// Tokens and secrets, each under an alias; the order of the tokens is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    tokens: Vec<(String, Token)>,
    secrets: BTreeMap<String, Secret>,
}

impl Credentials {
    /// Without any token or secret.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the file that `HADOOP_TOKEN_FILE_LOCATION` names.
    ///
    /// # Errors
    /// When the variable is unset, or the file cannot be read or is no credentials file.
    pub fn from_environment() -> Result<Self, CredentialsError> {
        Self::from_variable(env::var_os(TOKEN_FILE_VARIABLE))
    }

    fn from_variable(value: Option<OsString>) -> Result<Self, CredentialsError> {
        let path = value
            .filter(|v| !v.is_empty())
            .ok_or(CredentialsError::NotInContainer)?;
        Self::from_file(Path::new(&path))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read or is no credentials file.
    pub fn from_file(path: &Path) -> Result<Self, CredentialsError> {
        let bytes = fs::read(path).map_err(|source| CredentialsError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::decode(&bytes).map_err(|source| CredentialsError::File {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// Reads either format.
    ///
    /// # Errors
    /// When the bytes are no credentials.
    pub fn decode(bytes: &[u8]) -> Result<Self, CredentialsError> {
        let body = bytes.strip_prefix(MAGIC).ok_or(CredentialsError::Magic)?;
        let mut reader = Reader::new(body);
        match reader.byte()? {
            FORMAT_WRITABLE => Self::decode_writable(&mut reader),
            FORMAT_PROTOBUF => Self::decode_protobuf(&body[1..]),
            other => Err(CredentialsError::Format(other)),
        }
    }

    fn decode_writable(reader: &mut Reader<'_>) -> Result<Self, CredentialsError> {
        let mut credentials = Self::new();
        for _ in 0..reader.count()? {
            let alias = reader.text()?;
            credentials.add_token(alias, Token::read(reader)?);
        }
        // Very old writers end after the tokens.
        let secrets = if reader.is_empty() {
            0
        } else {
            reader.count()?
        };
        for _ in 0..secrets {
            let alias = reader.text()?;
            credentials.add_secret(alias, reader.bytes()?.to_vec());
        }
        Ok(credentials)
    }

    fn decode_protobuf(body: &[u8]) -> Result<Self, CredentialsError> {
        let message =
            pb::Credentials::decode_length_delimited(body).map_err(CredentialsError::Protobuf)?;
        let mut credentials = Self::new();
        for entry in message.tokens {
            if let Some(token) = entry.token {
                credentials.add_token(entry.alias, token.into());
            }
        }
        for entry in message.secrets {
            credentials.add_secret(entry.alias, entry.secret.unwrap_or_default());
        }
        Ok(credentials)
    }

    /// Writes format 0, which every version of Hadoop reads: for a file, or for `ContainerLaunchContext.tokens`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(FORMAT_WRITABLE);
        put_count(&mut out, self.tokens.len());
        for (alias, token) in &self.tokens {
            writable::put_bytes(&mut out, alias.as_bytes());
            token.write(&mut out);
        }
        put_count(&mut out, self.secrets.len());
        for (alias, secret) in &self.secrets {
            writable::put_bytes(&mut out, alias.as_bytes());
            writable::put_bytes(&mut out, secret.expose());
        }
        out
    }

    /// Puts a token under an alias; one that was there is replaced.
    pub fn add_token(&mut self, alias: impl Into<String>, token: Token) {
        let alias = alias.into();
        match self.tokens.iter_mut().find(|(name, _)| *name == alias) {
            Some((_, slot)) => *slot = token,
            None => self.tokens.push((alias, token)),
        }
    }

    /// Puts a secret under an alias; one that was there is replaced.
    pub fn add_secret(&mut self, alias: impl Into<String>, secret: Vec<u8>) {
        self.secrets.insert(alias.into(), Secret::from(secret));
    }

    /// All tokens with their aliases.
    pub fn tokens(&self) -> impl Iterator<Item = (&str, &Token)> {
        self.tokens
            .iter()
            .map(|(alias, token)| (alias.as_str(), token))
    }

    /// The first token of a kind. The ApplicationMaster's own has neither alias nor service, so this is how to find it.
    pub fn token_of_kind(&self, kind: &TokenKind) -> Option<&Token> {
        self.tokens
            .iter()
            .map(|(_, token)| token)
            .find(|token| token.kind == *kind)
    }

    /// A secret by its alias.
    pub fn secret(&self, alias: &str) -> Option<&[u8]> {
        self.secrets.get(alias).map(Secret::expose)
    }

    /// The aliases of all secrets.
    pub fn secret_aliases(&self) -> impl Iterator<Item = &str> {
        self.secrets.keys().map(String::as_str)
    }

    /// Without the tokens of a kind: what an ApplicationMaster hands on to its containers has no AMRMToken.
    #[must_use]
    pub fn without_kind(mut self, kind: &TokenKind) -> Self {
        self.tokens.retain(|(_, token)| token.kind != *kind);
        self
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    writable::put_vlong(
        out,
        i64::try_from(count).expect("fewer items than i64::MAX"),
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = "484454530001001a0a0d0a090801109fd5c2db9f34100110a2a2ebf9f9ffffffff0114\
        000102030405060708090a0b0c0d0e0f10111213105941524e5f414d5f524d5f544f4b454e0001016b0176";

    fn unhex(text: &str) -> Vec<u8> {
        crate::ipc::testing::unhex(text)
    }

    #[test]
    fn hadoops_token_file_decodes_and_encodes_to_itself() {
        let bytes = unhex(FILE);
        let credentials = Credentials::decode(&bytes).unwrap();
        let token = credentials.token_of_kind(&TokenKind::AmRm).unwrap();
        assert_eq!(token.password.expose(), (0..20).collect::<Vec<u8>>());
        assert_eq!(
            (token.service.as_str(), credentials.secret("k")),
            ("", Some(&b"v"[..]))
        );
        assert_eq!(credentials.encode(), bytes);
    }

    #[test]
    fn a_container_without_tokens_has_seven_bytes() {
        let bytes = unhex("48445453000000");
        assert_eq!(Credentials::decode(&bytes).unwrap(), Credentials::new());
        assert_eq!(Credentials::new().encode(), bytes);
    }

    #[test]
    fn format_one_is_read() {
        let of_zero = Credentials::decode(&unhex(FILE)).unwrap();
        let message = pb::Credentials {
            tokens: of_zero
                .tokens()
                .map(|(alias, token)| pb::CredentialsKv {
                    alias: alias.into(),
                    token: Some(token.into()),
                    secret: None,
                })
                .collect(),
            secrets: vec![pb::CredentialsKv {
                alias: "k".into(),
                token: None,
                secret: Some(b"v".to_vec()),
            }],
        };
        let mut bytes = b"HDTS\x01".to_vec();
        message.encode_length_delimited(&mut bytes).unwrap();
        assert_eq!(Credentials::decode(&bytes).unwrap(), of_zero);
    }

    #[test]
    fn what_is_no_credentials_file_is_named() {
        assert!(matches!(
            Credentials::decode(b"PK\x03\x04"),
            Err(CredentialsError::Magic)
        ));
        assert!(matches!(
            Credentials::decode(b"HDTS\x07"),
            Err(CredentialsError::Format(7))
        ));
        let path = tempfile::NamedTempFile::new().unwrap();
        let error = Credentials::from_file(path.path()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&path.path().display().to_string()),
            "{error}"
        );
        assert!(matches!(
            Credentials::from_variable(None),
            Err(CredentialsError::NotInContainer)
        ));
    }

    #[test]
    fn containers_do_not_get_the_masters_token() {
        let credentials = Credentials::decode(&unhex(FILE))
            .unwrap()
            .without_kind(&TokenKind::AmRm);
        assert_eq!(credentials.tokens().count(), 0);
        assert_eq!(credentials.secret("k"), Some(&b"v"[..]));
    }

    proptest! {
        #[test]
        fn decoding_arbitrary_bytes_never_panics(format in 0u8..3, body: Vec<u8>) {
            let mut bytes = MAGIC.to_vec();
            bytes.push(format);
            bytes.extend(body);
            let _ = Credentials::decode(&bytes);
        }

        #[test]
        fn what_was_written_is_read(alias in ".{0,8}", id: Vec<u8>, pw: Vec<u8>, kind in ".{0,20}", service in ".{0,20}", secret: Vec<u8>) {
            let mut credentials = Credentials::new();
            credentials.add_token(alias.clone(), Token { identifier: id, password: pw.into(), kind: TokenKind::from(kind.as_str()), service });
            credentials.add_secret(alias, secret);
            prop_assert_eq!(Credentials::decode(&credentials.encode()).unwrap(), credentials);
        }
    }
}
