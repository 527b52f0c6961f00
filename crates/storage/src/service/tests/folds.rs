//! Runs that are long past, listed in index objects: read, found by time, retained and deleted as others are.

use super::deletion::{delete, log_start, read_error, set};
use super::*;
use crate::tier::FoldLimits;

/// Every batch is a run, and few of these are in memory.
fn folding(world: &mut World) {
    world.config.segment_bytes = 1_000;
    world.config.segment_ms = 10;
    world.config.memory_bytes = 0;
    world.config.retention_check_ms = 1_000;
    world.folds = FoldLimits { runs: 4, kept: 1, folds: 3 };
}

/// Appends batches of two records each, a second apart, each of which becomes a run.
async fn runs(service: &Service, partition: TopicPartition, seconds: std::ops::Range<i64>) {
    for second in seconds {
        let batch = batch_of(0, &[second * 1_000, second * 1_000 + 500], 1);
        append(service, partition, batch).await.unwrap();
        until("it is tiered", || service.journal().lock().untiered_bytes() == 0).await;
    }
    until("there is nothing to fold", || {
        let core = service.journal().lock();
        core.state.partitions.values().all(|partition| partition.runs.len() <= 4 && partition.folds.len() <= 3)
    })
    .await;
}

/// What is in the bucket is what the state refers to, and nothing else.
async fn objects_are_right(world: &World, service: &Service) -> usize {
    let keys = service.journals[&JOURNAL].store.keys.clone();
    for _ in 0..10_000 {
        let state = service.journal().lock().state.clone();
        if state.garbage.is_empty() && state.closing.is_empty() {
            let referred = crate::folds::objects(&world.bucket, &keys, &state).await.unwrap();
            let there = world.bucket.list(&keys.segments()).await.unwrap();
            let there: Vec<String> = there.into_iter().map(|object| object.key).collect();
            assert_eq!(there, referred.iter().map(|name| keys.segment(*name)).collect::<Vec<_>>());
            return there.len();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("what nothing refers to is not deleted");
}

#[tokio::test(start_paused = true)]
async fn what_is_folded_is_read_and_found_as_before() {
    let mut world = World::new(1);
    folding(&mut world);
    let service = world.start().await.unwrap();
    runs(&service, at(0, 0), 0..60).await;
    runs(&service, at(0, 1), 0..20).await;
    let level = |service: &Service| {
        let core = service.journal().lock();
        core.state.partitions[&at(0, 0)].folds.iter().map(|fold| fold.level).max()
    };
    assert!(level(&service) >= Some(2), "a tree");
    for restarted in [false, true] {
        let service = match restarted {
            false => service.clone(),
            true => {
                world.crash(service.clone()).await;
                world.start().await.unwrap()
            }
        };
        let batches = read_all(&world, &service, at(0, 0)).await;
        assert_eq!(bases(&batches), (0..60).map(|n| n * 2).collect::<Vec<_>>());
        assert_eq!(read_all(&world, &service, at(0, 1)).await.len(), 20);
        for (time, expected) in [(0, (0, 0)), (1, (1, 500)), (7_001, (15, 7_500)), (59_500, (119, 59_500))] {
            assert_eq!(find(&service, at(0, 0), OffsetSpec::Timestamp(time)).await, expected, "{time}");
        }
        assert_eq!(find(&service, at(0, 0), OffsetSpec::Timestamp(59_501)).await, (-1, -1));
        assert_eq!(find(&service, at(0, 0), OffsetSpec::MaxTimestamp).await, (119, 59_500));
        assert_eq!(find(&service, at(0, 0), OffsetSpec::LatestTiered).await, (119, -1));
        assert_eq!(find(&service, at(0, 0), OffsetSpec::EarliestPendingUpload).await, (120, -1));
        objects_are_right(&world, &service).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_largest_time_is_found_in_a_fold_and_not_below_the_log_start() {
    let mut world = World::new(1);
    folding(&mut world);
    let service = world.start().await.unwrap();
    for n in 0..40_i64 {
        // It rises to 20 and falls again.
        let time = 1_000 * (20 - (n - 20).abs());
        append(&service, at(0, 0), batch_of(0, &[time, time], 0)).await.unwrap();
        until("it is tiered", || service.journal().lock().untiered_bytes() == 0).await;
    }
    runs(&service, at(0, 1), 0..1).await;
    assert_eq!(find(&service, at(0, 0), OffsetSpec::MaxTimestamp).await, (40, 20_000));
    assert_eq!(find(&service, at(0, 0), OffsetSpec::Timestamp(15_000)).await, (30, 15_000));
    delete(&service, at(0, 0), Some(43)).await.unwrap();
    assert_eq!(find(&service, at(0, 0), OffsetSpec::MaxTimestamp).await, (43, 19_000));
    assert_eq!(find(&service, at(0, 0), OffsetSpec::Timestamp(18_500)).await, (43, 19_000));
    assert_eq!(find(&service, at(0, 0), OffsetSpec::Timestamp(19_001)).await, (-1, -1));
}

#[tokio::test(start_paused = true)]
async fn retention_takes_runs_out_of_folds() {
    let mut world = World::new(1);
    folding(&mut world);
    let service = world.start().await.unwrap();
    set(&world, 0, &[("retention.ms", "-1")]);
    runs(&service, at(0, 0), 0..60).await;
    let before = objects_are_right(&world, &service).await;
    set(&world, 0, &[("retention.ms", "1000")]);
    for (now, expected) in [(5_501, 10), (8_501, 16), (37_501, 74), (50_501, 100)] {
        world.clock.set(now);
        until("exactly what is too old goes", || log_start(&service, at(0, 0)) >= expected).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(log_start(&service, at(0, 0)), expected);
        assert_eq!(bases(&read_from(&world, &service, at(0, 0), expected).await)[0], expected);
        objects_are_right(&world, &service).await;
    }
    assert_eq!(read_error(&service, at(0, 0), 99).await.map(|_| ()), Some(()));
    let after = objects_are_right(&world, &service).await;
    assert!(after < before / 3, "{after} objects of {before}");
    // By size, in whole runs.
    let bytes = |service: &Service| {
        let core = service.journal().lock();
        let partition = &core.state.partitions[&at(0, 0)];
        let folded: u64 = partition.folds.iter().map(|fold| fold.bytes).sum();
        folded + partition.runs.iter().map(|run| run.length).sum::<u64>()
    };
    let each = bytes(&service) / 10;
    set(&world, 0, &[("retention.ms", "-1"), ("retention.bytes", &(each * 7 - 1).to_string())]);
    until("some goes", || log_start(&service, at(0, 0)) > 100).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(log_start(&service, at(0, 0)), 106, "as many as leave that much");
    objects_are_right(&world, &service).await;
    assert_eq!(bytes(&service), each * 7, "what has gone is not counted");
}

async fn read_from(world: &World, service: &Service, partition: TopicPartition, offset: i64) -> Vec<Batch> {
    let Records::Tiered(runs) = service.read(read_request(partition, offset)).await.unwrap().records else {
        return Vec::new();
    };
    let index = tidemark_segment::SegmentIndex::read(&world.bucket, &runs[0].object, runs[0].object_size).await;
    let index = index.unwrap();
    let indexed = index.run(partition).unwrap();
    let span = indexed.blocks_span(0..indexed.blocks.len()).unwrap();
    let bytes = world.bucket.get_range(&runs[0].object, span.bytes.clone()).await.unwrap();
    indexed.decode(&span, &bytes).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_leaves_nothing_behind_in_index_objects() {
    let mut world = World::new(1);
    folding(&mut world);
    let service = world.start().await.unwrap();
    // Runs of both topics are in the same segments.
    for _ in 0..40 {
        let both = [at(0, 0), at(1, 0)].map(|partition| append(&service, partition, plain(200)));
        for answer in both {
            answer.await.unwrap();
        }
        until("it is tiered", || service.journal().lock().untiered_bytes() == 0).await;
    }
    runs(&service, at(0, 1), 0..1).await;
    let before = objects_are_right(&world, &service).await;
    delete(&service, at(0, 0), Some(33)).await.unwrap();
    delete(&service, at(1, 0), Some(11)).await.unwrap();
    let after = objects_are_right(&world, &service).await;
    assert!(after <= before - 10, "{after} of {before}");
    assert_eq!(bases(&read_from(&world, &service, at(1, 0), 11).await), [11]);
    world.delete_topic(1);
    tokio::time::sleep(Duration::from_secs(3_000)).await;
    objects_are_right(&world, &service).await;
    world.crash(service).await;
    let service = world.start().await.unwrap();
    assert_eq!(log_start(&service, at(0, 0)), 33);
    delete(&service, at(0, 0), None).await.unwrap();
    delete(&service, at(0, 1), None).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3_000)).await;
    assert_eq!(objects_are_right(&world, &service).await, 0);
    assert_eq!(append(&service, at(0, 0), plain(10)).await.unwrap().base_offset, 40);
}

#[tokio::test(start_paused = true)]
async fn an_index_object_that_is_damaged_is_said_and_stops_nothing() {
    let mut world = World::new(1);
    folding(&mut world);
    let service = world.start().await.unwrap();
    runs(&service, at(0, 0), 0..6).await;
    let object = service.journal().lock().state.partitions[&at(0, 0)].folds[0].object;
    world.bucket.delete(&[service.journals[&JOURNAL].store.keys.segment(object)]).await.unwrap();
    world.crash(service).await;
    let service = world.start().await.unwrap();
    assert!(matches!(read_error(&service, at(0, 0), 0).await, Some(StorageError::Unavailable(_))));
    delete(&service, at(0, 0), Some(2)).await.unwrap();
    let newest = service.read(read_request(at(0, 0), 11)).await.unwrap().records;
    assert!(matches!(newest, Records::Tiered(_)), "what is not folded is read");
    append(&service, at(0, 0), plain(10)).await.unwrap();
    until("tiering goes on", || service.journal().lock().untiered_bytes() == 0).await;
    assert!(service.tier_health().borrow().is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_mostly_dead_is_rewritten_though_what_lives_in_it_is_folded() {
    let mut world = World::new(1);
    folding(&mut world);
    let service = world.start().await.unwrap();
    for _ in 0..12 {
        let both = [append(&service, at(0, 0), plain(200)), append(&service, at(1, 0), plain(1_500))];
        for answer in both {
            answer.await.unwrap();
        }
        until("it is tiered", || service.journal().lock().untiered_bytes() == 0).await;
    }
    runs(&service, at(0, 1), 0..1).await;
    assert!(!service.journal().lock().state.partitions[&at(0, 0)].folds.is_empty());
    let stored = async || -> u64 { world.bucket.list("").await.unwrap().iter().map(|object| object.size).sum() };
    let before = stored().await;
    assert!(before > 12 * 1_700, "{before}");
    world.delete_topic(1);
    tokio::time::sleep(Duration::from_secs(9_000)).await;
    objects_are_right(&world, &service).await;
    let state = service.journal().lock().state.clone();
    let dead = state.segments.values().filter(|segment| segment.is_mostly_dead()).count();
    assert_eq!(dead, 0, "{:#?}", state.segments);
    let after = stored().await;
    assert!(after < before / 2, "{after} of {before}");
    assert_eq!(read_all(&world, &service, at(0, 0)).await.len(), 12);
    assert!(state.partitions[&at(0, 0)].runs.len() <= 8);
}
