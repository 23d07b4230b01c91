//! ApplicationClientProtocol: submit, watch and kill applications; look at cluster and queues.

use super::failover::{FailoverClient, FailoverPolicy, ResourceManagers};
use super::{APPLICATION_CLIENT, ApplicationAttemptId, ApplicationId, YarnError};
use crate::ipc::{Auth, ClientConfig, IpcError, Method};
use crate::proto::common::{
    CancelDelegationTokenRequest, CancelDelegationTokenResponse, GetDelegationTokenRequest,
    GetDelegationTokenResponse, RenewDelegationTokenRequest, RenewDelegationTokenResponse,
};
use crate::proto::yarn as pb;
use crate::token::Token;

// Each may be repeated: a second submission or kill of the same id changes nothing, and an application id or token
// that nobody uses costs nothing.
const GET_NEW_APPLICATION: Method = Method::idempotent("getNewApplication");
const SUBMIT_APPLICATION: Method = Method::idempotent("submitApplication");
const FORCE_KILL_APPLICATION: Method = Method::idempotent("forceKillApplication");
const GET_APPLICATION_REPORT: Method = Method::idempotent("getApplicationReport");
const GET_APPLICATIONS: Method = Method::idempotent("getApplications");
const GET_CLUSTER_METRICS: Method = Method::idempotent("getClusterMetrics");
const GET_CLUSTER_NODES: Method = Method::idempotent("getClusterNodes");
const GET_QUEUE_INFO: Method = Method::idempotent("getQueueInfo");
const GET_APPLICATION_ATTEMPTS: Method = Method::idempotent("getApplicationAttempts");
const GET_CONTAINERS: Method = Method::idempotent("getContainers");
const GET_DELEGATION_TOKEN: Method = Method::idempotent("getDelegationToken");
const RENEW_DELEGATION_TOKEN: Method = Method::idempotent("renewDelegationToken");
const CANCEL_DELEGATION_TOKEN: Method = Method::idempotent("cancelDelegationToken");

/// A fresh application id, and the largest container that the cluster's nodes can give now.
#[derive(Debug, Clone, PartialEq)]
pub struct NewApplication {
    /// To be used in the submission.
    pub id: ApplicationId,
    /// Changes as nodes come and go.
    pub maximum_capability: pb::Resource,
}

/// Talks to the client port of the active ResourceManager.
#[derive(Debug)]
pub struct ResourceManagerClient {
    rm: FailoverClient,
}

impl ResourceManagerClient {
    /// A client in the name of `user`; nothing is sent before the first call.
    pub fn new(
        rms: ResourceManagers,
        user: &str,
        config: ClientConfig,
        policy: FailoverPolicy,
    ) -> Self {
        Self::with_auth(
            rms,
            Auth::Simple {
                user: user.to_owned(),
            },
            config,
            policy,
        )
    }

    /// A client with another proof of identity, such as a delegation token of kind `RM_DELEGATION_TOKEN`.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a constructor takes what it keeps"
    )]
    pub fn with_auth(
        rms: ResourceManagers,
        auth: Auth,
        config: ClientConfig,
        policy: FailoverPolicy,
    ) -> Self {
        Self {
            rm: FailoverClient::new(&rms, APPLICATION_CLIENT, &auth, &config, policy),
        }
    }

    /// Makes any call of ApplicationClientProtocol, for methods that have no function here.
    ///
    /// ```no_run
    /// # async fn run(rm: spindle_hadoop::yarn::ResourceManagerClient) -> Result<(), spindle_hadoop::ipc::IpcError> {
    /// use spindle_hadoop::ipc::Method;
    /// use spindle_hadoop::proto::yarn::{GetClusterNodeLabelsRequest, GetClusterNodeLabelsResponse};
    ///
    /// let method = Method::idempotent("getClusterNodeLabels");
    /// let labels: GetClusterNodeLabelsResponse = rm.call(method, &GetClusterNodeLabelsRequest {}).await?;
    /// # let _ = labels; Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the call fails.
    pub async fn call<Q, R>(&self, method: Method, request: &Q) -> Result<R, IpcError>
    where
        Q: prost::Message,
        R: prost::Message + Default,
    {
        self.rm.call(method, request).await
    }

    /// Asks for a fresh application id.
    ///
    /// # Errors
    /// When the call fails or its answer has no id.
    pub async fn new_application(&self) -> Result<NewApplication, YarnError> {
        let method = GET_NEW_APPLICATION.name;
        let answer: pb::GetNewApplicationResponse = self
            .rm
            .call(GET_NEW_APPLICATION, &pb::GetNewApplicationRequest {})
            .await?;
        let id = ApplicationId::try_from(answer.application_id.as_ref())
            .map_err(|source| YarnError::Id { method, source })?;
        let maximum_capability = answer.maximum_capability.ok_or(YarnError::Incomplete {
            method,
            field: "maximumCapability",
        })?;
        Ok(NewApplication {
            id,
            maximum_capability,
        })
    }

    /// Submits an application.
    ///
    /// It returns before the application is stored: poll [`application_report`](Self::application_report) until the state
    /// is past NEW and NEW_SAVING. `ApplicationNotFound` then means that a failover lost it: submit it again. A queue
    /// that does not exist shows as state FAILED, not as an error of this call.
    ///
    /// # Errors
    /// When the call fails, e.g. because the ask is larger than the cluster allows.
    pub async fn submit_application(
        &self,
        context: pb::ApplicationSubmissionContext,
    ) -> Result<(), YarnError> {
        let request = pb::SubmitApplicationRequest {
            application_submission_context: Some(context),
        };
        let _: pb::SubmitApplicationResponse = self.rm.call(SUBMIT_APPLICATION, &request).await?;
        Ok(())
    }

    /// Asks that an application be killed; true once it is over. Repeat until then.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn kill_application(
        &self,
        id: ApplicationId,
        diagnostics: &str,
    ) -> Result<bool, YarnError> {
        let diagnostics = (!diagnostics.is_empty()).then(|| diagnostics.to_owned());
        let request = pb::KillApplicationRequest {
            application_id: Some(id.into()),
            diagnostics,
        };
        let answer: pb::KillApplicationResponse =
            self.rm.call(FORCE_KILL_APPLICATION, &request).await?;
        Ok(answer.is_kill_completed())
    }

    /// What the ResourceManager knows of an application.
    ///
    /// # Errors
    /// When the call fails: for an unknown id with class `ApplicationNotFound`.
    pub async fn application_report(
        &self,
        id: ApplicationId,
    ) -> Result<pb::ApplicationReport, YarnError> {
        let request = pb::GetApplicationReportRequest {
            application_id: Some(id.into()),
        };
        let answer: pb::GetApplicationReportResponse =
            self.rm.call(GET_APPLICATION_REPORT, &request).await?;
        let (method, field) = (GET_APPLICATION_REPORT.name, "application_report");
        answer
            .application_report
            .ok_or(YarnError::Incomplete { method, field })
    }

    /// All applications that the filter lets through; the default filter lets all through.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn applications(
        &self,
        filter: &pb::GetApplicationsRequest,
    ) -> Result<Vec<pb::ApplicationReport>, YarnError> {
        let answer: pb::GetApplicationsResponse = self.rm.call(GET_APPLICATIONS, filter).await?;
        Ok(answer.applications)
    }

    /// Counts of nodes by state.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn cluster_metrics(&self) -> Result<pb::YarnClusterMetrics, YarnError> {
        let answer: pb::GetClusterMetricsResponse = self
            .rm
            .call(GET_CLUSTER_METRICS, &pb::GetClusterMetricsRequest {})
            .await?;
        let (method, field) = (GET_CLUSTER_METRICS.name, "cluster_metrics");
        answer
            .cluster_metrics
            .ok_or(YarnError::Incomplete { method, field })
    }

    /// The nodes in any of the given states; all nodes when none is given.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn cluster_nodes(
        &self,
        states: &[pb::NodeState],
    ) -> Result<Vec<pb::NodeReport>, YarnError> {
        let request = pb::GetClusterNodesRequest {
            node_states: states.iter().map(|&state| state.into()).collect(),
        };
        let answer: pb::GetClusterNodesResponse = self.rm.call(GET_CLUSTER_NODES, &request).await?;
        Ok(answer.node_reports)
    }

    /// A queue with its direct children, without its applications; `None` when there is no such queue.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn queue_info(&self, name: &str) -> Result<Option<pb::QueueInfo>, YarnError> {
        self.queue(name, false).await
    }

    /// A queue with all queues below it; `root` has them all.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn queue_tree(&self, name: &str) -> Result<Option<pb::QueueInfo>, YarnError> {
        self.queue(name, true).await
    }

    async fn queue(&self, name: &str, recursive: bool) -> Result<Option<pb::QueueInfo>, YarnError> {
        let request = pb::GetQueueInfoRequest {
            queue_name: Some(name.to_owned()),
            include_applications: Some(false),
            include_child_queues: Some(true),
            recursive: Some(recursive),
            sub_cluster_id: None,
        };
        let answer: pb::GetQueueInfoResponse = self.rm.call(GET_QUEUE_INFO, &request).await?;
        Ok(answer.queue_info)
    }

    /// The attempts of an application.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn application_attempts(
        &self,
        id: ApplicationId,
    ) -> Result<Vec<pb::ApplicationAttemptReport>, YarnError> {
        let request = pb::GetApplicationAttemptsRequest {
            application_id: Some(id.into()),
        };
        let answer: pb::GetApplicationAttemptsResponse =
            self.rm.call(GET_APPLICATION_ATTEMPTS, &request).await?;
        Ok(answer.application_attempts)
    }

    /// The containers of an attempt that the ResourceManager remembers.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn containers(
        &self,
        attempt: ApplicationAttemptId,
    ) -> Result<Vec<pb::ContainerReport>, YarnError> {
        let request = pb::GetContainersRequest {
            application_attempt_id: Some(attempt.into()),
        };
        let answer: pb::GetContainersResponse = self.rm.call(GET_CONTAINERS, &request).await?;
        Ok(answer.containers)
    }

    /// Asks for a delegation token of the ResourceManager; its service is empty and is for the caller to fill.
    ///
    /// # Errors
    /// When the call fails; insecure clusters may refuse it.
    pub async fn delegation_token(&self, renewer: &str) -> Result<Token, YarnError> {
        let request = GetDelegationTokenRequest {
            renewer: renewer.to_owned(),
        };
        let answer: GetDelegationTokenResponse =
            self.rm.call(GET_DELEGATION_TOKEN, &request).await?;
        let (method, field) = (GET_DELEGATION_TOKEN.name, "token");
        Ok(answer
            .token
            .ok_or(YarnError::Incomplete { method, field })?
            .into())
    }

    /// Renews a delegation token; the new end of its life, ms since the epoch.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn renew_delegation_token(&self, token: &Token) -> Result<u64, YarnError> {
        let request = RenewDelegationTokenRequest {
            token: token.into(),
        };
        let answer: RenewDelegationTokenResponse =
            self.rm.call(RENEW_DELEGATION_TOKEN, &request).await?;
        Ok(answer.new_expiry_time)
    }

    /// Cancels a delegation token.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn cancel_delegation_token(&self, token: &Token) -> Result<(), YarnError> {
        let request = CancelDelegationTokenRequest {
            token: token.into(),
        };
        let _: CancelDelegationTokenResponse =
            self.rm.call(CANCEL_DELEGATION_TOKEN, &request).await?;
        Ok(())
    }
}
