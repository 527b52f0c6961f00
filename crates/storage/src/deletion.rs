//! DeleteRecords: a log start that a client moves.
//!
//! The entry that moves it is what makes it last. Then those brokers are waited for that follow the partition: each says
//! by its tail stream that it has seen the new log start and serves nothing below it from memory. A broker whose stream
//! broke is not waited for; it serves from memory until it notices, which its connection's keep-alive bounds.

use tidemark_model::storage::RecordDeletion;
use tidemark_model::{StorageError, TopicPartition};

use crate::entry::{Entry, LogStarts};
use crate::journal::Journal;
use crate::metrics;

/// Deletes records, and returns the log start once no broker serves anything below it.
pub(crate) async fn delete(journal: &Journal, deletion: RecordDeletion) -> Result<i64, StorageError> {
    let RecordDeletion { journal: _, partition, revision, before, timeout } = deletion;
    journal.wait_for_view(partition, revision).await;
    let log_start = move_log_start(journal, partition, before).await?;
    let seen = wait_for_brokers(journal, partition, log_start);
    if tokio::time::timeout(timeout, seen).await.is_err() {
        let why = format!("brokers did not take the log start of {partition} within {timeout:?}");
        return Err(StorageError::TimedOut(why));
    }
    Ok(journal.lock().bounds(partition)?.log_start_offset)
}

async fn move_log_start(
    journal: &Journal,
    partition: TopicPartition,
    before: Option<i64>,
) -> Result<i64, StorageError> {
    let (before, moved) = {
        let mut core = journal.lock();
        let bounds = core.bounds(partition)?;
        let before = before.unwrap_or(bounds.high_watermark);
        if !(0..=bounds.high_watermark).contains(&before) {
            let (log_start_offset, high_watermark) = (bounds.log_start_offset, bounds.high_watermark);
            return Err(StorageError::OffsetOutOfRange { log_start_offset, high_watermark });
        }
        if before <= bounds.log_start_offset {
            return Ok(bounds.log_start_offset);
        }
        let starts = LogStarts { time_ms: core.clock.now_ms(), moves: vec![(partition, before)] };
        (before, core.append_entry(Entry::LogStartsMoved(starts)))
    };
    journal.wake();
    moved.await.unwrap_or_else(|_| Err(StorageError::Unavailable("the node is stopping".into())))?;
    metrics::records_deleted();
    Ok(before)
}

async fn wait_for_brokers(journal: &Journal, partition: TopicPartition, log_start: i64) {
    loop {
        let mut seen = std::pin::pin!(journal.seen.notified());
        // Before the look, so that nothing is missed between it and the wait.
        seen.as_mut().enable();
        if journal.lock().all_have_seen(partition, log_start) {
            return;
        }
        seen.await;
    }
}
