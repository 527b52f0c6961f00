use tidemark_model::TopicId;
use uuid::Uuid;

use super::*;
use crate::entry::{Fold, Oldest, Run};
use crate::state::PartitionState;
use tidemark_segment::SegmentName;

const LIMITS: FoldLimits = FoldLimits { runs: 8, kept: 2, folds: 4 };

fn at(n: i32) -> TopicPartition {
    TopicPartition::new(TopicId(Uuid::nil()), n)
}

fn name(n: i64) -> SegmentName {
    SegmentName { epoch: 1, first_index: n as u64, last_index: n as u64, attempt: 0 }
}

/// A partition with runs of these lengths, behind folds of these levels.
fn partition(levels: &[u8], lengths: &[u64]) -> PartitionState {
    let mut partition = PartitionState::new(1);
    for (n, level) in levels.iter().enumerate() {
        let (first_offset, last_offset) = (n as i64 * 10, n as i64 * 10 + 9);
        let oldest = Oldest { last_offset, max_timestamp: 1, length: 5 };
        partition.folds.push(Fold {
            object: name(first_offset),
            level: *level,
            position: 48,
            length: 100,
            first_offset,
            last_offset,
            max_timestamp: 1,
            leader_epoch: 1,
            opened: first_offset,
            bytes: 5,
            oldest,
        });
    }
    for (n, length) in lengths.iter().enumerate() {
        let first_offset = (levels.len() + n) as i64 * 10;
        partition.runs.push(Run {
            segment: name(first_offset),
            first_offset,
            last_offset: first_offset + 9,
            position: 8,
            length: *length,
            max_timestamp: 1,
            leader_epoch: 1,
        });
    }
    partition
}

/// The level and number of children of each group.
fn found(partitions: Vec<PartitionState>) -> Vec<(i32, u8, usize)> {
    let partitions = partitions.into_iter().enumerate().map(|(n, partition)| (at(n as i32), partition)).collect();
    let state = State { partitions, ..State::default() };
    groups(&state, LIMITS, 100)
        .into_iter()
        .map(|group| (group.partition.partition, group.level, group.children.len()))
        .collect()
}

#[test]
fn the_oldest_runs_of_all_that_have_many_are_folded_when_one_has_too_many() {
    assert_eq!(found(vec![partition(&[], &[100; 8]), partition(&[], &[100; 8])]), []);
    let partitions = vec![partition(&[], &[100; 9]), partition(&[], &[100; 4]), partition(&[], &[100; 5])];
    assert_eq!(found(partitions), [(0, 0, 7), (2, 0, 3)]);
}

#[test]
fn short_runs_at_the_end_are_left_to_be_merged_unless_there_are_too_many() {
    let mut lengths = vec![100; 5];
    lengths.extend([1; 9]);
    assert_eq!(found(vec![partition(&[0], &lengths)]), [(0, 0, 5)]);
    assert_eq!(found(vec![partition(&[0], &[1; 16])]), []);
    assert_eq!(found(vec![partition(&[0], &[1; 17])]), [(0, 0, 9)]);
}

#[test]
fn the_longest_row_of_folds_becomes_one_of_the_next_level() {
    assert_eq!(found(vec![partition(&[1, 0, 0, 0], &[])]), []);
    assert_eq!(found(vec![partition(&[1, 0, 0, 0, 0], &[])]), [(0, 1, 4)]);
    assert_eq!(found(vec![partition(&[1, 1, 1, 0, 0], &[])]), [(0, 2, 3)]);
    assert_eq!(found(vec![partition(&[2, 1, 1, 0, 0], &[])]), [(0, 1, 2)], "the newest of equal ones");
    assert_eq!(found(vec![partition(&[4, 3, 2, 1, 0], &[])]), [], "nothing goes with another");
    // A run that was opened is where the third fold was.
    let mut opened = partition(&[0; 7], &[100]);
    let third = opened.folds.remove(2);
    (opened.runs[0].first_offset, opened.runs[0].last_offset) = (third.first_offset, third.last_offset);
    assert_eq!(found(vec![opened]), [(0, 1, 4)], "not over it");
}

#[test]
fn a_row_that_was_opened_goes_back_by_itself_and_not_before_it_is_written_anew() {
    // The fold is where the second run would be.
    let mut opened = partition(&[0], &[100; 11]);
    let second = opened.runs.remove(1);
    (opened.folds[0].first_offset, opened.folds[0].last_offset) = (second.first_offset, second.last_offset);
    assert_eq!(opened.rows().map(<[Run]>::len).collect::<Vec<_>>(), [1, 9]);
    assert!(!opened.is_tail(&opened.runs[..1]) && opened.is_tail(&opened.runs[1..]));
    let segment = opened.runs[0].segment;
    let state = |live| {
        let segments = [(segment, SegmentState { size: 200, data: 100, runs: 1, live })].into();
        State { partitions: [(at(0), opened.clone())].into(), segments, ..State::default() }
    };
    let found = |live| groups(&state(live), LIMITS, 100).first().map(|group| group.children.len());
    assert_eq!(found(100), Some(1));
    assert_eq!(found(49), Some(7), "of the newest row, and not over the fold");
}
