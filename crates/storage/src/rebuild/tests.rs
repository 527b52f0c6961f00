use std::sync::Arc;
use std::time::Duration;

use tidemark_model::{Batch, StorageError};

use super::*;
use crate::Service;
use crate::disk::sim::SimDisk;
use crate::entry::tests::sample_batch;
use crate::testing::*;

const CLUSTER: &str = "cluster";

fn plain(size: usize) -> Batch {
    sample_batch((-1, -1, -1), 1, 5, &vec![7; size])
}

fn of_producer(sequence: i32, size: usize) -> Batch {
    sample_batch((9, 0, sequence), 1, 5, &vec![9; size])
}

fn world() -> World {
    let mut world = World::new(1);
    world.config.segment_bytes = 20_000;
    world.config.segment_ms = 5_000;
    world
}

async fn tiered(service: &Service) {
    until("all is tiered", || service.journal().lock().untiered_bytes() == 0).await;
}

/// There is one ten minutes after a change at the latest.
async fn checkpointed(service: &Service) {
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        if service.journal().lock().state.checkpoint.is_some() {
            return;
        }
    }
    panic!("no checkpoint");
}

/// The node, its disk and the coordinator's records are gone. What the bucket has becomes a journal again.
async fn rebuilt(world: &mut World) -> Found {
    world.disk = SimDisk::default();
    let found = found(world).await;
    let epoch = found.epoch + 1_000;
    found.write(&world.bucket, CLUSTER, epoch).await.unwrap();
    world.coordinator.rebuilt(epoch);
    found
}

async fn found(world: &World) -> Found {
    let objects = Objects::list(&world.bucket, CLUSTER).await.unwrap();
    assert!(objects.journals().all(|journal| journal == JOURNAL));
    objects.find(&world.bucket, CLUSTER, JOURNAL, true).await.unwrap()
}

fn of(found: &Found, at: TopicPartition) -> &FoundPartition {
    found.partitions.iter().find(|found| found.partition == at).unwrap()
}

fn count(found: &Found, at: TopicPartition) -> i64 {
    let FoundPartition { log_start, end, .. } = of(found, at);
    end - log_start
}

async fn offsets(world: &World, service: &Service, at: TopicPartition) -> Vec<i64> {
    read_all(world, service, at).await.iter().map(|batch| batch.base_offset).collect()
}

#[tokio::test(start_paused = true)]
async fn all_that_is_tiered_comes_back_on_an_empty_disk_and_the_log_goes_on() {
    let mut world = world();
    let service = world.start().await.unwrap();
    for partition in 0..3 {
        for sequence in 0..200 {
            append(&service, at(0, partition), of_producer(sequence, 1_000)).await.unwrap();
        }
    }
    checkpointed(&service).await;
    tiered(&service).await;
    let before = read_all(&world, &service, at(0, 1)).await;
    world.crash(service).await;

    let found = rebuilt(&mut world).await;
    assert!(found.checkpointed && found.segments_after > 0, "{found:?}");
    assert_eq!((found.producer_id, count(&found, at(0, 1))), (Some(9), 200));
    let service = world.start().await.unwrap();
    assert_eq!(read_all(&world, &service, at(0, 1)).await, before, "byte for byte");
    let again = append(&service, at(0, 1), of_producer(199, 1_000)).await.unwrap();
    assert_eq!(again.base_offset, 199, "a duplicate, told by what the segments hold");
    assert_eq!(append(&service, at(0, 1), of_producer(200, 1_000)).await.unwrap().base_offset, 200);
    let last = read_all(&world, &service, at(0, 1)).await.pop().unwrap();
    assert!(last.leader_epoch > before[199].leader_epoch + 1_000);

    // And it lives on as any other: tiered, checkpointed, restarted.
    for sequence in 201..400 {
        append(&service, at(0, 1), of_producer(sequence, 1_000)).await.unwrap();
    }
    tiered(&service).await;
    world.crash(service).await;
    let service = world.start().await.unwrap();
    assert_eq!(offsets(&world, &service, at(0, 1)).await, (0..400).collect::<Vec<_>>());
    assert_eq!(offsets(&world, &service, at(0, 2)).await, (0..200).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_was_only_in_the_log_is_lost_and_told_and_offsets_go_on_without_a_gap() {
    let mut world = world();
    world.config.segment_ms = 1 << 40;
    let service = world.start().await.unwrap();
    for sequence in 0..30 {
        append(&service, at(0, 0), of_producer(sequence, 1_000)).await.unwrap();
    }
    until("a segment", || service.journal().lock().state.tiered_through > 0).await;
    let untiered = service.journal().lock().untiered_bytes();
    assert!(untiered > 0);
    let end = service.journal().lock().state.partitions[&at(0, 0)].tiered_end();
    // A checkpoint knows of more than is tiered.
    checkpointed(&service).await;
    world.crash(service).await;

    let found = rebuilt(&mut world).await;
    assert_eq!((of(&found, at(0, 0)).end, of(&found, at(0, 0)).known_end), (end, 30));
    let service = world.start().await.unwrap();
    assert_eq!(offsets(&world, &service, at(0, 0)).await, (0..end).collect::<Vec<_>>());
    // The client goes on behind what it was told is there: as in Kafka it has to begin anew.
    let error = append(&service, at(0, 0), of_producer(30, 10)).await.unwrap_err();
    assert!(
        matches!(error, StorageError::OutOfOrderSequence { expected, .. } if i64::from(expected) == end),
        "{error}"
    );
    let bumped = sample_batch((9, 1, 0), 1, 5, b"again");
    assert_eq!(append(&service, at(0, 0), bumped).await.unwrap().base_offset, end);
    assert_eq!(append(&service, at(0, 0), plain(10)).await.unwrap().base_offset, end + 1);
}

#[tokio::test(start_paused = true)]
async fn without_any_checkpoint_segments_are_enough() {
    let mut world = world();
    let service = world.start().await.unwrap();
    for n in 0..90 {
        append(&service, at(n % 2, (n % 3) as i32), plain(1_000)).await.unwrap();
    }
    tiered(&service).await;
    assert_eq!(service.journal().lock().state.checkpoint, None);
    let segments = service.journal().lock().state.segments.len();
    world.crash(service).await;

    let found = rebuilt(&mut world).await;
    assert_eq!((found.checkpointed, found.segments_after), (false, segments));
    let service = world.start().await.unwrap();
    for topic in 0..2 {
        for partition in 0..3 {
            let expected: Vec<i64> = (0..15).collect();
            assert_eq!(offsets(&world, &service, at(topic, partition)).await, expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn log_starts_that_moved_behind_the_checkpoint_leave_no_gap_in_what_is_read() {
    let mut world = world();
    let service = world.start().await.unwrap();
    for _ in 0..40 {
        append(&service, at(0, 0), plain(1_000)).await.unwrap();
        append(&service, at(0, 1), plain(1_000)).await.unwrap();
    }
    tiered(&service).await;
    // Deleted before it is tiered, so that the next segment begins above what the one before ends with.
    world.config.segment_bytes = 1 << 40;
    for _ in 0..5 {
        append(&service, at(0, 0), plain(100)).await.unwrap();
    }
    assert_eq!(delete_before(&service, at(0, 0), 43).await, 43);
    append(&service, at(0, 0), plain(100)).await.unwrap();
    tiered(&service).await;
    world.crash(service).await;

    let found = rebuilt(&mut world).await;
    assert_eq!((of(&found, at(0, 0)).log_start, of(&found, at(0, 0)).end), (43, 46), "{found:?}");
    assert_eq!((of(&found, at(0, 1)).log_start, of(&found, at(0, 1)).end), (0, 40));
    let service = world.start().await.unwrap();
    let bounds = service.journal().lock().state.partitions[&at(0, 0)].clone();
    assert_eq!((bounds.log_start, bounds.high_watermark), (43, 46));
    assert_eq!(append(&service, at(0, 0), plain(1)).await.unwrap().base_offset, 46);
    assert_eq!(offsets(&world, &service, at(0, 1)).await, (0..40).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_follows_nothing_is_deleted_by_the_next_leader_and_damage_is_passed_over() {
    let mut world = world();
    let service = world.start().await.unwrap();
    for _ in 0..60 {
        append(&service, at(0, 0), plain(1_000)).await.unwrap();
    }
    tiered(&service).await;
    let index = service.journal().lock().state.last.index;
    world.crash(service).await;
    let keys = JournalKeys::new(CLUSTER, JOURNAL).unwrap();
    let cut = SegmentName { epoch: 1, first_index: index, last_index: index + 5, attempt: 900 };
    world.bucket.put_new(&keys.segment(cut), vec![vec![1; 300].into()]).await.unwrap();

    rebuilt(&mut world).await;
    let service = world.start().await.unwrap();
    assert_eq!(offsets(&world, &service, at(0, 0)).await, (0..60).collect::<Vec<_>>());
    until("the stray one is deleted", || !service.journal().lock().state.intents.contains(&cut)).await;
    assert!(matches!(world.bucket.head(&keys.segment(cut)).await, Err(StoreError::NotFound(_))));
    // What it writes from now on is named above all that was there.
    append(&service, at(0, 0), plain(1_000)).await.unwrap();
    tiered(&service).await;
    let newest = *service.journal().lock().state.segments.keys().next_back().unwrap();
    assert!(newest.epoch > 1_000 && newest.first_index > cut.last_index, "{newest}");
}

#[tokio::test(start_paused = true)]
async fn history_that_is_listed_in_index_objects_comes_back_and_is_not_taken_for_strays() {
    let mut world = world();
    world.config.segment_bytes = 1_000;
    world.config.segment_ms = 10;
    world.folds = crate::tier::FoldLimits { runs: 4, kept: 1, folds: 3 };
    let service = world.start().await.unwrap();
    for _ in 0..60 {
        append(&service, at(0, 0), plain(1_000)).await.unwrap();
        tiered(&service).await;
    }
    until("it is folded", || service.journal().lock().state.partitions[&at(0, 0)].runs.len() <= 4).await;
    checkpointed(&service).await;
    for _ in 0..3 {
        append(&service, at(0, 0), plain(1_000)).await.unwrap();
        tiered(&service).await;
    }
    world.crash(service).await;

    let found = rebuilt(&mut world).await;
    assert_eq!(count(&found, at(0, 0)), 63);
    let service = world.start().await.unwrap();
    // Longer than any object stays that is of no use.
    checkpointed(&service).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(offsets(&world, &service, at(0, 0)).await, (0..63).collect::<Vec<_>>());
    let state = service.journal().lock().state.clone();
    let keys = JournalKeys::new(CLUSTER, JOURNAL).unwrap();
    let used = crate::folds::objects(&world.bucket, &keys, &state).await.unwrap();
    let there = world.bucket.list(&keys.segments()).await.unwrap().len();
    assert_eq!(there, used.len() + state.garbage.len(), "and nothing else is there");
}

#[tokio::test(start_paused = true)]
async fn it_can_be_done_again_also_when_it_was_cut_short() {
    let mut world = world();
    let service = world.start().await.unwrap();
    for _ in 0..60 {
        append(&service, at(0, 0), plain(1_000)).await.unwrap();
    }
    tiered(&service).await;
    world.crash(service).await;
    for _ in 0..3 {
        rebuilt(&mut world).await;
    }
    let found = found(&world).await;
    assert_eq!((count(&found, at(0, 0)), found.segments_after), (60, 0));
    let service = world.start().await.unwrap();
    assert_eq!(offsets(&world, &service, at(0, 0)).await, (0..60).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_there_is_used_and_the_bucket_left_as_it_is() {
    let world = world();
    let service = world.start().await.unwrap();
    for _ in 0..45 {
        append(&service, at(0, 0), plain(1_000)).await.unwrap();
    }
    until("some segments", || service.journal().lock().state.segments.len() > 1).await;
    world.crash(service).await;
    let before = world.bucket.list("").await.unwrap();
    let objects = Objects::list(&world.bucket, CLUSTER).await.unwrap();
    let found = objects.find(&world.bucket, CLUSTER, JOURNAL, false).await.unwrap();
    found.write(&world.bucket, CLUSTER, found.epoch + 1_000).await.unwrap();
    assert_eq!(world.bucket.list("").await.unwrap(), before);
    world.coordinator.raise(found.epoch + 1_000);
    let service = world.start().await.unwrap();
    assert_eq!(offsets(&world, &service, at(0, 0)).await, (0..45).collect::<Vec<_>>());
    append(&service, at(0, 0), plain(1)).await.unwrap();
    let last = read_all(&world, &service, at(0, 0)).await.pop().unwrap();
    assert!(last.leader_epoch > 1_000, "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_lost_without_a_rebuild_is_not_taken_for_one_that_begins() {
    let mut world = world();
    let service = world.start().await.unwrap();
    for _ in 0..45 {
        append(&service, at(0, 0), plain(1_000)).await.unwrap();
    }
    until("a segment", || service.journal().lock().state.tiered_through > 0).await;
    checkpointed(&service).await;
    world.crash(service).await;
    let epoch = world.coordinator.epoch();
    world.disk = SimDisk::default();
    world.coordinator.rebuilt(epoch);
    let started = world.start().await;
    assert!(matches!(started, Err(StartError::Recovery(_) | StartError::Gap { .. })), "{started:?}");
}

#[tokio::test(start_paused = true)]
async fn partitions_that_only_the_log_has_are_told_by_it() {
    let mut world = world();
    world.config.segment_ms = 3_600_000;
    let service = world.start().await.unwrap();
    append(&service, at(0, 0), plain(10)).await.unwrap();
    append(&service, at(1, 0), of_producer(0, 10)).await.unwrap();
    world.crash(service).await;
    let mut found = found(&world).await;
    assert_eq!(found.partitions, []);
    let mut told = Told::default();
    for path in world.disk.paths().into_iter().filter(|path| path.extension().is_some_and(|e| e == "wal")) {
        told.read(&world.disk.bytes(&path).into());
    }
    found.add(&told);
    let (one, other) = (of(&found, at(0, 0)), of(&found, at(1, 0)));
    assert!(one.revision.is_some() && one.leader_epoch > 0 && other.leader_epoch > 0, "{found:?}");
    assert_eq!(found.producer_id, Some(9));
    let again = found.partitions.clone();
    found.add(&told);
    assert_eq!(found.partitions, again, "each is there once");
}

#[test]
fn the_identity_file_tells_which_logs_are_there() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(surviving(dir.path()).unwrap(), None);
    let name = "7b1a0a52-6f5c-4b3f-9d2a-1d6b2f9c0e11";
    let lines = [
        "format = 2".to_owned(),
        format!("name = {name}"),
        "log = 00000000000000aa journal 1".into(),
        "log = 00000000000000bb journal 2".into(),
        "log = 00000000000000cc journal 3 succeeds 00000000000000c1".into(),
        "log = 00000000000000dd".into(),
    ];
    std::fs::write(dir.path().join("node"), lines.join("\n") + "\n").unwrap();
    for there in ["aa", "cc", "dd"] {
        std::fs::create_dir_all(dir.path().join("wal").join(format!("00000000000000{there}"))).unwrap();
    }
    let logs = [(1, 0xaa), (3, 0xc1)];
    let logs =
        logs.map(|(id, incarnation)| SurvivingLog { journal: JournalId(id), incarnation, told: Told::default() });
    assert_eq!(surviving(dir.path()).unwrap(), Some(Survivor { name: name.into(), logs: logs.to_vec() }));
    std::fs::write(dir.path().join("node"), "format = 9\n").unwrap();
    assert!(matches!(surviving(dir.path()), Err(StartError::NewerFormat { .. })));
}

async fn delete_before(service: &Arc<Service>, partition: TopicPartition, offset: i64) -> i64 {
    use tidemark_model::Storage as _;
    use tidemark_model::storage::RecordDeletion;
    let deletion = RecordDeletion {
        journal: JOURNAL,
        partition,
        revision: 1,
        before: Some(offset),
        timeout: Duration::from_secs(30),
    };
    service.delete_records(vec![deletion]).await.remove(0).unwrap()
}
