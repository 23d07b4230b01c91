//! What the client told this process, by its credentials.

use anyhow::{Context, anyhow};
use spindle_common::config::Config;
use spindle_common::deployment::{
    CLUSTER_ENTRY, ClusterSpec, DeploymentMode, SECRET_ENTRY, SUBMISSION_ENTRY, SUBMISSION_FILE,
};
use spindle_common::job_graph::JobSubmission;
use spindle_hadoop::conf::Configuration;
use spindle_hadoop::token::Credentials;
use spindle_rpc::Secret;

/// All of it, read.
pub(crate) struct Told {
    pub(crate) spec: ClusterSpec,
    pub(crate) config: Config,
    pub(crate) hadoop: Configuration,
    pub(crate) secret: Secret,
    /// The job, if the client brought one.
    pub(crate) submission: Option<JobSubmission>,
}

impl Told {
    pub(crate) fn read(credentials: &Credentials) -> anyhow::Result<Self> {
        let entry = |name: &str| {
            credentials.secret(name).ok_or_else(|| {
                anyhow!("the credentials have no entry {name}: the client is of another version")
            })
        };
        let spec: ClusterSpec = serde_json::from_slice(entry(CLUSTER_ENTRY)?)
            .with_context(|| format!("failed to read {CLUSTER_ENTRY} of the credentials"))?;
        let secret: [u8; 32] = entry(SECRET_ENTRY)?.try_into().map_err(|_| {
            anyhow!("the entry {SECRET_ENTRY} of the credentials does not have 32 bytes")
        })?;
        let submission = match &spec.mode {
            DeploymentMode::PerJob => Some(submission(credentials)?),
            DeploymentMode::Session | DeploymentMode::Application { .. } => None,
        };
        Ok(Self {
            config: Config::from_pairs(&spec.config)?,
            hadoop: Configuration::from_pairs(spec.hadoop.iter().cloned()),
            secret: Secret::from_bytes(secret),
            submission,
            spec,
        })
    }
}

fn submission(credentials: &Credentials) -> anyhow::Result<JobSubmission> {
    let bytes = match credentials.secret(SUBMISSION_ENTRY) {
        Some(bytes) => bytes.to_vec(),
        None => std::fs::read(SUBMISSION_FILE)
            .with_context(|| format!("failed to read the submission in {SUBMISSION_FILE}"))?,
    };
    Ok(spindle_rpc::job_graph::decode_submission(&bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(mode: DeploymentMode) -> Credentials {
        let spec = ClusterSpec {
            mode,
            name: "a cluster".to_owned(),
            config: Vec::new(),
            hadoop: Vec::new(),
            user: "alice".to_owned(),
            staging: "hdfs://nn/user/alice/.spindle/application_1_0001".to_owned(),
            attached: false,
            task_executor_resources: Vec::new(),
        };
        let mut credentials = Credentials::new();
        credentials.add_secret(SECRET_ENTRY, vec![7; 32]);
        credentials.add_secret(CLUSTER_ENTRY, serde_json::to_vec(&spec).unwrap());
        credentials
    }

    #[test]
    fn a_session_and_a_program_come_without_a_job() {
        for mode in [
            DeploymentMode::Session,
            DeploymentMode::Application {
                args: vec!["--in".to_owned()],
            },
        ] {
            let told = Told::read(&credentials(mode)).unwrap();
            assert!(told.submission.is_none());
        }
    }

    #[test]
    fn a_per_job_cluster_without_its_job_says_so() {
        let error = Told::read(&credentials(DeploymentMode::PerJob)).err();
        assert!(error.unwrap().to_string().contains(SUBMISSION_FILE));
    }

    #[test]
    fn an_entry_that_is_missing_is_named() {
        let error = Told::read(&Credentials::new()).err().unwrap();
        assert!(error.to_string().contains(CLUSTER_ENTRY), "{error}");
    }
}
