//! What a TaskExecutor's container is started with.

use std::collections::BTreeMap;

use spindle_common::deployment::{
    ArtifactSpec, LOG_VARIABLE, SECRET_ENTRY, TASK_EXECUTOR_ENTRY, TASK_EXECUTOR_EXECUTABLE,
    TaskExecutorSpec,
};
use spindle_hadoop::proto::yarn as pb;
use spindle_hadoop::token::{Credentials, TokenKind};
use spindle_hadoop::user::HADOOP_USER_NAME;
use spindle_hadoop::yarn::launch::{self, LaunchError};

use crate::allocation::Held;

/// Name of a TaskExecutor's output files.
const LOG_NAME: &str = "taskexecutor";

/// What all TaskExecutors have in common.
#[derive(Debug, Clone)]
pub(crate) struct Launcher {
    /// `host:port` of the JobManager.
    pub(crate) job_manager: String,
    /// The JobManager's attempt.
    pub(crate) fencing: u64,
    /// Environment beside the user's name.
    pub(crate) env: BTreeMap<String, String>,
    /// What it logs, if that is set; the environment's own word goes before.
    pub(crate) log: Option<String>,
    /// Files.
    pub(crate) resources: Vec<ArtifactSpec>,
    /// Hadoop's settings, for workers.
    pub(crate) hadoop: Vec<(String, String)>,
    /// Hadoop user.
    pub(crate) user: String,
    /// The ApplicationMaster's own credentials.
    pub(crate) credentials: Credentials,
    /// Who may see a container's logs.
    pub(crate) acls: Vec<pb::ApplicationAclMap>,
}

impl Launcher {
    /// What the NodeManager is told to start in a container, which counts as so many slots.
    pub(crate) fn request(
        &self,
        held: &Held,
        slots: u32,
    ) -> Result<pb::StartContainerRequest, LaunchError> {
        let files = self
            .resources
            .iter()
            .map(|file| {
                let resource = launch::local_resource(
                    &file.uri,
                    file.size,
                    u64::try_from(file.mtime_ms).unwrap_or(0),
                    launch::LocalResourceType::File,
                    launch::LocalResourceVisibility::Private,
                )?;
                Ok((file.name.clone(), resource))
            })
            .collect::<Result<Vec<_>, LaunchError>>()?;
        let own = [(HADOOP_USER_NAME, self.user.as_str())];
        let log = self.log.as_deref().map(|log| (LOG_VARIABLE, log));
        let log = log.filter(|(name, _)| !self.env.contains_key(*name));
        let given = self
            .env
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let command =
            launch::Command::new(&format!("./{TASK_EXECUTOR_EXECUTABLE}"))?.log_to(LOG_NAME)?;
        let context = pb::ContainerLaunchContext {
            local_resources: launch::local_resources(files),
            tokens: Some(self.credentials(held, slots).encode()),
            environment: launch::environment(own.into_iter().chain(log).chain(given))?,
            command: vec![command.line()],
            application_ac_ls: self.acls.clone(),
            ..Default::default()
        };
        Ok(pb::StartContainerRequest {
            container_launch_context: Some(context),
            container_token: held.token.clone(),
        })
    }

    /// The secret and what this one is told; of the tokens only those that HDFS takes.
    fn credentials(&self, held: &Held, slots: u32) -> Credentials {
        let mut credentials = Credentials::new();
        for (alias, token) in self.credentials.tokens() {
            if token.kind == TokenKind::HdfsDelegation {
                credentials.add_token(alias, token.clone());
            }
        }
        if let Some(secret) = self.credentials.secret(SECRET_ENTRY) {
            credentials.add_secret(SECRET_ENTRY, secret.to_vec());
        }
        let spec = TaskExecutorSpec {
            job_manager: self.job_manager.clone(),
            fencing: self.fencing,
            resource: held.container.to_string(),
            node: held.node.to_string(),
            host: held.node.host.clone(),
            slots,
            memory_bytes: held.asked.memory.as_bytes(),
            hadoop: self.hadoop.clone(),
            user: self.user.clone(),
        };
        let spec = serde_json::to_vec(&spec).expect("text and numbers have a form in JSON");
        credentials.add_secret(TASK_EXECUTOR_ENTRY, spec);
        credentials
    }
}

#[cfg(test)]
mod tests {
    use spindle_common::resource::{ByteSize, ResourceProfile};
    use spindle_hadoop::token::Token;
    use spindle_hadoop::yarn::NodeId;

    use super::*;

    const ASKED: ResourceProfile = ResourceProfile {
        memory: ByteSize::from_mib(512),
        vcores: 1,
    };

    fn token(kind: TokenKind) -> Token {
        Token {
            identifier: vec![1],
            password: vec![2].into(),
            kind,
            service: String::new(),
        }
    }

    #[test]
    fn a_container_gets_the_secret_and_its_orders_but_not_the_masters_token() {
        let mut credentials = Credentials::new();
        credentials.add_token("", token(TokenKind::AmRm));
        credentials.add_token("hdfs", token(TokenKind::HdfsDelegation));
        credentials.add_secret(SECRET_ENTRY, vec![7; 32]);
        credentials.add_secret("spindle.cluster", b"{}".to_vec());
        let launcher = Launcher {
            job_manager: "n1:1000".to_owned(),
            fencing: 1,
            env: BTreeMap::from([("A".to_owned(), "b c".to_owned())]),
            log: Some("info,spindle_rpc=debug".to_owned()),
            resources: vec![ArtifactSpec {
                name: "spindle-taskexecutor".to_owned(),
                uri: "hdfs://nn:8020/cache/abc".to_owned(),
                size: 9,
                mtime_ms: 1_700_000_000_001,
            }],
            hadoop: Vec::new(),
            user: "alice".to_owned(),
            credentials,
            acls: Vec::new(),
        };
        let held = Held {
            container: "container_1_0001_01_000002".parse().unwrap(),
            node: NodeId::new("n2", 4000),
            asked: ASKED,
            token: None,
            started: false,
        };
        let context = launcher
            .request(&held, 2)
            .unwrap()
            .container_launch_context
            .unwrap();
        assert_eq!(
            context.command,
            ["./spindle-taskexecutor 1><LOG_DIR>/taskexecutor.out 2><LOG_DIR>/taskexecutor.stderr"]
        );
        let file = context.local_resources[0].value.as_ref().unwrap();
        assert_eq!(
            (file.timestamp(), file.visibility()),
            (1_700_000_000_001, launch::LocalResourceVisibility::Private)
        );
        let environment: Vec<_> = context
            .environment
            .iter()
            .map(|entry| (entry.key(), entry.value()))
            .collect();
        assert_eq!(
            environment,
            [
                ("HADOOP_USER_NAME", "alice"),
                ("SPINDLE_LOG", "info,spindle_rpc=debug"),
                ("A", "b c")
            ]
        );
        let given = Credentials::decode(context.tokens()).unwrap();
        assert!(given.token_of_kind(&TokenKind::AmRm).is_none());
        assert!(given.token_of_kind(&TokenKind::HdfsDelegation).is_some());
        let aliases: Vec<_> = given.secret_aliases().collect();
        assert_eq!(aliases, [SECRET_ENTRY, TASK_EXECUTOR_ENTRY]);
        let spec: TaskExecutorSpec =
            serde_json::from_slice(given.secret(TASK_EXECUTOR_ENTRY).unwrap()).unwrap();
        assert_eq!(
            (spec.node.as_str(), spec.host.as_str(), spec.slots),
            ("n2:4000", "n2", 2)
        );
        assert_eq!(spec.memory_bytes, 512 << 20);
    }

    #[test]
    fn an_environment_that_the_launch_script_would_interpret_is_refused() {
        let launcher = Launcher {
            job_manager: String::new(),
            fencing: 1,
            env: BTreeMap::from([("A".to_owned(), "$HOME".to_owned())]),
            log: None,
            resources: Vec::new(),
            hadoop: Vec::new(),
            user: "alice".to_owned(),
            credentials: Credentials::new(),
            acls: Vec::new(),
        };
        let held = Held {
            container: "container_1_0001_01_000002".parse().unwrap(),
            node: NodeId::new("n2", 4000),
            asked: ASKED,
            token: None,
            started: false,
        };
        assert!(matches!(
            launcher.request(&held, 1),
            Err(LaunchError::Unsafe { .. })
        ));
    }
}
