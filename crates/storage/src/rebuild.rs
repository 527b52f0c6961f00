//! What a bucket has of a cluster whose logs, or at least whose metadata, are gone.
//!
//! Of each journal there is a checkpoint, and there may be segments that were written after it. A segment names what it holds,
//! so that what a partition has in them is found by its offsets: a run that begins where the last one ended follows it. What
//! comes of it is a state in which everything is tiered; as a checkpoint of a new epoch a log begins on it that is empty. What
//! was only in the lost log is lost.
//!
//! Of a journal whose log is still there nothing is changed: its checkpoint and its log are what a start needs. The log is read
//! for what it tells of partitions that are newer than all else.

mod chain;
mod wal;

use std::collections::BTreeMap;

use tidemark_model::{JournalId, TopicPartition};
use tidemark_segment::bucket::Object;
use tidemark_segment::names::{BadClusterId, Key};
use tidemark_segment::{Bucket, Checkpoint, CheckpointName, JournalKeys, SegmentName, StoreError};

use crate::entry::EntryId;
use crate::error::StartError;
use crate::start::restore::newest_state;
use crate::state::{PartitionState, State};
use crate::store::Store;

pub use wal::{SurvivingLog, Survivor, Told, surviving};

/// Why a journal cannot be made again. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cluster id: {0}")]
    ClusterId(#[from] BadClusterId),
    #[error("journal {journal}: {why}")]
    Journal { journal: JournalId, why: String },
}

/// The objects of each journal of a cluster, by a listing.
#[derive(Debug, Default)]
pub struct Objects {
    journals: BTreeMap<JournalId, Names>,
}

#[derive(Debug, Default)]
struct Names {
    segments: BTreeMap<SegmentName, u64>,
    checkpoints: Vec<CheckpointName>,
}

/// What the bucket has of a journal.
#[derive(Debug)]
pub struct Found {
    pub journal: JournalId,
    /// The highest epoch that any object of the journal names.
    pub epoch: u32,
    pub partitions: Vec<FoundPartition>,
    /// The highest producer id that wrote anything.
    pub producer_id: Option<i64>,
    /// The highest revision of the cluster state that the journal knows.
    pub revision: u64,
    /// Whether there is a checkpoint.
    pub checkpointed: bool,
    /// Segments from after the checkpoint that were found to follow it.
    pub segments_after: usize,
    /// What a new log begins on; none where the old one is still there.
    begin: Option<State>,
}

/// What the bucket has of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPartition {
    pub partition: TopicPartition,
    pub log_start: i64,
    /// The offset after the last record in the object store.
    pub end: i64,
    /// The high watermark that the checkpoint knows of. What is between it and the end was only in the log; there may have been
    /// more.
    pub known_end: i64,
    /// The leader epoch of the last record that anything tells of.
    pub leader_epoch: i32,
    /// The cluster state had the partition from this revision on; none when it is newer than the checkpoint.
    pub revision: Option<u64>,
}

impl Objects {
    pub async fn list(bucket: &Bucket, cluster: &str) -> Result<Self, RebuildError> {
        let mut objects = Self::default();
        for Object { key, size } in bucket.list(&JournalKeys::journals(cluster)?).await? {
            match Key::parse(&key) {
                Some(Key::Segment(keys, name)) => {
                    objects.journals.entry(keys.journal()).or_default().segments.insert(name, size);
                }
                Some(Key::Checkpoint(keys, name)) => {
                    objects.journals.entry(keys.journal()).or_default().checkpoints.push(name);
                }
                None => tracing::warn!(key, "an object that is none of ours"),
            }
        }
        Ok(objects)
    }

    /// The journals that have anything.
    pub fn journals(&self) -> impl Iterator<Item = JournalId> {
        self.journals.keys().copied()
    }

    /// What there is of a journal. Where its log is lost, also what follows the checkpoint is read.
    pub async fn find(
        &self,
        bucket: &Bucket,
        cluster: &str,
        journal: JournalId,
        log_is_lost: bool,
    ) -> Result<Found, RebuildError> {
        let nothing = Names::default();
        let names = self.journals.get(&journal).unwrap_or(&nothing);
        let store = Store::new(bucket.clone(), JournalKeys::new(cluster, journal)?);
        let (base, _) = newest_state(&store).await.map_err(|error| match error {
            StartError::Store(error) => RebuildError::Store(error),
            error => RebuildError::Journal { journal, why: error.to_string() },
        })?;
        let of_segments = names.segments.keys().map(|name| name.epoch);
        let of_checkpoints = names.checkpoints.iter().map(|name| name.epoch);
        let epoch = of_segments.chain(of_checkpoints).chain([base.last.epoch]).max().unwrap_or(0);
        let checkpointed = base.last != EntryId::default();
        let known: BTreeMap<TopicPartition, (i64, i32, u64)> = base
            .partitions
            .iter()
            .map(|(at, state)| (*at, (state.high_watermark, last_epoch(state), state.revision)))
            .collect();
        let (state, segments_after) = match log_is_lost {
            false => (base, 0),
            true => chain::follow(bucket, &store, base, &names.segments).await?,
        };
        let partitions = state.partitions.iter().map(|(at, state)| FoundPartition {
            partition: *at,
            log_start: state.log_start,
            end: state.tiered_end(),
            known_end: known.get(at).map_or(0, |(end, ..)| *end).max(state.high_watermark),
            leader_epoch: known.get(at).map_or(-1, |(_, epoch, _)| *epoch).max(last_epoch(state)),
            revision: known.get(at).map(|(.., revision)| *revision),
        });
        let of_partitions = state.partitions.values().map(|state| state.revision.max(state.route.generation));
        let producers = state.partitions.values().filter_map(|state| state.producers.keys().next_back().copied());
        Ok(Found {
            journal,
            epoch,
            partitions: partitions.collect(),
            producer_id: producers.max(),
            revision: of_partitions.max().unwrap_or(0),
            checkpointed,
            segments_after,
            begin: log_is_lost.then_some(state),
        })
    }
}

impl Found {
    /// Takes in what the journal's log tells, which is still there.
    pub fn add(&mut self, told: &Told) {
        for (partition, created) in &told.created {
            if self.partitions.iter().all(|found| found.partition != *partition) {
                self.partitions.push(FoundPartition {
                    partition: *partition,
                    log_start: 0,
                    end: 0,
                    known_end: 0,
                    leader_epoch: created.leader_epoch,
                    revision: Some(created.revision),
                });
            }
        }
        self.partitions.sort_unstable_by_key(|found| found.partition);
        self.producer_id = self.producer_id.max(told.producer_id);
        self.revision = self.revision.max(told.revision);
    }

    /// Writes what a new log begins on, as a checkpoint of `epoch`, which has to be above [`epoch`](Self::epoch). The journal
    /// is then opened in a higher one. Where the old log is still there, and where there is nothing, nothing is written.
    pub async fn write(&self, bucket: &Bucket, cluster: &str, epoch: u32) -> Result<(), RebuildError> {
        let Some(begin) = self.begin.as_ref().filter(|state| state.last != EntryId::default()) else { return Ok(()) };
        let mut state = begin.clone();
        state.last.epoch = epoch;
        let name = CheckpointName { epoch, index: state.last.index };
        let store = Store::new(bucket.clone(), JournalKeys::new(cluster, self.journal)?);
        let checkpoint = Checkpoint { journal: self.journal, name, bases: Vec::new(), state: state.encode() };
        Ok(store.put_checkpoint(&checkpoint).await?)
    }
}

fn last_epoch(state: &PartitionState) -> i32 {
    state.epochs.last().map_or(-1, |epoch| epoch.leader_epoch)
}

#[cfg(test)]
mod tests;
