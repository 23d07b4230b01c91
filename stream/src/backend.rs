//! Which state backend a job has, as its settings say.

use std::path::PathBuf;

use spindle_common::config::{Config, StateBackendType, options};
use spindle_worker::StateBackend;

/// Refuses a backend that the program does not have.
pub(crate) fn check(config: &Config) -> Result<(), String> {
    match config.get(&options::STATE_BACKEND) {
        StateBackendType::RocksDb if !cfg!(feature = "rocksdb") => Err(format!(
            "`{}` is `rocksdb`, which this program was built without: build it with the feature `rocksdb` of spindle-stream, \
             for which the machine that builds needs a C++ compiler and libclang, or use `hashmap`",
            options::STATE_BACKEND.key()
        )),
        StateBackendType::HashMap | StateBackendType::RocksDb => Ok(()),
    }
}

/// Where the state of keys is; none if in memory.
///
/// # Errors
/// In words, what makes no sense.
pub(crate) fn of_job(settings: &[(String, String)]) -> Result<Option<StateBackend>, String> {
    let config = Config::from_pairs(settings).map_err(|error| error.to_string())?;
    check(&config)?;
    Ok(match config.get(&options::STATE_BACKEND) {
        StateBackendType::HashMap => None,
        StateBackendType::RocksDb => rocksdb(&config),
    })
}

#[cfg(not(feature = "rocksdb"))]
const fn rocksdb(_: &Config) -> Option<StateBackend> {
    None
}

#[cfg(feature = "rocksdb")]
#[expect(
    clippy::unnecessary_wraps,
    reason = "without the feature there is none"
)]
fn rocksdb(config: &Config) -> Option<StateBackend> {
    use std::sync::Arc;

    use spindle_state_rocksdb::{RocksDbOptions, RocksDbStores};

    let bytes = |size: spindle_common::resource::ByteSize| {
        usize::try_from(size.as_bytes()).unwrap_or(usize::MAX)
    };
    let options = RocksDbOptions {
        table_bytes: bytes(config.get(&options::ROCKSDB_TABLE)),
        block_cache_bytes: bytes(config.get(&options::ROCKSDB_BLOCK_CACHE)),
        write_buffer_bytes: bytes(config.get(&options::ROCKSDB_WRITE_BUFFER)),
        incremental: config.incremental_checkpoints(),
    };
    let directory = config.get(&options::ROCKSDB_LOCAL_DIR);
    let directory = directory.map_or_else(local_directory, PathBuf::from);
    Some(StateBackend::new(&directory, move |directory, earlier| {
        let stores = RocksDbStores::new(directory, options.clone(), earlier)?;
        Ok(Arc::new(stores))
    }))
}

/// A directory that goes with the container on YARN, and else one for temporary files.
#[cfg_attr(
    not(feature = "rocksdb"),
    expect(dead_code, reason = "only rocksdb has files")
)]
fn local_directory() -> PathBuf {
    let variable = |name| std::env::var(name).ok();
    let container = variable("LOCAL_DIRS").zip(variable("CONTAINER_ID"));
    let container = container.and_then(|(directories, container)| {
        let first = directories.split(',').next()?;
        Some(PathBuf::from(first).join(container))
    });
    container.unwrap_or_else(std::env::temp_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_was_not_built_in_is_refused_with_what_to_build() {
        let settings = |backend: &str| {
            let pair = ("state.backend.type".to_owned(), backend.to_owned());
            of_job(&[pair])
        };
        assert!(settings("hashmap").unwrap().is_none());
        let with_rocksdb = settings("rocksdb");
        if cfg!(feature = "rocksdb") {
            assert!(with_rocksdb.unwrap().is_some());
        } else {
            let error = with_rocksdb.unwrap_err();
            assert!(
                error.contains("feature `rocksdb` of spindle-stream"),
                "{error}"
            );
        }
    }
}
