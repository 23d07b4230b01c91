//! Tokens for NodeManagers, as the ResourceManager hands them out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::NodeId;
use crate::proto::yarn as pb;
use crate::token::Token;

/// The newest NMToken of each node; clones share it.
///
/// The ResourceManager sends a node's token once, with the first container on it, and again only when its key rolled:
/// the cache has to live as long as the ApplicationMaster.
#[derive(Debug, Clone, Default)]
pub struct NmTokenCache(Arc<Mutex<HashMap<NodeId, Token>>>);

impl NmTokenCache {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn map(&self) -> MutexGuard<'_, HashMap<NodeId, Token>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a token; an older one of the same node is replaced.
    pub fn insert(&self, node: NodeId, token: Token) {
        self.map().insert(node, token);
    }

    /// The token of a node.
    pub fn get(&self, node: &NodeId) -> Option<Token> {
        self.map().get(node).cloned()
    }

    /// Stores what an answer of the ResourceManager brought; entries without node or token are skipped.
    pub fn extend(&self, tokens: &[pb::NmToken]) {
        for entry in tokens {
            if let (Ok(node), Some(token)) =
                (NodeId::try_from(entry.node_id.as_ref()), &entry.token)
            {
                self.insert(node, token.clone().into());
            }
        }
    }
}
