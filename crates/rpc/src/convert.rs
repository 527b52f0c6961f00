//! Messages to the model and back, field by field: a new field of either is a compile error here.
//!
//! What comes from the wire may be anything. What is missing or out of range is [`Malformed`], and the peer is told
//! INVALID_ARGUMENT.

mod broker;
mod common;
pub(crate) mod coordinator;
mod group;
mod storage;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tidemark_model::BatchError;
use tonic::Status;

use crate::limits::MAX_WAIT_MS;
use crate::status::Failure;

/// Why a message is not what the contract says: the peer is of another version, or broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
    #[error("batch: {0}")]
    Batch(#[from] BatchError),
    #[error("{answers} answers to {questions} questions")]
    Answers { questions: usize, answers: usize },
    #[error("sequence {got} where {expected} was expected")]
    Sequence { expected: u64, got: u64 },
}

impl From<Malformed> for Status {
    fn from(malformed: Malformed) -> Self {
        Self::invalid_argument(malformed.to_string())
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Self::Unavailable(format!("the peer's answer makes no sense: {malformed}"))
    }
}

/// A message that has to be there.
pub(crate) fn required<W, M>(field: Option<W>, name: &'static str) -> Result<M, Malformed>
where
    M: TryFrom<W>,
    Malformed: From<M::Error>,
{
    Ok(M::try_from(field.ok_or(Malformed::Missing(name))?)?)
}

/// Each of a list, from the wire.
pub(crate) fn each<W, M>(list: Vec<W>) -> Result<Vec<M>, Malformed>
where
    M: TryFrom<W>,
    Malformed: From<M::Error>,
{
    list.into_iter().map(|item| Ok(M::try_from(item)?)).collect()
}

/// Each of a list, to the wire.
pub(crate) fn all<M, W: From<M>>(list: Vec<M>) -> Vec<W> {
    list.into_iter().map(W::from).collect()
}

/// The answers to `questions` questions, each in its place.
pub(crate) fn answers<W, M>(questions: usize, list: Vec<W>) -> Result<Vec<M>, Malformed>
where
    M: TryFrom<W>,
    Malformed: From<M::Error>,
{
    if list.len() != questions {
        return Err(Malformed::Answers { questions, answers: list.len() });
    }
    each(list)
}

/// The same failure for every question that got no answer.
pub(crate) fn spread<A, E: From<Failure>>(
    questions: usize,
    outcome: Result<Vec<Result<A, E>>, Failure>,
) -> Vec<Result<A, E>> {
    outcome.unwrap_or_else(|failure| (0..questions).map(|_| Err(failure.clone().into())).collect())
}

impl From<std::convert::Infallible> for Malformed {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

fn size(value: u64, name: &'static str) -> Result<usize, Malformed> {
    usize::try_from(value).map_err(|_| Malformed::OutOfRange(name))
}

/// Milliseconds, rounded up so that a short wait does not become none.
fn to_ms(duration: Duration) -> u32 {
    let ms = duration.as_nanos().div_ceil(1_000_000);
    u32::try_from(ms).map_or(MAX_WAIT_MS, |ms| ms.min(MAX_WAIT_MS))
}

fn from_ms(ms: u32, name: &'static str) -> Result<Duration, Malformed> {
    if ms > MAX_WAIT_MS {
        return Err(Malformed::OutOfRange(name));
    }
    Ok(Duration::from_millis(u64::from(ms)))
}

/// Converts between a message that is a oneof of a value and an error, and the `Result` of the two.
macro_rules! outcome {
    ($message:ident, $module:ident, $value:ident: $model:ty, $error:ty) => {
        impl From<Result<$model, $error>> for crate::proto::$message {
            fn from(outcome: Result<$model, $error>) -> Self {
                use crate::proto::$module::Result as Wire;
                let result = match outcome {
                    Ok(value) => Wire::$value(value.into()),
                    Err(error) => Wire::Error(error.into()),
                };
                Self { result: Some(result) }
            }
        }

        impl TryFrom<crate::proto::$message> for Result<$model, $error> {
            type Error = Malformed;

            fn try_from(message: crate::proto::$message) -> Result<Self, Malformed> {
                use crate::proto::$module::Result as Wire;
                let crate::proto::$message { result } = message;
                Ok(match result.ok_or(Malformed::Missing("result"))? {
                    Wire::$value(value) => Ok(value.try_into()?),
                    Wire::Error(error) => Err(error.try_into()?),
                })
            }
        }
    };
}
use outcome;
