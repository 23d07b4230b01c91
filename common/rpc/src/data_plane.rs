//! How two workers prove to each other, over a raw TCP connection, that they belong to the same application.
//!
//! Each side sends a [`Challenge`] and answers the other's with a [`Proof`]: HMAC-SHA256 over a label, the role of the one who
//! proves, the challenge and a context both know, such as the job id. The role keeps an answer from being mirrored back. The
//! secret itself never crosses the wire.

use hmac::Mac;
use hmac::digest::Output;
use sha2::Sha256;
use spindle_common::id::JobId;

use crate::Secret;

/// Length of a challenge and of a proof on the wire, in bytes.
pub const PROOF_BYTES: usize = 32;

/// Random bytes that the other side has to answer.
pub type Challenge = [u8; PROOF_BYTES];

/// The answer to a [`Challenge`].
pub type Proof = [u8; PROOF_BYTES];

/// Which side of the connection proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The one that opened it.
    Connecting,
    /// The one that accepted it.
    Accepting,
}

impl Role {
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Connecting => b'C',
            Self::Accepting => b'A',
        }
    }
}

/// A fresh challenge; never use one twice.
///
/// # Errors
/// If the operating system has no random numbers.
pub fn make_challenge() -> Result<Challenge, std::io::Error> {
    let mut bytes = [0; PROOF_BYTES];
    getrandom::fill(&mut bytes).map_err(|cause| std::io::Error::other(cause.to_string()))?;
    Ok(bytes)
}

/// The proof of the side `role` for a challenge of the other side; `context` is what else both know and want to be bound.
pub fn answer(
    secret: &Secret,
    challenge: &Challenge,
    role: Role,
    job: JobId,
    context: &[u8],
) -> Proof {
    let output: Output<hmac::Hmac<Sha256>> = mac(secret, challenge, role, job, context)
        .finalize()
        .into_bytes();
    output.into()
}

/// Whether a proof is that of the side `role`; takes the same time wherever it differs.
#[must_use]
pub fn verify(
    secret: &Secret,
    challenge: &Challenge,
    role: Role,
    job: JobId,
    context: &[u8],
    proof: &Proof,
) -> bool {
    mac(secret, challenge, role, job, context)
        .verify_slice(proof)
        .is_ok()
}

fn mac(
    secret: &Secret,
    challenge: &Challenge,
    role: Role,
    job: JobId,
    context: &[u8],
) -> hmac::Hmac<Sha256> {
    let mut mac = secret.hmac();
    mac.update(b"spindle data plane 1");
    mac.update(&[role.byte()]);
    mac.update(challenge);
    mac.update(&job.to_bytes());
    // Last and so without a length: everything before it has a fixed one.
    mac.update(context);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_its_secret_challenge_role_job_and_context_alone() {
        let (secret, job) = (Secret::from_bytes([1; 32]), JobId::from_bytes([2; 16]));
        let challenge = make_challenge().unwrap();
        let proof = answer(&secret, &challenge, Role::Connecting, job, b"x");
        let holds = |secret: &Secret, challenge: &Challenge, role, job, context: &[u8]| {
            verify(secret, challenge, role, job, context, &proof)
        };
        assert!(holds(&secret, &challenge, Role::Connecting, job, b"x"));
        let other_secret = Secret::from_bytes([3; 32]);
        assert!(!holds(
            &other_secret,
            &challenge,
            Role::Connecting,
            job,
            b"x"
        ));
        let other_challenge = make_challenge().unwrap();
        assert!(!holds(
            &secret,
            &other_challenge,
            Role::Connecting,
            job,
            b"x"
        ));
        assert!(!holds(&secret, &challenge, Role::Accepting, job, b"x"));
        let other_job = JobId::from_bytes([3; 16]);
        assert!(!holds(
            &secret,
            &challenge,
            Role::Connecting,
            other_job,
            b"x"
        ));
        assert!(!holds(&secret, &challenge, Role::Connecting, job, b"y"));
    }
}
