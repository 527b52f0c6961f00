//! A partition's part of the state.

use std::collections::BTreeMap;

use tidemark_model::route::Route;
use tidemark_model::storage::EpochEnd;
use tidemark_model::{NodeId, TopicPartition};

use super::producers::Producer;
use super::{ApplyError, Changed};
use crate::entry::{BatchEntry, Fold, Run};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// The entry that changed it last.
    pub changed: Changed,
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
    /// What is in the object store and long past, in offset order, listed in index objects.
    pub folds: Vec<Fold>,
    /// What else is in the object store, in offset order.
    pub runs: Vec<Run>,
}

/// A piece of what is in the object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    Fold(&'a Fold),
    Run(&'a Run),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    pub leader_epoch: i32,
    pub start_offset: i64,
}

impl PartitionState {
    pub fn new(revision: u64) -> Self {
        Self {
            changed: Changed::default(),
            revision,
            log_start: 0,
            high_watermark: 0,
            route: Route { generation: 0, gateway: NodeId(-1), broker: NodeId(-1) },
            epochs: Vec::new(),
            producers: BTreeMap::new(),
            folds: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// The offset after the last one that is in the object store, and the log start when none is, or when that is higher.
    pub fn tiered_end(&self) -> i64 {
        self.last_piece().map_or(self.log_start, |piece| self.log_start.max(piece.last_offset() + 1))
    }

    /// The pieces of what is in the object store that end at `offset` or behind it, in offset order.
    pub fn pieces(&self, offset: i64) -> impl Iterator<Item = Piece<'_>> + Clone {
        let folds = self.folds[self.folds.partition_point(|fold| fold.last_offset < offset)..].iter();
        let runs = self.runs[self.runs.partition_point(|run| run.last_offset < offset)..].iter();
        let (mut folds, mut runs) = (folds.peekable(), runs.peekable());
        std::iter::from_fn(move || match (folds.peek(), runs.peek()) {
            (Some(fold), Some(run)) if run.last_offset < fold.last_offset => runs.next().map(Piece::Run),
            (Some(_), _) => folds.next().map(Piece::Fold),
            (None, _) => runs.next().map(Piece::Run),
        })
    }

    /// The runs, in rows between which there are folds.
    pub fn rows(&self) -> impl Iterator<Item = &[Run]> {
        let apart = |one: &Run, other: &Run| {
            let next = self.folds.partition_point(|fold| fold.last_offset < one.last_offset);
            self.folds.get(next).is_some_and(|fold| fold.last_offset < other.last_offset)
        };
        self.runs.chunk_by(move |one, other| !apart(one, other))
    }

    /// Whether nothing that is in the object store is behind these runs.
    pub fn is_tail(&self, row: &[Run]) -> bool {
        let last = row.last().map_or(i64::MAX, |run| run.last_offset);
        self.last_piece().is_none_or(|piece| piece.last_offset() <= last)
    }

    /// The last piece of what is in the object store.
    pub fn last_piece(&self) -> Option<Piece<'_>> {
        let (fold, run) = (self.folds.last().map(Piece::Fold), self.runs.last().map(Piece::Run));
        fold.into_iter().chain(run).max_by_key(Piece::last_offset)
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
        self.changed = Changed(index);
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

impl Piece<'_> {
    pub fn last_offset(&self) -> i64 {
        match self {
            Self::Fold(fold) => fold.last_offset,
            Self::Run(run) => run.last_offset,
        }
    }

    pub fn max_timestamp(&self) -> i64 {
        match self {
            Self::Fold(fold) => fold.max_timestamp,
            Self::Run(run) => run.max_timestamp,
        }
    }

    /// The leader epoch of its last batch.
    pub fn leader_epoch(&self) -> i32 {
        match self {
            Self::Fold(fold) => fold.leader_epoch,
            Self::Run(run) => run.leader_epoch,
        }
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
