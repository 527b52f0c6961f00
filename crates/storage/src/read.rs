//! Reads by offset: from memory, from the write-ahead log, or the word that the records are in the object store.

use tidemark_model::storage::{Bounds, Read, ReadRequest, Records};
use tidemark_model::{Batch, StorageError, TieredRun, TopicPartition};
use tidemark_segment::{JournalKeys, StoreError};

use crate::entry::{Fold, Run};
use crate::folds;
use crate::journal::Journal;
use crate::journal::core::Core;
use crate::state::{Piece, State};
use crate::store::Store;
use crate::wal::read::{ReadError, Wanted};

/// Runs that one answer names. A reader that wants more asks from the end of these.
const MAX_RUNS: usize = 64;
/// Bytes that one read takes from the write-ahead log, whatever the reader allows.
const MAX_WAL_READ: usize = 8 * 1024 * 1024;
/// How often a read is tried again because what it found was tiered and freed before it was read.
const ATTEMPTS: usize = 3;

/// Where a read's records are.
enum Found {
    Memory(Vec<Batch>),
    Wal(Vec<Wanted>),
    Tiered(Vec<TieredRun>),
    /// An index object says where.
    Folded(Fold),
}

/// Reads from a journal.
pub(crate) async fn read(journal: &Journal, store: &Store, request: ReadRequest) -> Result<Read, StorageError> {
    let ReadRequest { journal: _, partition, revision, offset, max_bytes, current_leader_epoch } = request;
    journal.wait_for_view(partition, revision).await;
    for _ in 0..ATTEMPTS {
        let (bounds, found) = {
            let core = journal.lock();
            let bounds = core.bounds(partition)?;
            check_epoch(current_leader_epoch, bounds.leader_epoch)?;
            (bounds, core.find(partition, offset, max_bytes, bounds, &store.keys)?)
        };
        let records = match found {
            Found::Memory(batches) => Records::Batches(batches),
            Found::Tiered(runs) => Records::Tiered(runs),
            Found::Folded(fold) => match folds::runs_at(store, partition, fold, offset).await {
                Ok(runs) if !runs.is_empty() => Records::Tiered(runs),
                // It was opened, or dropped and deleted, since.
                Ok(_) | Err(StoreError::NotFound(_)) => continue,
                Err(error) => return Err(unreadable(error)),
            },
            Found::Wal(wanted) => match journal.read_wal(wanted).await {
                Ok(batches) => Records::Batches(batches),
                Err(ReadError::Gone) => continue,
                Err(error) => return Err(refusal(&error)),
            },
        };
        return Ok(Read { bounds, records, aborted: Vec::new() });
    }
    Err(StorageError::Unavailable(format!("{partition} is being moved to the object store")))
}

/// Refuses a client whose leader epoch is not the present one (KIP-320).
pub(crate) fn check_epoch(client: Option<i32>, current: i32) -> Result<(), StorageError> {
    match client {
        Some(epoch) if epoch < current => Err(StorageError::FencedEpoch(current)),
        Some(epoch) if epoch > current => Err(StorageError::UnknownEpoch(current)),
        _ => Ok(()),
    }
}

/// The log of what went wrong at the disk is here; the caller only tells its client.
pub(crate) fn refusal(error: &ReadError) -> StorageError {
    tracing::error!(%error, "cannot read the write-ahead log");
    match error {
        ReadError::Gone | ReadError::Io { .. } => StorageError::Unavailable(error.to_string()),
        ReadError::Corrupt { .. } => StorageError::Corrupt(error.to_string()),
    }
}

/// What a caller is told when the object store did not give what the manifest has there.
pub(crate) fn unreadable(error: StoreError) -> StorageError {
    match error {
        StoreError::Corrupt { key, why } => StorageError::Corrupt(format!("object {key}: {why}")),
        error => StorageError::Unavailable(error.to_string()),
    }
}

impl Core {
    fn find(
        &self,
        at: TopicPartition,
        offset: i64,
        max_bytes: usize,
        bounds: Bounds,
        keys: &JournalKeys,
    ) -> Result<Found, StorageError> {
        let Bounds { log_start_offset, high_watermark, .. } = bounds;
        if offset < log_start_offset || offset > high_watermark {
            return Err(StorageError::OffsetOutOfRange { log_start_offset, high_watermark });
        }
        if offset == high_watermark {
            return Ok(Found::Memory(Vec::new()));
        }
        let mut refs = self.slots.get(&at).map(|slot| slot.log.starting_at(offset)).into_iter().flatten().peekable();
        let Some(first) = refs.peek() else { return self.find_tiered(at, offset, keys) };
        let in_memory = first.batch.is_some();
        if !in_memory && first.index <= self.state.tiered_through {
            return self.find_tiered(at, offset, keys);
        }
        let limit = if in_memory { max_bytes } else { max_bytes.min(MAX_WAL_READ) };
        let mut bytes = 0;
        let within = refs.take_while(|batch| {
            bytes += batch.len();
            batch.batch.is_some() == in_memory && (bytes <= limit || bytes == batch.len())
        });
        Ok(match in_memory {
            true => Found::Memory(within.filter_map(|batch| batch.batch.clone()).collect()),
            false => Found::Wal(within.map(|batch| Wanted { index: batch.index, location: batch.location }).collect()),
        })
    }

    fn find_tiered(&self, at: TopicPartition, offset: i64, keys: &JournalKeys) -> Result<Found, StorageError> {
        let mut pieces = self.state.partitions.get(&at).into_iter().flat_map(|state| state.pieces(offset)).peekable();
        if let Some(Piece::Fold(fold)) = pieces.peek() {
            return Ok(Found::Folded(**fold));
        }
        let runs = pieces.map_while(|piece| match piece {
            Piece::Run(run) => Some(tiered_run(&self.state, at, run, keys)),
            Piece::Fold(_) => None,
        });
        let runs: Vec<TieredRun> = runs.take(MAX_RUNS).collect();
        if runs.is_empty() {
            let why = format!("offset {offset} of {at} is neither in the log nor in the object store");
            return Err(StorageError::Corrupt(why));
        }
        Ok(Found::Tiered(runs))
    }
}

/// A run as readers of the object store need it.
pub(crate) fn tiered_run(state: &State, partition: TopicPartition, run: &Run, keys: &JournalKeys) -> TieredRun {
    let object_size = state.segments.get(&run.segment).map_or(0, |segment| segment.size);
    tiered(partition, run, object_size, keys)
}

/// The same, of an object of this size.
pub(crate) fn tiered(partition: TopicPartition, run: &Run, object_size: u64, keys: &JournalKeys) -> TieredRun {
    let Run { segment, first_offset, last_offset, position, length, max_timestamp, leader_epoch } = *run;
    let object = keys.segment(segment);
    TieredRun {
        object,
        partition,
        first_offset,
        last_offset,
        position,
        length,
        object_size,
        max_timestamp,
        leader_epoch,
    }
}
