//! What is counted, one function per event.

use std::time::Duration;

/// A request to the object store, by what it is billed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Put,
    CreateMultipart,
    UploadPart,
    CompleteMultipart,
    AbortMultipart,
    Get,
    Head,
    List,
    Delete,
}

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    /// The store answered: no such object, it exists already, not allowed.
    Refused,
    /// Throttled, failed or cut: it will be tried again if there is time.
    Failed,
    TimedOut,
}

impl Operation {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::CreateMultipart => "create_multipart",
            Self::UploadPart => "upload_part",
            Self::CompleteMultipart => "complete_multipart",
            Self::AbortMultipart => "abort_multipart",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
        }
    }
}

pub(crate) fn request_done(operation: Operation, outcome: Outcome, took: Duration) {
    let (operation, outcome) = (operation.as_str(), outcome.as_str());
    metrics::counter!("tidemark_object_store_requests_total", "operation" => operation, "outcome" => outcome)
        .increment(1);
    metrics::histogram!("tidemark_object_store_request_seconds", "operation" => operation).record(took.as_secs_f64());
}

/// A listing took more requests than one: they are billed by the page.
pub(crate) fn more_pages_listed(pages: u64) {
    let (operation, outcome) = (Operation::List.as_str(), Outcome::Ok.as_str());
    metrics::counter!("tidemark_object_store_requests_total", "operation" => operation, "outcome" => outcome)
        .increment(pages);
}

pub(crate) fn bytes_written(bytes: u64) {
    metrics::counter!("tidemark_object_store_written_bytes_total").increment(bytes);
}

pub(crate) fn bytes_read(bytes: u64) {
    metrics::counter!("tidemark_object_store_read_bytes_total").increment(bytes);
}

pub(crate) fn request_retried(operation: Operation) {
    metrics::counter!("tidemark_object_store_retries_total", "operation" => operation.as_str()).increment(1);
}
