//! Whether a worker runs the program that was submitted.

use spindle_common::PROTOCOL_VERSION;
use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::gateway::WorkerHello;
use spindle_common::id::JobId;

/// The data address of a worker whose program is the one that was submitted.
pub(super) fn check_hello(
    job: JobId,
    fingerprint: u64,
    hello: WorkerHello,
) -> Result<String, FailureCause> {
    let refuse = |message| FailureCause {
        class: FailureClass::FailJob,
        operator: None,
        message,
    };
    if hello.protocol_version != PROTOCOL_VERSION {
        let version = hello.protocol_version;
        return Err(refuse(format!(
            "the program speaks version {version} of the worker protocol, this cluster {PROTOCOL_VERSION}: build it against the same release"
        )));
    }
    if hello.job != job {
        return Err(refuse(format!(
            "the worker was started for job {job}, but says it is of job {}",
            hello.job
        )));
    }
    if hello.graph? != fingerprint {
        return Err(refuse(
            "the program built another dataflow in its worker than when it was submitted: it has to build the same from the same arguments"
                .to_owned(),
        ));
    }
    Ok(hello.data_address)
}
