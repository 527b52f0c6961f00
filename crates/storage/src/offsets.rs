//! ListOffsets and OffsetForLeaderEpoch, over the write-ahead log and the object store, without scanning records: the
//! largest timestamp of each batch here is in memory, and of those in the object store in the manifest and the segments'
//! indexes. One batch is read, to say which of its records it is.

use tidemark_model::storage::{EpochEnd, EpochQuery, FoundOffset, OffsetQuery, OffsetSpec};
use tidemark_model::{Batch, StorageError, TieredRun, TopicPartition};
use tidemark_segment::{JournalKeys, StoreError};

use crate::disk::off_thread;
use crate::journal::Journal;
use crate::journal::core::Core;
use crate::journal::log::BatchRef;
use crate::lookup::{self, Wanted};
use crate::read::{check_epoch, refusal, tiered_run};
use crate::store::Store;
use crate::wal::read::{ReadError, Wanted as InWal};

/// How often a lookup is tried again because what it found moved to the object store before it was read.
const ATTEMPTS: usize = 3;

/// What the state says: the answer, or which batch to look into.
enum Lead {
    Answer(FoundOffset),
    Memory(Batch),
    Wal(InWal),
    Tiered(TieredRun),
}

/// Finds an offset.
pub(crate) async fn find(journal: &Journal, store: &Store, query: OffsetQuery) -> Result<FoundOffset, StorageError> {
    let OffsetQuery { journal: _, partition, revision, current_leader_epoch, spec } = query;
    journal.wait_for_view(partition, revision).await;
    let wanted = match spec {
        OffsetSpec::Timestamp(timestamp) => Wanted::AtLeast(timestamp),
        _ => Wanted::Largest,
    };
    for _ in 0..ATTEMPTS {
        let lead = {
            let core = journal.lock();
            check_epoch(current_leader_epoch, core.leader_epoch(partition)?)?;
            core.lead(partition, spec, &store.keys)?
        };
        let batch = match lead {
            Lead::Answer(found) => return Ok(found),
            Lead::Memory(batch) => batch,
            Lead::Wal(in_wal) => match journal.read_wal(vec![in_wal]).await {
                Ok(mut batches) => batches.pop().ok_or_else(|| StorageError::Corrupt("no batch".into()))?,
                Err(ReadError::Gone) => continue,
                Err(error) => return Err(refusal(&error)),
            },
            Lead::Tiered(run) => match tiered_batch(store, &run, wanted).await {
                Ok(batch) => batch,
                Err(StoreError::NotFound(_)) => continue,
                Err(StoreError::Corrupt { key, why }) => {
                    return Err(StorageError::Corrupt(format!("object {key}: {why}")));
                }
                Err(error) => return Err(StorageError::Unavailable(error.to_string())),
            },
        };
        return look_into(journal, batch, wanted).await;
    }
    Err(StorageError::Unavailable(format!("{partition} is being moved to the object store")))
}

/// Where a leader epoch ended.
pub(crate) async fn epoch_end(journal: &Journal, query: EpochQuery) -> Result<EpochEnd, StorageError> {
    let EpochQuery { journal: _, partition, revision, current_leader_epoch, leader_epoch } = query;
    journal.wait_for_view(partition, revision).await;
    let core = journal.lock();
    let current = core.leader_epoch(partition)?;
    check_epoch(current_leader_epoch, current)?;
    Ok(match core.state.partitions.get(&partition) {
        Some(state) => state.epoch_end(leader_epoch, current),
        None if leader_epoch == current => EpochEnd { leader_epoch, end_offset: 0 },
        None => EpochEnd { leader_epoch: -1, end_offset: -1 },
    })
}

async fn look_into(journal: &Journal, batch: Batch, wanted: Wanted) -> Result<FoundOffset, StorageError> {
    let leader_epoch = batch.leader_epoch;
    let base_offset = batch.base_offset;
    let found = off_thread(&*journal.disk, move || lookup::find(&batch, wanted)).await;
    match found {
        Some(Ok(Some(found))) => Ok(FoundOffset { leader_epoch, offset: found.offset, timestamp: found.timestamp }),
        // The batch's header promised a timestamp that none of its records has.
        Some(Ok(None)) => Ok(NONE),
        Some(Err(error)) => Err(StorageError::Corrupt(format!("the records of the batch at {base_offset}: {error}"))),
        None => Err(StorageError::Unavailable("the node is stopping".into())),
    }
}

/// Reads the one batch of a run that has the record.
async fn tiered_batch(store: &Store, run: &TieredRun, wanted: Wanted) -> Result<Batch, StoreError> {
    let corrupt = |why: &str| StoreError::Corrupt { key: run.object.clone(), why: why.to_owned() };
    let index = store.segment_index(run).await?;
    let indexed = index.run(run.partition).ok_or_else(|| corrupt("its index lacks the partition"))?;
    let (block, least) = match wanted {
        Wanted::AtLeast(timestamp) => (indexed.block_at_time(timestamp), timestamp),
        Wanted::Largest => (indexed.block_at_offset(indexed.max_timestamp_offset), indexed.max_timestamp),
    };
    let block = block.ok_or_else(|| corrupt("its index lacks the timestamp"))?;
    let span = indexed.blocks_span(block..block + 1).ok_or_else(|| corrupt("its index lacks a block"))?;
    let batches = store.batches(&run.object, indexed, &span).await?;
    let found = batches.into_iter().find(|batch| batch.max_timestamp() >= least);
    found.ok_or_else(|| corrupt("a block lacks the timestamp that its index says it has"))
}

const NONE: FoundOffset = FoundOffset { leader_epoch: -1, offset: -1, timestamp: -1 };

impl Core {
    fn lead(&self, at: TopicPartition, spec: OffsetSpec, keys: &JournalKeys) -> Result<Lead, StorageError> {
        let bounds = self.bounds(at)?;
        let found = |offset, leader_epoch| Lead::Answer(FoundOffset { leader_epoch, offset, timestamp: -1 });
        let state = self.state.partitions.get(&at);
        let epoch_at = |offset| state.and_then(|state| state.epoch_at(offset)).unwrap_or(-1);
        let log = self.slots.get(&at).map(|slot| &slot.log);
        Ok(match spec {
            OffsetSpec::Latest => found(bounds.high_watermark, bounds.leader_epoch),
            OffsetSpec::LastStable => found(bounds.last_stable_offset, bounds.leader_epoch),
            OffsetSpec::Earliest => found(bounds.log_start_offset, epoch_at(bounds.log_start_offset)),
            OffsetSpec::EarliestLocal => {
                let offset = log.and_then(|log| log.first_offset()).unwrap_or(bounds.high_watermark);
                found(offset, epoch_at(offset))
            }
            OffsetSpec::LatestTiered => match state.and_then(|state| state.runs.last()) {
                Some(run) => found(run.last_offset, run.leader_epoch),
                None => Lead::Answer(NONE),
            },
            OffsetSpec::EarliestPendingUpload => {
                let offset = state.map_or(bounds.log_start_offset, |state| state.tiered_end());
                found(offset, epoch_at(offset))
            }
            OffsetSpec::Timestamp(timestamp) => self.first_at(at, timestamp, keys),
            OffsetSpec::MaxTimestamp => self.largest(at, keys),
        })
    }

    fn first_at(&self, at: TopicPartition, timestamp: i64, keys: &JournalKeys) -> Lead {
        let has_it = |max_timestamp: i64| max_timestamp >= timestamp;
        let (runs, refs) = self.parts(at);
        let run = runs.iter().find(|run| has_it(run.max_timestamp));
        if let Some(run) = run {
            return Lead::Tiered(tiered_run(&self.state, at, run, keys));
        }
        let batch = refs.into_iter().find(|batch| has_it(batch.max_timestamp));
        batch.map_or(Lead::Answer(NONE), lead_to)
    }

    fn largest(&self, at: TopicPartition, keys: &JournalKeys) -> Lead {
        let (runs, refs) = self.parts(at);
        // Of equal ones the first: what comes later must be larger.
        let run = runs.iter().reduce(|best, run| if run.max_timestamp > best.max_timestamp { run } else { best });
        let batch =
            refs.into_iter().reduce(|best, batch| if batch.max_timestamp > best.max_timestamp { batch } else { best });
        match (run, batch) {
            (Some(run), Some(batch)) if batch.max_timestamp > run.max_timestamp => lead_to(batch),
            (Some(run), _) => Lead::Tiered(tiered_run(&self.state, at, run, keys)),
            (None, Some(batch)) => lead_to(batch),
            (None, None) => Lead::Answer(NONE),
        }
    }

    /// The runs that have to be looked at, and the batches behind them: those here save the object store a request.
    fn parts(&self, at: TopicPartition) -> (&[crate::entry::Run], Vec<&BatchRef>) {
        let log = self.slots.get(&at).map(|slot| &slot.log);
        let first_here = log.and_then(|log| log.first_offset()).unwrap_or(i64::MAX);
        let runs = self.state.partitions.get(&at).map_or(&[][..], |state| &state.runs);
        let tiered = runs.partition_point(|run| run.first_offset < first_here);
        let after = runs[..tiered].last().map_or(-1, |run| run.last_offset);
        let refs = log.into_iter().flat_map(|log| log.iter()).filter(|batch| batch.base_offset > after).collect();
        (&runs[..tiered], refs)
    }
}

fn lead_to(batch: &BatchRef) -> Lead {
    match &batch.batch {
        Some(batch) => Lead::Memory(batch.clone()),
        None => Lead::Wal(InWal { index: batch.index, location: batch.location }),
    }
}
