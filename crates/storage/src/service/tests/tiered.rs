//! Tiering, checkpoints and trimming, with an object store that fails.

use tidemark_segment::testing::{Fault as StoreFault, Faults, Request};

use super::*;

/// An object store that is there or not.
#[derive(Debug, Default)]
pub(super) struct Switch(std::sync::atomic::AtomicBool);

impl Switch {
    pub(super) fn set(&self, down: bool) {
        self.0.store(down, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Faults for Switch {
    fn next(&self, _: Request, _: &str) -> StoreFault {
        if self.0.load(std::sync::atomic::Ordering::Relaxed) { StoreFault::SlowDown } else { StoreFault::None }
    }
}

pub(super) fn tiering(world: &mut World) {
    world.config.segment_bytes = 20_000;
    world.config.segment_ms = 5_000;
}

pub(super) async fn segments(world: &World) -> usize {
    let objects = world.bucket.list("").await.unwrap();
    objects.iter().filter(|object| object.key.ends_with(".segment")).count()
}

pub(super) async fn fill(service: &Service, partition: TopicPartition, count: i32) {
    for _ in 0..count {
        append(service, partition, plain(1_000)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn history_goes_to_the_object_store_and_is_read_from_there() {
    let mut world = World::new(1);
    tiering(&mut world);
    let service = world.start().await.unwrap();
    for partition in 0..3 {
        fill(&service, at(0, partition), 40).await;
    }
    until("all is tiered by size or age", || service.journal().lock().untiered_bytes() == 0).await;
    assert!(segments(&world).await >= 5);
    let Records::Tiered(runs) = service.read(read_request(at(0, 0), 5)).await.unwrap().records else { panic!() };
    assert!(runs[0].first_offset <= 5 && 5 <= runs[0].last_offset);
    for partition in 0..3 {
        let expected: Vec<i64> = (0..40).collect();
        assert_eq!(bases(&read_all(&world, &service, at(0, partition)).await), expected);
    }
    assert_eq!(find(&service, at(0, 0), OffsetSpec::LatestTiered).await, (39, -1));
    assert_eq!(find(&service, at(0, 0), OffsetSpec::EarliestPendingUpload).await, (40, -1));
    let (local, _) = find(&service, at(0, 0), OffsetSpec::EarliestLocal).await;
    assert!(local > 5, "{local}");
    // Without any checkpoint the log has it all, and the restart reads the manifest's entries from it.
    world.crash(service).await;
    let service = world.start().await.unwrap();
    assert_eq!(service.journal().lock().untiered_bytes(), 0);
    assert_eq!(read_all(&world, &service, at(0, 1)).await.len(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_time_is_found_in_the_object_store() {
    let mut world = World::new(1);
    tiering(&mut world);
    let service = world.start().await.unwrap();
    for n in 0..50 {
        append(&service, at(0, 0), batch_of(0, &[n * 100, n * 100 + 50], 1)).await.unwrap();
    }
    until("all is tiered", || service.journal().lock().untiered_bytes() == 0).await;
    service.shutdown().await;
    drop(service);
    let service = world.start().await.unwrap();
    append(&service, at(0, 0), batch_of(0, &[6_000], 0)).await.unwrap();
    assert_eq!(find(&service, at(0, 0), OffsetSpec::Timestamp(1_201)).await, (25, 1_250));
    assert_eq!(find(&service, at(0, 0), OffsetSpec::Timestamp(4_951)).await, (100, 6_000));
    assert_eq!(find(&service, at(0, 0), OffsetSpec::MaxTimestamp).await, (100, 6_000));
    assert_eq!(find(&service, at(0, 0), OffsetSpec::EarliestLocal).await, (100, -1));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_lets_the_log_go_and_a_restart_needs_only_what_is_behind_it() {
    let mut world = World::new(1);
    tiering(&mut world);
    let service = world.start().await.unwrap();
    fill(&service, at(0, 0), 600).await;
    until("a checkpoint", || service.journal().lock().state.checkpoint.is_some()).await;
    until("the log is trimmed", || service.journal().files.used() < 8 * world.config.wal_file_bytes).await;
    append(&service, at(0, 0), sequenced(0, 5)).await.unwrap();
    let files = world.disk.paths().len();
    assert!(files < 20, "{files} files");
    // Of the files that were removed, some are there again: nothing made their removal durable.
    world.crash(service).await;
    let service = world.start().await.unwrap();
    assert_eq!(read_all(&world, &service, at(0, 0)).await.len(), 601);
    assert_eq!(append(&service, at(0, 0), sequenced(0, 5)).await.unwrap().base_offset, 600, "a duplicate");
    // The log alone does not reach back far enough.
    service.shutdown().await;
    drop(service);
    let objects = world.bucket.list("").await.unwrap();
    let checkpoints: Vec<String> =
        objects.into_iter().map(|object| object.key).filter(|key| key.ends_with(".checkpoint")).collect();
    assert_eq!(checkpoints.len(), 1, "older ones are deleted");
    world.bucket.delete(&checkpoints).await.unwrap();
    assert!(matches!(world.start().await, Err(StartError::Recovery(_))));
}

#[tokio::test(start_paused = true)]
async fn an_object_store_that_is_gone_is_back_pressure_and_then_catches_up() {
    let switch = Arc::new(Switch::default());
    let mut world = World::with_store_faults(1, switch.clone());
    tiering(&mut world);
    world.config.wal_max_bytes = 2_000_000;
    let service = world.start().await.unwrap();
    switch.set(true);
    let mut acked = 0;
    while append(&service, at(0, 0), plain(1_000)).await.is_ok() {
        acked += 1;
    }
    assert!(acked > 300, "{acked}");
    let mut health = service.tier_health();
    health.wait_for(Result::is_err).await.unwrap();
    assert!(service.wal_health().borrow().is_ok());
    assert_eq!(read_all(&world, &service, at(0, 0)).await.len(), acked, "reads go on");
    switch.set(false);
    health.wait_for(Result::is_ok).await.unwrap();
    until("there is room", || service.journal().files.used() < 1_000_000).await;
    append(&service, at(0, 0), plain(1_000)).await.unwrap();
    assert_eq!(read_all(&world, &service, at(0, 0)).await.len(), acked + 1);
    until("nothing is left of the failed attempts", || service.journal().lock().state.intents.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_tiered_before_a_crash_is_trimmed_after_it() {
    let mut world = World::new(1);
    tiering(&mut world);
    let service = world.start().await.unwrap();
    let full = 5 * world.config.wal_file_bytes;
    while service.journal().files.used() < full {
        fill(&service, at(0, 0), 1).await;
        assert!(service.journal().lock().state.checkpoint.is_none(), "the appends leave no time for one");
    }
    world.crash(service).await;
    world.config.wal_max_bytes = full + world.config.wal_file_bytes;
    let service = world.start().await.unwrap();
    until("there is room again", || service.journal().files.used() < full / 2).await;
    fill(&service, at(0, 0), 20).await;
}

/// Counts the segments that were put, and ends the journal with the first: nothing can be appended after the PUT.
struct EndAtPut(std::sync::OnceLock<Arc<Service>>);

impl Faults for EndAtPut {
    fn next(&self, request: Request, key: &str) -> StoreFault {
        if let Some(service) = self.0.get().filter(|_| request == Request::Put && key.ends_with(".segment")) {
            service.journal().end("crashed between the PUT and the manifest");
        }
        StoreFault::None
    }
}

impl std::fmt::Debug for EndAtPut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EndAtPut")
    }
}

#[tokio::test(start_paused = true)]
async fn an_orphan_of_a_crash_is_deleted_by_the_next_start() {
    let faults = Arc::new(EndAtPut(std::sync::OnceLock::new()));
    let mut world = World::with_store_faults(1, faults.clone());
    tiering(&mut world);
    let service = world.start().await.unwrap();
    fill(&service, at(0, 0), 10).await;
    faults.0.set(service.clone()).unwrap();
    until("the journal ends", || service.wal_health().borrow().is_err()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((segments(&world).await, service.journal().lock().state.intents.len()), (1, 1), "an orphan");
    world.crash(service).await;
    // The segment that is put now is put by another journal, whose end nobody asks for.
    let service = world.start().await.unwrap();
    until("the orphan is gone", || service.journal().lock().state.intents.is_empty()).await;
    assert_eq!(segments(&world).await, 0);
    until("all is tiered again", || service.journal().lock().untiered_bytes() == 0).await;
    assert_eq!(segments(&world).await, 1);
    assert_eq!(read_all(&world, &service, at(0, 0)).await.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn objects_of_a_deleted_topic_go_after_a_checkpoint_and_the_grace() {
    let mut world = World::new(1);
    tiering(&mut world);
    let service = world.start().await.unwrap();
    fill(&service, at(0, 0), 20).await;
    until("topic 0 is tiered", || service.journal().lock().untiered_bytes() == 0).await;
    fill(&service, at(1, 0), 20).await;
    until("topic 1 is tiered", || service.journal().lock().untiered_bytes() == 0).await;
    let before = segments(&world).await;
    world.delete_topic(0);
    until("its objects are garbage", || !service.journal().lock().state.garbage.is_empty()).await;
    assert_eq!(segments(&world).await, before);
    until("they are deleted", || service.journal().lock().state.garbage.is_empty()).await;
    let after = segments(&world).await;
    assert!(0 < after && after < before, "{before} before, {after} after");
    assert_eq!(read_all(&world, &service, at(1, 0)).await.len(), 20);
    let state = service.journal().lock().state.clone();
    assert_eq!(state.segments.len(), after);
    assert!(state.checkpoint.is_some());
}
