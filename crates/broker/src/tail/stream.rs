//! One tail stream: a task that carries a storage node's events to the rings it feeds.

use std::sync::{Arc, Weak};

use futures::StreamExt as _;
use tidemark_model::storage::{TailCommand, TailEvent};
use tidemark_model::{NodeId, Storage};
use tokio::sync::mpsc;

use super::Tail;
use crate::metrics;

pub(super) fn spawn(
    tail: &Arc<Tail>,
    node: NodeId,
    id: u64,
    storage: &Arc<dyn Storage>,
    commands: mpsc::Receiver<TailCommand>,
) {
    let commands = futures::stream::unfold(commands, |mut commands| async move {
        let command = commands.recv().await?;
        Some((command, commands))
    });
    let events = storage.tail(commands.boxed());
    let tail = Arc::downgrade(tail);
    tokio::spawn(async move {
        carry(&tail, id, events).await;
        if let Some(tail) = tail.upgrade() {
            tracing::debug!(node = %node, "tail stream ended");
            tail.broken(node, id);
        }
    });
}

async fn carry(
    tail: &Weak<Tail>,
    id: u64,
    mut events: futures::stream::BoxStream<'static, Result<TailEvent, tidemark_model::StorageError>>,
) {
    while let Some(event) = events.next().await {
        let Some(tail) = tail.upgrade() else { return };
        match event {
            Ok(TailEvent::Batches { partition, bounds, batches, aborted }) => {
                metrics::tail_received(batches.iter().map(tidemark_model::Batch::wire_len).sum());
                tail.push(id, partition, bounds, batches, aborted);
            }
            Ok(TailEvent::Ended { partition, reason }) => {
                tracing::debug!(%partition, %reason, "the leader ended a tail subscription");
                tail.ended(id, partition);
            }
            Err(error) => {
                tracing::warn!(%error, "tail stream failed");
                return;
            }
        }
    }
}
