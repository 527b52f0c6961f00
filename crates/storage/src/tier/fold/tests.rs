use std::sync::Arc;

use tidemark_model::TopicId;
use tidemark_segment::testing::Seeded;
use tidemark_segment::{Bucket, JournalKeys};
use uuid::Uuid;

use super::*;
use crate::entry::{EntryId, Run};
use crate::folds;
use crate::state::{Piece, SegmentState};
use crate::store::Store;
use crate::tier::FoldLimits;

const JOURNAL: JournalId = JournalId(1);
const RUN: u64 = 8 << 20;
/// Records of a run, and milliseconds between two of them.
const RECORDS: i64 = 8_192;
const MS: i64 = 10;

fn at() -> TopicPartition {
    TopicPartition::new(TopicId(Uuid::from_u128(7)), 3)
}

fn run(n: i64) -> Run {
    let segment = SegmentName { epoch: 1, first_index: n as u64 + 1, last_index: n as u64 + 1, attempt: n as u32 };
    Run {
        segment,
        first_offset: n * RECORDS,
        last_offset: (n + 1) * RECORDS - 1,
        position: 8,
        length: RUN,
        max_timestamp: ((n + 1) * RECORDS - 1) * MS,
        leader_epoch: 1,
    }
}

fn apply(state: &mut State, entry: &Entry) {
    let id = EntryId { epoch: 1, index: state.last.index + 1 };
    state.apply(id, entry).unwrap();
}

/// A partition whose history is tiered in runs of 8 MiB, an object each, and folded on the way.
async fn history(bucket: &Bucket, keys: &JournalKeys, runs: i64) -> (State, u64) {
    let mut state = State::default();
    apply(&mut state, &Entry::PartitionCreated { partition: at(), revision: 1 });
    let mut written = 0;
    for n in 0..runs {
        state.partitions.get_mut(&at()).unwrap().high_watermark = (n + 1) * RECORDS;
        // As an edit would do it, but for the time that a million edits take.
        let run = run(n);
        state.segments.insert(run.segment, SegmentState { size: RUN + 500, data: RUN, runs: 1, live: RUN });
        state.partitions.get_mut(&at()).unwrap().runs.push(run);
        if n % 16 > 0 && n + 1 < runs {
            continue;
        }
        loop {
            let selected = groups(&state, FoldLimits::default(), RUN);
            if selected.is_empty() {
                break;
            }
            written += 1;
            let (bytes, edit) = index_object(&state, JOURNAL, 1, u32::MAX - written, selected);
            bucket.put_new(&keys.segment(edit.object), vec![bytes]).await.unwrap();
            apply(&mut state, &Entry::Folded(edit));
        }
    }
    (state, u64::from(written))
}

#[tokio::test]
async fn ten_terabytes_of_a_partition_cost_kilobytes_and_are_found() {
    let bucket = Bucket::in_memory(Arc::new(Seeded::new(1)));
    let keys = JournalKeys::new("cluster", JOURNAL).unwrap();
    let runs = (10_i64 << 40) / RUN as i64;
    let (mut state, index_objects) = history(&bucket, &keys, runs).await;
    let partition = &state.partitions[&at()];
    let (folds, unfolded, bytes) = (partition.folds.len(), partition.runs.len(), state.encode().len());
    let height = partition.folds.iter().map(|fold| fold.level + 1).max().unwrap();
    println!(
        "{runs} runs: {unfolded} in memory beside {folds} folds of up to {height} levels, {} objects counted, \
         {bytes} bytes of state, {index_objects} index objects",
        state.segments.len()
    );
    assert!(unfolded <= 64 && folds <= 64, "{unfolded} runs, {folds} folds");
    assert!(bytes < 32 << 10, "{bytes} bytes");
    assert!(height <= 5, "{height} levels");
    assert!((index_objects as i64) < runs / 30, "{index_objects}");
    let all: u64 = partition.folds.iter().map(|fold| fold.bytes).sum::<u64>() + unfolded as u64 * RUN;
    assert_eq!(all, 10 << 40, "no byte is forgotten");

    let store = Store::new(bucket.clone(), keys.clone());
    let fold_at = |offset| match partition.pieces(offset).next() {
        Some(Piece::Fold(fold)) => *fold,
        other => panic!("{offset} is in {other:?}"),
    };
    for n in [0, 1, 77_777, 500_000, 1_000_003, runs - 200] {
        let (expected, offset) = (run(n), n * RECORDS + 5);
        let found = folds::runs_at(&store, at(), fold_at(offset), offset).await.unwrap();
        assert_eq!((found[0].first_offset, found[0].object_size), (expected.first_offset, RUN + 500));
        assert_eq!(found[0].object, keys.segment(expected.segment));
        assert!(found.windows(2).all(|two| two[0].last_offset + 1 == two[1].first_offset));
        // The record of a time is in the run that has it.
        let time = offset * MS;
        let first = folds::first_run(&store, at(), fold_at(offset), 0, time).await.unwrap().unwrap();
        assert_eq!(first.first_offset, expected.first_offset);
    }
    let newest = *partition.folds.last().unwrap();
    let largest = folds::largest_run(&store, at(), newest, 0).await.unwrap().unwrap();
    assert_eq!(largest.last_offset, newest.last_offset);

    // The topic goes: all objects become garbage, a section of an index object at a time.
    apply(&mut state, &Entry::TopicDeleted { topic: at().topic, revision: 2 });
    assert_eq!(state.closing.len(), folds);
    let mut most = 0;
    // All of it would take long: the oldest, and what that lists.
    for _ in 0..200 {
        let ((object, partition), fold) = state.closing.iter().next().map(|(key, fold)| (*key, *fold)).unwrap();
        let content = folds::read(&bucket, &keys, partition, &fold).await.unwrap();
        let opening = FoldOpening { partition, object, opened: fold.opened, content, rest: None };
        apply(&mut state, &Entry::FoldOpened(opening));
        most = most.max(state.closing.len());
    }
    assert!(state.garbage.len() > 5_000, "{}", state.garbage.len());
    assert!(most < 64 * usize::from(height) + 64, "{most} folds wait to be opened");
}

#[tokio::test]
async fn an_edit_that_lost_one_of_its_runs_is_void_and_openings_are_done_once() {
    let bucket = Bucket::in_memory(Arc::new(Seeded::new(1)));
    let keys = JournalKeys::new("cluster", JOURNAL).unwrap();
    let (state, _) = history(&bucket, &keys, 64).await;
    let limits = FoldLimits { runs: 32, kept: 8, folds: 4 };
    let selected = groups(&state, limits, RUN);
    let (bytes, edit) = index_object(&state, JOURNAL, 1, 900, selected);
    bucket.put_new(&keys.segment(edit.object), vec![bytes]).await.unwrap();
    let object = edit.object;

    let mut moved = state.clone();
    let starts = crate::entry::LogStarts { time_ms: 0, moves: vec![(at(), RECORDS)] };
    apply(&mut moved, &Entry::LogStartsMoved(starts));
    apply(&mut moved, &Entry::Folded(edit.clone()));
    assert_eq!((moved.partitions[&at()].runs.len(), moved.partitions[&at()].folds.len()), (63, 0));
    assert!(moved.garbage.contains_key(&object) && moved.garbage.contains_key(&run(0).segment));

    let mut state = state;
    apply(&mut state, &Entry::Folded(edit));
    assert_eq!((state.partitions[&at()].runs.len(), state.partitions[&at()].folds.len()), (8, 1));
    assert_eq!(state.segments.len(), 9, "what only the index object refers to is not counted here");
    assert_eq!(State::decode(&state.encode()), Ok(state.clone()));
    let fold = state.partitions[&at()].folds[0];
    let starts = crate::entry::LogStarts { time_ms: 0, moves: vec![(at(), 2 * RECORDS + 1)] };
    apply(&mut state, &Entry::LogStartsMoved(starts));
    let mut content = folds::read(&bucket, &keys, at(), &fold).await.unwrap();
    let (children, rest) = split(content.children, 2);
    content.objects.retain(|object| children.refs().iter().any(|(name, _)| *name == object.name));
    content.children = children;
    let opening = FoldOpening { partition: at(), object, opened: fold.opened, content, rest: rest.oldest() };
    for _ in 0..2 {
        apply(&mut state, &Entry::FoldOpened(opening.clone()));
        assert_eq!(state.garbage.keys().copied().collect::<Vec<_>>(), [run(0).segment, run(1).segment]);
        let left = state.partitions[&at()].folds[0];
        assert_eq!((left.begins(), left.oldest.last_offset), (2 * RECORDS, 3 * RECORDS - 1));
        assert_eq!(left.bytes, 54 * RUN);
    }
}
