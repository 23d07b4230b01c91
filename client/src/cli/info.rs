//! `spindle info`: the plan of a job.

use clap::Args;
use spindle_common::job_graph::{DEFAULT_SLOT_SHARING_GROUP, JobGraph, JobVertex};

use super::{JobArgs, OutputArgs, SettingArgs};
use crate::error::CliError;
use crate::output::Format;
use crate::settings::Settings;
use crate::{job_file, plan};

/// Arguments of `spindle info`.
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    settings: SettingArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    job: JobArgs,
}

impl InfoArgs {
    pub(crate) const fn format(&self) -> Format {
        self.output.output
    }
}

/// Plans the job and prints its graph.
pub(crate) fn info(args: InfoArgs) -> Result<u8, CliError> {
    let format = args.format();
    job_file::read(&args.job.job)?;
    let settings = Settings::load(&args.settings.layers())?;
    let hadoop = Settings::hadoop_if_there()?;
    let graph = plan::plan(
        &args.job.job,
        &args.job.args,
        settings.config.to_pairs(),
        hadoop
            .as_ref()
            .map(|hadoop| hadoop.to_pairs())
            .unwrap_or_default(),
        &settings.user,
    )?;
    let text = match format {
        Format::Text => draw(&graph),
        Format::Json => serde_json::to_string_pretty(&json(&graph)).expect("a plan is plain data"),
    };
    crate::output::print(&text);
    Ok(0)
}

/// The graph for people: one block a vertex, its operators below, its inputs named.
fn draw(graph: &JobGraph) -> String {
    let mut text = format!("Job: {}\n", graph.name);
    for (number, vertex) in (1..).zip(&graph.vertices) {
        text += &format!(
            "\n[{number}] {}  (parallelism {}, max {})\n",
            vertex.name(),
            vertex.parallelism,
            vertex.max_parallelism
        );
        if vertex.slot_sharing_group != DEFAULT_SLOT_SHARING_GROUP {
            text += &format!("    slot sharing group {}\n", vertex.slot_sharing_group);
        }
        for (_, edge) in graph.inputs_of(vertex.id) {
            let from = graph
                .vertices
                .iter()
                .position(|other| other.id == edge.source)
                .map_or(0, |at| at + 1);
            text += &format!("    <- [{from}] {}\n", edge.partitioning.name());
        }
        for operator in &vertex.operators {
            text += &format!(
                "    {:?} {} (uid {})\n",
                operator.kind, operator.name, operator.uid
            );
        }
        if vertex.is_source() {
            let splits: usize = vertex.splits.iter().map(Vec::len).sum();
            text += &format!("    {splits} split{}\n", if splits == 1 { "" } else { "s" });
        }
    }
    text += &format!("\n{} tasks in {} slots", graph.tasks(), graph.slots());
    let groups = graph.slot_sharing_groups();
    if groups.len() > 1 || !graph.slot_profiles.is_empty() {
        for group in groups {
            text += &format!("\n    {} in slot sharing group {}", group.slots, group.name);
            if let Some(profile) = group.profile {
                text += &format!(", each with {profile}");
            }
        }
    }
    text
}

/// The graph in the form of Flink's JSON plan, with operators beside.
fn json(graph: &JobGraph) -> serde_json::Value {
    let node = |vertex: &JobVertex| {
        let inputs: Vec<_> = (0..)
            .zip(graph.inputs_of(vertex.id))
            .map(|(num, (_, edge)): (u32, _)| serde_json::json!({"num": num, "id": edge.source.to_string(), "ship_strategy": edge.partitioning.name()}))
            .collect();
        let operators: Vec<_> = vertex
            .operators
            .iter()
            .map(|operator| serde_json::json!({"uid": operator.uid, "name": operator.name, "kind": format!("{:?}", operator.kind)}))
            .collect();
        serde_json::json!({
            "id": vertex.id.to_string(),
            "description": vertex.name(),
            "parallelism": vertex.parallelism,
            "max_parallelism": vertex.max_parallelism,
            "slot_sharing_group": vertex.slot_sharing_group,
            "inputs": inputs,
            "operators": operators,
            "splits": vertex.splits.iter().map(Vec::len).sum::<usize>(),
        })
    };
    serde_json::json!({"name": graph.name, "nodes": graph.vertices.iter().map(node).collect::<Vec<_>>()})
}
