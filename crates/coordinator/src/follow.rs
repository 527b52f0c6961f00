//! Keeps the state up to date with the store, and the store's history short.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;

use crate::error::Error;
use crate::metrics;
use crate::nodes;
use crate::records::{Compaction, decode_compaction, encode_compaction};
use crate::service::{Shared, Status};
use crate::store::{Commit, Snapshot, StoreError, Txn};

/// How long to wait after the store could not be read.
const RETRY: Duration = Duration::from_millis(500);

/// How much history the store keeps at least: a coordinator that was cut off for less goes on where it was.
const COMPACTION_INTERVAL: Duration = Duration::from_secs(300);

/// Loads the state and follows it until the process ends. Returns only what makes this coordinator useless.
pub(crate) async fn follow(shared: &Shared) -> Error {
    let mut failures = 0_u32;
    loop {
        let (cluster_id, snapshot) = match load(shared).await {
            Ok(loaded) => loaded,
            Err(Error::Store(error)) if shared.loaded() || !matches!(error, StoreError::Failed(_)) => {
                // An outage is told at its start, and then ever more rarely.
                failures = failures.saturating_add(1);
                if failures.is_power_of_two() {
                    tracing::warn!(%error, failures, "cannot read the state, trying again");
                }
                tokio::time::sleep(RETRY).await;
                continue;
            }
            Err(error) => return error,
        };
        failures = 0;
        shared.state.replace(&cluster_id, &snapshot);
        shared.status.send_replace(Status::Ready);
        tracing::info!(cluster_id, revision = snapshot.revision, records = snapshot.entries.len(), "read the state");
        let mut changes = shared.store.watch(shared.keys.state(), snapshot.revision);
        while let Some(next) = changes.next().await {
            match next {
                Ok(changes) => shared.state.apply(&changes),
                Err(error) => {
                    metrics::state_reread();
                    tracing::warn!(%error, "the watch ended, reading the state again");
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn load(shared: &Shared) -> Result<(String, Snapshot), Error> {
    let cluster_id = cluster_id(shared).await?;
    Ok((cluster_id, shared.store.range(shared.keys.state()).await?))
}

/// The cluster's id: what is stored, else what is configured, else a new one.
async fn cluster_id(shared: &Shared) -> Result<String, Error> {
    let configured = shared.settings.cluster_id.as_ref();
    loop {
        let key = shared.keys.cluster_id();
        if let Some(entry) = shared.store.get(&key).await? {
            let stored = String::from_utf8_lossy(&entry.value).into_owned();
            return match configured {
                Some(configured) if *configured != stored => {
                    Err(Error::OtherCluster { configured: configured.clone(), stored })
                }
                _ => Ok(stored),
            };
        }
        let new = configured.cloned().unwrap_or_else(|| shared.random_cluster_id());
        // Whoever is first, the next look finds it.
        let _ = shared.store.commit(Txn::new().if_absent(&key).put(&key, Bytes::from(new))).await?;
    }
}

/// Has the store forget its history, and brokers that are gone, now and then. One of the coordinators does it.
///
/// The record of it is part of the state: writing it first moves every watch above what is forgotten, also when
/// nothing else has changed in the state for long.
pub(crate) async fn compact(shared: &Shared) {
    let (mut last, mut away) = (None, BTreeSet::new());
    loop {
        tokio::time::sleep(COMPACTION_INTERVAL).await;
        if !shared.loaded() {
            continue;
        }
        let done = async {
            last = compact_once(shared, last).await?;
            nodes::sweep(shared, &mut away).await
        };
        if let Err(error) = done.await {
            tracing::warn!(%error, "cannot compact the store");
        }
    }
}

/// Forgets what the record before this one said, unless another coordinator has written it since `last`. Returns the
/// revision of the record as it is now.
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
    let before = entry.as_ref().and_then(|entry| decode_compaction(&entry.value).ok());
    if let Some(Compaction { revision }) = before.filter(|before| before.revision > 0) {
        shared.store.compact(revision).await?;
    }
    Ok(Some(written))
}
