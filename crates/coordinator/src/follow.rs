//! Keeps the state up to date with the store.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;

use tidemark_model::Claim;

use crate::error::Error;
use crate::metrics;
use crate::records::{decode_claim, encode_claim};
use crate::service::{Shared, Status};
use crate::store::{Snapshot, StoreError, Txn};

/// How long to wait after the store could not be read.
const RETRY: Duration = Duration::from_millis(500);

/// Loads the state and follows it until the process ends. Returns only what makes this coordinator useless.
pub(crate) async fn follow(shared: &Shared) -> Error {
    let mut failures = 0_u32;
    loop {
        let (cluster_id, claim, snapshot) = match load(shared).await {
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
        shared.state.replace(&cluster_id, claim, &snapshot);
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

async fn load(shared: &Shared) -> Result<(String, Option<Claim>, Snapshot), Error> {
    let cluster_id = cluster_id(shared).await?;
    let claim = claim(shared).await?;
    Ok((cluster_id, claim, shared.store.range(shared.keys.state()).await?))
}

/// By what the cluster holds its bucket: what is stored, else a new first claim, which is stored before the bucket has it.
async fn claim(shared: &Shared) -> Result<Option<Claim>, Error> {
    loop {
        let key = shared.keys.claim();
        if let Some(entry) = shared.store.get(&key).await? {
            let claim = decode_claim(&entry.value).map_err(|error| StoreError::Failed(format!("{key}: {error}")))?;
            return Ok(Some(claim));
        }
        if shared.bucket.is_none() {
            return Ok(None);
        }
        let new = Claim { generation: 1, id: shared.entropy.next_u64() };
        // Whoever is first, the next look finds it.
        let _ = shared.store.commit(Txn::new().if_absent(&key).put(&key, encode_claim(new))).await?;
    }
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
