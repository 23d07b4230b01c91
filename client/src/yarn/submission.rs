//! Hands an application to the ResourceManager.
//!
//! What the containers must know travels in the credentials of the launch context, which only the application's owner can
//! read: the secret, the cluster's settings and, unless it is large, the job. So a submission of a known program writes two small
//! files to HDFS, the secret for later clients and the manifest for those who clean up, and nothing waits for them to be closed.

use spindle_common::config::{ConfigOption, options};
use spindle_common::deployment::{
    APPLICATION_MASTER_EXECUTABLE, ArtifactSpec, CLUSTER_ENTRY, ClusterSpec, DeploymentMode,
    MAX_INLINE_SUBMISSION, SECRET_ENTRY, SUBMISSION_ENTRY, SUBMISSION_FILE,
    TASK_EXECUTOR_EXECUTABLE,
};
use spindle_common::job_graph::JobSubmission;
use spindle_hadoop::conf::Configuration;
use spindle_hadoop::fs::{CreateOptions, FileSystem, FileWriter, FsError, FsPath};
use spindle_hadoop::proto::yarn::{
    ApplicationAccessType, ApplicationAclMap, ApplicationSubmissionContext, ContainerLaunchContext,
    Priority,
};
use spindle_hadoop::token::Credentials;
use spindle_hadoop::yarn::launch::{LocalResourceType, LocalResourceVisibility};
use spindle_hadoop::yarn::{ApplicationId, launch};
use spindle_rpc::Secret;
use tokio::task::JoinSet;

use super::artifacts::Uploaded;
use super::checks::Limits;
use super::cluster::Cluster;
use super::session::SESSION_TAG;
use crate::error::CliError;
use crate::gc::manifest::{MANIFEST, Manifest};
use crate::settings::Settings;

/// An application that YARN has.
pub(crate) struct Application {
    pub(crate) id: ApplicationId,
    pub(crate) tracking_url: String,
    pub(crate) secret: Secret,
    pub(crate) staging: FsPath,
    /// Bytes written to the staging directory.
    pub(crate) staged_bytes: u64,
    background: JoinSet<()>,
}

impl Application {
    /// Waits for what goes on beside the submission.
    pub(crate) async fn settle(&mut self) {
        while self.background.join_next().await.is_some() {}
    }
}

/// What an application is to do.
pub(crate) enum Purpose {
    /// One job, planned here.
    Job(Box<JobSubmission>),
    /// What a program describes there, with these arguments.
    Program(Vec<String>),
    /// Jobs that come and go.
    Session,
}

impl Purpose {
    fn mode(&self) -> DeploymentMode {
        match self {
            Self::Job(_) => DeploymentMode::PerJob,
            Self::Program(args) => DeploymentMode::Application { args: args.clone() },
            Self::Session => DeploymentMode::Session,
        }
    }

    /// Tags of the application besides those that are set.
    fn tags(&self) -> Vec<String> {
        match self {
            Self::Job(_) | Self::Program(_) => Vec::new(),
            Self::Session => vec![SESSION_TAG.to_owned()],
        }
    }

    /// Whether the ApplicationMaster shall keep the outcome until this client has taken it.
    const fn waits_for_client(&self) -> bool {
        match self {
            Self::Job(_) | Self::Program(_) => true,
            Self::Session => false,
        }
    }
}

/// Submits the application and waits until the ResourceManager has it.
pub(crate) async fn submit(
    cluster: &Cluster,
    settings: &Settings,
    hadoop: &Configuration,
    name: &str,
    limits: &Limits,
    purpose: &Purpose,
    uploaded: &Uploaded,
) -> Result<Application, CliError> {
    let id = limits.application;
    let secret = Secret::generate()
        .map_err(|cause| CliError::usage("cannot draw a secret").because(cause))?;
    let base = cluster.base(settings)?;
    let staging = base.join(&id.to_string()).map_err(staging_failed)?;
    cluster
        .fs
        .mkdirs(&staging, 0o700)
        .await
        .map_err(staging_failed)?;

    let spec = ClusterSpec {
        mode: purpose.mode(),
        name: name.to_owned(),
        config: settings.config.to_pairs(),
        hadoop: hadoop.to_pairs(),
        user: settings.user.clone(),
        staging: staging.to_string(),
        attached: settings.execution.attached && purpose.waits_for_client(),
        // Its executable, the job's if there is one, and what is shipped.
        task_executor_resources: uploaded
            .all_but(APPLICATION_MASTER_EXECUTABLE)
            .cloned()
            .collect(),
    };
    let mut credentials = Credentials::new();
    credentials.add_secret(SECRET_ENTRY, secret.to_bytes().to_vec());
    credentials.add_secret(
        CLUSTER_ENTRY,
        serde_json::to_vec(&spec).expect("a cluster's settings are plain data"),
    );

    let mut resources: Vec<ArtifactSpec> = uploaded
        .named(APPLICATION_MASTER_EXECUTABLE)
        .cloned()
        .collect();
    let mut staged_bytes = 0;
    match purpose {
        Purpose::Job(submission) => {
            let encoded = spindle_rpc::job_graph::encode_submission(submission);
            if encoded.len() <= MAX_INLINE_SUBMISSION {
                credentials.add_secret(SUBMISSION_ENTRY, encoded);
            } else {
                staged_bytes += encoded.len() as u64;
                resources.push(
                    stage(cluster, &staging, encoded)
                        .await
                        .map_err(staging_failed)?,
                );
            }
        }
        // The program runs there too.
        Purpose::Program(_) => resources.extend(
            uploaded
                .all_but(TASK_EXECUTOR_EXECUTABLE)
                .filter(|file| file.name != APPLICATION_MASTER_EXECUTABLE)
                .cloned(),
        ),
        Purpose::Session => {}
    }

    let mut context = context(settings, name, id, &resources, &credentials)?;
    context.application_tags.extend(purpose.tags());
    let text = secret.to_hex();
    staged_bytes += text.len() as u64;
    let mut background = JoinSet::new();
    let artifacts = uploaded.artifacts.iter().map(|file| file.uri.clone());
    let managers = cluster.resource_managers();
    let manifest = match purpose {
        Purpose::Job(submission) => {
            let checkpoints = checkpoints(cluster, settings, &base).map_err(staging_failed)?;
            Manifest::of_job(submission, artifacts, managers).with_snapshots(
                submission.job,
                &checkpoints,
                &settings.config,
            )
        }
        // What their jobs make the ApplicationMaster adds.
        Purpose::Program(_) | Purpose::Session => Manifest {
            resource_managers: managers,
            artifacts: artifacts.collect(),
            ..Manifest::default()
        },
    }
    .encode();
    staged_bytes += manifest.len() as u64;
    background.spawn(leave(cluster.fs.clone(), staging.clone(), text));
    let manifest = sync(&cluster.fs, &staging, manifest)
        .await
        .map_err(staging_failed)?;
    background.spawn(close(manifest));
    if let Err(error) = cluster.rm().submit_application(context).await {
        // Nothing of it may stay behind; the first error counts.
        while background.join_next().await.is_some() {}
        drop(cluster.fs.delete(&staging, true).await);
        return Err(cluster.rm_failed("submitting the application", error));
    }
    let report = cluster.report(id).await?;
    Ok(Application {
        id,
        tracking_url: report.tracking_url().to_owned(),
        secret,
        staging,
        staged_bytes,
        background,
    })
}

/// Leaves the secret where later clients of the same user find it. Closing a small file takes half a second: nothing waits for it.
async fn leave(fs: FileSystem, staging: FsPath, text: String) {
    let options = CreateOptions::default().permission(0o600);
    let written = match staging.join("secret") {
        Ok(file) => fs.write(&file, text.into(), &options).await,
        Err(error) => Err(error),
    };
    if let Err(error) = written {
        // The ApplicationMaster of a short job may have removed the directory already.
        tracing::debug!(%error, "the secret was not left for later clients");
    }
}

/// Writes the manifest until its bytes are on a disk. From then on whoever cleans up can read it, even if this client dies before
/// the file is closed: so it comes before the submission, and the closing, which takes half a second, does not.
async fn sync(fs: &FileSystem, staging: &FsPath, text: String) -> Result<FileWriter, FsError> {
    let options = CreateOptions::default().permission(0o600);
    let mut writer = fs.create(&staging.join(MANIFEST)?, &options).await?;
    writer.write_bytes(text.into()).await?;
    writer.hsync().await?;
    Ok(writer)
}

async fn close(manifest: FileWriter) {
    if let Err(error) = manifest.close().await {
        // As with the secret: the directory may be gone.
        tracing::debug!(%error, "the manifest was not closed");
    }
}

/// Where the ApplicationMaster will put the directories of its jobs' checkpoints: beside staging directories, if nothing else is said.
fn checkpoints(cluster: &Cluster, settings: &Settings, base: &FsPath) -> Result<FsPath, FsError> {
    match settings.config.checkpoints().directory {
        Some(directory) => cluster.fs.resolve(&directory),
        None => base.join("checkpoints"),
    }
}

async fn stage(
    cluster: &Cluster,
    staging: &FsPath,
    encoded: Vec<u8>,
) -> Result<ArtifactSpec, FsError> {
    let path = staging.join(SUBMISSION_FILE)?;
    cluster
        .fs
        .write(
            &path,
            encoded.into(),
            &CreateOptions::default().permission(0o600),
        )
        .await?;
    let status = cluster.fs.stat(&path).await?;
    Ok(ArtifactSpec {
        name: SUBMISSION_FILE.to_owned(),
        uri: status.path.to_string(),
        size: status.len,
        mtime_ms: i64::try_from(status.mtime_ms).unwrap_or(i64::MAX),
    })
}

fn context(
    settings: &Settings,
    name: &str,
    id: ApplicationId,
    resources: &[ArtifactSpec],
    credentials: &Credentials,
) -> Result<ApplicationSubmissionContext, CliError> {
    let yarn = &settings.yarn;
    let master_env = settings.config.job_manager().env;
    let profile = yarn.master;
    let command = launch::Command::new(&format!("./{APPLICATION_MASTER_EXECUTABLE}"))
        .and_then(|command| command.log_to("jobmanager"))
        .expect("a fixed command line has nothing to quote");
    let own = [("HADOOP_USER_NAME", settings.user.as_str())];
    let given = master_env
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let environment = launch::environment(own.into_iter().chain(given)).map_err(|cause| {
        CliError::usage(
            "the ApplicationMaster's environment cannot be set (containerized.master.env.*)",
        )
        .because(cause)
    })?;
    let files = resources
        .iter()
        .map(|file| Ok((file.name.clone(), local_resource(file)?)))
        .collect::<Result<Vec<_>, CliError>>()?;
    Ok(ApplicationSubmissionContext {
        application_id: Some(id.into()),
        application_name: Some(name.to_owned()),
        application_type: Some(yarn.application_type.clone()),
        queue: Some(yarn.queue.clone()),
        priority: yarn.priority.map(|priority| Priority {
            priority: i32::try_from(priority).ok(),
        }),
        max_app_attempts: Some(i32::try_from(yarn.attempts).unwrap_or(i32::MAX)),
        resource: Some(launch::resource(
            profile.memory.as_mib_ceil(),
            profile.vcores,
        )),
        application_tags: yarn.tags.clone(),
        node_label_expression: settings.config.get(&options::YARN_NODE_LABEL),
        am_container_spec: Some(ContainerLaunchContext {
            local_resources: launch::local_resources(files),
            tokens: Some(credentials.encode()),
            environment,
            command: vec![command.line()],
            application_ac_ls: acls(settings),
            ..Default::default()
        }),
        ..Default::default()
    })
}

/// Who else may look at the application, or change it.
fn acls(settings: &Settings) -> Vec<ApplicationAclMap> {
    let acl = |access: ApplicationAccessType, option: &ConfigOption<Option<String>>| {
        settings.config.get(option).map(|acl| ApplicationAclMap {
            access_type: Some(access.into()),
            acl: Some(acl),
        })
    };
    let view = acl(
        ApplicationAccessType::AppaccessViewApp,
        &options::YARN_VIEW_ACLS,
    );
    let modify = acl(
        ApplicationAccessType::AppaccessModifyApp,
        &options::YARN_MODIFY_ACLS,
    );
    view.into_iter().chain(modify).collect()
}

fn local_resource(
    file: &ArtifactSpec,
) -> Result<spindle_hadoop::proto::yarn::LocalResource, CliError> {
    let modified = u64::try_from(file.mtime_ms).unwrap_or(0);
    launch::local_resource(
        &file.uri,
        file.size,
        modified,
        LocalResourceType::File,
        LocalResourceVisibility::Private,
    )
    .map_err(|cause| {
        CliError::cluster(format!("{} cannot be given to containers", file.uri)).because(cause)
    })
}

fn staging_failed(cause: FsError) -> CliError {
    CliError::cluster("cannot prepare the application's staging directory in HDFS").because(cause)
}
