//! Folding: a partition's oldest runs, where there are many, are listed in an index object and leave the manifest; many
//! folds likewise become one. And opening: what a fold lists is released when nobody wants it any more.
//!
//! An index object lists runs of many partitions, so that folding costs few requests, and so that whole segments, which
//! have runs of many partitions too, leave the manifest with them.

mod dead;
mod select;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidemark_model::{JournalId, TopicPartition};
use tidemark_segment::index::{IndexObject, Section};
use tidemark_segment::{SegmentName, StoreError};
use tokio::time::Instant;

use super::{TierError, Tiering};
use crate::entry::{Children, Content, Entry, Fold, FoldEdit, FoldOpening, FoldPart, Listed};
use crate::folds::left_in;
use crate::metrics;
use crate::state::State;
use select::{Group, groups};

/// Children of one opening: what is released by one entry.
const MAX_OPENED: usize = 256;

/// What folding remembers.
#[derive(Debug)]
pub(super) struct Folding {
    /// The manifest is another than when it was last looked at.
    look: bool,
    /// How many times log starts had moved then.
    starts_moved: u64,
    /// Index objects that could not be read: what they list stays.
    unreadable: BTreeSet<SegmentName>,
    /// Objects of which most is dead and nothing could be opened, with the bytes that were alive then.
    left_alone: BTreeMap<SegmentName, u64>,
}

/// A fold some children of which nobody wants any more.
struct ToOpen {
    partition: TopicPartition,
    fold: Fold,
    until: Until,
}

/// Which children leave.
enum Until {
    /// All that have something below the log start, which is beyond all where the fold is of no partition.
    Below(i64),
    /// All up to the one that holds this offset.
    Holding(i64),
}

impl Default for Folding {
    fn default() -> Self {
        Self { look: true, starts_moved: 0, unreadable: BTreeSet::new(), left_alone: BTreeMap::new() }
    }
}

impl Folding {
    /// The manifest is another.
    pub(super) fn look(&mut self) {
        self.look = true;
    }
}

impl Tiering {
    /// Writes one index object, or opens one fold. Whether there was something to do.
    pub(super) async fn fold_or_open(&mut self) -> Result<bool, TierError> {
        let starts_moved = self.journal.lock().starts_moved;
        self.folding.look |= self.folding.starts_moved != starts_moved;
        self.folding.starts_moved = starts_moved;
        if let Some(to_open) = self.to_open() {
            let object = to_open.fold.object;
            return match self.open(to_open).await {
                Ok(()) => Ok(true),
                Err(TierError::Store(error @ (StoreError::NotFound(_) | StoreError::Corrupt { .. }))) => {
                    tracing::error!(
                        journal = %self.journal.id, %object, %error,
                        "cannot read an index object: what it lists is never deleted"
                    );
                    self.folding.unreadable.insert(object);
                    Ok(true)
                }
                Err(error) => Err(error),
            };
        }
        if !self.folding.look {
            return Ok(false);
        }
        let long = self.long_run();
        let selected = groups(&self.journal.lock().state, self.policy.folds, long);
        if selected.is_empty() {
            if let Some(to_open) = self.find_dead().await? {
                self.open(to_open).await?;
                self.merging.look(Instant::now());
                return Ok(true);
            }
            self.folding.look = false;
            return Ok(false);
        }
        self.write_folded(selected).await?;
        Ok(true)
    }

    /// The next fold to be opened.
    fn to_open(&self) -> Option<ToOpen> {
        let core = self.journal.lock();
        let readable = |fold: &Fold| !self.folding.unreadable.contains(&fold.object);
        let closing = core.state.closing.iter().find(|(_, fold)| readable(fold));
        if let Some(((_, partition), fold)) = closing {
            return Some(ToOpen { partition: *partition, fold: *fold, until: Until::Below(i64::MAX) });
        }
        if !self.folding.look {
            return None;
        }
        core.state.partitions.iter().find_map(|(partition, state)| {
            let first =
                state.folds.first().filter(|fold| fold.oldest.last_offset < state.log_start && readable(fold))?;
            Some(ToOpen { partition: *partition, fold: *first, until: Until::Below(state.log_start) })
        })
    }

    /// Takes the first children out of a fold.
    async fn open(&mut self, to_open: ToOpen) -> Result<(), TierError> {
        let ToOpen { partition, fold, until } = to_open;
        let left = left_in(&self.store, partition, &fold, i64::MIN).await?;
        let count = match (&left, until) {
            (Children::Runs(runs), Until::Below(log_start)) => runs.partition_point(|run| run.last_offset < log_start),
            (Children::Folds(folds), Until::Below(log_start)) => {
                folds.partition_point(|child| child.oldest.last_offset < log_start)
            }
            (left, Until::Holding(offset)) => dead::up_to(left, offset),
        };
        let (children, rest) = split(left, count.clamp(1, MAX_OPENED));
        let known = self.store.fold(partition, &fold).await?;
        let wanted: BTreeSet<SegmentName> = children.refs().into_iter().map(|(name, _)| name).collect();
        let objects = known.objects.iter().filter(|object| wanted.contains(&object.name)).copied().collect();
        let opening = FoldOpening {
            partition,
            object: fold.object,
            opened: fold.opened,
            content: Content { objects, children },
            rest: rest.oldest(),
        };
        self.journal.append_entry(Entry::FoldOpened(opening)).await?;
        self.changed.get_or_insert_with(Instant::now);
        metrics::fold_opened();
        Ok(())
    }

    async fn write_folded(&mut self, selected: Vec<Group>) -> Result<(), TierError> {
        self.attempt += 1;
        let (bytes, edit) = {
            let core = self.journal.lock();
            index_object(&core.state, self.journal.id, core.epoch, self.attempt, selected)
        };
        let (object, folds, size) = (edit.object, edit.parts.len(), edit.size);
        self.put_and_edit(object, vec![bytes], Entry::Folded(edit)).await?;
        metrics::folded(folds, size);
        tracing::debug!(journal = %self.journal.id, %object, folds, size, "folded");
        Ok(())
    }
}

/// The index object that lists these groups, and the edit that brings it into the manifest.
fn index_object(
    state: &State,
    journal: JournalId,
    epoch: u32,
    attempt: u32,
    selected: Vec<Group>,
) -> (Bytes, FoldEdit) {
    let mut name = SegmentName { epoch, first_index: u64::MAX, last_index: 0, attempt };
    let mut objects: BTreeMap<SegmentName, Listed> = BTreeMap::new();
    for (object, length) in selected.iter().flat_map(|group| group.children.refs()) {
        name.first_index = name.first_index.min(object.first_index);
        name.last_index = name.last_index.max(object.last_index);
        let listed = objects.entry(object).or_insert_with(|| listed(state, object));
        listed.refs += 1;
        listed.live = listed.live.saturating_add(length);
    }
    let section = |Group { partition, children, .. }: &Group| {
        let of: BTreeSet<SegmentName> = children.refs().into_iter().map(|(name, _)| name).collect();
        let objects = of.iter().filter_map(|name| objects.get(name)).copied().collect();
        let content = Content { objects, children: children.clone() }.encode();
        Section { partition: *partition, content }
    };
    let object = IndexObject { journal, name, sections: selected.iter().map(section).collect() };
    let bytes = object.encode();
    let places = object.places();
    let parts = selected.into_iter().zip(places).filter_map(|(group, place)| part(name, group, place)).collect();
    let size = bytes.len() as u64;
    (bytes, FoldEdit { object: name, size, parts })
}

fn listed(state: &State, name: SegmentName) -> Listed {
    let (size, data) = state.segments.get(&name).map_or((0, 0), |known| (known.size, known.data));
    Listed { name, size, data, refs: 0, live: 0 }
}

/// What replaces a group, at this position and of this length in the index object.
fn part(object: SegmentName, group: Group, (position, length): (u64, u64)) -> Option<FoldPart> {
    let Group { partition, level, children } = group;
    let (first_offset, max_timestamp, leader_epoch, replaced) = match &children {
        Children::Runs(runs) => (
            runs.first()?.first_offset,
            runs.iter().map(|run| run.max_timestamp).max()?,
            runs.last()?.leader_epoch,
            runs.iter().map(|run| (run.segment, run.first_offset)).collect(),
        ),
        Children::Folds(folds) => (
            folds.first()?.begins(),
            folds.iter().map(|fold| fold.max_timestamp).max()?,
            folds.last()?.leader_epoch,
            folds.iter().map(|fold| (fold.object, fold.opened)).collect(),
        ),
    };
    let fold = Fold {
        object,
        level,
        position,
        length,
        first_offset,
        last_offset: children.last_offset()?,
        max_timestamp,
        leader_epoch,
        opened: first_offset,
        bytes: children.bytes(),
        oldest: children.oldest()?,
    };
    Some(FoldPart { partition, fold, replaced })
}

fn split(children: Children, count: usize) -> (Children, Children) {
    match children {
        Children::Runs(mut runs) => {
            let rest = runs.split_off(count.min(runs.len()));
            (Children::Runs(runs), Children::Runs(rest))
        }
        Children::Folds(mut folds) => {
            let rest = folds.split_off(count.min(folds.len()));
            (Children::Folds(folds), Children::Folds(rest))
        }
    }
}

#[cfg(test)]
mod tests;
