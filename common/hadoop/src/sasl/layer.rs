//! The protection of messages after authentication: a checksum, and RC4 where privacy was agreed on.
//!
//! ```text
//! auth-int    message ‖ mac[10] ‖ 00 01 ‖ sequence (32 bits, big endian)
//! auth-conf   rc4(message ‖ mac[10]) ‖ 00 01 ‖ sequence
//! ```
//!
//! Each direction has its own keys and counts from 0. The four-byte length that RFC 2831 puts in front is absent:
//! Hadoop wraps each message in a frame of its own.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};

use super::digest::same;
use super::{Qop, SaslError};

const MAC_LENGTH: usize = 10;
const TRAILER_LENGTH: usize = 6;
const VERSION: [u8; 2] = [0, 1];

/// Both directions of a protected connection.
#[derive(Debug)]
pub struct Layer {
    /// Wraps what we send.
    pub seal: Seal,
    /// Unwraps what we get.
    pub open: Open,
}

/// Wraps messages; one for each connection and direction.
pub struct Seal(Direction);

/// Unwraps messages; one for each connection and direction.
pub struct Open(Direction);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({})", self.0.sequence)
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Open({})", self.0.sequence)
    }
}

impl Layer {
    /// The client's end of a connection whose keys come from `ha1`; `None` when nothing is protected.
    pub fn client(qop: Qop, ha1: &[u8; 16]) -> Option<Self> {
        let (out, back) = (
            Direction::new(qop, ha1, TO_SERVER)?,
            Direction::new(qop, ha1, TO_CLIENT)?,
        );
        Some(Self {
            seal: Seal(out),
            open: Open(back),
        })
    }

    /// The server's end; `None` when nothing is protected.
    pub fn server(qop: Qop, ha1: &[u8; 16]) -> Option<Self> {
        let (out, back) = (
            Direction::new(qop, ha1, TO_CLIENT)?,
            Direction::new(qop, ha1, TO_SERVER)?,
        );
        Some(Self {
            seal: Seal(out),
            open: Open(back),
        })
    }
}

impl Seal {
    /// Wraps one message.
    pub fn wrap(&mut self, message: &[u8]) -> Vec<u8> {
        let mac = self.0.mac(message);
        let mut token = Vec::with_capacity(message.len() + MAC_LENGTH + TRAILER_LENGTH);
        token.extend_from_slice(message);
        token.extend_from_slice(&mac);
        if let Some(cipher) = &mut self.0.cipher {
            cipher.apply(&mut token);
        }
        token.extend_from_slice(&VERSION);
        token.extend_from_slice(&self.0.sequence.to_be_bytes());
        self.0.sequence = self.0.sequence.wrapping_add(1);
        token
    }
}

impl Open {
    /// Unwraps one message.
    ///
    /// # Errors
    /// When the token is too short, out of turn, or its checksum is wrong. The connection is then unusable.
    pub fn unwrap(&mut self, token: &[u8]) -> Result<Vec<u8>, SaslError> {
        let Some(length) = token.len().checked_sub(MAC_LENGTH + TRAILER_LENGTH) else {
            return Err(SaslError::Short(token.len()));
        };
        let (body, trailer) = token.split_at(length + MAC_LENGTH);
        let expected = self.0.sequence;
        let found = u32::from_be_bytes([trailer[2], trailer[3], trailer[4], trailer[5]]);
        if trailer[..2] != VERSION || found != expected {
            return Err(SaslError::Sequence { expected, found });
        }
        let mut message = body.to_vec();
        if let Some(cipher) = &mut self.0.cipher {
            cipher.apply(&mut message);
        }
        let mac = message.split_off(length);
        if !same(&mac, &self.0.mac(&message)) {
            return Err(SaslError::Integrity(found));
        }
        self.0.sequence = expected.wrapping_add(1);
        Ok(message)
    }
}

/// The magic constants of one direction.
struct Magic {
    signing: &'static str,
    sealing: &'static str,
}

const TO_SERVER: Magic = Magic {
    signing: "Digest session key to client-to-server signing key magic constant",
    sealing: "Digest H(A1) to client-to-server sealing key magic constant",
};

const TO_CLIENT: Magic = Magic {
    signing: "Digest session key to server-to-client signing key magic constant",
    sealing: "Digest H(A1) to server-to-client sealing key magic constant",
};

struct Direction {
    signing_key: [u8; 16],
    cipher: Option<Rc4>,
    sequence: u32,
}

impl Direction {
    fn new(qop: Qop, ha1: &[u8; 16], magic: Magic) -> Option<Self> {
        let cipher = match qop {
            Qop::Auth => return None,
            Qop::Integrity => None,
            Qop::Privacy => Some(Rc4::new(&derive(ha1, magic.sealing))),
        };
        Some(Self {
            signing_key: derive(ha1, magic.signing),
            cipher,
            sequence: 0,
        })
    }

    fn mac(&self, message: &[u8]) -> [u8; MAC_LENGTH] {
        let mut mac =
            Hmac::<Md5>::new_from_slice(&self.signing_key).expect("HMAC takes keys of any length");
        mac.update(&self.sequence.to_be_bytes());
        mac.update(message);
        let full = mac.finalize().into_bytes();
        std::array::from_fn(|i| full[i])
    }
}

fn derive(ha1: &[u8; 16], magic: &str) -> [u8; 16] {
    Md5::new()
        .chain_update(ha1)
        .chain_update(magic)
        .finalize()
        .into()
}

/// RC4: the keystream goes on over all messages of a direction.
struct Rc4 {
    state: [u8; 256],
    i: u8,
    j: u8,
}

impl Rc4 {
    fn new(key: &[u8; 16]) -> Self {
        let mut state: [u8; 256] =
            std::array::from_fn(|i| u8::try_from(i).expect("an index below 256"));
        let mut j = 0u8;
        for i in 0..256 {
            j = j.wrapping_add(state[i]).wrapping_add(key[i % key.len()]);
            state.swap(i, usize::from(j));
        }
        Self { state, i: 0, j: 0 }
    }

    fn apply(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.i = self.i.wrapping_add(1);
            self.j = self.j.wrapping_add(self.state[usize::from(self.i)]);
            self.state.swap(usize::from(self.i), usize::from(self.j));
            let sum = self.state[usize::from(self.i)].wrapping_add(self.state[usize::from(self.j)]);
            *byte ^= self.state[usize::from(sum)];
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ipc::testing::unhex;

    fn ha1() -> [u8; 16] {
        unhex("71c566be3678eb9f6e9424de1135ca1f")
            .try_into()
            .unwrap()
    }

    #[test]
    fn keys_are_hadoops() {
        let ha1 = ha1();
        assert_eq!(
            derive(&ha1, TO_SERVER.signing).to_vec(),
            unhex("15acb10d8e5fa563003a9cd3b6ea6ed8")
        );
        assert_eq!(
            derive(&ha1, TO_CLIENT.signing).to_vec(),
            unhex("f3654e983f961adc746e96364b9b2f8b")
        );
        assert_eq!(
            derive(&ha1, TO_SERVER.sealing).to_vec(),
            unhex("b05baf6818e01aca696e2bf6c945a1f2")
        );
        assert_eq!(
            derive(&ha1, TO_CLIENT.sealing).to_vec(),
            unhex("81f4279eecd4a2c2ce70cdf3fb501540")
        );
    }

    #[test]
    fn wrapped_messages_are_hadoops() {
        for (qop, golden) in [
            (Qop::Integrity, "68656c6c6f28825d4861699b2874a4000100000000"),
            (Qop::Privacy, "ce7d09aa02c0eec3326c63c715926e000100000000"),
        ] {
            let token = Layer::client(qop, &ha1()).unwrap().seal.wrap(b"hello");
            assert_eq!(token, unhex(golden), "{qop:?}");
            assert_eq!(
                Layer::server(qop, &ha1())
                    .unwrap()
                    .open
                    .unwrap(&token)
                    .unwrap(),
                b"hello"
            );
        }
    }

    #[test]
    fn a_changed_repeated_or_short_message_is_refused() {
        let mut seal = Layer::client(Qop::Integrity, &ha1()).unwrap().seal;
        let mut open = Layer::server(Qop::Integrity, &ha1()).unwrap().open;
        let first = seal.wrap(b"hello");
        let mut changed = first.clone();
        changed[0] ^= 1;
        assert_eq!(open.unwrap(&changed), Err(SaslError::Integrity(0)));
        assert!(open.unwrap(&first).is_ok());
        assert_eq!(
            open.unwrap(&first),
            Err(SaslError::Sequence {
                expected: 1,
                found: 0
            })
        );
        assert_eq!(open.unwrap(&[0; 15]), Err(SaslError::Short(15)));
    }

    proptest! {
        #[test]
        fn any_sequence_of_messages_survives(messages: Vec<Vec<u8>>, privacy: bool) {
            let qop = if privacy { Qop::Privacy } else { Qop::Integrity };
            let mut seal = Layer::server(qop, &ha1()).unwrap().seal;
            let mut open = Layer::client(qop, &ha1()).unwrap().open;
            for message in messages {
                prop_assert_eq!(open.unwrap(&seal.wrap(&message)).unwrap(), message);
            }
        }

        #[test]
        fn unwrapping_arbitrary_bytes_never_panics(token: Vec<u8>, privacy: bool) {
            let qop = if privacy { Qop::Privacy } else { Qop::Integrity };
            let _ = Layer::client(qop, &ha1()).unwrap().open.unwrap(&token);
        }
    }
}
