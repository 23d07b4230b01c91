//! Servers that stand in for each other: round robin until one answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prost::Message;
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::conf::{HostPort, RmAddress};
use crate::ipc::{Auth, Client, ClientConfig, IpcError, Method, Protocol, RetryPolicy};

/// No ResourceManager is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no address of a ResourceManager is given")]
pub struct NoResourceManager;

/// The ResourceManagers of a cluster, by their ids and the address (`host:port`) of one of their ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceManagers(Vec<(String, String)>);

impl ResourceManagers {
    /// Names them; a cluster without HA has one, whose id does not matter.
    ///
    /// # Errors
    /// When there is none.
    pub fn new<I, N, A>(members: I) -> Result<Self, NoResourceManager>
    where
        I: IntoIterator<Item = (N, A)>,
        N: Into<String>,
        A: Into<String>,
    {
        let members: Vec<_> = members
            .into_iter()
            .map(|(id, address)| (id.into(), address.into()))
            .collect();
        if members.is_empty() {
            Err(NoResourceManager)
        } else {
            Ok(Self(members))
        }
    }

    /// The client ports of configured ResourceManagers, for [`ResourceManagerClient`](super::ResourceManagerClient).
    ///
    /// # Errors
    /// When there is none.
    pub fn clients(configured: &[RmAddress]) -> Result<Self, NoResourceManager> {
        Self::ports(configured, |rm| &rm.client)
    }

    /// The scheduler ports of configured ResourceManagers, for
    /// [`ApplicationMasterClient`](super::ApplicationMasterClient).
    ///
    /// # Errors
    /// When there is none.
    pub fn schedulers(configured: &[RmAddress]) -> Result<Self, NoResourceManager> {
        Self::ports(configured, |rm| &rm.scheduler)
    }

    fn ports(
        configured: &[RmAddress],
        port: impl Fn(&RmAddress) -> &HostPort,
    ) -> Result<Self, NoResourceManager> {
        Self::new(configured.iter().map(|rm| {
            let address = port(rm);
            let host = address.connect_host();
            let bracketed = if host.contains(':') {
                format!("[{host}]")
            } else {
                host.to_owned()
            };
            (
                rm.id.clone().unwrap_or_else(|| "rm".to_owned()),
                format!("{bracketed}:{}", address.port),
            )
        }))
    }

    /// Ids and addresses.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(id, address)| (id.as_str(), address.as_str()))
    }
}

/// How long servers are tried in turn.
///
/// A standby ResourceManager has its ports closed, so a refused connection means either "the other one" or "not yet".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailoverPolicy {
    /// After this a failure is returned; each server is tried at least once. YARN's own clients wait 15 minutes
    /// (`yarn.resourcemanager.connect.max-wait.ms`).
    pub max_wait: Duration,
    /// Pause before the next server is tried.
    pub pause: Duration,
}

impl Default for FailoverPolicy {
    fn default() -> Self {
        Self {
            max_wait: Duration::from_secs(30),
            pause: Duration::from_millis(500),
        }
    }
}

impl FailoverPolicy {
    /// Tries each server once.
    pub const ONCE: Self = Self {
        max_wait: Duration::ZERO,
        pause: Duration::ZERO,
    };
}

/// One protocol of several servers, of which one is active.
#[derive(Debug)]
pub(super) struct FailoverClient {
    members: Vec<(String, Client)>,
    current: AtomicUsize,
    policy: FailoverPolicy,
}

impl FailoverClient {
    pub(super) fn new(
        members: &ResourceManagers,
        protocol: Protocol,
        auth: &Auth,
        config: &ClientConfig,
        policy: FailoverPolicy,
    ) -> Self {
        // Repeating is done here, where the next server can be taken.
        let config = ClientConfig {
            retry: RetryPolicy::NEVER,
            ..config.clone()
        };
        let members = members
            .iter()
            .map(|(id, address)| {
                (
                    id.to_owned(),
                    Client::new(address, protocol, auth.clone(), config.clone()),
                )
            })
            .collect();
        Self {
            members,
            current: AtomicUsize::new(0),
            policy,
        }
    }

    pub(super) fn set_auth(&self, auth: &Auth) {
        for (_, client) in &self.members {
            client.set_auth(auth.clone());
        }
    }

    pub(super) async fn call<Q, R>(&self, method: Method, request: &Q) -> Result<R, IpcError>
    where
        Q: Message,
        R: Message + Default,
    {
        let started = Instant::now();
        let mut tries = 0;
        loop {
            let at = self.current.load(Ordering::Relaxed) % self.members.len();
            let (id, client) = &self.members[at];
            let error = match client.call(method, request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            tries += 1;
            let repeatable = error.is_unavailable() && (method.idempotent || !error.is_in_doubt());
            let out_of_time = tries >= self.members.len()
                && started.elapsed() + self.policy.pause > self.policy.max_wait;
            if !repeatable {
                return Err(error);
            }
            // Another caller may have moved on already; then its choice is as good as ours. The next call starts there.
            let _ = self.current.compare_exchange(
                at,
                (at + 1) % self.members.len(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if out_of_time {
                return Err(error);
            }
            if tries == 1 {
                info!(%id, address = client.address(), %error, "server is not available, trying on");
            }
            // The first round goes without pauses: all but one are expected to be away.
            if tries >= self.members.len() {
                sleep(self.policy.pause).await;
            }
        }
    }
}
