//! Objects of which most is dead are written anew, and what is alive in them may be folded. Then it is opened, so that a
//! merge finds it in the manifest.

use std::collections::BTreeMap;

use tidemark_model::TopicPartition;
use tidemark_segment::{SegmentName, StoreError};

use super::{ToOpen, Until};
use crate::entry::{Children, Fold};
use crate::folds::left_in;
use crate::state::{Piece, State};
use crate::tier::{TierError, Tiering};

/// An object of which most is dead, and some of what is not is folded.
struct Dead {
    name: SegmentName,
    size: u64,
    live: u64,
}

impl Tiering {
    /// A fold that has a run in an object of which most is dead, when there is room in memory for what it lists.
    pub(super) async fn find_dead(&mut self) -> Result<Option<ToOpen>, TierError> {
        loop {
            let next = {
                let core = self.journal.lock();
                self.folding.left_alone.retain(|name, _| core.state.segments.contains_key(name));
                let known = &self.folding.left_alone;
                // What a merge could not read it will not write anew either.
                let wanted = |dead: &Dead| known.get(&dead.name) != Some(&dead.live) && self.merging.reads(dead.name);
                mostly_dead(&core.state).into_iter().find(wanted)
            };
            let Some(Dead { name, size, live }) = next else { return Ok(None) };
            match self.fold_with_run_in(name, size).await {
                Ok(Some(to_open)) => return Ok(Some(to_open)),
                // Some of these are index objects, which have no runs.
                Ok(None) | Err(StoreError::NotFound(_) | StoreError::Corrupt { .. }) => {
                    self.folding.left_alone.insert(name, live);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The object itself says which partitions had runs in it.
    async fn fold_with_run_in(&self, name: SegmentName, size: u64) -> Result<Option<ToOpen>, StoreError> {
        let index = self.store.index_of(name, size).await?;
        for run in &index.runs {
            let (partition, offset) = (run.partition, run.last_offset);
            let Some((fold, room)) = self.fold_at(partition, offset) else { continue };
            let left = left_in(&self.store, partition, &fold, i64::MIN).await?;
            if up_to(&left, offset) <= room && self.lists(partition, left, offset, name).await? {
                return Ok(Some(ToOpen { partition, fold, until: Until::Holding(offset) }));
            }
        }
        Ok(None)
    }

    /// The fold that holds an offset, and how many of its children there is room for.
    fn fold_at(&self, at: TopicPartition, offset: i64) -> Option<(Fold, usize)> {
        let core = self.journal.lock();
        let state = core.state.partitions.get(&at).filter(|state| state.log_start <= offset)?;
        let Some(Piece::Fold(fold)) = state.pieces(offset).next() else { return None };
        if self.folding.unreadable.contains(&fold.object) {
            return None;
        }
        let limits = self.policy.folds;
        // What is opened is not to be folded again at once.
        let room = match fold.level {
            0 => (limits.runs + limits.runs / 2).saturating_sub(state.runs.len()),
            _ => limits.folds.saturating_sub(state.folds.len()),
        };
        Some((*fold, room))
    }

    /// Whether the run at an offset is in this object.
    async fn lists(
        &self,
        at: TopicPartition,
        mut children: Children,
        offset: i64,
        name: SegmentName,
    ) -> Result<bool, StoreError> {
        loop {
            match children {
                Children::Runs(runs) => {
                    let holds = runs.iter().find(|run| run.last_offset >= offset);
                    return Ok(holds.is_some_and(|run| run.segment == name));
                }
                Children::Folds(folds) => {
                    let Some(child) = folds.iter().find(|child| child.last_offset >= offset) else { return Ok(false) };
                    children = left_in(&self.store, at, child, i64::MIN).await?;
                }
            }
        }
    }
}

/// How many children there are up to the one that holds this offset.
pub(super) fn up_to(children: &Children, offset: i64) -> usize {
    match children {
        Children::Runs(runs) => runs.partition_point(|run| run.last_offset < offset) + 1,
        Children::Folds(folds) => folds.partition_point(|child| child.last_offset < offset) + 1,
    }
}

fn mostly_dead(state: &State) -> Vec<Dead> {
    let mut dead: BTreeMap<SegmentName, (u64, u64, u32)> = state
        .segments
        .iter()
        .filter(|(_, known)| known.is_mostly_dead())
        .map(|(name, known)| (*name, (known.size, known.live, known.runs)))
        .collect();
    if dead.is_empty() {
        return Vec::new();
    }
    for partition in state.partitions.values() {
        let in_memory = partition.runs.iter().map(|run| run.segment);
        for name in in_memory.chain(partition.folds.iter().map(|fold| fold.object)) {
            if let Some((.., refs)) = dead.get_mut(&name) {
                *refs = refs.saturating_sub(1);
            }
        }
    }
    let folded = dead.into_iter().filter(|(_, (.., refs))| *refs > 0);
    folded.map(|(name, (size, live, _))| Dead { name, size, live }).collect()
}
