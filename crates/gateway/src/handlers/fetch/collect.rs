//! Asks the brokers of a fetch, and waits for enough.
//!
//! One broker waits itself. Of several, none knows what the others have: all are asked without waiting, and while that is
//! not enough all are asked to say when they have more.

use std::time::Duration;

use futures::future;
use tidemark_model::broker::{FetchPartition, FetchRequest, Fetched, Isolation};
use tidemark_model::{Batch, BrokerError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::route::Share;

/// How much longer than it was asked to wait a broker may take before its answer counts as lost: a read of cold records
/// from the object store has to fit.
const GRACE: Duration = Duration::from_secs(20);

/// What is enough, and until when to wait for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    pub(super) deadline: Instant,
    pub(super) min_bytes: usize,
    pub(super) max_bytes: usize,
    pub(super) isolation: Isolation,
    pub(super) revision: u64,
}

type Results = Vec<Result<Fetched, BrokerError>>;

/// Each partition's result, with its slot.
pub(super) async fn collect(
    wait: &Wait,
    shares: &[Share<FetchPartition>],
    shutdown: &CancellationToken,
) -> impl Iterator<Item = (usize, Result<Fetched, BrokerError>)> {
    let results = match shares {
        [] => Vec::new(),
        [share] => vec![one(wait, share, shutdown).await],
        shares => several(wait, shares, shutdown).await,
    };
    let slots: Vec<usize> = shares.iter().flat_map(|share| share.slots.iter().copied()).collect();
    slots.into_iter().zip(results.into_iter().flatten())
}

async fn one(wait: &Wait, share: &Share<FetchPartition>, shutdown: &CancellationToken) -> Results {
    let patience = wait.left();
    if patience.is_zero() || wait.min_bytes == 0 {
        return ask(wait, share, Duration::ZERO, wait.at_once()).await;
    }
    tokio::select! {
        biased;
        results = ask(wait, share, patience, wait.min_bytes) => results,
        () = shutdown.cancelled() => ask(wait, share, Duration::ZERO, 0).await,
    }
}

async fn several(wait: &Wait, shares: &[Share<FetchPartition>], shutdown: &CancellationToken) -> Vec<Results> {
    let at_once = wait.left().is_zero() || wait.min_bytes == 0;
    let min_bytes = if at_once { wait.at_once() } else { 0 };
    loop {
        let all = future::join_all(shares.iter().map(|share| ask(wait, share, Duration::ZERO, min_bytes))).await;
        let bytes: Vec<usize> = all.iter().map(bytes_of).collect();
        let total: usize = bytes.iter().sum();
        let failed = all.iter().flatten().any(|result| result.as_ref().map_or(true, |f| f.diverging.is_some()));
        let left = wait.left();
        if total >= wait.min_bytes || failed || left.is_zero() || shutdown.is_cancelled() {
            return all;
        }
        let missing = wait.min_bytes - total;
        let more = shares.iter().zip(bytes).map(|(share, has)| Box::pin(ask(wait, share, left, has + missing)));
        tokio::select! {
            biased;
            _ = future::select_all(more) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// One call of a broker, which answers each partition in any case.
async fn ask(wait: &Wait, share: &Share<FetchPartition>, max_wait: Duration, min_bytes: usize) -> Results {
    let request = FetchRequest {
        revision: wait.revision,
        max_wait,
        min_bytes,
        max_bytes: wait.max_bytes,
        isolation: wait.isolation,
        partitions: share.items.clone(),
    };
    let lost = || Err(BrokerError::Unavailable("the broker did not answer in time".to_owned()));
    match tokio::time::timeout(max_wait + GRACE, share.broker.fetch(request)).await {
        Ok(results) => results,
        Err(_) => share.items.iter().map(|_| lost()).collect(),
    }
}

fn bytes_of(results: &Results) -> usize {
    results.iter().flatten().flat_map(|fetched| &fetched.batches).map(Batch::wire_len).sum()
}

impl Wait {
    /// What a broker is told where the client does not wait: nothing that is committed may be missed.
    fn at_once(&self) -> usize {
        self.min_bytes.max(1)
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}
