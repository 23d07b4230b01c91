//! Lists a cluster's nodes and applications: `list_applications [CONF_DIR]`, by default that of `HADOOP_CONF_DIR`.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::path::Path;

use spindle_hadoop::conf::Configuration;
use spindle_hadoop::ipc::ClientConfig;
use spindle_hadoop::proto::yarn::GetApplicationsRequest;
use spindle_hadoop::user;
use spindle_hadoop::yarn::{
    ApplicationId, FailoverPolicy, ResourceManagerClient, ResourceManagers,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let conf = match std::env::args().nth(1) {
        Some(dir) => Configuration::load(Path::new(&dir))?,
        None => Configuration::discover(&|name| std::env::var(name).ok())?,
    };
    let rms = ResourceManagers::clients(&conf.resource_managers()?)?;
    let rm = ResourceManagerClient::new(
        rms,
        &user::current()?,
        ClientConfig::default(),
        FailoverPolicy::ONCE,
    );

    let metrics = rm.cluster_metrics().await?;
    println!(
        "{} of {} nodes active",
        metrics.num_active_nms(),
        metrics.num_node_managers()
    );
    for node in rm.cluster_nodes(&[]).await? {
        let size = node.capability.clone().unwrap_or_default();
        println!(
            "  {} {:?}: {} MiB",
            node.http_address(),
            node.node_state(),
            size.memory()
        );
    }
    if let Some(queue) = rm.queue_info("root").await? {
        for child in &queue.child_queues {
            println!(
                "queue {}: {:.0} % of the cluster",
                child.queue_path(),
                child.capacity() * 100.0
            );
        }
    }
    for report in rm.applications(&GetApplicationsRequest::default()).await? {
        let id = ApplicationId::try_from(report.application_id.as_ref())?;
        println!(
            "{id} {:?} {} `{}`",
            report.yarn_application_state(),
            report.user(),
            report.name()
        );
    }
    let new = rm.new_application().await?;
    println!(
        "the next application would be {}, its largest container {} MiB",
        new.id,
        new.maximum_capability.memory()
    );
    Ok(())
}
