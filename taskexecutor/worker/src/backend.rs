//! Where the tasks of a worker keep the state of keys that does not fit into memory: one directory each, which nobody has used before.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::id::ExecutionAttemptId;
use spindle_dataflow::state::store::{EarlierFiles, StateStores, StoreError};

/// What the stores of a task begin with, by operator.
pub type EarlierStores = BTreeMap<String, Vec<EarlierFiles>>;

/// Makes the stores of a task, in a directory that is its own.
pub type MakeStores =
    dyn Fn(&Path, EarlierStores) -> Result<Arc<dyn StateStores>, StoreError> + Send + Sync;

/// Where state is that is not in memory. The directory goes with the last handle.
#[derive(Clone)]
pub struct StateBackend {
    inner: Arc<Inner>,
}

struct Inner {
    directory: PathBuf,
    make: Box<MakeStores>,
}

/// Of directories in this process: no two are the same.
static NUMBER: AtomicU64 = AtomicU64::new(0);

impl fmt::Debug for StateBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateBackend")
            .field("directory", &self.inner.directory)
            .finish_non_exhaustive()
    }
}

impl StateBackend {
    /// One below this directory of the machine, in which other processes may have theirs; those of processes that are gone are removed.
    pub fn new(
        parent: &Path,
        make: impl Fn(&Path, EarlierStores) -> Result<Arc<dyn StateStores>, StoreError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        remove_left(parent);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self {
            inner: Arc::new(Inner {
                directory: parent.join(format!("{PREFIX}{}-{number}", std::process::id())),
                make: Box::new(make),
            }),
        }
    }

    /// A directory for a task.
    pub(crate) fn directory(&self, execution: ExecutionAttemptId) -> PathBuf {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        self.inner.directory.join(format!("{execution}-{number}"))
    }

    /// The stores of a task, in the directory that it was given.
    pub(crate) fn stores(
        &self,
        directory: &Path,
        earlier: EarlierStores,
    ) -> Result<Arc<dyn StateStores>, FailureCause> {
        (self.inner.make)(directory, earlier).map_err(|error| FailureCause {
            class: FailureClass::Restart,
            operator: None,
            message: error.to_string(),
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // It is there only if a task had state, and what is in it is of tasks that have ended.
        drop(fs::remove_dir_all(&self.directory));
    }
}

/// Directories of processes begin with this, and go on with the process's number.
const PREFIX: &str = "spindle-state-";

/// Removes what processes left that were killed.
fn remove_left(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let process = process.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if process.is_some_and(is_gone) {
            let path = entry.path();
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::debug!(path = %path.display(), %error, "what another process left was not removed");
            }
        }
    }
}

fn is_gone(process: u32) -> bool {
    // Without /proc nobody can tell.
    Path::new("/proc/self").exists() && !Path::new(&format!("/proc/{process}")).exists()
}

#[cfg(test)]
mod tests {
    use spindle_common::id::JobVertexId;
    use spindle_dataflow::state::store::MemoryStores;

    use super::*;

    #[test]
    fn each_task_has_a_directory_and_what_killed_processes_left_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        // No process has a number beyond the most that Linux gives.
        let left = parent.path().join("spindle-state-4194305-0");
        let other = parent.path().join("spindle-state-x");
        fs::create_dir_all(left.join("task")).unwrap();
        fs::create_dir(&other).unwrap();
        let backend = StateBackend::new(parent.path(), |directory, _| {
            fs::create_dir_all(directory).unwrap();
            Ok(Arc::new(MemoryStores::new(0)))
        });
        assert!(!left.exists() && other.exists());
        let execution = ExecutionAttemptId {
            vertex: JobVertexId::of_uid("sums"),
            subtask: 0,
            attempt: 3,
        };
        for _ in 0..2 {
            let directory = backend.directory(execution);
            backend.stores(&directory, EarlierStores::new()).unwrap();
        }
        let own = backend.inner.directory.clone();
        assert_eq!(fs::read_dir(&own).unwrap().count(), 2);
        drop(backend);
        assert!(!own.exists());
    }
}
