//! All three protocols in one short life: submits an application whose ApplicationMaster is this process, runs a shell
//! command in a container, prints its exit status. `unmanaged_am CONF_DIR [COMMAND…]`
//!
//! Nothing is uploaded, so no file system is needed.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use spindle_hadoop::conf::Configuration;
use spindle_hadoop::ipc::ClientConfig;
use spindle_hadoop::proto::yarn::{
    AllocateRequest, ApplicationSubmissionContext, Container, ContainerLaunchContext,
    ContainerStatus, FinalApplicationStatus, Priority, ResourceRequest, StartContainerRequest,
    YarnApplicationState,
};
use spindle_hadoop::token::{Credentials, Token};
use spindle_hadoop::user;
use spindle_hadoop::yarn::{
    AmError, ApplicationMasterClient, ContainerId, FailoverPolicy, NodeId, NodeManagerClient,
    Registration, ResourceManagerClient, ResourceManagers, launch,
};
use tokio::time::sleep;

const PAUSE: Duration = Duration::from_millis(200);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments
        .next()
        .ok_or("usage: unmanaged_am CONF_DIR [COMMAND…]")?;
    let mut words: Vec<String> = arguments.collect();
    if words.is_empty() {
        words = ["sh", "-c", "echo it is me; exit 7"]
            .map(str::to_owned)
            .into();
    }
    let conf = Configuration::load(Path::new(&dir))?;
    let configured = conf.resource_managers()?;
    let (config, policy) = (ClientConfig::default(), FailoverPolicy::default());
    let rm = ResourceManagerClient::new(
        ResourceManagers::clients(&configured)?,
        &user::current()?,
        config.clone(),
        policy,
    );

    let id = rm.new_application().await?.id;
    let context = ApplicationSubmissionContext {
        application_id: Some(id.into()),
        application_name: Some("unmanaged".into()),
        am_container_spec: Some(ContainerLaunchContext::default()),
        resource: Some(launch::resource(256, 1)),
        unmanaged_am: Some(true),
        max_app_attempts: Some(1),
        ..Default::default()
    };
    rm.submit_application(context).await?;
    println!("submitted {id}");
    let token = loop {
        let report = rm.application_report(id).await?;
        if matches!(
            report.yarn_application_state(),
            YarnApplicationState::Failed | YarnApplicationState::Killed
        ) {
            return Err(report.diagnostics().into());
        }
        if let Some(token) = report.am_rm_token {
            break Token::from(token);
        }
        sleep(PAUSE).await;
    };

    let mut credentials = Credentials::new();
    credentials.add_token("", token);
    let mut am = ApplicationMasterClient::new(
        ResourceManagers::schedulers(&configured)?,
        &credentials,
        config.clone(),
        policy,
    )?;
    let answer = am.register(registration()).await?;
    println!("registered in queue {}", answer.queue());

    let container = granted(&mut am).await?;
    let container_id = ContainerId::try_from(container.id.as_ref())?;
    let node = NodeId::try_from(container.node_id.as_ref())?;
    println!("granted {container_id} on {node}");
    let mut command = launch::Command::new(&words[0])?;
    for word in &words[1..] {
        command = command.arg(word)?;
    }
    let start = StartContainerRequest {
        container_launch_context: Some(ContainerLaunchContext {
            command: vec![command.log_to("command")?.line()],
            environment: launch::environment([("GREETING", "hello")])?,
            tokens: Some(Credentials::new().encode()),
            ..Default::default()
        }),
        container_token: container.container_token,
    };
    let nodes = NodeManagerClient::new(am.nm_tokens().clone(), config, policy);
    let again = start.clone();
    let started = nodes.start_containers(&node, vec![start]).await?;
    println!(
        "started {:?}, failed {:?}",
        started.started.len(),
        started.failed
    );
    let repeated = nodes.start_containers(&node, vec![again]).await?;
    println!(
        "started once more: {} already running, failed {:?}",
        repeated.already_running.len(),
        repeated.failed
    );
    let statuses = nodes.container_statuses(&node, &[container_id]).await?;
    println!(
        "state {:?}",
        statuses
            .statuses
            .iter()
            .map(ContainerStatus::state)
            .collect::<Vec<_>>()
    );

    let status = completed(&mut am, container_id).await?;
    println!(
        "exit status {}: {}",
        status.exit_status(),
        status.diagnostics().trim()
    );
    am.finish(
        FinalApplicationStatus::AppSucceeded,
        "the command ended",
        "",
    )
    .await?;
    // Unregistered is not yet ended: the ResourceManager stores the outcome first.
    let report = loop {
        let report = rm.application_report(id).await?;
        if report.yarn_application_state() == YarnApplicationState::Finished {
            break report;
        }
        sleep(PAUSE).await;
    };
    println!(
        "{:?}, {:?}: {}",
        report.yarn_application_state(),
        report.final_application_status(),
        report.diagnostics()
    );
    Ok(())
}

async fn granted(am: &mut ApplicationMasterClient) -> Result<Container, Box<dyn Error>> {
    let ask = ResourceRequest {
        priority: Some(Priority { priority: Some(1) }),
        resource_name: Some("*".into()),
        capability: Some(launch::resource(256, 1)),
        num_containers: Some(1),
        ..Default::default()
    };
    let mut answer = am
        .allocate(AllocateRequest {
            ask: vec![ask],
            ..Default::default()
        })
        .await?;
    loop {
        if let Some(container) = answer.allocated_containers.pop() {
            return Ok(container);
        }
        sleep(PAUSE).await;
        answer = am.allocate(AllocateRequest::default()).await?;
    }
}

async fn completed(
    am: &mut ApplicationMasterClient,
    id: ContainerId,
) -> Result<ContainerStatus, Box<dyn Error>> {
    loop {
        let heartbeat = AllocateRequest {
            progress: Some(0.5),
            ..Default::default()
        };
        let answer = match am.allocate(heartbeat).await {
            Ok(answer) => answer,
            // The ResourceManager restarted or another took over. Outstanding asks would have to be sent again.
            Err(AmError::NotRegistered(_)) => {
                am.register(registration()).await?;
                println!("registered again");
                continue;
            }
            Err(other) => return Err(other.into()),
        };
        let is_it = |status: &ContainerStatus| {
            ContainerId::try_from(status.container_id.as_ref()) == Ok(id)
        };
        if let Some(status) = answer.completed_container_statuses.into_iter().find(is_it) {
            return Ok(status);
        }
        sleep(PAUSE).await;
    }
}

fn registration() -> Registration {
    Registration {
        rpc_port: -1,
        ..Default::default()
    }
}
