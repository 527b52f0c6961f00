//! What is to be folded. Pure.

use tidemark_model::TopicPartition;

use crate::entry::{Children, Fold, Run};
use crate::state::{PartitionState, SegmentState, State};
use crate::tier::FoldLimits;

/// References that one index object replaces: about a megabyte of an entry.
const MAX_REPLACED: usize = 16_384;

/// What becomes one fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) partition: TopicPartition,
    /// Of the fold to be.
    pub(super) level: u8,
    pub(super) children: Children,
}

/// What is to be folded now, as much as goes into one index object: nothing before a partition has too much in memory, and
/// then what can be of all that have much. `long`: bytes of a run that is merged no more.
pub(super) fn groups(state: &State, limits: FoldLimits, long: u64) -> Vec<Group> {
    let too_much = |partition: &PartitionState| {
        partition.folds.len() > limits.folds || !foldable(state, partition, limits, long, limits.runs).is_empty()
    };
    if !state.partitions.values().any(too_much) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut replaced = 0;
    for (at, partition) in &state.partitions {
        let group = if partition.folds.len() > limits.folds {
            alike(*at, partition)
        } else {
            // Half of what would be too much: its segments have runs of those that have too much.
            let runs = foldable(state, partition, limits, long, limits.runs / 2);
            let children = Children::Runs(runs.to_vec());
            (!runs.is_empty()).then_some(Group { partition: *at, level: 0, children })
        };
        let Some(group) = group else { continue };
        replaced += group.children.len();
        if replaced > MAX_REPLACED && !found.is_empty() {
            break;
        }
        found.push(group);
    }
    found
}

/// The runs to be folded where there are more than `most`.
fn foldable<'a>(state: &State, partition: &'a PartitionState, limits: FoldLimits, long: u64, most: usize) -> &'a [Run] {
    let all = partition.runs.len();
    if all <= most {
        return &[];
    }
    let far_too_many = all > 2 * limits.runs;
    // What is to be written anew is not folded before.
    let dead = |run: &Run| state.segments.get(&run.segment).is_some_and(SegmentState::is_mostly_dead);
    for row in partition.rows() {
        if !partition.is_tail(row) {
            if far_too_many || !row.iter().any(dead) {
                return row;
            }
            continue;
        }
        // The newest, when they are short, are merged before they are folded...
        let settled = row.iter().rposition(|run| run.length >= long).map_or(0, |last| last + 1);
        let alive = row.iter().position(dead).unwrap_or(row.len());
        let count = settled.min(alive).min(row.len().saturating_sub(limits.kept));
        if count >= limits.kept.max(2) {
            return &row[..count];
        }
        // ...unless they never are.
        if far_too_many {
            return &row[..row.len().saturating_sub(limits.runs)];
        }
    }
    &[]
}

/// The longest row of folds of one level, without runs between them.
fn alike(at: TopicPartition, partition: &PartitionState) -> Option<Group> {
    let apart = |one: &Fold, other: &Fold| {
        let next = partition.runs.partition_point(|run| run.last_offset < one.last_offset);
        partition.runs.get(next).is_some_and(|run| run.last_offset < other.last_offset)
    };
    let rows = partition.folds.chunk_by(|one, other| one.level == other.level && !apart(one, other));
    // Of equally long ones the newest, which makes the tree no higher.
    let row = rows.max_by_key(|row| row.len()).filter(|row| row.len() > 1)?;
    Some(Group { partition: at, level: row[0].level.checked_add(1)?, children: Children::Folds(row.to_vec()) })
}

#[cfg(test)]
mod tests;
