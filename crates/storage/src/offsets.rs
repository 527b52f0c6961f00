//! ListOffsets and OffsetForLeaderEpoch, over the write-ahead log and the object store, without scanning records: the
//! largest timestamp of each batch here is in memory, and of those in the object store in the manifest and the segments'
//! indexes. One batch is read, to say which of its records it is.

use tidemark_model::storage::{EpochEnd, EpochQuery, FoundOffset, OffsetQuery, OffsetSpec};
use tidemark_model::{Batch, StorageError, TieredRun, TopicPartition};
use tidemark_segment::{JournalKeys, StoreError};

use crate::disk::off_thread;
use crate::entry::{Fold, Run};
use crate::folds;
use crate::journal::Journal;
use crate::journal::core::Core;
use crate::journal::log::BatchRef;
use crate::lookup::{self, Found, Wanted};
use crate::read::{check_epoch, refusal, tiered_run, unreadable};
use crate::store::Store;
use crate::wal::read::{ReadError, Wanted as InWal};

/// How often a lookup is tried again because what it found moved to the object store before it was read.
const ATTEMPTS: usize = 3;

/// Batches that one lookup looks into, when their headers promise a timestamp that their records do not have.
const MAX_LOOKS: usize = 16;

/// A piece of a partition's log, and where it is: a run in the object store, or a batch here.
struct Part {
    first_offset: i64,
    last_offset: i64,
    max_timestamp: i64,
    place: Place,
}

enum Place {
    Memory(Batch),
    Wal(InWal),
    Tiered(TieredRun),
}

/// What a lookup by time meets first.
enum First {
    Part(Part),
    Folded(Fold),
}

/// Why a part could not be looked into.
enum Missed {
    /// It moved to the object store, or in there, meanwhile: look again.
    Moved,
    Failed(StorageError),
}

/// Finds an offset.
pub(crate) async fn find(journal: &Journal, store: &Store, query: OffsetQuery) -> Result<FoundOffset, StorageError> {
    let OffsetQuery { journal: _, partition, revision, current_leader_epoch, spec } = query;
    journal.wait_for_view(partition, revision).await;
    for _ in 0..ATTEMPTS {
        let from = {
            let core = journal.lock();
            check_epoch(current_leader_epoch, core.leader_epoch(partition)?)?;
            if let Some(found) = core.bound(partition, spec)? {
                return Ok(found);
            }
            core.bounds(partition)?.log_start_offset
        };
        let lookup = Lookup { journal, store, partition };
        let found = match spec {
            OffsetSpec::Timestamp(timestamp) => lookup.first_at(timestamp, from).await,
            _ => lookup.largest(from).await,
        };
        match found {
            Ok(found) => return Ok(found.unwrap_or(NONE)),
            Err(Missed::Moved) => {}
            Err(Missed::Failed(error)) => return Err(error),
        }
    }
    Err(StorageError::Unavailable(format!("{partition} is being moved to the object store")))
}

/// A lookup by time. What it finds is at an offset of `from` or above: below is the log start, which may lie in a part.
struct Lookup<'a> {
    journal: &'a Journal,
    store: &'a Store,
    partition: TopicPartition,
}

impl Lookup<'_> {
    async fn first_at(&self, timestamp: i64, mut from: i64) -> Result<Option<FoundOffset>, Missed> {
        let mut looks = 0;
        while looks < MAX_LOOKS {
            let first = self.journal.lock().first_piece(self.partition, from, timestamp, &self.store.keys);
            let part = match first {
                None => return Ok(None),
                Some(First::Part(part)) => part,
                Some(First::Folded(fold)) => {
                    let run = folds::first_run(self.store, self.partition, fold, from, timestamp).await;
                    match run.map_err(missed)? {
                        Some(run) => tiered_part(run),
                        // What promised it is gone, or was before `from`.
                        None => {
                            from = fold.last_offset + 1;
                            continue;
                        }
                    }
                }
            };
            looks += 1;
            let end = part.last_offset;
            if let Some(found) = self.look_into(part, Wanted::AtLeast(timestamp), from).await? {
                return Ok(Some(found));
            }
            from = end + 1;
        }
        Ok(None)
    }

    async fn largest(&self, from: i64) -> Result<Option<FoundOffset>, Missed> {
        let Some(part) = self.largest_part(from).await? else { return Ok(None) };
        let (whole, end) = (part.first_offset >= from, part.last_offset);
        let found = self.look_into(part, Wanted::Largest, from).await?;
        if whole {
            return Ok(found);
        }
        // Its largest timestamp may be below `from`, and that of what follows larger than what is left of it.
        match (found, self.largest_part(end + 1).await?) {
            (Some(found), Some(rest)) if found.timestamp >= rest.max_timestamp => Ok(Some(found)),
            (_, Some(rest)) => self.look_into(rest, Wanted::Largest, from).await,
            (found, None) => Ok(found),
        }
    }

    /// Of the parts that have a record at `from` or above the one with the largest timestamp; of equal ones the first.
    async fn largest_part(&self, from: i64) -> Result<Option<Part>, Missed> {
        let (folds, rest) = {
            let core = self.journal.lock();
            (core.folds_from(self.partition, from), core.largest_part(self.partition, from, &self.store.keys))
        };
        let mut best: Option<Part> = None;
        for fold in folds {
            let promising = |than: &Part| fold.max_timestamp > than.max_timestamp;
            // What comes later must be larger.
            let wanted = best.as_ref().is_none_or(promising)
                && rest.as_ref().is_none_or(|rest| fold.max_timestamp >= rest.max_timestamp);
            if wanted
                && let Some(run) = folds::largest_run(self.store, self.partition, fold, from).await.map_err(missed)?
                && best.as_ref().is_none_or(|best| run.max_timestamp > best.max_timestamp)
            {
                best = Some(tiered_part(run));
            }
        }
        Ok(match (best, rest) {
            (Some(best), Some(rest)) if rest.max_timestamp > best.max_timestamp => Some(rest),
            (Some(best), _) => Some(best),
            (None, rest) => rest,
        })
    }

    async fn look_into(&self, part: Part, wanted: Wanted, from: i64) -> Result<Option<FoundOffset>, Missed> {
        let batches = match part.place {
            Place::Memory(batch) => vec![batch],
            Place::Wal(in_wal) => match self.journal.read_wal(vec![in_wal]).await {
                Ok(batches) => batches,
                Err(ReadError::Gone) => return Err(Missed::Moved),
                Err(error) => return Err(Missed::Failed(refusal(&error))),
            },
            Place::Tiered(run) => tiered_batches(self.store, &run, wanted, from).await.map_err(missed)?,
        };
        let mut best: Option<FoundOffset> = None;
        for batch in batches {
            let leader_epoch = batch.leader_epoch;
            let base_offset = batch.base_offset;
            let found = off_thread(&*self.journal.disk, move || lookup::find(&batch, wanted, from)).await;
            let found = match found {
                Some(Ok(found)) => found,
                Some(Err(error)) => {
                    let why = format!("the records of the batch at {base_offset}: {error}");
                    return Err(Missed::Failed(StorageError::Corrupt(why)));
                }
                None => return Err(Missed::Failed(StorageError::Unavailable("the node is stopping".into()))),
            };
            let Some(Found { offset, timestamp }) = found else { continue };
            if wanted != Wanted::Largest {
                return Ok(Some(FoundOffset { leader_epoch, offset, timestamp }));
            }
            if best.is_none_or(|best| timestamp > best.timestamp) {
                best = Some(FoundOffset { leader_epoch, offset, timestamp });
            }
        }
        Ok(best)
    }
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

/// Reads the batches of a run that may have the record: one, or two where `from` lies in the run. None when the index says
/// that nothing from there on has it.
async fn tiered_batches(store: &Store, run: &TieredRun, wanted: Wanted, from: i64) -> Result<Vec<Batch>, StoreError> {
    let corrupt = |why: &str| StoreError::Corrupt { key: run.object.clone(), why: why.to_owned() };
    let index = store.segment_index(run).await?;
    let indexed = index.run(run.partition).ok_or_else(|| corrupt("its index lacks the partition"))?;
    let begin = indexed.block_at_offset(from).unwrap_or(indexed.blocks.len());
    let above = indexed.blocks[begin..].iter().enumerate().map(|(n, block)| (begin + n, block));
    let mut blocks = Vec::new();
    match wanted {
        Wanted::AtLeast(least) => {
            // The one that `from` lies in may have it below only.
            let has_it = above.filter(|(_, block)| block.max_timestamp >= least);
            blocks.extend(has_it.map(|(n, _)| n).take(2));
        }
        Wanted::Largest => {
            let (cut, whole): (Vec<_>, Vec<_>) = above.partition(|(_, block)| block.first_offset < from);
            blocks.extend(cut.first().map(|(n, _)| *n));
            // Of equal ones the first: what comes later must be larger.
            let largest = whole.into_iter().reduce(|a, b| if b.1.max_timestamp > a.1.max_timestamp { b } else { a });
            blocks.extend(largest.map(|(n, _)| n));
        }
    }
    let mut found = Vec::new();
    for block in blocks {
        let span = indexed.blocks_span(block..block + 1).ok_or_else(|| corrupt("its index lacks a block"))?;
        let batches = store.batches(&run.object, indexed, &span).await?;
        let above = batches.into_iter().filter(|batch| batch.last_offset() >= from);
        match wanted {
            Wanted::AtLeast(least) => {
                let has_it: Vec<Batch> = above.filter(|batch| batch.max_timestamp() >= least).collect();
                // Whole batches above `from` have what their headers say: the next block is not needed.
                let sure = has_it.iter().any(|batch| batch.base_offset >= from);
                found.extend(has_it);
                if sure {
                    break;
                }
            }
            Wanted::Largest => {
                let (cut, whole): (Vec<_>, Vec<_>) = above.partition(|batch| batch.base_offset < from);
                found.extend(cut);
                found
                    .extend(whole.into_iter().reduce(|a, b| if b.max_timestamp() > a.max_timestamp() { b } else { a }));
            }
        }
    }
    Ok(found)
}

const NONE: FoundOffset = FoundOffset { leader_epoch: -1, offset: -1, timestamp: -1 };

impl Core {
    /// The answer, when the state alone has it.
    fn bound(&self, at: TopicPartition, spec: OffsetSpec) -> Result<Option<FoundOffset>, StorageError> {
        let bounds = self.bounds(at)?;
        let found = |offset, leader_epoch| Some(FoundOffset { leader_epoch, offset, timestamp: -1 });
        let state = self.state.partitions.get(&at);
        let epoch_at = |offset| state.and_then(|state| state.epoch_at(offset)).unwrap_or(-1);
        let log = self.slots.get(&at).map(|slot| &slot.log);
        Ok(match spec {
            OffsetSpec::Latest => found(bounds.high_watermark, bounds.leader_epoch),
            OffsetSpec::LastStable => found(bounds.last_stable_offset, bounds.leader_epoch),
            OffsetSpec::Earliest => found(bounds.log_start_offset, epoch_at(bounds.log_start_offset)),
            OffsetSpec::EarliestLocal => {
                let first_here = log.and_then(|log| log.first_offset()).unwrap_or(bounds.high_watermark);
                let offset = first_here.max(bounds.log_start_offset);
                found(offset, epoch_at(offset))
            }
            OffsetSpec::LatestTiered => match state.and_then(|state| state.last_piece()) {
                Some(piece) => found(piece.last_offset(), piece.leader_epoch()),
                None => Some(NONE),
            },
            OffsetSpec::EarliestPendingUpload => {
                let offset = state.map_or(bounds.log_start_offset, |state| state.tiered_end());
                found(offset, epoch_at(offset))
            }
            OffsetSpec::Timestamp(_) | OffsetSpec::MaxTimestamp => None,
        })
    }

    /// The first part that has a record at `from` or above and one with this timestamp or a later one, or the fold that
    /// may have it.
    fn first_piece(&self, at: TopicPartition, from: i64, timestamp: i64, keys: &JournalKeys) -> Option<First> {
        let fold = self.folds_from(at, from).into_iter().find(|fold| fold.max_timestamp >= timestamp);
        if let Some(fold) = fold {
            return Some(First::Folded(fold));
        }
        let wanted = |last_offset: i64, max_timestamp: i64| last_offset >= from && max_timestamp >= timestamp;
        let (runs, mut refs) = self.parts(at);
        Some(First::Part(match runs.iter().find(|run| wanted(run.last_offset, run.max_timestamp)) {
            Some(run) => tiered_part(tiered_run(&self.state, at, run, keys)),
            None => part_here(refs.find(|batch| wanted(batch.last_offset, batch.max_timestamp))?),
        }))
    }

    /// The folds that have records at `from` or above, in offset order.
    fn folds_from(&self, at: TopicPartition, from: i64) -> Vec<Fold> {
        let folds = self.state.partitions.get(&at).map_or(&[][..], |state| &state.folds);
        folds[folds.partition_point(|fold| fold.last_offset < from)..].to_vec()
    }

    /// Of the parts but for folds that have a record at `from` or above the one with the largest timestamp.
    fn largest_part(&self, at: TopicPartition, from: i64, keys: &JournalKeys) -> Option<Part> {
        let (runs, refs) = self.parts(at);
        // Of equal ones the first: what comes later must be larger.
        let run = runs.iter().filter(|run| run.last_offset >= from);
        let run = run.reduce(|best, run| if run.max_timestamp > best.max_timestamp { run } else { best });
        let batch = refs.filter(|batch| batch.last_offset >= from);
        let batch = batch.reduce(|best, batch| if batch.max_timestamp > best.max_timestamp { batch } else { best });
        match (run, batch) {
            (Some(run), Some(batch)) if batch.max_timestamp <= run.max_timestamp => {
                Some(tiered_part(tiered_run(&self.state, at, run, keys)))
            }
            (_, Some(batch)) => Some(part_here(batch)),
            (Some(run), None) => Some(tiered_part(tiered_run(&self.state, at, run, keys))),
            (None, None) => None,
        }
    }

    /// The runs that have to be looked at, and the batches behind them: those here save the object store a request.
    fn parts(&self, at: TopicPartition) -> (&[Run], impl Iterator<Item = &BatchRef>) {
        let log = self.slots.get(&at).map(|slot| &slot.log);
        let first_here = log.and_then(|log| log.first_offset()).unwrap_or(i64::MAX);
        let runs = self.state.partitions.get(&at).map_or(&[][..], |state| &state.runs);
        let tiered = runs.partition_point(|run| run.first_offset < first_here);
        let after = runs[..tiered].last().map_or(-1, |run| run.last_offset);
        let refs = log.into_iter().flat_map(|log| log.iter()).filter(move |batch| batch.base_offset > after);
        (&runs[..tiered], refs)
    }
}

fn tiered_part(run: TieredRun) -> Part {
    let TieredRun { first_offset, last_offset, max_timestamp, .. } = run;
    Part { first_offset, last_offset, max_timestamp, place: Place::Tiered(run) }
}

fn missed(error: StoreError) -> Missed {
    match error {
        StoreError::NotFound(_) => Missed::Moved,
        error => Missed::Failed(unreadable(error)),
    }
}

fn part_here(batch: &BatchRef) -> Part {
    let place = match &batch.batch {
        Some(batch) => Place::Memory(batch.clone()),
        None => Place::Wal(InWal { index: batch.index, location: batch.location }),
    };
    let (first_offset, last_offset, max_timestamp) = (batch.base_offset, batch.last_offset, batch.max_timestamp);
    Part { first_offset, last_offset, max_timestamp, place }
}
