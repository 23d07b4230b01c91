//! What some tokens say. A holder needs this only to tell which token is which, and when it runs out.

use prost::Message as _;

use super::writable::{Malformed, Reader};
use super::{Token, TokenKind};
use crate::proto::yarn as pb;
use crate::yarn::{ApplicationAttemptId, NodeId};

/// The attempt that an AMRMToken or NMToken is for; `None` for other kinds or foreign content.
pub fn attempt(token: &Token) -> Option<ApplicationAttemptId> {
    let bytes = token.identifier.as_slice();
    let message = if token.kind == TokenKind::AmRm {
        pb::AmrmTokenIdentifier::decode(bytes).ok()?.app_attempt_id
    } else if token.kind == TokenKind::Nm {
        pb::NmTokenIdentifier::decode(bytes).ok()?.app_attempt_id
    } else {
        None
    };
    message?.try_into().ok()
}

/// The node that an NMToken is for; `None` for other kinds or foreign content.
pub fn node(token: &Token) -> Option<NodeId> {
    if token.kind != TokenKind::Nm {
        return None;
    }
    pb::NmTokenIdentifier::decode(token.identifier.as_slice())
        .ok()?
        .node_id?
        .try_into()
        .ok()
}

/// What an HDFS delegation token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HdfsDelegationIdentifier {
    /// Whom it stands for.
    pub owner: String,
    /// Who may renew it.
    pub renewer: String,
    /// The authenticated user behind a proxied owner; else empty.
    pub real_user: String,
    /// ms since the epoch.
    pub issue_date: i64,
    /// End of its life whatever the renewals, ms since the epoch.
    pub max_date: i64,
    /// Number of the token at its NameNode.
    pub sequence_number: i64,
    /// Number of the key that signed it.
    pub master_key_id: i64,
}

impl HdfsDelegationIdentifier {
    /// Reads the identifier of a token of kind [`TokenKind::HdfsDelegation`].
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != 0 {
            return Err(Malformed {
                what: "identifier version",
                offset: 0,
            });
        }
        Ok(Self {
            owner: reader.text()?.to_owned(),
            renewer: reader.text()?.to_owned(),
            real_user: reader.text()?.to_owned(),
            issue_date: reader.vlong()?,
            max_date: reader.vlong()?,
            sequence_number: reader.vlong()?,
            master_key_id: reader.vlong()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ipc::testing::unhex;

    #[test]
    fn an_amrm_token_tells_its_attempt() {
        let token = Token {
            identifier: unhex("0a0d0a090801109fd5c2db9f34100110a2a2ebf9f9ffffffff01"),
            password: Default::default(),
            kind: TokenKind::AmRm,
            service: String::new(),
        };
        assert_eq!(
            attempt(&token).unwrap().to_string(),
            "appattempt_1795219827359_0001_000001"
        );
        let message = pb::AmrmTokenIdentifier::decode(token.identifier.as_slice()).unwrap();
        assert_eq!(message.key_id(), -1_623_535_326);
        assert_eq!(message.encode_to_vec(), token.identifier);
    }

    #[test]
    fn an_hdfs_token_tells_owner_and_dates() {
        let bytes = unhex(
            "0011616c696365404558414d504c452e434f4d047961726e008a01a1fb8b1b6f8a01a21f979f6f0102",
        );
        let identifier = HdfsDelegationIdentifier::decode(&bytes).unwrap();
        assert_eq!(identifier.owner, "alice@EXAMPLE.COM");
        assert_eq!(
            (identifier.renewer.as_str(), identifier.real_user.as_str()),
            ("yarn", "")
        );
        assert_eq!(
            (identifier.issue_date, identifier.max_date),
            (1_795_221_560_175, 1_795_826_360_175)
        );
        assert_eq!(
            (identifier.sequence_number, identifier.master_key_id),
            (1, 2)
        );
    }

    proptest! {
        #[test]
        fn reading_arbitrary_identifiers_never_panics(bytes: Vec<u8>) {
            let _ = HdfsDelegationIdentifier::decode(&bytes);
            for kind in [TokenKind::AmRm, TokenKind::Nm] {
                let token = Token { identifier: bytes.clone(), password: Default::default(), kind, service: String::new() };
                let _ = (attempt(&token), node(&token));
            }
        }
    }
}
