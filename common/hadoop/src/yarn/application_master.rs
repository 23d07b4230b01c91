//! ApplicationMasterProtocol: the duties of an ApplicationMaster towards the ResourceManager.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{debug, info};

use super::failover::{FailoverClient, FailoverPolicy, ResourceManagers};
use super::{APPLICATION_MASTER, NmTokenCache};
use crate::ipc::{Auth, ClientConfig, ExceptionClass, IpcError, Method};
use crate::proto::yarn as pb;
use crate::token::{Credentials, Token, TokenKind};

/// A second registration is refused, so a lost answer must not be followed by a silent repetition.
const REGISTER: Method = Method::once("registerApplicationMaster");
/// Repeated with the same response id, the ResourceManager gives its last answer again.
const ALLOCATE: Method = Method::idempotent("allocate");
const FINISH: Method = Method::idempotent("finishApplicationMaster");

const FINISH_PAUSE: Duration = Duration::from_millis(100);
const FINISH_PATIENCE: Duration = Duration::from_secs(60);

/// What an ApplicationMaster's call came to, if not to an answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AmError {
    /// The credentials hold no token for the scheduler port.
    #[error(
        "the credentials hold no {} token: this process was not started as an ApplicationMaster",
        TokenKind::AmRm
    )]
    NoToken,
    /// The ResourceManager restarted or another took over: register again, then send all outstanding asks again.
    #[error("the ApplicationMaster has to register again")]
    NotRegistered(#[source] IpcError),
    /// This attempt was registered before; the answer to that was lost, or another process did it.
    #[error("this attempt is registered already")]
    AlreadyRegistered(#[source] IpcError),
    /// The ResourceManager has given this attempt up: stop at once.
    #[error("this attempt is over")]
    AttemptOver(#[source] IpcError),
    /// Something that was asked is not allowed; nothing of the call was applied.
    #[error("the ResourceManager refused what was asked")]
    RefusedAsk(#[source] IpcError),
    /// The ResourceManager did not unregister the application in time.
    #[error("the application was not unregistered within {0:?}")]
    NotUnregistered(Duration),
    /// Anything else.
    #[error(transparent)]
    Ipc(#[from] IpcError),
}

fn classify(error: IpcError) -> AmError {
    match error.class() {
        Some(ExceptionClass::ApplicationMasterNotRegistered) => AmError::NotRegistered(error),
        Some(ExceptionClass::ApplicationAttemptNotFound | ExceptionClass::InvalidToken) => {
            AmError::AttemptOver(error)
        }
        Some(class) if class.is_refused_ask() => AmError::RefusedAsk(error),
        Some(ExceptionClass::InvalidApplicationMasterRequest)
            if error.tried().method == REGISTER =>
        {
            AmError::AlreadyRegistered(error)
        }
        Some(_) | None => AmError::Ipc(error),
    }
}

/// What an ApplicationMaster tells about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registration {
    /// Host name, as shown to clients; any text.
    pub host: String,
    /// Port of its own server; -1 for none.
    pub rpc_port: i32,
    /// Full URL or `host:port` of its user interface; may be empty.
    pub tracking_url: String,
}

/// Talks to the scheduler port of the active ResourceManager, for one attempt.
///
/// It keeps the response id, repeats calls whose answer was lost, keeps rolled AMRMTokens for the next connection, and
/// collects the NMTokens.
#[derive(Debug)]
pub struct ApplicationMasterClient {
    rm: FailoverClient,
    registration: Registration,
    response_id: i32,
    /// A request that may have been carried out, though no answer came (also when its future was dropped).
    unanswered: Option<pb::AllocateRequest>,
    /// The late answer to it, until it is handed out.
    undelivered: Option<pb::AllocateResponse>,
    am_rm_token: Token,
    nm_tokens: NmTokenCache,
}

impl ApplicationMasterClient {
    /// A client for the scheduler ports `rms`, with the AMRMToken among `credentials`.
    ///
    /// # Errors
    /// When there is no such token.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a constructor takes what it keeps"
    )]
    pub fn new(
        rms: ResourceManagers,
        credentials: &Credentials,
        config: ClientConfig,
        policy: FailoverPolicy,
    ) -> Result<Self, AmError> {
        let am_rm_token = credentials
            .token_of_kind(&TokenKind::AmRm)
            .ok_or(AmError::NoToken)?
            .clone();
        let auth = Auth::Token(am_rm_token.clone());
        Ok(Self {
            rm: FailoverClient::new(&rms, APPLICATION_MASTER, &auth, &config, policy),
            registration: Registration::default(),
            response_id: 0,
            unanswered: None,
            undelivered: None,
            am_rm_token,
            nm_tokens: NmTokenCache::new(),
        })
    }

    /// The tokens for NodeManagers, as far as they came.
    pub const fn nm_tokens(&self) -> &NmTokenCache {
        &self.nm_tokens
    }

    /// Registers this attempt, or registers it again after [`AmError::NotRegistered`]; response ids start at 0.
    ///
    /// # Errors
    /// See [`AmError`]. After a broken connection the registration may have happened; a second try then says
    /// [`AmError::AlreadyRegistered`].
    pub async fn register(
        &mut self,
        registration: Registration,
    ) -> Result<pb::RegisterApplicationMasterResponse, AmError> {
        self.registration = registration;
        let request = pb::RegisterApplicationMasterRequest {
            host: Some(self.registration.host.clone()),
            rpc_port: Some(self.registration.rpc_port),
            tracking_url: Some(self.registration.tracking_url.clone()),
            placement_constraints: Vec::new(),
        };
        let answer: pb::RegisterApplicationMasterResponse =
            self.rm.call(REGISTER, &request).await.map_err(classify)?;
        self.response_id = 0;
        self.unanswered = None;
        self.nm_tokens
            .extend(&answer.nm_tokens_from_previous_attempts);
        info!(
            queue = answer.queue(),
            kept = answer.containers_from_previous_attempts.len(),
            "registered"
        );
        Ok(answer)
    }

    /// The heartbeat: asks, releases, and hears what happened. `response_id` of the request is filled in here.
    ///
    /// `num_containers` of an ask is absolute, and there may be only one size for each (priority, allocation request id).
    /// If the answer to the call before was lost, that call is repeated first and its answer is merged into this one, so
    /// nothing that the ResourceManager said is ever missed.
    ///
    /// # Errors
    /// See [`AmError`]. After [`AmError::RefusedAsk`] nothing of the request was applied. When the ResourceManager is
    /// away the request is kept, and repeated before the next one.
    pub async fn allocate(
        &mut self,
        request: pb::AllocateRequest,
    ) -> Result<pb::AllocateResponse, AmError> {
        if let Some(lost) = self.unanswered.clone() {
            debug!(
                response_id = lost.response_id(),
                "repeating an allocate call without answer"
            );
            let late = self.allocate_once(lost).await?;
            self.undelivered = Some(merge(self.undelivered.take(), late));
        }
        let answer = self
            .allocate_once(pb::AllocateRequest {
                response_id: Some(self.response_id),
                ..request
            })
            .await?;
        Ok(merge(self.undelivered.take(), answer))
    }

    async fn allocate_once(
        &mut self,
        request: pb::AllocateRequest,
    ) -> Result<pb::AllocateResponse, AmError> {
        self.unanswered = Some(request.clone());
        match self
            .rm
            .call::<_, pb::AllocateResponse>(ALLOCATE, &request)
            .await
        {
            Ok(answer) => {
                self.unanswered = None;
                self.response_id = answer.response_id();
                self.nm_tokens.extend(&answer.nm_tokens);
                self.keep_rolled_token(&answer);
                Ok(answer)
            }
            Err(error) => {
                if !(error.is_unavailable() || error.is_in_doubt()) {
                    self.unanswered = None;
                }
                Err(classify(error))
            }
        }
    }

    /// A rolled token comes with every answer until this connection ends; only the next connection needs it.
    fn keep_rolled_token(&mut self, answer: &pb::AllocateResponse) {
        if let Some(rolled) = answer.am_rm_token.clone().map(Token::from)
            && rolled != self.am_rm_token
        {
            info!("the AMRMToken was rolled");
            self.rm.set_auth(&Auth::Token(rolled.clone()));
            self.am_rm_token = rolled;
        }
    }

    /// Ends the application with an outcome; returns when the ResourceManager has unregistered it.
    ///
    /// FAILED and KILLED end it, too: to have another attempt, exit without this call. `tracking_url` is where the
    /// web proxy sends people afterwards; empty for YARN's own page.
    ///
    /// # Errors
    /// See [`AmError`].
    pub async fn finish(
        &mut self,
        status: pb::FinalApplicationStatus,
        diagnostics: &str,
        tracking_url: &str,
    ) -> Result<(), AmError> {
        let request = pb::FinishApplicationMasterRequest {
            diagnostics: Some(diagnostics.to_owned()),
            tracking_url: Some(tracking_url.to_owned()),
            final_application_status: Some(status.into()),
        };
        let started = Instant::now();
        while started.elapsed() < FINISH_PATIENCE {
            match self
                .rm
                .call::<_, pb::FinishApplicationMasterResponse>(FINISH, &request)
                .await
                .map_err(classify)
            {
                Ok(answer) if answer.is_unregistered() => return Ok(()),
                // The first answer is mostly this: the outcome is being stored.
                Ok(_) => sleep(FINISH_PAUSE).await,
                Err(AmError::NotRegistered(_)) => {
                    let registration = self.registration.clone();
                    self.register(registration).await?;
                }
                Err(other) => return Err(other),
            }
        }
        Err(AmError::NotUnregistered(FINISH_PATIENCE))
    }
}

/// Puts an earlier answer in front of a later one: events add up, states are the later one's.
fn merge(
    earlier: Option<pb::AllocateResponse>,
    later: pb::AllocateResponse,
) -> pb::AllocateResponse {
    let Some(mut all) = earlier else { return later };
    all.allocated_containers.extend(later.allocated_containers);
    all.completed_container_statuses
        .extend(later.completed_container_statuses);
    all.updated_nodes.extend(later.updated_nodes);
    all.nm_tokens.extend(later.nm_tokens);
    all.update_errors.extend(later.update_errors);
    all.updated_containers.extend(later.updated_containers);
    all.containers_from_previous_attempts
        .extend(later.containers_from_previous_attempts);
    all.rejected_scheduling_requests
        .extend(later.rejected_scheduling_requests);
    pb::AllocateResponse {
        a_m_command: later.a_m_command.or(all.a_m_command),
        response_id: later.response_id,
        limit: later.limit.or(all.limit),
        num_cluster_nodes: later.num_cluster_nodes.or(all.num_cluster_nodes),
        preempt: later.preempt.or(all.preempt),
        am_rm_token: later.am_rm_token.or(all.am_rm_token),
        application_priority: later.application_priority.or(all.application_priority),
        collector_info: later.collector_info.or(all.collector_info),
        enhanced_headroom: later.enhanced_headroom.or(all.enhanced_headroom),
        ..all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(id: i64) -> pb::ContainerStatus {
        pb::ContainerStatus {
            container_id: Some(pb::ContainerId {
                id: Some(id),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn a_late_answer_is_put_in_front_of_the_next() {
        let earlier = pb::AllocateResponse {
            response_id: Some(4),
            completed_container_statuses: vec![completed(1)],
            num_cluster_nodes: Some(2),
            ..Default::default()
        };
        let later = pb::AllocateResponse {
            response_id: Some(5),
            completed_container_statuses: vec![completed(2)],
            ..Default::default()
        };
        let merged = merge(Some(earlier), later.clone());
        assert_eq!(
            merged.completed_container_statuses,
            [completed(1), completed(2)]
        );
        assert_eq!((merged.response_id(), merged.num_cluster_nodes()), (5, 2));
        assert_eq!(merge(None, later.clone()), later);
    }
}
