//! Between the generated types and those of `spindle-common`. Ours to theirs cannot fail; theirs to ours fails on what is
//! missing or out of range, with the message and the field, and never panics.

mod checkpoint;
mod inquiry;
mod job_graph;
mod job_manager;
mod task;
#[cfg(test)]
mod tests;
mod worker;

/// A message that came in cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` of `{message}` {problem}")]
pub struct ConvertError {
    /// The message in the .proto file.
    pub message: &'static str,
    /// Its field.
    pub field: &'static str,
    /// What is wrong, such as `is missing`.
    pub problem: String,
}

impl ConvertError {
    fn new(message: &'static str, field: &'static str, problem: impl Into<String>) -> Self {
        Self {
            message,
            field,
            problem: problem.into(),
        }
    }
}

/// The message by which the side that opened a stream ends it.
///
/// The end of a request alone does not tell: a server sees a connection that it gave up for its silence end in the same way.
pub(crate) trait Farewell {
    /// The message.
    fn farewell() -> Self;

    /// Whether it is that message.
    fn is_farewell(&self) -> bool;
}

/// A farewell where a message for the caller is wanted.
fn not_last(message: &'static str) -> ConvertError {
    ConvertError::new(message, "farewell", "is no message by itself")
}

/// A field that proto3 cannot demand but we do.
fn required<T>(
    value: Option<T>,
    message: &'static str,
    field: &'static str,
) -> Result<T, ConvertError> {
    value.ok_or_else(|| ConvertError::new(message, field, "is missing"))
}

/// Required, and converted.
fn nested<P, T: TryFrom<P, Error = ConvertError>>(
    value: Option<P>,
    message: &'static str,
    field: &'static str,
) -> Result<T, ConvertError> {
    T::try_from(required(value, message, field)?)
}

/// Each converted.
fn each<P, T: TryFrom<P, Error = ConvertError>>(values: Vec<P>) -> Result<Vec<T>, ConvertError> {
    values.into_iter().map(T::try_from).collect()
}

/// The bytes of a job id or vertex id.
fn id<T>(
    bytes: &[u8],
    make: impl Fn([u8; 16]) -> T,
    message: &'static str,
    field: &'static str,
) -> Result<T, ConvertError> {
    match bytes.try_into() {
        Ok(bytes) => Ok(make(bytes)),
        Err(_) => Err(ConvertError::new(
            message,
            field,
            format!("has {} bytes, expected 16", bytes.len()),
        )),
    }
}

/// The number of an enum's value that is not one of ours.
fn unknown(message: &'static str, field: &'static str, number: i32) -> ConvertError {
    ConvertError::new(message, field, format!("has the unknown value {number}"))
}
