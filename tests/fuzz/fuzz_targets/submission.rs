//! Plans and submissions: what a program, a client or a file hands to the Dispatcher.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spindle_common::config::Config;
use spindle_rpc::job_graph::{decode_plan, decode_submission, encode_plan, encode_submission};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(graph) = decode_plan(bytes) {
        assert_eq!(decode_plan(&encode_plan(&graph)), Ok(graph));
    }
    if let Ok(submission) = decode_submission(bytes) {
        let _ = submission.graph.validate();
        let _ = Config::from_pairs(&submission.config);
        assert_eq!(
            decode_submission(&encode_submission(&submission)),
            Ok(submission)
        );
    }
});
