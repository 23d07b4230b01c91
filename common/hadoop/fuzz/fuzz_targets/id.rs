//! An id that is understood is printed so that it is read as the same.
#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use spindle_hadoop::yarn::{ApplicationAttemptId, ApplicationId, ContainerId, NodeId};

fn round_trip<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(text: &str) {
    if let Ok(id) = text.parse::<T>() {
        assert_eq!(id.to_string().parse::<T>().expect("what was printed"), id);
    }
}

fuzz_target!(|text: &str| {
    round_trip::<ApplicationId>(text);
    round_trip::<ApplicationAttemptId>(text);
    round_trip::<ContainerId>(text);
    round_trip::<NodeId>(text);
});
