//! SASL DIGEST-MD5 as Hadoop speaks it (RFC 2831, algorithm `md5-sess`), without I/O.
//!
//! ```text
//! Challenge::parse ── Exchange::respond ──> (text to send, Exchange) ── verify(rspauth) ──> Layer { seal, open }
//! ```
//!
//! MD5, HMAC-MD5 and RC4 are what Hadoop has here; they are weak. A network that must be confidential has to be
//! encrypted below this.

mod digest;
mod layer;

pub use digest::{Challenge, Exchange, Password, Qop};
pub use layer::{Layer, Open, Seal};

/// What can be wrong in the exchange or in a wrapped message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SaslError {
    /// The challenge does not follow the grammar.
    #[error("malformed DIGEST-MD5 challenge at byte {0}")]
    Challenge(usize),
    /// The challenge lacks something that is needed.
    #[error("the DIGEST-MD5 challenge has no {0}")]
    Missing(&'static str),
    /// A directive that must come once came twice.
    #[error("the DIGEST-MD5 challenge repeats {0}")]
    Repeated(String),
    /// Another digest than `md5-sess`.
    #[error("unknown DIGEST-MD5 algorithm `{0}`")]
    Algorithm(String),
    /// None of the protections that the server offers is one of ours.
    #[error("the server offers the protections `{offered}`, none of which is wanted")]
    NoCommonQop {
        /// As the server wrote them.
        offered: String,
    },
    /// Privacy is asked for with ciphers that this crate does not have (it has RC4).
    #[error("the server offers the ciphers `{0}`, but not rc4")]
    NoCommonCipher(String),
    /// The server did not prove that it knows the password.
    #[error("the server does not know the token's password")]
    ServerNotAuthentic,
    /// A wrapped message is too short to be one.
    #[error("a wrapped message of {0} bytes is too short")]
    Short(usize),
    /// A wrapped message's checksum is wrong.
    #[error("the checksum of wrapped message {0} is wrong")]
    Integrity(u32),
    /// A wrapped message out of turn.
    #[error("wrapped message {found} came in place of {expected}")]
    Sequence {
        /// The number that was due.
        expected: u32,
        /// The number that came.
        found: u32,
    },
}
