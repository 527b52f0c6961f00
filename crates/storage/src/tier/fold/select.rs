//! What is to be folded. Pure.

use tidemark_model::TopicPartition;

use crate::entry::Children;
use crate::state::{PartitionState, State};
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
        partition.folds.len() > limits.folds || foldable(partition, limits, long, limits.runs) > 0
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
            let count = foldable(partition, limits, long, limits.runs / 2);
            let runs = partition.runs[..count].to_vec();
            (count > 0).then_some(Group { partition: *at, level: 0, children: Children::Runs(runs) })
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

/// How many of the oldest runs are to be folded where there are more than `most`.
fn foldable(partition: &PartitionState, limits: FoldLimits, long: u64, most: usize) -> usize {
    let runs = &partition.runs;
    if runs.len() <= most {
        return 0;
    }
    // The newest, when they are short, are merged before they are folded...
    let settled = runs.iter().rposition(|run| run.length >= long).map_or(0, |last| last + 1);
    let count = settled.min(runs.len().saturating_sub(limits.kept));
    if count >= limits.kept.max(2) {
        return count;
    }
    // ...unless they never are.
    if runs.len() > 2 * limits.runs { runs.len() - limits.runs } else { 0 }
}

/// The longest row of folds of one level.
fn alike(at: TopicPartition, partition: &PartitionState) -> Option<Group> {
    let rows = partition.folds.chunk_by(|one, other| one.level == other.level);
    // Of equally long ones the newest, which makes the tree no higher.
    let row = rows.max_by_key(|row| row.len()).filter(|row| row.len() > 1)?;
    Some(Group { partition: at, level: row[0].level.checked_add(1)?, children: Children::Folds(row.to_vec()) })
}

#[cfg(test)]
mod tests;
