//! The shell around the JobManager: one driver that feeds the machine and carries its effects out, the connections to
//! TaskExecutors, the REST API with its status page.
//!
//! It knows nothing of YARN: whoever provides containers implements [`ResourceDriver`]. It decides nothing either: what happens
//! next is the machine's affair.

mod checkpoints;
mod clock;
mod connection;
mod driver;
mod handle;
mod inquiries;
mod record;
pub mod rest;

pub use checkpoints::{CheckpointFiles, JobDirectories, checkpoint_files, no_checkpoint_files};
pub use clock::Clock;
pub use connection::TaskExecutorLink;
pub use driver::{ClusterDriver, ControlPlane, Effects, Outcome, ResourceDriver, StagingRemoval};
pub use handle::{BeforeSubmission, ClusterGone, ClusterHandle, InquiryError};
pub use record::{RecordError, Recorded, read_record, replay};
