//! What is counted, one function per event.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a request costs, in billionths of a dollar: the list price of S3's standard class. An estimate, the same order of
/// magnitude elsewhere.
const PUT_NANODOLLARS: u64 = 5_000;
const GET_NANODOLLARS: u64 = 400;

/// Of this process: what its requests cost, and the bytes that it stored.
static COST_NANODOLLARS: AtomicU64 = AtomicU64::new(0);
static STORED_BYTES: AtomicU64 = AtomicU64::new(0);

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

impl Operation {
    /// What one is billed, whatever became of it.
    fn nanodollars(self) -> u64 {
        match self {
            Self::Put | Self::CreateMultipart | Self::UploadPart | Self::CompleteMultipart | Self::List => {
                PUT_NANODOLLARS
            }
            Self::Get | Self::Head => GET_NANODOLLARS,
            Self::Delete | Self::AbortMultipart => 0,
        }
    }
}

fn billed(nanodollars: u64) {
    let cost = COST_NANODOLLARS.fetch_add(nanodollars, Ordering::Relaxed) + nanodollars;
    metrics::counter!("tidemark_object_store_cost_nanodollars_total").increment(nanodollars);
    let stored = STORED_BYTES.load(Ordering::Relaxed);
    if stored > 0 {
        // Billionths of a dollar a byte are dollars a gigabyte.
        let per_gb = cost as f64 / stored as f64;
        metrics::gauge!("tidemark_object_store_cost_dollars_per_gb").set(per_gb);
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
    let price = operation.nanodollars();
    let (operation, outcome) = (operation.as_str(), outcome.as_str());
    metrics::counter!("tidemark_object_store_requests_total", "operation" => operation, "outcome" => outcome)
        .increment(1);
    metrics::histogram!("tidemark_object_store_request_seconds", "operation" => operation).record(took.as_secs_f64());
    billed(price);
}

/// A listing took more requests than one: they are billed by the page.
pub(crate) fn more_pages_listed(pages: u64) {
    billed(Operation::List.nanodollars() * pages);
    let (operation, outcome) = (Operation::List.as_str(), Outcome::Ok.as_str());
    metrics::counter!("tidemark_object_store_requests_total", "operation" => operation, "outcome" => outcome)
        .increment(pages);
}

pub(crate) fn bytes_written(bytes: u64) {
    STORED_BYTES.fetch_add(bytes, Ordering::Relaxed);
    metrics::counter!("tidemark_object_store_written_bytes_total").increment(bytes);
}

pub(crate) fn bytes_read(bytes: u64) {
    metrics::counter!("tidemark_object_store_read_bytes_total").increment(bytes);
}

pub(crate) fn request_retried(operation: Operation) {
    metrics::counter!("tidemark_object_store_retries_total", "operation" => operation.as_str()).increment(1);
}
