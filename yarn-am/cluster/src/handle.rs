//! What the rest of the process holds of a running cluster.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use spindle_common::gateway::{Inquiry, InquiryAnswer};
use spindle_common::id::JobId;
use spindle_common::job_graph::JobSubmission;
use spindle_jobmanager::message::{
    CheckpointEvent, ConnectionId, Input, ResourceEvent, SavepointRequest, View,
};
use spindle_rpc::TaskExecutorStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::clock::Clock;
use crate::connection::{Newcomer, TaskExecutorLink};
use crate::inquiries::Reply;

/// What can come to the driver.
pub(crate) enum Event {
    Input(Input),
    Attach(Newcomer),
    Inquire {
        connection: ConnectionId,
        what: Inquiry,
        reply: Reply,
    },
}

/// A TaskExecutor did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InquiryError {
    /// The cluster is over.
    #[error(transparent)]
    Gone(#[from] ClusterGone),
    /// It is not connected any more, or too many others wait for answers.
    #[error("the TaskManager has gone, or too much is asked at once")]
    Unanswered,
    /// It took too long.
    #[error("the TaskManager did not answer within {} s", .0.as_secs())]
    Late(Duration),
}

/// How long a TaskExecutor may take to answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// The driver has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cluster is over")]
pub struct ClusterGone;

/// What the process does with a job before the cluster hears of it, such as writing down what the job will make.
pub type BeforeSubmission = Arc<dyn Fn(&JobSubmission) -> BoxFuture<'static, ()> + Send + Sync>;

/// A running cluster, for those who ask something of it or look at it.
#[derive(Clone)]
pub struct ClusterHandle {
    pub(crate) inbox: mpsc::Sender<Event>,
    pub(crate) resources: mpsc::UnboundedSender<ResourceEvent>,
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) clock: Clock,
    pub(crate) before_submission: Option<BeforeSubmission>,
}

impl std::fmt::Debug for ClusterHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterHandle").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Input(input) => input.fmt(f),
            Self::Attach(_) => f.write_str("Attach"),
            Self::Inquire { what, .. } => write!(f, "Inquire {what:?}"),
        }
    }
}

impl ClusterHandle {
    /// This handle, and all that are cloned from it, with something to do before each submission.
    #[must_use]
    pub fn with_before_submission(self, before: BeforeSubmission) -> Self {
        Self {
            before_submission: Some(before),
            ..self
        }
    }

    /// Hands a job in.
    ///
    /// # Errors
    /// If the cluster is over.
    pub async fn submit(&self, submission: JobSubmission) -> Result<(), ClusterGone> {
        if let Some(before) = &self.before_submission {
            before(&submission).await;
        }
        self.send(Input::Submit(Box::new(submission))).await
    }

    /// Tells that all jobs of the program have been handed in, in application mode.
    ///
    /// # Errors
    /// If the cluster is over.
    pub async fn no_more_jobs(&self) -> Result<(), ClusterGone> {
        self.send(Input::NoMoreJobs).await
    }

    /// Asks for a job to be stopped; `reason` says who or what asks.
    ///
    /// # Errors
    /// If the cluster is over.
    pub async fn cancel(&self, job: JobId, reason: impl Into<String>) -> Result<(), ClusterGone> {
        let reason = reason.into();
        self.send(Input::CancelJob { job, reason }).await
    }

    /// Asks for a checkpoint of a job, or for a savepoint. What becomes of it is in the view under the number of the request, which is never used twice.
    ///
    /// # Errors
    /// If the cluster is over.
    pub async fn trigger_checkpoint(
        &self,
        job: JobId,
        request: u64,
        savepoint: Option<SavepointRequest>,
    ) -> Result<(), ClusterGone> {
        let event = CheckpointEvent::Trigger { request, savepoint };
        self.send(Input::Checkpoint { job, event }).await
    }

    /// Asks for the end of the cluster, its jobs cancelled.
    ///
    /// # Errors
    /// If the cluster is over.
    pub async fn shut_down(&self, reason: impl Into<String>) -> Result<(), ClusterGone> {
        let reason = reason.into();
        self.send(Input::ShutDown { reason }).await
    }

    /// Tells that the attached client knows the outcome, or has gone away.
    ///
    /// # Errors
    /// If the cluster is over.
    pub async fn client_released(&self) -> Result<(), ClusterGone> {
        self.send(Input::ClientReleased).await
    }

    /// Brings a TaskExecutor of this process in.
    ///
    /// # Errors
    /// If the cluster is over.
    pub async fn attach(&self, link: TaskExecutorLink) -> Result<(), ClusterGone> {
        let event = Event::Attach(Newcomer::Link(link));
        self.inbox.send(event).await.map_err(|_| ClusterGone)
    }

    /// Brings a TaskExecutor in that came over the network.
    ///
    /// # Errors
    /// If the cluster is over.
    pub async fn attach_stream(&self, stream: TaskExecutorStream) -> Result<(), ClusterGone> {
        let event = Event::Attach(Newcomer::Stream(stream));
        self.inbox.send(event).await.map_err(|_| ClusterGone)
    }

    /// Asks a TaskExecutor something about its process.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn inquire(
        &self,
        connection: ConnectionId,
        what: Inquiry,
    ) -> Result<InquiryAnswer, InquiryError> {
        let (reply, answer) = oneshot::channel();
        let event = Event::Inquire {
            connection,
            what,
            reply,
        };
        self.inbox.send(event).await.map_err(|_| ClusterGone)?;
        match timeout(ANSWER_PATIENCE, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(InquiryError::Unanswered),
            Err(_) => Err(InquiryError::Late(ANSWER_PATIENCE)),
        }
    }

    /// Where a [`crate::ResourceDriver`] tells of containers. Unbounded, so that it can be used from anywhere: there are a few
    /// events for each container and no more.
    pub fn resource_events(&self) -> mpsc::UnboundedSender<ResourceEvent> {
        self.resources.clone()
    }

    /// What can be seen now.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// What can be seen, and when it changes.
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// The clock that all times of the view are of.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    async fn send(&self, input: Input) -> Result<(), ClusterGone> {
        self.inbox
            .send(Event::Input(input))
            .await
            .map_err(|_| ClusterGone)
    }
}
