//! The secret of one application: whoever has it may speak to its processes.

use std::fmt;

use hmac::{Hmac, KeyInit};
use sha2::Sha256;
use subtle::ConstantTimeEq;

const BYTES: usize = 32;

/// 32 random bytes that the processes of one application share. Never printed: only [`Self::to_hex`] shows it.
#[derive(Clone)]
pub struct Secret([u8; BYTES]);

/// A text that is no secret. Does not show the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the secret is malformed: expected 64 hexadecimal digits, found {found} characters")]
pub struct ParseSecretError {
    /// Length of what was given.
    pub found: usize,
}

impl Secret {
    /// A new secret from the operating system's random numbers.
    ///
    /// # Errors
    /// If the operating system has none.
    pub fn generate() -> Result<Self, std::io::Error> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes).map_err(|cause| std::io::Error::other(cause.to_string()))?;
        Ok(Self(bytes))
    }

    /// The secret with these bytes.
    pub const fn from_bytes(bytes: [u8; BYTES]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes, for credentials that only its owner reads.
    pub const fn to_bytes(&self) -> [u8; BYTES] {
        self.0
    }

    /// Reads 64 hexadecimal digits; white space around them is ignored.
    ///
    /// # Errors
    /// If the text is anything else.
    pub fn from_hex(text: &str) -> Result<Self, ParseSecretError> {
        let text = text.trim();
        let wrong = || ParseSecretError {
            found: text.chars().count(),
        };
        if text.len() != 2 * BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; BYTES];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }

    /// The secret as 64 hexadecimal digits, for a file or an environment that only its owner reads.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether a text is `Bearer <this secret in hexadecimal>`; takes the same time wherever they differ.
    pub fn is_bearer(&self, authorization: &str) -> bool {
        authorization
            .strip_prefix("Bearer ")
            .and_then(|hex| Self::from_hex(hex).ok())
            .is_some_and(|other| *self == other)
    }

    /// `Bearer <this secret in hexadecimal>`, the value of an `authorization` header.
    pub fn to_bearer(&self) -> String {
        format!("Bearer {}", self.to_hex())
    }

    pub(crate) fn hmac(&self) -> Hmac<Sha256> {
        Hmac::new_from_slice(&self.0).expect("HMAC takes keys of any length")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_reads_back_from_its_hex_form() {
        let secret = Secret::generate().unwrap();
        assert!(Secret::from_hex(&format!("{}\n", secret.to_hex())).unwrap() == secret);
        assert!(secret.is_bearer(&secret.to_bearer()));
        assert!(secret != Secret::generate().unwrap());
    }

    #[test]
    fn a_malformed_secret_is_refused_without_being_shown() {
        for text in [
            "",
            "abc",
            &"zz".repeat(32),
            &"é".repeat(32),
            &"ab".repeat(33),
        ] {
            let error = Secret::from_hex(text).unwrap_err().to_string();
            assert!(error.contains("64 hexadecimal digits"), "{error}");
        }
        let secret = Secret::from_bytes([7; 32]);
        for header in ["", "Bearer ", "Bearer 07", &secret.to_hex(), "Basic abc"] {
            assert!(!secret.is_bearer(header), "{header}");
        }
    }

    #[test]
    fn debug_output_hides_the_value() {
        assert_eq!(format!("{:?}", Secret::from_bytes([1; 32])), "Secret(..)");
    }
}
