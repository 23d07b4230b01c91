//! What the workers run: one task that does as its job's setting says, most of which nobody would want.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use spindle_common::id::{ExecutionAttemptId, JobVertexId};
use spindle_common::job_graph::{
    DEFAULT_SLOT_SHARING_GROUP, JobGraph, JobVertex, OperatorDescriptor, OperatorKind,
};
use spindle_dataflow::task::{Dataflow, Step, Task, TaskContext, TaskError, TaskFactory, TaskMail};

/// The setting. Without it the task runs until it is cancelled.
pub(crate) const BEHAVIOUR: &str = "test.behaviour";
/// A file in the working directory that a task waits for before it does what it is here for.
pub(crate) const BEGIN: &str = "begin";
/// A file in the working directory that ends a task which waits for it.
pub(crate) const FINISH: &str = "finish";
const PAUSE: Duration = Duration::from_millis(5);

pub(crate) fn task() -> ExecutionAttemptId {
    ExecutionAttemptId {
        vertex: JobVertexId::of_uid("only"),
        subtask: 0,
        attempt: 0,
    }
}

struct OnlyTask {
    behaviour: String,
    eaten: Vec<Vec<u8>>,
}

impl Task for OnlyTask {
    fn handle(&mut self, _: TaskMail) -> Result<(), TaskError> {
        Ok(())
    }

    fn step(&mut self) -> Result<Step, TaskError> {
        thread::park_timeout(PAUSE);
        if self.behaviour == "deaf" {
            spin();
        }
        if !Path::new(BEGIN).exists() {
            return Ok(Step::Continue);
        }
        match self.behaviour.as_str() {
            "until told" if Path::new(FINISH).exists() => return Ok(Step::Finished),
            "eats memory" => {
                self.eaten.push(vec![1; 256 * 1024]);
            }
            "wants too much at once" => self.eaten.push(vec![1; 1 << 30]),
            "panics" => panic!("out of cheese"),
            "aborts" => std::process::abort(),
            "overflows its stack" => {
                black_box(deep(0));
            }
            "exits" => {
                let _ = writeln!(std::io::stderr(), "that is all");
                std::process::exit(0)
            }
            "leaks a thread" => {
                thread::spawn(spin);
                return Ok(Step::Finished);
            }
            _ => {}
        }
        Ok(Step::Continue)
    }

    fn commit(&mut self) -> Result<(), TaskError> {
        Ok(())
    }

    fn take_collected(&mut self) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }
}

impl Drop for OnlyTask {
    fn drop(&mut self) {
        if self.behaviour == "spins in its destructor" {
            spin();
        }
    }
}

/// For ever, whatever anybody says.
fn spin() {
    loop {
        thread::park_timeout(PAUSE);
    }
}

fn deep(depth: u64) -> u64 {
    let here = [depth; 512];
    if depth == u64::MAX {
        return 0;
    }
    deep(depth + 1) + black_box(&here)[0]
}

struct Factory(String);

impl TaskFactory for Factory {
    fn build(&self, _: TaskContext) -> Result<Box<dyn Task>, TaskError> {
        tracing::debug!("a task is built");
        Ok(Box::new(OnlyTask {
            behaviour: self.0.clone(),
            eaten: Vec::new(),
        }))
    }
}

pub(crate) fn dataflow(behaviour: &str) -> Dataflow {
    let operator = OperatorDescriptor {
        uid: "only".to_owned(),
        name: "only".to_owned(),
        kind: OperatorKind::Source,
    };
    let vertex = JobVertex {
        id: task().vertex,
        parallelism: 1,
        max_parallelism: 1,
        operators: vec![operator],
        splits: vec![Vec::new()],
        staging: Vec::new(),
        slot_sharing_group: DEFAULT_SLOT_SHARING_GROUP.to_owned(),
    };
    let graph = JobGraph {
        name: "test".to_owned(),
        vertices: vec![vertex],
        edges: Vec::new(),
        slot_profiles: BTreeMap::new(),
    };
    Dataflow {
        graph,
        factories: vec![Arc::new(Factory(behaviour.to_owned()))],
    }
}
