//! The messages between worker and TaskExecutor, in both directions.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| spindle_rpc::fuzzing::worker_stream(bytes));
