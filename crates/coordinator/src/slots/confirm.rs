//! Whether slots are still owned: one read of the store for all who asked while the one before was under way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemark_model::{Slot, SlotId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Unconfirmed;
use super::hub::{Holding, Hub};
use crate::metrics;
use crate::records::decode_slot;
use crate::store::{Entry, StoreError};

/// How long to ask again where the store says at once that it cannot be reached, and how soon.
const PATIENCE: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(20);

pub(super) type Records = BTreeMap<SlotId, (Slot, Entry)>;

pub(super) struct Ask {
    pub(super) holding: Arc<Holding>,
    pub(super) confirmed: oneshot::Sender<Result<(), Unconfirmed>>,
}

/// Answers for as long as it is polled.
pub(super) async fn run(hub: &Hub) {
    loop {
        let asks = std::mem::take(&mut *hub.asks());
        if asks.is_empty() {
            hub.asked.notified().await;
            continue;
        }
        metrics::confirmed(asks.len());
        let read = read(hub).await;
        for Ask { holding, confirmed } in asks {
            let answer = match &read {
                Err(error) => Err(Unconfirmed::Unavailable(error.to_string())),
                Ok(records) => match records.get(&holding.slot.id) {
                    Some((slot, _)) if *slot == holding.slot => Ok(()),
                    _ => {
                        hub.lose(holding.slot.id, holding.tenure);
                        Err(Unconfirmed::Lost)
                    }
                },
            };
            // Who asked may have given up.
            let _ = confirmed.send(answer);
        }
    }
}

/// The records, also while a member of etcd is gone: a request to that one fails at once, the next goes to another.
async fn read(hub: &Hub) -> Result<Records, StoreError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match records(hub).await {
            Err(StoreError::Unavailable(_)) if Instant::now() < until => tokio::time::sleep(RETRY).await,
            read => return read,
        }
    }
}

/// The records of all slots, as they are now.
///
/// This is a read that etcd confirms with its members. A transaction of nothing but conditions would not be: etcd takes
/// one without operations for a read that may be stale.
pub(super) async fn records(hub: &Hub) -> Result<Records, StoreError> {
    let entries = hub.store.range(&hub.keys.slots()).await?.entries;
    let mut records = Records::new();
    for entry in entries {
        match decode_slot(&entry.value) {
            Ok(slot) => drop(records.insert(slot.id, (slot, entry))),
            // Not ours then, nor anybody's to take.
            Err(error) => tracing::error!(key = entry.key, %error, "cannot read a slot's record"),
        }
    }
    Ok(records)
}
