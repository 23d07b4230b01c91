//! The messages between TaskExecutor and JobManager, in both directions.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| spindle_rpc::fuzzing::job_manager_stream(bytes));
