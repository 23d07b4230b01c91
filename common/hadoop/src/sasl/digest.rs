//! Challenge, response, and the server's proof.

use std::fmt;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

use super::{Layer, SaslError};
use crate::token::Token;

/// How messages are protected after authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Qop {
    /// Not at all (`hadoop.rpc.protection` authentication).
    Auth,
    /// By a checksum (integrity).
    Integrity,
    /// By a checksum and encryption (privacy).
    Privacy,
}

impl Qop {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Integrity => "auth-int",
            Self::Privacy => "auth-conf",
        }
    }

    /// What follows the digest-uri in the second hash.
    const fn body_hash(self) -> &'static str {
        match self {
            Self::Auth => "",
            Self::Integrity | Self::Privacy => ":00000000000000000000000000000000",
        }
    }
}

/// A server's challenge; what this exchange needs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The realm; Hadoop's is `default`.
    pub realm: String,
    /// The server's nonce.
    pub nonce: String,
    /// The offered protections, in the server's order, as written.
    pub qop: String,
    /// The offered ciphers, as written; empty without privacy.
    pub cipher: String,
}

impl Challenge {
    /// Reads `key=value,key="value, with commas",…`.
    ///
    /// # Errors
    /// When the grammar is broken, the nonce is missing, or the algorithm is not md5-sess.
    pub fn parse(bytes: &[u8]) -> Result<Self, SaslError> {
        let (mut realm, mut nonce, mut qop, mut cipher) = (None, None, None, None);
        for directive in Directives::new(bytes) {
            let (key, value) = directive?;
            let slot = match key.as_str() {
                "realm" => &mut realm,
                "nonce" => &mut nonce,
                "qop" => &mut qop,
                "cipher" => &mut cipher,
                "algorithm" if value != "md5-sess" => return Err(SaslError::Algorithm(value)),
                _ => continue,
            };
            // RFC 2831 lets a realm be offered more than once; the first will do.
            if slot.is_none() {
                *slot = Some(value);
            } else if key != "realm" {
                return Err(SaslError::Repeated(key));
            }
        }
        Ok(Self {
            realm: realm.unwrap_or_default(),
            nonce: nonce.ok_or(SaslError::Missing("nonce"))?,
            qop: qop.unwrap_or_else(|| Qop::Auth.as_str().to_owned()),
            cipher: cipher.unwrap_or_default(),
        })
    }

    /// Our first protection that the server offers.
    fn choose(&self, wanted: &[Qop]) -> Result<Qop, SaslError> {
        let offers = |qop: &Qop| {
            self.qop
                .split(',')
                .any(|offer| offer.trim() == qop.as_str())
        };
        let none = || SaslError::NoCommonQop {
            offered: self.qop.clone(),
        };
        let qop = wanted.iter().copied().find(offers).ok_or_else(none)?;
        if qop == Qop::Privacy && !self.cipher.split(',').any(|offer| offer.trim() == "rc4") {
            return Err(SaslError::NoCommonCipher(self.cipher.clone()));
        }
        Ok(qop)
    }
}

/// Iterates over the directives of a challenge or an answer.
struct Directives<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Directives<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip(&mut self, skipped: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&skipped) {
            self.at += 1;
        }
    }

    fn quoted(&mut self) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return Some(value),
                b'\\' => {
                    value.push(self.peek()?);
                    self.at += 1;
                }
                other => value.push(other),
            }
        }
    }

    fn directive(&mut self) -> Option<(String, String)> {
        let start = self.at;
        self.skip(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        let key = std::str::from_utf8(&self.bytes[start..self.at])
            .ok()?
            .to_ascii_lowercase();
        self.skip(|b| b.is_ascii_whitespace());
        if key.is_empty() || self.peek()? != b'=' {
            return None;
        }
        self.at += 1;
        self.skip(|b| b.is_ascii_whitespace());
        let value = if self.peek() == Some(b'"') {
            self.at += 1;
            self.quoted()?
        } else {
            let start = self.at;
            self.skip(|b| b != b',' && !b.is_ascii_whitespace());
            self.bytes[start..self.at].to_vec()
        };
        self.skip(|b| b.is_ascii_whitespace());
        if !matches!(self.peek(), None | Some(b',')) {
            return None;
        }
        Some((key, String::from_utf8(value).ok()?))
    }
}

impl Iterator for Directives<'_> {
    type Item = Result<(String, String), SaslError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.skip(|b| b == b',' || b.is_ascii_whitespace());
        self.peek()?;
        match self.directive() {
            Some(found) => Some(Ok(found)),
            None => {
                let at = self.at;
                self.at = self.bytes.len();
                Some(Err(SaslError::Challenge(at)))
            }
        }
    }
}

/// User name and password of an exchange; the password is never shown.
#[derive(Clone)]
pub struct Password {
    user: String,
    password: String,
}

impl Password {
    /// What Hadoop makes of a token: base64 of the identifier, and of the password.
    pub fn of_token(token: &Token) -> Self {
        Self {
            user: STANDARD.encode(&token.identifier),
            password: STANDARD.encode(token.password.expose()),
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// An exchange after our response: waits for the server's proof.
pub struct Exchange {
    qop: Qop,
    ha1: [u8; 16],
    expected: String,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("qop", &self.qop)
            .finish_non_exhaustive()
    }
}

impl Exchange {
    /// Answers a challenge: the text to send, and the exchange that waits for the server's proof.
    ///
    /// `digest_uri` is protocol and server id of the offer, joined by a slash; `wanted` the protections in our order;
    /// `cnonce` fresh random text without quotes.
    ///
    /// # Errors
    /// When no protection or cipher is common to both sides.
    pub fn respond(
        challenge: &Challenge,
        password: &Password,
        digest_uri: &str,
        wanted: &[Qop],
        cnonce: &str,
    ) -> Result<(String, Self), SaslError> {
        let qop = challenge.choose(wanted)?;
        let ha1 = ha1(challenge, password, cnonce);
        let hash = |prefix| response(&ha1, challenge, cnonce, qop, prefix, digest_uri);
        let mut text = format!(
            "charset=utf-8,username={},realm={},nonce={},nc=00000001,cnonce={},digest-uri={},maxbuf=65536,response={},qop={}",
            quote(&password.user),
            quote(&challenge.realm),
            quote(&challenge.nonce),
            quote(cnonce),
            quote(digest_uri),
            hash("AUTHENTICATE"),
            qop.as_str(),
        );
        if qop == Qop::Privacy {
            text.push_str(",cipher=\"rc4\"");
        }
        Ok((
            text,
            Self {
                qop,
                ha1,
                expected: hash(""),
            },
        ))
    }

    /// The protection that was agreed on.
    pub const fn qop(&self) -> Qop {
        self.qop
    }

    /// Checks the server's proof (`rspauth=…`); the layer that protects what follows, if one was agreed on.
    ///
    /// # Errors
    /// When the proof is missing or wrong: the server does not know the password.
    pub fn verify(self, proof: &[u8]) -> Result<Option<Layer>, SaslError> {
        let mut proven = false;
        for directive in Directives::new(proof) {
            let (key, value) = directive?;
            if key == "rspauth" {
                proven = same(value.as_bytes(), self.expected.as_bytes());
            }
        }
        if !proven {
            return Err(SaslError::ServerNotAuthentic);
        }
        Ok(Layer::client(self.qop, &self.ha1))
    }

    #[cfg(test)]
    pub(crate) fn server_layer(&self) -> Option<Layer> {
        Layer::server(self.qop, &self.ha1)
    }

    /// What a server that knows the password would prove with.
    #[cfg(test)]
    pub(crate) fn expected_proof(&self) -> String {
        format!("rspauth={}", self.expected)
    }
}

fn ha1(challenge: &Challenge, password: &Password, cnonce: &str) -> [u8; 16] {
    let inner = Md5::new()
        .chain_update(&password.user)
        .chain_update(":")
        .chain_update(&challenge.realm)
        .chain_update(":")
        .chain_update(&password.password)
        .finalize();
    Md5::new()
        .chain_update(inner)
        .chain_update(":")
        .chain_update(&challenge.nonce)
        .chain_update(":")
        .chain_update(cnonce)
        .finalize()
        .into()
}

fn response(
    ha1: &[u8; 16],
    challenge: &Challenge,
    cnonce: &str,
    qop: Qop,
    prefix: &str,
    digest_uri: &str,
) -> String {
    let ha2 = Md5::digest(format!("{prefix}:{digest_uri}{}", qop.body_hash()));
    let nonce = &challenge.nonce;
    let text = format!(
        "{}:{nonce}:00000001:{cnonce}:{}:{}",
        hex(ha1),
        qop.as_str(),
        hex(&ha2)
    );
    hex(&Md5::digest(text))
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string does not fail");
            text
        })
}

fn quote(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Compares without stopping at the first difference.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .fold(0, |differences, (x, y)| differences | (x ^ y))
            == 0
}

#[cfg(test)]
mod tests;
