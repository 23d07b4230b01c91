//! File system errors as the planner and the task report them.

use std::error::Error;
use std::fmt::Write;

use spindle_dataflow::connector::OperatorError;
use spindle_hadoop::fs::FsError;

use crate::context::PlanError;

/// The error and what caused it, in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing into a String cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// An error while a job is planned.
pub(super) fn plan_error(error: &FsError) -> PlanError {
    if error.is_unreachable() {
        PlanError::Unreachable(chain(error))
    } else {
        PlanError::Input(chain(error))
    }
}

/// An error while a task runs.
pub(super) fn task_error(error: &FsError) -> OperatorError {
    let text = chain(error);
    match error {
        FsError::NotFound { .. }
        | FsError::AlreadyExists { .. }
        | FsError::PermissionDenied { .. }
        | FsError::NotADirectory { .. }
        | FsError::IsADirectory { .. }
        | FsError::NotEmpty { .. }
        | FsError::InvalidPath { .. }
        | FsError::UnsupportedScheme { .. }
        | FsError::Conf(_) => OperatorError::permanent(text),
        FsError::Unreachable { .. }
        | FsError::Transfer { .. }
        | FsError::Corrupt { .. }
        | FsError::Remote { .. }
        | FsError::Other { .. } => OperatorError::transient(text),
    }
}
