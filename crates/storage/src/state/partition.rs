//! A partition's part of the state.

use std::collections::BTreeMap;

use tidemark_model::route::Route;
use tidemark_model::storage::EpochEnd;
use tidemark_model::{NodeId, TopicPartition};

use super::ApplyError;
use super::producers::Producer;
use crate::entry::{BatchEntry, Run};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// The cluster state has the partition from this revision on. Only a newer one can say that it is gone.
    pub revision: u64,
    pub log_start: i64,
    /// The offset after the last committed record.
    pub high_watermark: i64,
    /// The way the last batch came, with the newest view that came this way.
    pub route: Route,
    /// The leader epochs that wrote something, each with the offset of its first record.
    pub epochs: Vec<EpochStart>,
    pub producers: BTreeMap<i64, Producer>,
    /// What is in the object store, in offset order.
    pub runs: Vec<Run>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    pub leader_epoch: i32,
    pub start_offset: i64,
}

impl PartitionState {
    pub fn new(revision: u64) -> Self {
        Self {
            revision,
            log_start: 0,
            high_watermark: 0,
            route: Route { generation: 0, gateway: NodeId(-1), broker: NodeId(-1) },
            epochs: Vec::new(),
            producers: BTreeMap::new(),
            runs: Vec::new(),
        }
    }

    /// The offset after the last one that is in the object store, and the log start when none is, or when that is higher.
    pub fn tiered_end(&self) -> i64 {
        self.runs.last().map_or(self.log_start, |run| self.log_start.max(run.last_offset + 1))
    }

    /// The epochs that lie below go; the one that the log start is in begins there, as in Kafka's leader epoch cache.
    pub(super) fn set_log_start(&mut self, log_start: i64) {
        self.log_start = log_start;
        let begun = self.epochs.partition_point(|epoch| epoch.start_offset <= log_start);
        self.epochs.drain(..begun.saturating_sub(1));
        if let Some(first) = self.epochs.first_mut().filter(|_| begun > 0) {
            first.start_offset = log_start;
        }
    }

    /// The leader epoch that wrote the record at `offset`.
    pub fn epoch_at(&self, offset: i64) -> Option<i32> {
        let after = self.epochs.partition_point(|epoch| epoch.start_offset <= offset);
        Some(self.epochs.get(after.checked_sub(1)?)?.leader_epoch)
    }

    /// Where `epoch` ended, as Kafka's leader epoch cache answers. `current` is the leader's epoch, which starts at the
    /// high watermark when it has not written yet.
    pub fn epoch_end(&self, epoch: i32, current: i32) -> EpochEnd {
        let unknown = EpochEnd { leader_epoch: -1, end_offset: -1 };
        if epoch < 0 || epoch > current {
            return unknown;
        }
        if epoch == current {
            return EpochEnd { leader_epoch: epoch, end_offset: self.high_watermark };
        }
        let above = self.epochs.partition_point(|start| start.leader_epoch <= epoch);
        let end_offset = self.epochs.get(above).map_or(self.high_watermark, |start| start.start_offset);
        let leader_epoch = above.checked_sub(1).map_or(epoch, |floor| self.epochs[floor].leader_epoch);
        EpochEnd { leader_epoch, end_offset }
    }

    pub(super) fn append(&mut self, index: u64, entry: &BatchEntry) -> Result<(), ApplyError> {
        let BatchEntry { partition, route, batch } = entry;
        self.check_offset(index, *partition, batch.base_offset)?;
        if self.epochs.last().is_none_or(|last| last.leader_epoch < batch.leader_epoch) {
            self.epochs.push(EpochStart { leader_epoch: batch.leader_epoch, start_offset: batch.base_offset });
        }
        self.high_watermark = batch.next_offset();
        self.route = follow(self.route, *route);
        if batch.producer_id() >= 0 {
            self.producers.entry(batch.producer_id()).or_default().append(batch);
        }
        Ok(())
    }

    fn check_offset(&self, index: u64, partition: TopicPartition, got: i64) -> Result<(), ApplyError> {
        if got == self.high_watermark {
            return Ok(());
        }
        Err(ApplyError::Offset { index, partition, expected: self.high_watermark, got })
    }
}

/// Whether a batch that came by `route` may follow one that came by `last`.
pub(crate) fn may_follow(last: Route, route: Route) -> bool {
    let same_way = (last.gateway, last.broker) == (route.gateway, route.broker);
    same_way || route.generation >= last.generation
}

/// The route to remember after a batch that came by `route`.
pub(crate) fn follow(last: Route, route: Route) -> Route {
    Route { generation: last.generation.max(route.generation), ..route }
}
