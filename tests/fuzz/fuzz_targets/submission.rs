//! Plans and submissions: what a program, a client or a file hands to the Dispatcher.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spindle_common::PROTOCOL_VERSION;
use spindle_common::config::Config;
use spindle_rpc::job_graph::{decode_plan, decode_submission, encode_plan, encode_submission};

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    // With our version before it, which would be refused otherwise before anything else is read.
    let version = u8::try_from(PROTOCOL_VERSION).expect("one byte will do for long");
    read(&[&[1 << 3, version], bytes].concat());
});

fn read(bytes: &[u8]) {
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
}
