//! Folds: what of the manifest is listed in index objects, and who knows which objects are still of use.
//!
//! An object is counted in [`State::segments`] while anything in memory is in it. When a fold takes in the last reference
//! to it, the count leaves memory too: the index object has it, with its own references to the object, of which there are
//! no others. An opening brings it back with that count, before what is opened is released or becomes the partition's.

use std::collections::BTreeMap;

use tidemark_model::TopicPartition;
use tidemark_segment::SegmentName;

use super::{Changed, SegmentState, State};
use crate::entry::{Children, Fold, FoldEdit, FoldOpening, FoldPart, Listed};

impl State {
    /// Replaces references by folds. When one of them is gone, the index object is garbage.
    pub(super) fn fold(&mut self, edit: &FoldEdit, index: u64) {
        let FoldEdit { object, size, parts } = edit;
        self.intents.remove(object);
        let data = parts.iter().map(|part| part.fold.length).fold(0, u64::saturating_add);
        self.segments.insert(*object, SegmentState { size: *size, data, runs: 0, live: 0 });
        self.changes.object(*object, index);
        if parts.iter().all(|part| self.has_all(part)) {
            let mut taken: BTreeMap<SegmentName, u32> = BTreeMap::new();
            for part in parts {
                self.replace(part, index);
                for (segment, _) in &part.replaced {
                    *taken.entry(*segment).or_default() += 1;
                }
            }
            for (segment, refs) in taken {
                // Others count on those that are not the index object's alone.
                if self.segments.get(&segment).is_some_and(|known| known.runs == refs) {
                    self.segments.remove(&segment);
                    self.changes.object(segment, index);
                }
            }
        }
        self.drop_if_unused(*object, index);
    }

    /// Takes the first children out of a fold.
    pub(super) fn open_fold(&mut self, opening: &FoldOpening, index: u64) {
        let FoldOpening { partition: at, object, opened, content, rest } = opening;
        let of_partition = self.partitions.get_mut(at).and_then(|state| {
            let place = state.folds.iter().position(|fold| fold.object == *object)?;
            Some((place, state.folds[place]))
        });
        let closing = self.closing.get(&(*object, *at)).copied();
        let Some(mut fold) = of_partition.map(|(_, fold)| fold).or(closing).filter(|fold| fold.opened == *opened)
        else {
            return;
        };
        for Listed { name, size, data, refs, live } in &content.objects {
            let known = SegmentState { size: *size, data: *data, runs: *refs, live: *live };
            self.segments.entry(*name).or_insert(known);
            self.changes.object(*name, index);
        }
        if let Some(state) = self.partitions.get_mut(at) {
            state.changed = Changed(index);
        }
        fold.opened = content.children.last_offset().map_or(fold.opened, |last| fold.opened.max(last + 1));
        fold.bytes = fold.bytes.saturating_sub(content.children.bytes());
        if let Some(rest) = rest {
            fold.oldest = *rest;
        }
        match (of_partition, rest) {
            (Some((place, _)), Some(_)) => {
                if let Some(state) = self.partitions.get_mut(at) {
                    state.folds[place] = fold;
                }
            }
            (Some((place, _)), None) => {
                if let Some(state) = self.partitions.get_mut(at) {
                    state.folds.remove(place);
                }
            }
            (None, Some(_)) => drop(self.closing.insert((*object, *at), fold)),
            (None, None) => drop(self.closing.remove(&(*object, *at))),
        }
        match &content.children {
            Children::Runs(runs) => {
                for run in runs {
                    match self.partitions.get_mut(at).filter(|state| run.last_offset >= state.log_start) {
                        Some(state) if of_partition.is_some() => {
                            let place = state.runs.partition_point(|other| other.last_offset < run.last_offset);
                            state.runs.insert(place, *run);
                        }
                        _ => self.release(run.segment, run.length, index),
                    }
                }
            }
            Children::Folds(folds) => {
                for child in folds {
                    match self.partitions.get_mut(at).filter(|state| child.last_offset >= state.log_start) {
                        Some(state) if of_partition.is_some() => insert(&mut state.folds, *child),
                        _ => self.close(*at, child),
                    }
                }
            }
        }
        if rest.is_none() {
            self.release(*object, fold.length, index);
        }
    }

    /// A fold is of its partition no more. What it lists is released when it is opened.
    pub(super) fn close(&mut self, at: TopicPartition, fold: &Fold) {
        self.closing.insert((fold.object, at), *fold);
    }

    fn has_all(&self, part: &FoldPart) -> bool {
        let Some(state) = self.partitions.get(&part.partition) else { return false };
        part.replaced.iter().all(|(segment, offset)| match part.fold.level {
            0 => {
                let place = state.runs.partition_point(|run| run.first_offset < *offset);
                state.runs.get(place).is_some_and(|run| (run.segment, run.first_offset) == (*segment, *offset))
            }
            _ => state.folds.iter().any(|fold| (fold.object, fold.opened) == (*segment, *offset)),
        })
    }

    fn replace(&mut self, part: &FoldPart, index: u64) {
        let FoldPart { partition, fold, replaced } = part;
        let Some(state) = self.partitions.get_mut(partition) else { return };
        match fold.level {
            0 => state.runs.retain(|run| !replaced.contains(&(run.segment, run.first_offset))),
            _ => state.folds.retain(|child| !replaced.contains(&(child.object, child.opened))),
        }
        insert(&mut state.folds, *fold);
        state.changed = Changed(index);
        self.changes.object(fold.object, index);
        if let Some(segment) = self.segments.get_mut(&fold.object) {
            segment.runs += 1;
            segment.live = segment.live.saturating_add(fold.length);
        }
    }
}

fn insert(folds: &mut Vec<Fold>, fold: Fold) {
    let place = folds.partition_point(|other| other.last_offset < fold.last_offset);
    folds.insert(place, fold);
}
