//! What a hop that failed means to the caller: the one table from gRPC's language to ours.

use std::error::Error as _;

use tidemark_model::broker::BatchFault;
use tidemark_model::{BrokerError, CoordinatorError, GroupError, StorageError};
use tonic::{Code, ConnectError, Status};

/// Why no answer came over the hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The peer cannot be reached, broke off, or does not understand us: what was asked for may have happened.
    Unavailable(String),
    /// The peer cannot be reached: nothing was sent.
    NeverSent(String),
    /// No answer came in time: what was asked for may have happened.
    TimedOut(String),
    /// Too much is in flight already: nothing was sent.
    Full(String),
    /// The request is above what a message holds: nothing was sent.
    TooLarge(String),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let text = describe(&status);
        match status.code() {
            Code::DeadlineExceeded => Self::TimedOut(text),
            Code::ResourceExhausted => Self::Full(text),
            // A peer that answers one of these is broken, gone, or of another version: all that a caller can do is to
            // try again later, or elsewhere.
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
            | Code::Unauthenticated => Self::Unavailable(text),
        }
    }
}

impl From<Failure> for StorageError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(text) | Failure::NeverSent(text) => Self::Unavailable(text),
            Failure::TimedOut(text) => Self::TimedOut(text),
            Failure::Full(text) | Failure::TooLarge(text) => Self::Full(text),
        }
    }
}

impl From<Failure> for BrokerError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(text) | Failure::NeverSent(text) | Failure::Full(text) => Self::Unavailable(text),
            Failure::TimedOut(text) => Self::Storage(StorageError::TimedOut(text)),
            Failure::TooLarge(message) => Self::Rejected { fault: BatchFault::TooLarge, message },
        }
    }
}

impl From<Failure> for CoordinatorError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(text) | Failure::NeverSent(text) | Failure::TimedOut(text) | Failure::Full(text) => {
                Self::Unavailable(text)
            }
            Failure::TooLarge(text) => Self::InvalidRequest(text),
        }
    }
}

impl From<Failure> for GroupError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NeverSent(text) | Failure::Full(text) => Self::Unavailable(text),
            Failure::Unavailable(text) | Failure::TimedOut(text) => Self::TimedOut(text),
            Failure::TooLarge(text) => Self::InvalidRequest(text),
        }
    }
}

impl Failure {
    pub(crate) fn into_text(self) -> String {
        let (Self::Unavailable(text)
        | Self::NeverSent(text)
        | Self::TimedOut(text)
        | Self::Full(text)
        | Self::TooLarge(text)) = self;
        text
    }
}

/// Whether the request never left, because there was no connection.
pub(crate) fn never_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The innermost cause says most: "Connection refused" rather than "transport error".
fn describe(status: &Status) -> String {
    let mut source = status.source();
    let mut cause = None;
    while let Some(error) = source {
        cause = Some(error);
        source = error.source();
    }
    match cause {
        Some(cause) => format!("{}: {cause}", status.message()),
        None => status.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_meaning() {
        for code in 0..=16 {
            let failure = Failure::from(Status::new(Code::from(code), "why"));
            let expected = match code {
                4 => Failure::TimedOut("why".into()),
                8 => Failure::Full("why".into()),
                _ => Failure::Unavailable("why".into()),
            };
            assert_eq!(failure, expected, "code {code}");
        }
    }
}
