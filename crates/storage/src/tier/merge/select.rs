//! Which runs are to be merged. Pure.

use std::collections::BTreeSet;
use std::ops::Range;

use tidemark_model::TopicPartition;
use tidemark_segment::SegmentName;

use crate::entry::Run;
use crate::state::State;

/// A merge that does not make a run long enough to be left alone makes it at least this many times as long as each that
/// went into it.
pub(super) const FAN_IN: u64 = 4;
/// Short runs in a row that are merged though together they are not long enough.
const MANY: usize = 64;

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of an object.
    pub(super) object: u64,
    /// Bytes of a run that is long enough.
    pub(super) run: u64,
}

/// Runs of a partition that become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) partition: TopicPartition,
    pub(super) runs: Vec<Run>,
}

impl Window {
    pub(super) fn bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.length).sum()
    }
}

/// Windows of short runs in the order of the partitions, until they fill an object. `rolls` gives `segment.bytes` and
/// `segment.ms` of a partition's topic: a run beyond these would be retained too long.
pub(super) fn windows(
    state: &State,
    limits: Limits,
    unreadable: &BTreeSet<SegmentName>,
    rolls: impl Fn(TopicPartition) -> (u64, i64),
) -> Vec<Window> {
    let mut found = Vec::new();
    let mut bytes = 0;
    for (at, partition) in &state.partitions {
        if partition.runs.len() < 2 {
            continue;
        }
        let (segment_bytes, segment_ms) = rolls(*at);
        let max_run = limits.object.min(segment_bytes);
        let readable = |run: &Run| !unreadable.contains(&run.segment);
        let of_row = |row: &[Run]| {
            let range = window(row, limits.run.min(max_run), max_run, segment_ms, readable)?;
            Some(row[range].to_vec())
        };
        if let Some(runs) = partition.rows().find_map(of_row) {
            let window = Window { partition: *at, runs };
            bytes += window.bytes();
            found.push(window);
            if bytes > limits.object {
                break;
            }
        }
    }
    found
}

/// The first neighbours that are worth merging.
fn window(
    runs: &[Run],
    long: u64,
    max_run: u64,
    segment_ms: i64,
    readable: impl Fn(&Run) -> bool,
) -> Option<Range<usize>> {
    let mut start = 0;
    while start < runs.len() {
        let (mut end, mut bytes, mut full) = (start, 0, false);
        while let Some(run) = runs.get(end).filter(|run| run.length < long && readable(run)) {
            if run.max_timestamp.saturating_sub(runs[start].max_timestamp) > segment_ms {
                break;
            }
            if end > start && bytes + run.length > max_run {
                full = true;
                break;
            }
            bytes += run.length;
            end += 1;
        }
        if end - start >= 2 && (bytes >= long || full) {
            return Some(start..end);
        }
        if end - start >= MANY {
            let like = alike(&runs[start..end]);
            if like.len() >= MANY / 2 {
                return Some(start + like.start..start + like.end);
            }
        }
        start = end.max(start + 1);
    }
    None
}

/// The longest piece at the end of which each run is at most a [`FAN_IN`]th.
fn alike(runs: &[Run]) -> Range<usize> {
    let (mut bytes, mut start) = (0, runs.len());
    let mut largest = 0;
    for (at, run) in runs.iter().enumerate().rev() {
        bytes += run.length;
        largest = largest.max(run.length);
        if largest * FAN_IN <= bytes {
            start = at;
        }
    }
    start..runs.len()
}

/// What is left alive in segments of which most is dead, each run by itself, until it fills an object.
pub(super) fn mostly_dead(state: &State, limits: Limits, unreadable: &BTreeSet<SegmentName>) -> Vec<Window> {
    let dead: BTreeSet<SegmentName> = state
        .segments
        .iter()
        .filter(|(name, segment)| segment.is_mostly_dead() && !unreadable.contains(name))
        .map(|(name, _)| *name)
        .collect();
    let mut found = Vec::new();
    if dead.is_empty() {
        return found;
    }
    let mut bytes = 0;
    for (at, partition) in &state.partitions {
        // One window of a partition at a time: its neighbours may come next.
        if let Some(run) = partition.runs.iter().find(|run| dead.contains(&run.segment)) {
            bytes += run.length;
            found.push(Window { partition: *at, runs: vec![*run] });
        }
        if bytes > limits.object {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests;
