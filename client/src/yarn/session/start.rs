//! Starts a session, and shows what a cluster has to give.

use spindle_hadoop::proto::yarn::{
    NodeReport, NodeState, QueueInfo, Resource, YarnApplicationState,
};
use spindle_rpc::Secret;

use super::{Session, attend, hint_file, write_hint};
use crate::error::CliError;
use crate::output::{self, Event, Format, Reporter};
use crate::settings::Settings;
use crate::yarn::cluster::Cluster;
use crate::yarn::reports::{PATIENCE, Reports, SHORT, conclude, is_over};
use crate::yarn::submission::{self, Application, Purpose};
use crate::yarn::watch::{INTERRUPTED, left};
use crate::yarn::{artifacts, checks, ship};

/// Starts a session, waits until it runs, and stays with it if attached; the exit code.
pub(crate) async fn start(settings: Settings, reporter: &mut Reporter) -> Result<u8, CliError> {
    let hadoop = Settings::hadoop()?;
    let mut files = artifacts::own()?;
    files.extend(ship::read(&settings)?);
    let cluster = Cluster::open(&hadoop, &settings.user)?;
    let (limits, ()) = tokio::try_join!(cluster.limits(&settings.yarn.queue), cluster.reach_fs())?;
    checks::check(&settings, &limits)?;
    let name = settings
        .yarn
        .name
        .clone()
        .unwrap_or_else(|| "Spindle session".to_owned());
    reporter.set_name(&name);
    let uploaded = artifacts::upload(&cluster, &settings, files).await?;
    reporter.event(&Event::Uploaded {
        bytes: uploaded.bytes,
        files: uploaded.files,
    });
    let mut application = submission::submit(
        &cluster,
        &settings,
        &hadoop,
        &name,
        &limits,
        &Purpose::Session,
        &uploaded,
    )
    .await?;
    reporter.event(&Event::Submitted {
        application_id: application.id.to_string(),
        job_id: None,
        tracking_url: application.tracking_url.clone(),
        bytes_uploaded: uploaded.bytes + application.staged_bytes,
        to_session: false,
    });
    let started = {
        let run = until_running(&cluster, &application, reporter);
        tokio::pin!(run);
        tokio::select! {
            started = &mut run => Some(started?),
            () = left() => None,
        }
    };
    application.settle().await;
    let Some(started) = started else {
        return interrupted(&cluster, &settings, &application, reporter).await;
    };
    let report = match started {
        Started::Running(report) => report,
        Started::Over(report) => {
            let (staging, id) = (&application.staging, application.id);
            return conclude(&cluster, staging, id, &report, reporter).await;
        }
    };
    if let Some(file) = hint_file() {
        write_hint(&file, application.id);
    }
    reporter.event(&Event::Session {
        application_id: application.id.to_string(),
        name,
        tracking_url: report.tracking_url().to_owned(),
    });
    if !settings.execution.attached {
        return Ok(0);
    }
    let session = Session {
        id: application.id,
        report,
        secret: copy(&application.secret),
        staging: application.staging,
    };
    attend::attend(&cluster, &settings, &session, reporter).await
}

fn copy(secret: &Secret) -> Secret {
    Secret::from_bytes(secret.to_bytes())
}

enum Started {
    Running(spindle_hadoop::proto::yarn::ApplicationReport),
    Over(spindle_hadoop::proto::yarn::ApplicationReport),
}

async fn until_running(
    cluster: &Cluster,
    application: &Application,
    reporter: &mut Reporter,
) -> Result<Started, CliError> {
    let mut reports = Reports::new(cluster, application.id);
    let since = std::time::Instant::now();
    loop {
        let report = reports.ask(reporter).await?;
        let state = report.yarn_application_state();
        if state == YarnApplicationState::Running {
            return Ok(Started::Running(report));
        }
        if is_over(state) {
            return Ok(Started::Over(report));
        }
        if state == YarnApplicationState::Accepted && since.elapsed() > PATIENCE {
            reports.waits_for(&report, reporter).await;
        }
        tokio::time::sleep(SHORT).await;
    }
}

/// The client is ended while its session has not started yet.
async fn interrupted(
    cluster: &Cluster,
    settings: &Settings,
    application: &Application,
    reporter: &mut Reporter,
) -> Result<u8, CliError> {
    if settings.execution.shutdown_on_attached_exit && settings.execution.attached {
        cluster
            .kill(application.id, "the client was stopped")
            .await?;
        drop(cluster.fs.delete(&application.staging, true).await);
        return Ok(INTERRUPTED);
    }
    reporter.event(&Event::Detached {
        application_id: application.id.to_string(),
        job_id: None,
        reason: "this client leaves; the session still starts".to_owned(),
        to_stop: format!("spindle session stop -id {}", application.id),
    });
    Ok(INTERRUPTED)
}

/// Prints what the cluster has to give: nodes, memory, virtual cores, queues.
pub(crate) async fn query(settings: &Settings, format: Format) -> Result<u8, CliError> {
    let hadoop = Settings::hadoop()?;
    let cluster = Cluster::open(&hadoop, &settings.user)?;
    let nodes = cluster
        .first()
        .cluster_nodes(&[NodeState::NsRunning])
        .await
        .map_err(|error| cluster.rm_failed("asking for the cluster's nodes", error))?;
    let root = cluster.first().queue_tree("root").await.ok().flatten();
    let nodes: Vec<Node> = nodes.iter().map(Node::of).collect();
    let mut queues = Vec::new();
    if let Some(root) = &root {
        leaves(root, &mut queues);
    }
    output::print(&match format {
        Format::Json => {
            serde_json::json!({"event": "cluster", "nodes": nodes, "queues": queues}).to_string()
        }
        Format::Text => resources(&nodes, &queues),
    });
    Ok(0)
}

#[derive(Debug, serde::Serialize)]
struct Node {
    node: String,
    memory_mib: i64,
    memory_used_mib: i64,
    vcores: i32,
    vcores_used: i32,
    containers: i32,
}

#[derive(Debug, serde::Serialize)]
struct Queue {
    queue: String,
    /// Of the whole cluster.
    capacity_percent: f32,
    maximum_percent: f32,
    used_percent: f32,
}

impl Node {
    fn of(report: &NodeReport) -> Self {
        let memory = |of: &Option<Resource>| of.as_ref().map_or(0, Resource::memory);
        let vcores = |of: &Option<Resource>| of.as_ref().map_or(0, Resource::virtual_cores);
        let name = report.node_id.as_ref();
        Self {
            node: name.map_or_else(String::new, |id| format!("{}:{}", id.host(), id.port())),
            memory_mib: memory(&report.capability),
            memory_used_mib: memory(&report.used),
            vcores: vcores(&report.capability),
            vcores_used: vcores(&report.used),
            containers: report.num_containers(),
        }
    }
}

fn leaves(queue: &QueueInfo, found: &mut Vec<Queue>) {
    if queue.child_queues.is_empty() {
        let path = queue.queue_path();
        let name = if path.is_empty() {
            queue.queue_name()
        } else {
            path
        };
        found.push(Queue {
            queue: name.to_owned(),
            capacity_percent: queue.capacity() * 100.0,
            maximum_percent: queue.maximum_capacity() * 100.0,
            used_percent: queue.current_capacity() * 100.0,
        });
    }
    for child in &queue.child_queues {
        leaves(child, found);
    }
}

fn resources(nodes: &[Node], queues: &[Queue]) -> String {
    let row = |name: &str, memory: (i64, i64), vcores: (i32, i32), containers: i32| {
        vec![
            name.to_owned(),
            format!("{} of {} MiB", memory.0, memory.1),
            format!("{} of {}", vcores.0, vcores.1),
            containers.to_string(),
        ]
    };
    let mut rows: Vec<Vec<String>> = nodes
        .iter()
        .map(|node| {
            let memory = (node.memory_mib - node.memory_used_mib, node.memory_mib);
            let vcores = (node.vcores - node.vcores_used, node.vcores);
            row(&node.node, memory, vcores, node.containers)
        })
        .collect();
    let sum = |of: fn(&Node) -> i64| nodes.iter().map(of).sum::<i64>();
    let whole: i32 = nodes.iter().map(|node| node.vcores).sum();
    let used: i32 = nodes.iter().map(|node| node.vcores_used).sum();
    let (memory, taken) = (
        sum(|node| node.memory_mib),
        sum(|node| node.memory_used_mib),
    );
    rows.push(row(
        &format!("all {}", nodes.len()),
        (memory - taken, memory),
        (whole - used, whole),
        nodes.iter().map(|node| node.containers).sum(),
    ));
    let nodes = output::table(&["NODE", "MEMORY FREE", "VCORES FREE", "CONTAINERS"], &rows);
    let rows: Vec<Vec<String>> = queues
        .iter()
        .map(|queue| {
            let percent = |share: f32| format!("{share:.0} %");
            vec![
                queue.queue.clone(),
                percent(queue.capacity_percent),
                percent(queue.maximum_percent),
                percent(queue.used_percent),
            ]
        })
        .collect();
    let queues = output::table(&["QUEUE", "CAPACITY", "MAXIMUM", "USED"], &rows);
    format!("{nodes}\n\n{queues}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_told_for_each_node_and_for_all() {
        let node = |name: &str, used| Node {
            node: name.to_owned(),
            memory_mib: 4096,
            memory_used_mib: used,
            vcores: 4,
            vcores_used: 1,
            containers: 1,
        };
        let queue = Queue {
            queue: "root.default".to_owned(),
            capacity_percent: 100.0,
            maximum_percent: 100.0,
            used_percent: 12.5,
        };
        let text = resources(&[node("a:1", 1024), node("b:1", 0)], &[queue]);
        assert_eq!(
            text,
            "NODE   MEMORY FREE       VCORES FREE  CONTAINERS\n\
             a:1    3072 of 4096 MiB  3 of 4       1\n\
             b:1    4096 of 4096 MiB  3 of 4       1\n\
             all 2  7168 of 8192 MiB  6 of 8       2\n\n\
             QUEUE         CAPACITY  MAXIMUM  USED\n\
             root.default  100 %     100 %    12 %"
        );
    }
}
