//! Keeps the store small: has it forget its history, give back what is free in its files, and forget brokers that are gone.
//!
//! Every coordinator looks; the record of the last compaction, which is part of the state, tells which of them does it.
//! Writing it first moves every watch above what is forgotten, also when nothing else has changed in the state for long.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::metrics;
use crate::nodes;
use crate::records::{Compaction, decode_compaction, encode_compaction};
use crate::service::Shared;
use crate::store::{Commit, LeaseId, StoreError, Txn, Usage};

/// How often to look at what the store has grown by.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// How often its history is forgotten where it grows slowly.
const COMPACTION_INTERVAL: Duration = Duration::from_secs(300);

/// How much the store may grow before its history is forgotten. Offsets are written again and again, so that history is
/// most of it: at 10,000 commits a second some 5 MB each second. Twice this much is there at most, and a look's worth.
const HISTORY_BYTES: u64 = 64 << 20;

/// What has to be free in a file to be worth writing it anew. What is free is used again, so that this is not what a
/// steady load leaves, but a burst.
const LEAST_FREE: u64 = 256 << 20;

/// How long a coordinator that has begun to defragment, and is not heard of again, keeps others from it.
const DEFRAGMENT_LEASE: Duration = Duration::from_secs(600);

/// Looks after the store for as long as it is polled.
pub(crate) async fn maintain(shared: &Shared) {
    let mut upkeep = Upkeep::new(HISTORY_BYTES, LEAST_FREE);
    let mut failures = 0_u32;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        if !shared.loaded() {
            continue;
        }
        match upkeep.look(shared).await {
            Ok(()) => failures = 0,
            Err(error) => {
                failures = failures.saturating_add(1);
                if failures.is_power_of_two() {
                    tracing::warn!(%error, failures, "cannot look after the store, trying again");
                }
            }
        }
    }
}

pub(crate) struct Upkeep {
    history_bytes: u64,
    least_free: u64,
    /// The record of the last compaction as it was seen last.
    last: Option<u64>,
    /// The least that the store used since then.
    floor: Option<u64>,
    /// When the next compaction is due however little was written.
    due: Instant,
    away: BTreeSet<String>,
}

impl Upkeep {
    pub(crate) fn new(history_bytes: u64, least_free: u64) -> Self {
        let due = Instant::now() + COMPACTION_INTERVAL;
        Self { history_bytes, least_free, last: None, floor: None, due, away: BTreeSet::new() }
    }

    pub(crate) async fn look(&mut self, shared: &Shared) -> Result<(), StoreError> {
        let Usage { file, used } = shared.store.usage().await?;
        metrics::store_used(file, used);
        let floor = self.floor.map_or(used, |floor| floor.min(used));
        self.floor = Some(floor);
        let due = Instant::now() >= self.due;
        if !due && used < floor.saturating_add(self.history_bytes) {
            return Ok(());
        }
        self.last = compact_once(shared, self.last).await?;
        (self.floor, self.due) = (None, Instant::now() + COMPACTION_INTERVAL);
        if due {
            nodes::sweep(shared, &mut self.away).await?;
        }
        let free = file.saturating_sub(used);
        if free > self.least_free && free > used {
            defragment_once(shared, self.least_free).await?;
        }
        Ok(())
    }
}

/// Forgets what came before the record of the last compaction, unless another coordinator has written it since `last`, and
/// writes it anew. Returns the revision of the record as it is now.
pub(crate) async fn compact_once(shared: &Shared, last: Option<u64>) -> Result<Option<u64>, StoreError> {
    let key = shared.keys.compaction();
    let entry = shared.store.get(&key).await?;
    let seen = entry.as_ref().map(|entry| entry.revision);
    if seen.is_some() && seen != last {
        return Ok(seen);
    }
    let value = Compaction { revision: shared.state.revision().unwrap_or(0) };
    let txn = Txn::new().if_still(&key, entry.as_ref()).put(&key, encode_compaction(value));
    let Commit::Done(written) = shared.store.commit(txn).await? else { return Ok(seen) };
    // What a newer version wrote there may mean something else.
    if let Some(before) = entry.filter(|entry| decode_compaction(&entry.value).is_ok()) {
        shared.store.compact(before.revision).await?;
        metrics::store_compacted();
    }
    Ok(Some(written))
}

/// Defragments, unless another coordinator does.
async fn defragment_once(shared: &Shared, least_free: u64) -> Result<(), StoreError> {
    let lease = shared.store.grant(DEFRAGMENT_LEASE).await?;
    let done = defragment_under(shared, lease, least_free).await;
    shared.forget_lease(lease).await;
    if let Some(given_back) = done? {
        metrics::store_defragmented(given_back);
        tracing::info!(given_back, "defragmented the metadata store");
    }
    Ok(())
}

async fn defragment_under(shared: &Shared, lease: LeaseId, least_free: u64) -> Result<Option<u64>, StoreError> {
    let key = shared.keys.defragmentation();
    let claim = Txn::new().if_absent(&key).put_leased(&key, Bytes::from_static(b"under way"), lease);
    match shared.store.commit(claim).await? {
        Commit::Done(_) => shared.store.defragment(least_free).await.map(Some),
        Commit::Conflict => Ok(None),
    }
}
