//! Effects as a story prints them.

use std::fmt::Write as _;

use spindle_common::checkpoint::{StateChunk, StateHandle, StateSnapshot};
use spindle_common::gateway::{TaskDeployment, ToTaskExecutor};
use spindle_common::id::NodeName;

use super::{readable, short};
use crate::config::JobManagerConfig;
use crate::message::{
    CheckpointEffect, ConnectionId, ContainerAsk, ContainerPlan, Effect, ResourceEffect, Transition,
};

pub(super) fn describe(effect: &Effect, name: impl Fn(ConnectionId) -> String) -> String {
    let line = match effect {
        Effect::Send {
            connection,
            message,
        } => format!("{} <- {}", name(*connection), describe_message(message)),
        Effect::Disconnect { connection, reason } => {
            format!("disconnect {}: {reason}", name(*connection))
        }
        Effect::Resource(ResourceEffect::Plan(plan)) => describe_plan(plan),
        Effect::Resource(ResourceEffect::Launch { resource, .. }) => format!("launch {resource}"),
        Effect::Resource(ResourceEffect::Stop { resource }) => format!("stop {resource}"),
        Effect::Resource(ResourceEffect::Release { resource }) => format!("release {resource}"),
        Effect::Checkpoint { effect, .. } => describe_checkpoint(effect),
        Effect::KeepStaging { job } => format!("keep what {job} has staged"),
        Effect::RemoveStaging { directories, .. } => format!("remove {directories:?}"),
        Effect::Transition(Transition::Job {
            from, to, cause, ..
        }) => match cause {
            Some(cause) => format!("job {from:?} -> {to:?} ({cause})"),
            None => format!("job {from:?} -> {to:?}"),
        },
        Effect::Transition(Transition::Task {
            execution,
            from,
            to,
            cause,
            ..
        }) => {
            let task = short(*execution);
            match cause {
                Some(cause) => format!("tasks {from:?} -> {to:?}: {task} ({cause})"),
                None => format!("tasks {from:?} -> {to:?}: {task}"),
            }
        }
        Effect::Transition(Transition::Checkpoint {
            checkpoint, what, ..
        }) => match checkpoint {
            Some(id) => format!("checkpoint {id} {what}"),
            None => format!("checkpoints: {what}"),
        },
        Effect::Transition(Transition::TaskManager { resource, what }) => {
            format!("TaskManager {resource} {what}")
        }
        Effect::Transition(Transition::Stale { what }) => format!("stale: {what}"),
        Effect::Terminate {
            status,
            diagnostics,
        } => format!("terminate {status:?}: {diagnostics}"),
    };
    readable(&line)
}

fn describe_checkpoint(effect: &CheckpointEffect) -> String {
    match effect {
        CheckpointEffect::Prepare { directory, .. } => format!("make {directory}"),
        CheckpointEffect::PersistMetadata {
            directory,
            metadata,
            ..
        } => {
            let mut line = format!("write the metadata of {directory}:");
            for operator in &metadata.operators {
                let states: Vec<String> = operator.states.iter().map(describe_state).collect();
                write!(line, " {}: {}", operator.uid, states.join(" ")).unwrap();
            }
            line
        }
        CheckpointEffect::PersistAnchor {
            directory,
            metadata,
            ..
        } => {
            let paths = (metadata.operators.iter().flat_map(|o| &o.states)).map(describe_state);
            let paths: Vec<String> = paths.collect();
            format!("note in {directory}: {}", paths.join(" "))
        }
        CheckpointEffect::Load { path } => format!("read {path}"),
        CheckpointEffect::Discover { directory } => format!("look into {directory}"),
        CheckpointEffect::Confirm { directory } => format!("look whose {directory} is"),
        CheckpointEffect::Discard { directory, .. } => format!("discard {directory}"),
        CheckpointEffect::RemoveAll { directory } => format!("remove {directory} with all in it"),
    }
}

/// A state's name, and what is in its chunks.
fn describe_state(state: &StateSnapshot) -> String {
    let chunk = |chunk: &StateChunk| match &chunk.content {
        StateHandle::Inline(bytes) => format!("{}={}", chunk.index, String::from_utf8_lossy(bytes)),
        StateHandle::File(range) => format!("{}@{}", chunk.index, range.path),
    };
    let chunks: Vec<String> = state.chunks.iter().map(chunk).collect();
    format!("{}[{}]", state.name, chunks.join(","))
}

fn describe_plan(plan: &ContainerPlan) -> String {
    let avoid: Vec<&str> = plan.avoid.iter().map(NodeName::as_str).collect();
    let usual = JobManagerConfig::default().profile;
    let ask = |ask: &ContainerAsk| match ask.profile == usual {
        true => ask.pending.to_string(),
        false => format!("{} of {}", ask.pending, ask.profile),
    };
    let asks: Vec<String> = plan.asks.iter().map(ask).collect();
    let asks = match asks.len() {
        0 => "0".to_owned(),
        _ => asks.join(" and "),
    };
    let most = plan.most_per_node;
    let most = most.map_or_else(String::new, |most| format!(", at most {most} on a node"));
    format!("plan {asks} containers, avoid {avoid:?}{most}")
}

fn describe_message(message: &ToTaskExecutor) -> String {
    match message {
        ToTaskExecutor::Registered {
            heartbeat_interval_ms,
        } => format!("Registered, report every {heartbeat_interval_ms} ms"),
        ToTaskExecutor::RequestSlot(request) => {
            let of = request.profile.map(|profile| format!(" of {profile}"));
            format!(
                "RequestSlot {} for job {}, slot {}{}",
                request.allocation.0,
                request.job,
                request.slot,
                of.unwrap_or_default()
            )
        }
        ToTaskExecutor::FreeSlot { allocation } => format!("FreeSlot {}", allocation.0),
        ToTaskExecutor::SubmitTask(task) => describe_task(task),
        ToTaskExecutor::CancelTask { execution, .. } => {
            format!("CancelTask {}", short(*execution))
        }
        ToTaskExecutor::CommitTask { execution, .. } => {
            format!("CommitTask {}", short(*execution))
        }
        ToTaskExecutor::TriggerCheckpoint {
            execution, barrier, ..
        } => format!(
            "TriggerCheckpoint {} ({:?}) of {} in {}",
            barrier.id,
            barrier.kind,
            short(*execution),
            barrier.directory
        ),
        ToTaskExecutor::CheckpointComplete {
            execution,
            checkpoint,
            ..
        } => format!("CheckpointComplete {checkpoint} of {}", short(*execution)),
        ToTaskExecutor::CheckpointAborted {
            execution,
            checkpoint,
            ..
        } => format!("CheckpointAborted {checkpoint} of {}", short(*execution)),
        ToTaskExecutor::Inquire { what, .. } => format!("Inquire {what:?}"),
        ToTaskExecutor::ShutDown { reason } => format!("ShutDown: {reason}"),
    }
}

fn describe_task(task: &TaskDeployment) -> String {
    let mut line = format!(
        "SubmitTask {} in {}",
        short(task.execution),
        task.allocation.0
    );
    for split in &task.splits {
        write!(line, ", reads {}", split.name).unwrap();
    }
    for gate in &task.inputs {
        write!(line, ", edge {} from", gate.edge).unwrap();
        for channel in &gate.channels {
            write!(
                line,
                " {}@{}",
                short(channel.producer),
                channel.data_address
            )
            .unwrap();
        }
    }
    if let Some(restore) = &task.restore {
        let finished = if restore.finished { ", finished" } else { "" };
        write!(line, ", from checkpoint {}{finished}", restore.checkpoint).unwrap();
        for state in restore.operators.iter().flat_map(|o| &o.states) {
            write!(line, " {}", describe_state(state)).unwrap();
        }
    }
    for partition in &task.outputs {
        write!(
            line,
            ", edge {} to {:?}",
            partition.edge, partition.consumers
        )
        .unwrap();
    }
    line
}
