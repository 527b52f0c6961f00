//! Asks the brokers of a fetch, and waits for enough.
//!
//! All are asked without waiting first, with room for a large answer. While that is not enough, one broker waits itself,
//! with room for a small one, which is what comes at the tail; of several none knows what the others have, so all are asked
//! to say when they have more, and then asked again.

use std::time::Duration;

use futures::future;
use tidemark_model::broker::{FetchPartition, FetchRequest, Fetched, Isolation};
use tidemark_model::{Batch, BrokerError};
use tokio::time::Instant;

use crate::admission::Room;
use crate::route::Share;
use crate::service::Gateway;

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

/// What came, and the room that it takes.
pub(super) struct Collected {
    /// Each partition's result, with its slot.
    pub(super) results: Vec<(usize, Result<Fetched, BrokerError>)>,
    pub(super) room: Room,
}

/// `waits_first`: there will be nothing yet.
pub(super) async fn collect(
    wait: &Wait,
    shares: &[Share<FetchPartition>],
    waits_first: bool,
    gateway: &Gateway,
) -> Collected {
    let (results, room) = match shares {
        [] => (Vec::new(), gateway.answers.room(0)),
        [share] => {
            let (results, room) = one(wait, share, waits_first, gateway).await;
            (vec![results], room)
        }
        shares => several(wait, shares, gateway).await,
    };
    let slots = shares.iter().flat_map(|share| share.slots.iter().copied());
    Collected { results: slots.zip(results.into_iter().flatten()).collect(), room }
}

async fn one(wait: &Wait, share: &Share<FetchPartition>, waits_first: bool, gateway: &Gateway) -> (Results, Room) {
    let at_once = wait.left().is_zero() || wait.min_bytes == 0;
    if at_once || !waits_first {
        let room = gateway.answers.room(wait.max_bytes);
        let min_bytes = if at_once { wait.at_once() } else { 0 };
        let results = ask(wait, share, Duration::ZERO, min_bytes, room.bytes()).await;
        if at_once || bytes_of(&results) >= wait.min_bytes.min(room.bytes()) || is_final(&results) {
            return (results, room);
        }
    }
    let room = gateway.answers.room(wait.min_bytes);
    let min_bytes = wait.min_bytes.min(room.bytes());
    let results = tokio::select! {
        biased;
        results = ask(wait, share, wait.left(), min_bytes, room.bytes()) => results,
        () = gateway.shutdown.cancelled() => ask(wait, share, Duration::ZERO, 0, room.bytes()).await,
    };
    (results, room)
}

async fn several(wait: &Wait, shares: &[Share<FetchPartition>], gateway: &Gateway) -> (Vec<Results>, Room) {
    let at_once = wait.left().is_zero() || wait.min_bytes == 0;
    let at_least = if at_once { wait.at_once() } else { 0 };
    loop {
        let room = gateway.answers.room(wait.max_bytes);
        let asked = shares.iter().map(|share| ask(wait, share, Duration::ZERO, at_least, room.bytes()));
        let all = future::join_all(asked).await;
        let bytes: Vec<usize> = all.iter().map(bytes_of).collect();
        let total: usize = bytes.iter().sum();
        let min_bytes = wait.min_bytes.min(room.bytes());
        let left = wait.left();
        if total >= min_bytes || all.iter().any(is_final) || left.is_zero() || gateway.shutdown.is_cancelled() {
            return (all, room);
        }
        // Nothing is held while they wait, and nothing of what they say then is kept.
        drop((all, room));
        let missing = min_bytes - total;
        let waits = |(share, has)| Box::pin(ask(wait, share, left, has + missing, wait.max_bytes));
        let more = shares.iter().zip(bytes).map(waits);
        tokio::select! {
            biased;
            _ = future::select_all(more) => {}
            () = gateway.shutdown.cancelled() => {}
        }
    }
}

/// Whether there is something that the client is told at once.
fn is_final(results: &Results) -> bool {
    results.iter().any(|result| result.as_ref().map_or(true, |fetched| fetched.diverging.is_some()))
}

/// One call of a broker, which answers each partition in any case.
async fn ask(
    wait: &Wait,
    share: &Share<FetchPartition>,
    max_wait: Duration,
    min_bytes: usize,
    max_bytes: usize,
) -> Results {
    let request = FetchRequest {
        revision: wait.revision,
        max_wait,
        min_bytes,
        max_bytes: wait.max_bytes.min(max_bytes),
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
