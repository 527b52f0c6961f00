//! The journal's state: what its entries, applied in order, make of it. Pure: no clock, no I/O, no leader.
//!
//! A leader applies an entry when it is committed, a follower will when it learns so, and recovery when it reads one.
//! All get the same state from the same entries. What a leader decided on an append is in the entry: nothing is decided
//! here.

mod changes;
mod folds;
mod manifest;
mod partition;
mod persisted;
pub mod producers;

use std::collections::{BTreeMap, BTreeSet};

use tidemark_model::{TopicId, TopicPartition};
use tidemark_segment::{CheckpointName, SegmentName};

use crate::codec::DecodeError;
use crate::entry::{Entry, EntryId, Fold};

pub use changes::{Changed, Changes};
pub use partition::{EpochStart, PartitionState, Piece};
pub(crate) use partition::{follow, may_follow};

/// Everything that the entries up to and with `last` made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The entry applied last.
    pub last: EntryId,
    pub partitions: BTreeMap<TopicPartition, PartitionState>,
    /// How many producers the partitions know, together.
    pub producers: usize,
    /// The objects that runs and folds are in; but for those that only runs of one index object are in: these it knows.
    pub segments: BTreeMap<SegmentName, SegmentState>,
    /// Folds that are of no partition any more, by their index object: what they list is still to be released.
    pub closing: BTreeMap<(SegmentName, TopicPartition), Fold>,
    /// Segments that may be in the object store without being in the manifest.
    pub intents: BTreeSet<SegmentName>,
    /// Segments that no run is in any more, with the index of the entry that dropped the last one.
    pub garbage: BTreeMap<SegmentName, u64>,
    /// Every batch up to this index is in a run, or its partition is gone.
    pub tiered_through: u64,
    /// The newest checkpoint that is known to be durable.
    pub checkpoint: Option<CheckpointName>,
    /// What checkpoints that build on others have to say.
    pub changes: Changes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentState {
    /// Bytes of the whole object.
    pub size: u64,
    /// Bytes of the runs that it was made of, or of the sections.
    pub data: u64,
    /// How many runs are in it, in the manifest and in index objects; or how many folds.
    pub runs: u32,
    /// Bytes of these.
    pub live: u64,
}

impl SegmentState {
    /// Whether it is worth while to write what is alive in it anew.
    pub fn is_mostly_dead(&self) -> bool {
        self.live.saturating_mul(2) < self.data
    }
}

/// What an entry did that a leader has to act on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Partitions that are gone.
    pub removed: Vec<TopicPartition>,
    /// Partitions whose log start is another.
    pub log_starts_moved: Vec<TopicPartition>,
}

/// An entry that cannot follow the ones before it. The log is not what a leader wrote: stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("entry {index} of epoch {epoch} after entry {} of epoch {}", after.index, after.epoch)]
    OutOfOrder { epoch: u32, index: u64, after: EntryId },
    #[error("entry {0} is for {1}, which was not created")]
    NoPartition(u64, TopicPartition),
    #[error("entry {index} has offset {got} of {partition} where {expected} is next")]
    Offset { index: u64, partition: TopicPartition, expected: i64, got: i64 },
}

impl State {
    /// Decodes what [`encode`](Self::encode) made.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut state = Self::default();
        state.merge(bytes)?;
        state.check()?;
        Ok(state)
    }

    /// Takes in a checkpoint's part of the state, on top of those that it builds on.
    pub fn merge(&mut self, part: &[u8]) -> Result<(), DecodeError> {
        persisted::merge(self, part)
    }

    /// What is made of parts has to be whole.
    pub fn check(&self) -> Result<(), DecodeError> {
        persisted::check(self)
    }

    /// The whole state as a checkpoint holds it.
    pub fn encode(&self) -> bytes::Bytes {
        self.encode_since(0)
    }

    /// What is another since the entry of this index, for a checkpoint that builds on one that has all up to that.
    pub fn encode_since(&self, index: u64) -> bytes::Bytes {
        persisted::encode(self, index)
    }

    /// About how many bytes [`encode_since`](Self::encode_since) makes.
    pub fn len_since(&self, index: u64) -> u64 {
        persisted::len(self, index)
    }

    /// No checkpoint will build on one that lacks what changed up to this entry.
    pub fn forget_changes(&mut self, index: u64) {
        self.changes.forget(index);
    }

    /// Applies the next entry. The state is unchanged when it cannot be.
    pub fn apply(&mut self, id: EntryId, entry: &Entry) -> Result<Effects, ApplyError> {
        let EntryId { epoch, index } = id;
        if index != self.last.index + 1 || epoch < self.last.epoch {
            return Err(ApplyError::OutOfOrder { epoch, index, after: self.last });
        }
        let mut effects = Effects::default();
        match entry {
            Entry::Batch(entry) => {
                let state = self.partitions.get_mut(&entry.partition);
                let state = state.ok_or(ApplyError::NoPartition(index, entry.partition))?;
                let known = state.producers.len();
                state.append(index, entry)?;
                self.producers += state.producers.len() - known;
            }
            Entry::EpochStarted { .. } => {}
            Entry::PartitionCreated { partition, revision } => {
                let new = || PartitionState { changed: Changed(index), ..PartitionState::new(*revision) };
                self.partitions.entry(*partition).or_insert_with(new);
            }
            Entry::TopicDeleted { topic, .. } => effects.removed = self.delete_topic(*topic, index),
            Entry::SegmentIntended(name) => {
                self.intents.insert(*name);
            }
            Entry::ManifestEdited(edit) => self.edit_manifest(edit, index),
            Entry::CheckpointWritten(name) => self.checkpoint = self.checkpoint.max(Some(*name)),
            Entry::ObjectsDeleted(names) => {
                for name in names {
                    self.intents.remove(name);
                    self.garbage.remove(name);
                }
            }
            Entry::ProducersExpired { through_ms } => self.expire_producers(*through_ms, index),
            Entry::LogStartsMoved(starts) => {
                for (partition, log_start) in &starts.moves {
                    if self.move_log_start(*partition, *log_start, index) {
                        effects.log_starts_moved.push(*partition);
                    }
                }
            }
            Entry::Folded(edit) => self.fold(edit, index),
            Entry::FoldOpened(opening) => self.open_fold(opening, index),
        }
        self.last = id;
        Ok(effects)
    }

    /// The partitions of a topic.
    pub fn partitions_of(&self, topic: TopicId) -> impl Iterator<Item = (&TopicPartition, &PartitionState)> {
        let all = TopicPartition::new(topic, i32::MIN)..=TopicPartition::new(topic, i32::MAX);
        self.partitions.range(all)
    }

    fn expire_producers(&mut self, through_ms: i64, index: u64) {
        self.producers = 0;
        for partition in self.partitions.values_mut() {
            let before = partition.producers.len();
            partition.producers.retain(|_, producer| producer.last_timestamp() > through_ms);
            self.producers += partition.producers.len();
            if partition.producers.len() < before {
                partition.changed = Changed(index);
            }
        }
    }

    fn delete_topic(&mut self, topic: TopicId, index: u64) -> Vec<TopicPartition> {
        let removed: Vec<TopicPartition> = self.partitions_of(topic).map(|(at, _)| *at).collect();
        for at in &removed {
            let Some(PartitionState { producers, folds, runs, .. }) = self.partitions.remove(at) else { continue };
            self.producers -= producers.len();
            self.changes.partition_gone(*at, index);
            folds.iter().for_each(|fold| self.close(*at, fold));
            runs.iter().for_each(|run| self.release(run.segment, run.length, index));
        }
        removed
    }
}

#[cfg(test)]
mod tests;
