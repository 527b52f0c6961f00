//! The segments that follow a checkpoint, found by the offsets of their runs.

use std::collections::{BTreeMap, BTreeSet};

use tidemark_model::route::Route;
use tidemark_model::{Batch, NodeId, TopicPartition};
use tidemark_segment::segment::Run as Indexed;
use tidemark_segment::{Bucket, SegmentIndex, SegmentName, StoreError};

use super::RebuildError;
use crate::entry::{BatchEntry, Entry, EntryId, LogStarts, ManifestEdit, Run};
use crate::folds;
use crate::state::State;
use crate::state::producers::Producer;
use crate::store::Store;
use crate::tier::flush::manifest_run;

/// Bytes of a partition that are read to learn of its producers again. Those that had written to the log that was lost have
/// seldom been silent for longer before.
const READ_BACK: u64 = 256 * 1024 * 1024;
/// Bytes of a run that are read at once.
const READ: u64 = 8 * 1024 * 1024;

/// A segment that the checkpoint does not know.
struct Candidate {
    name: SegmentName,
    size: u64,
    index: SegmentIndex,
}

/// The state of a checkpoint without what is in no segment, and with what the segments listed have after it: every offset that
/// it has is tiered. Says how many segments that were.
pub(super) async fn follow(
    bucket: &Bucket,
    store: &Store,
    base: State,
    listed: &BTreeMap<SegmentName, u64>,
) -> Result<(State, usize), RebuildError> {
    let mut state = base;
    let cut = forget_untiered(&mut state);
    for (partition, producers) in cut {
        remember(store, &mut state, partition, producers).await?;
    }
    state.producers = state.partitions.values().map(|partition| partition.producers.len()).sum();
    let mut candidates = Vec::new();
    for (name, size) in listed {
        let known = state.segments.contains_key(name) || state.garbage.contains_key(name);
        // What ends below was made of what the checkpoint has, or is listed in an index object, which is not looked into.
        if known || name.last_index <= state.tiered_through {
            continue;
        }
        match store.index_at(&store.keys.segment(*name), *size).await {
            Ok(index) => candidates.push(Candidate { name: *name, size: *size, index }),
            // One that was being written when everything ended. Nothing was ever said of it.
            Err(error @ (StoreError::Corrupt { .. } | StoreError::NotFound(_))) => {
                tracing::warn!(%error, "a segment that cannot be read is passed over");
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut chain = Chain { store, state, added: BTreeMap::new() };
    let partitions: BTreeSet<TopicPartition> =
        candidates.iter().flat_map(|candidate| candidate.index.runs.iter().map(|run| run.partition)).collect();
    for partition in partitions {
        let mut runs: Vec<(&Candidate, &Indexed)> = candidates
            .iter()
            .filter_map(|candidate| candidate.index.run(partition).map(|run| (candidate, run)))
            .collect();
        // Of those that begin alike the longest comes first.
        runs.sort_by_key(|(_, run)| (run.first_offset, -run.last_offset));
        chain.follow(partition, &runs).await?;
    }
    let after = chain.added.len();
    let mut state = chain.finish(&candidates, listed)?;
    leave_strays(bucket, store, &mut state, listed).await?;
    Ok((state, after))
}

/// What nothing refers to is an intent that came to nothing: the next leader deletes it.
async fn leave_strays(
    bucket: &Bucket,
    store: &Store,
    state: &mut State,
    listed: &BTreeMap<SegmentName, u64>,
) -> Result<(), RebuildError> {
    let used = match folds::objects(bucket, &store.keys, state).await {
        Ok(used) => used,
        // Nobody knows what it lists: rather litter than a loss.
        Err(error @ (StoreError::Corrupt { .. } | StoreError::NotFound(_))) => {
            tracing::error!(%error, "an index object cannot be read: objects that nothing refers to stay");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let strays = listed.keys().filter(|name| !used.contains(name) && !state.garbage.contains_key(name));
    let strays: Vec<SegmentName> = strays.copied().collect();
    state.intents.extend(strays);
    Ok(())
}

/// Forgets what only the log had, and says of which producers that was all that was known.
fn forget_untiered(state: &mut State) -> Vec<(TopicPartition, BTreeSet<i64>)> {
    let mut cut = Vec::new();
    for (at, partition) in &mut state.partitions {
        let end = partition.tiered_end();
        if end == partition.high_watermark {
            continue;
        }
        partition.high_watermark = end;
        partition.epochs.retain(|epoch| epoch.start_offset < end);
        let mut unknown = BTreeSet::new();
        partition.producers.retain(|id, producer| {
            let kept: Vec<_> = producer.batches().iter().filter(|batch| batch.last_offset < end).copied().collect();
            if kept.is_empty() {
                unknown.insert(*id);
            }
            *producer = Producer::restored(producer.epoch, kept);
            !unknown.contains(id)
        });
        if !unknown.is_empty() {
            cut.push((*at, unknown));
        }
    }
    cut
}

/// Learns again of producers from what the object store has of a partition, the newest first, as Kafka does from its log. One
/// that is not found is unknown, and may begin anywhere.
async fn remember(
    store: &Store,
    state: &mut State,
    partition: TopicPartition,
    mut unknown: BTreeSet<i64>,
) -> Result<(), RebuildError> {
    let Some(known) = state.partitions.get(&partition) else { return Ok(()) };
    let mut found: BTreeMap<i64, Producer> = BTreeMap::new();
    let mut read = 0;
    for run in known.runs.iter().rev() {
        if unknown.is_empty() || read >= READ_BACK {
            break;
        }
        let Some(segment) = state.segments.get(&run.segment) else { continue };
        let object = store.keys.segment(run.segment);
        let index = store.index_at(&object, segment.size).await?;
        let Some(indexed) = index.run(partition) else { continue };
        read += indexed.length;
        let mut in_run: BTreeMap<i64, Producer> = BTreeMap::new();
        let mut next = 0;
        while let Some(span) = indexed.span(next, READ) {
            next = span.blocks.end;
            for batch in store.batches(&object, indexed, &span).await? {
                if unknown.contains(&batch.producer_id()) {
                    in_run.entry(batch.producer_id()).or_default().append(&batch);
                }
            }
        }
        unknown.retain(|id| !in_run.contains_key(id));
        found.extend(in_run);
    }
    if let Some(state) = state.partitions.get_mut(&partition) {
        state.producers.extend(found);
    }
    Ok(())
}

struct Chain<'a> {
    store: &'a Store,
    state: State,
    /// The runs that were taken, by their segment.
    added: BTreeMap<SegmentName, Vec<(TopicPartition, Run)>>,
}

impl Chain<'_> {
    /// Takes the runs that continue the partition, one after another.
    async fn follow(&mut self, partition: TopicPartition, runs: &[(&Candidate, &Indexed)]) -> Result<(), RebuildError> {
        let mut rest = runs;
        loop {
            let (end, tiered) = self.state.partitions.get(&partition).map_or((0, 0), |state| {
                let tiered = state.last_piece().map_or(0, |piece| piece.last_offset() + 1);
                (state.high_watermark, tiered.max(self.taken_to(partition)))
            });
            // Runs that begin before what is tiered hold again what other runs do: they were merged of those.
            let next = rest.iter().position(|(_, run)| run.first_offset >= tiered && run.last_offset >= end);
            let Some(at) = next else { return Ok(()) };
            let (candidate, run) = rest[at];
            rest = &rest[at + 1..];
            self.take(partition, candidate, run, end).await?;
        }
    }

    fn taken_to(&self, partition: TopicPartition) -> i64 {
        let runs = self.added.values().flatten().filter(|(at, _)| *at == partition);
        runs.map(|(_, run)| run.last_offset + 1).max().unwrap_or(0)
    }

    async fn take(
        &mut self,
        partition: TopicPartition,
        candidate: &Candidate,
        run: &Indexed,
        end: i64,
    ) -> Result<(), RebuildError> {
        if !self.state.partitions.contains_key(&partition) {
            self.apply(&Entry::PartitionCreated { partition, revision: 0 })?;
        }
        // Where it does not begin at the end, the records between were deleted before they were tiered: the log start is no
        // lower than the first that is there. Or the log start is within its first batch.
        let log_start = run.first_offset.max(end);
        if run.first_offset != end
            && let Some(state) = self.state.partitions.get_mut(&partition)
        {
            state.high_watermark = run.first_offset;
        }
        let mut next = 0;
        while let Some(span) = run.span(next, READ) {
            next = span.blocks.end;
            let object = self.store.keys.segment(candidate.name);
            for batch in self.store.batches(&object, run, &span).await? {
                self.append(partition, batch)?;
            }
        }
        if run.first_offset > end {
            self.apply(&Entry::LogStartsMoved(LogStarts { time_ms: 0, moves: vec![(partition, log_start)] }))?;
        }
        self.added.entry(candidate.name).or_default().push((partition, manifest_run(candidate.name, run)));
        Ok(())
    }

    fn append(&mut self, partition: TopicPartition, batch: Batch) -> Result<(), RebuildError> {
        // Whatever came which way before the rebuild: what comes after it has higher revisions.
        let route = Route { generation: 0, gateway: NodeId(-1), broker: NodeId(-1) };
        self.apply(&Entry::Batch(BatchEntry { partition, route, batch }))
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), RebuildError> {
        let EntryId { epoch, index } = self.state.last;
        let applied = self.state.apply(EntryId { epoch, index: index + 1 }, entry);
        applied
            .map(drop)
            .map_err(|error| RebuildError::Journal { journal: self.store.keys.journal(), why: error.to_string() })
    }

    /// Brings what was taken into the manifest.
    fn finish(mut self, candidates: &[Candidate], listed: &BTreeMap<SegmentName, u64>) -> Result<State, RebuildError> {
        for candidate in candidates {
            let Some(added) = self.added.remove(&candidate.name) else { continue };
            let segment = Some((candidate.name, candidate.size));
            self.apply(&Entry::ManifestEdited(ManifestEdit { segment, added, ..ManifestEdit::default() }))?;
        }
        let Self { mut state, .. } = self;
        // Above every index that anything in the bucket names: what the new log writes is named anew.
        let named = listed.keys().map(|name| name.last_index).max().unwrap_or(0);
        state.last.index = state.last.index.max(named);
        state.tiered_through = state.last.index;
        Ok(state)
    }
}
