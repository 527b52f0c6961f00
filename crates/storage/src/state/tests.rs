use proptest::prelude::*;
use tidemark_model::NodeId;
use tidemark_model::route::Route;
use tidemark_model::storage::EpochEnd;
use uuid::Uuid;

use super::*;
use crate::entry::tests::{entry, sample_batch};
use crate::entry::{BatchEntry, LogStarts, ManifestEdit, Run, RunRef};

fn at(topic: u128, partition: i32) -> TopicPartition {
    TopicPartition::new(TopicId(Uuid::from_u128(topic)), partition)
}

fn segment(n: u64) -> SegmentName {
    SegmentName { epoch: 1, first_index: n, last_index: n, attempt: 0 }
}

fn run(n: u64, first_offset: i64, last_offset: i64) -> Run {
    Run { segment: segment(n), first_offset, last_offset, position: 8, length: 100, max_timestamp: 1, leader_epoch: 1 }
}

/// Applies entries one after another, from where the state is.
fn apply(state: &mut State, epoch: u32, entry: Entry) -> Result<Effects, ApplyError> {
    let id = EntryId { epoch, index: state.last.index + 1 };
    state.apply(id, &entry)
}

fn batch(partition: TopicPartition, base_offset: i64, leader_epoch: i32, producer: (i64, i16, i32)) -> Entry {
    let mut batch = sample_batch(producer, 10, 5, b"records");
    batch.base_offset = base_offset;
    batch.leader_epoch = leader_epoch;
    let route = Route { generation: 3, gateway: NodeId(1), broker: NodeId(2) };
    Entry::Batch(BatchEntry { partition, route, batch })
}

fn sample() -> State {
    let mut state = State::default();
    for n in 0..2 {
        apply(&mut state, 1, Entry::PartitionCreated { partition: at(n, 0), revision: 4 }).unwrap();
        apply(&mut state, 1, batch(at(n, 0), 0, 1, (7, 0, 0))).unwrap();
    }
    for n in 0..2 {
        apply(&mut state, 2, batch(at(n, 0), 10, 2, (7, 0, 10))).unwrap();
    }
    apply(&mut state, 2, Entry::SegmentIntended(segment(9))).unwrap();
    let edit = ManifestEdit {
        tiered_through: 6,
        segment: Some((segment(9), 1000)),
        removed: vec![],
        added: vec![(at(0, 0), run(9, 0, 19)), (at(1, 0), run(9, 0, 19))],
    };
    apply(&mut state, 2, Entry::ManifestEdited(edit)).unwrap();
    state
}

#[test]
fn producers_expire_by_the_timestamp_of_their_last_batch() {
    let mut state = sample();
    let written = |base_offset, id, timestamp| {
        let mut batch = sample_batch((id, 0, 0), 1, timestamp, b"records");
        batch.base_offset = base_offset;
        batch.leader_epoch = 2;
        let route = Route { generation: 3, gateway: NodeId(1), broker: NodeId(2) };
        Entry::Batch(BatchEntry { partition: at(0, 0), route, batch })
    };
    apply(&mut state, 2, written(20, 8, 6)).unwrap();
    apply(&mut state, 2, written(21, 9, -1)).unwrap();
    assert_eq!(state.producers, 4);
    apply(&mut state, 2, Entry::ProducersExpired { through_ms: 5 }).unwrap();
    assert_eq!(state.partitions[&at(0, 0)].producers.keys().collect::<Vec<_>>(), [&8]);
    assert!(state.partitions[&at(1, 0)].producers.is_empty());
    assert_eq!(state.producers, 1);
    assert_eq!(State::decode(&state.encode()).unwrap(), state);
    apply(&mut state, 2, Entry::TopicDeleted { topic: at(0, 0).topic, revision: 9 }).unwrap();
    assert_eq!(state.producers, 0);
}

#[test]
fn batches_move_the_high_watermark_and_keep_the_epochs_that_wrote() {
    let state = sample();
    let partition = &state.partitions[&at(0, 0)];
    assert_eq!(partition.high_watermark, 20);
    assert_eq!(partition.epochs.len(), 2);
    assert_eq!((partition.epoch_at(9), partition.epoch_at(10)), (Some(1), Some(2)));
    assert_eq!(partition.route.generation, 3);
    assert_eq!(partition.tiered_end(), 20);
}

#[test]
fn an_entry_out_of_place_changes_nothing() {
    let mut state = sample();
    let before = state.clone();
    let next = state.last.index + 1;
    for id in [EntryId { epoch: 2, index: next + 1 }, EntryId { epoch: 1, index: next }, state.last] {
        assert!(matches!(state.apply(id, &batch(at(0, 0), 20, 2, (7, 0, 20))), Err(ApplyError::OutOfOrder { .. })));
    }
    assert!(matches!(apply(&mut state, 2, batch(at(0, 0), 21, 2, (7, 0, 20))), Err(ApplyError::Offset { .. })));
    assert!(matches!(apply(&mut state, 2, batch(at(5, 0), 0, 2, (7, 0, 0))), Err(ApplyError::NoPartition(..))));
    assert_eq!(state, before);
}

#[test]
fn where_an_epoch_ended_is_as_in_kafka() {
    let mut state = sample();
    apply(&mut state, 4, batch(at(0, 0), 20, 4, (7, 0, 20))).unwrap();
    let partition = &state.partitions[&at(0, 0)];
    let end = |epoch| partition.epoch_end(epoch, 6);
    let is = |leader_epoch, end_offset| EpochEnd { leader_epoch, end_offset };
    assert_eq!(end(-1), is(-1, -1));
    assert_eq!(end(0), is(0, 0), "older than all: the start of the oldest");
    assert_eq!(end(1), is(1, 10));
    assert_eq!(end(2), is(2, 20));
    assert_eq!(end(3), is(2, 20), "an epoch that wrote nothing is the one below it");
    assert_eq!(end(4), is(4, 30));
    assert_eq!(end(5), is(4, 30));
    assert_eq!(end(6), is(6, 30), "the leader's own");
    assert_eq!(end(7), is(-1, -1));
}

#[test]
fn a_segment_is_garbage_once_its_last_run_is_gone() {
    let mut state = sample();
    assert_eq!(state.segments[&segment(9)], SegmentState { size: 1000, data: 200, runs: 2, live: 200 });
    assert!(state.intents.is_empty());
    let gone = apply(&mut state, 2, Entry::TopicDeleted { topic: at(0, 0).topic, revision: 9 }).unwrap();
    assert_eq!(gone.removed, vec![at(0, 0)]);
    assert_eq!(state.segments[&segment(9)].runs, 1);
    assert!(state.garbage.is_empty());
    apply(&mut state, 2, Entry::TopicDeleted { topic: at(1, 0).topic, revision: 9 }).unwrap();
    assert!(state.segments.is_empty() && state.partitions.is_empty());
    assert_eq!(state.garbage, BTreeMap::from([(segment(9), state.last.index)]));
    apply(&mut state, 2, Entry::ObjectsDeleted(vec![segment(9)])).unwrap();
    assert!(state.garbage.is_empty());
}

#[test]
fn an_edit_replaces_exactly_its_runs_or_is_void() {
    let mut state = sample();
    let replaced = RunRef { partition: at(0, 0), first_offset: 0, segment: segment(9) };
    let edit = ManifestEdit {
        tiered_through: 0,
        segment: Some((segment(10), 500)),
        removed: vec![replaced],
        added: vec![(at(0, 0), run(10, 0, 19))],
    };
    apply(&mut state, 2, Entry::ManifestEdited(edit.clone())).unwrap();
    assert_eq!(state.partitions[&at(0, 0)].runs, vec![run(10, 0, 19)]);
    assert_eq!(state.tiered_through, 6, "it never goes back");
    let again = ManifestEdit { segment: Some((segment(11), 500)), ..edit };
    apply(&mut state, 2, Entry::ManifestEdited(again)).unwrap();
    assert_eq!(state.partitions[&at(0, 0)].runs, vec![run(10, 0, 19)], "void: the run was gone");
    assert!(state.garbage.contains_key(&segment(11)), "and its segment is of no use");
}

fn moved(state: &mut State, to: &[(TopicPartition, i64)]) -> Vec<TopicPartition> {
    let starts = LogStarts { time_ms: 77, moves: to.to_vec() };
    apply(state, 2, Entry::LogStartsMoved(starts)).unwrap().log_starts_moved
}

#[test]
fn a_log_start_goes_forward_up_to_the_high_watermark_and_takes_whole_runs_along() {
    let mut state = sample();
    assert_eq!(moved(&mut state, &[(at(0, 0), 15), (at(9, 9), 3), (at(1, 0), 0)]), [at(0, 0)]);
    let partition = &state.partitions[&at(0, 0)];
    assert_eq!((partition.log_start, partition.runs.len()), (15, 1), "part of the run is above");
    assert_eq!(partition.epochs, [EpochStart { leader_epoch: 2, start_offset: 15 }]);
    assert_eq!(partition.epoch_end(1, 6), EpochEnd { leader_epoch: 1, end_offset: 15 });
    assert_eq!(moved(&mut state, &[(at(0, 0), 14)]), []);
    assert_eq!(moved(&mut state, &[(at(0, 0), 1_000), (at(1, 0), 20)]), [at(0, 0), at(1, 0)]);
    let partition = &state.partitions[&at(0, 0)];
    assert_eq!((partition.log_start, partition.tiered_end(), partition.runs.len()), (20, 20, 0));
    assert_eq!(state.garbage, BTreeMap::from([(segment(9), state.last.index)]), "no run is left in it");
    assert_eq!(State::decode(&state.encode()), Ok(state));
}

#[test]
fn a_run_that_lies_below_a_log_start_is_not_added() {
    let mut state = sample();
    apply(&mut state, 2, batch(at(0, 0), 20, 2, (7, 0, 20))).unwrap();
    moved(&mut state, &[(at(0, 0), 30)]);
    let added = vec![(at(0, 0), run(12, 20, 29))];
    let edit =
        ManifestEdit { tiered_through: state.last.index, segment: Some((segment(12), 500)), removed: vec![], added };
    apply(&mut state, 2, Entry::ManifestEdited(edit)).unwrap();
    assert!(state.partitions[&at(0, 0)].runs.is_empty());
    assert!(state.garbage.contains_key(&segment(12)));
}

#[test]
fn runs_of_a_topic_that_was_deleted_meanwhile_are_not_added() {
    let mut state = sample();
    apply(&mut state, 2, Entry::TopicDeleted { topic: at(0, 0).topic, revision: 9 }).unwrap();
    let edit = ManifestEdit {
        tiered_through: 8,
        segment: Some((segment(12), 500)),
        removed: vec![],
        added: vec![(at(0, 0), run(12, 20, 29))],
    };
    apply(&mut state, 2, Entry::ManifestEdited(edit)).unwrap();
    assert!(!state.partitions.contains_key(&at(0, 0)));
    assert!(state.garbage.contains_key(&segment(12)));
}

#[test]
fn a_checkpointed_state_comes_back() {
    let mut state = sample();
    apply(&mut state, 2, Entry::SegmentIntended(segment(20))).unwrap();
    apply(&mut state, 2, Entry::CheckpointWritten(CheckpointName { epoch: 2, index: 3 })).unwrap();
    apply(&mut state, 2, Entry::TopicDeleted { topic: at(0, 0).topic, revision: 9 }).unwrap();
    apply(&mut state, 2, Entry::TopicDeleted { topic: at(1, 0).topic, revision: 9 }).unwrap();
    assert!(!state.garbage.is_empty() && !state.intents.is_empty());
    assert_eq!(State::decode(&state.encode()), Ok(state));
    assert_eq!(State::decode(&sample().encode()), Ok(sample()));
}

proptest! {
    #[test]
    fn any_state_comes_back_from_its_checkpoint(entries in proptest::collection::vec(entry(), 0..30)) {
        let mut state = sample();
        for entry in entries {
            // A batch must have its partition: those that do not are refused and change nothing.
            let _ = apply(&mut state, 3, entry);
        }
        // What names a run of an unknown segment was never written by a leader, and is refused when read.
        let has = |state: &State, name| state.segments.contains_key(&name);
        let known = |state: &State| state.partitions.values().all(|p| {
            p.runs.iter().all(|run| has(state, run.segment)) && p.folds.iter().all(|fold| has(state, fold.object))
        });
        if known(&state) {
            prop_assert_eq!(State::decode(&state.encode()), Ok(state));
        }
    }

    #[test]
    fn no_bytes_make_decoding_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), at in any::<usize>()) {
        let _ = State::decode(&bytes);
        let mut good = sample().encode().to_vec();
        let at = at % good.len();
        good[at] ^= bytes.pop().unwrap_or(1);
        let _ = State::decode(&good);
    }
}
