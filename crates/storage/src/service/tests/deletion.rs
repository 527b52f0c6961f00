//! Log starts that move: DeleteRecords and retention.

use futures::FutureExt as _;
use tidemark_model::storage::RecordDeletion;

use super::tiered::{fill, segments, tiering};
use super::*;

const TIMEOUT: Duration = Duration::from_secs(10);

fn deletion(partition: TopicPartition, before: Option<i64>) -> RecordDeletion {
    RecordDeletion { journal: JOURNAL, partition, revision: 1, before, timeout: TIMEOUT }
}

pub(super) async fn delete(
    service: &Service,
    partition: TopicPartition,
    before: Option<i64>,
) -> Result<i64, StorageError> {
    service.delete_records(vec![deletion(partition, before)]).await.remove(0)
}

fn out_of_range(log_start_offset: i64, high_watermark: i64) -> StorageError {
    StorageError::OffsetOutOfRange { log_start_offset, high_watermark }
}

pub(super) async fn read_error(service: &Service, partition: TopicPartition, offset: i64) -> Option<StorageError> {
    service.read(read_request(partition, offset)).await.err()
}

pub(super) fn log_start(service: &Service, partition: TopicPartition) -> i64 {
    service.journal().lock().state.partitions[&partition].log_start
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_exact_and_lasts() {
    let world = World::new(1);
    let service = world.start().await.unwrap();
    for n in 0..10 {
        append(&service, at(0, 0), sequenced(n * 5, 5)).await.unwrap();
    }
    append(&service, at(0, 1), plain(10)).await.unwrap();
    assert_eq!(delete(&service, at(0, 0), Some(51)).await, Err(out_of_range(0, 50)));
    assert_eq!(delete(&service, at(0, 0), Some(-2)).await, Err(out_of_range(0, 50)));
    assert_eq!(delete(&service, at(0, 0), Some(0)).await, Ok(0));
    assert_eq!(delete(&service, at(0, 2), None).await, Ok(0), "of a partition without records");
    assert_eq!(delete(&service, at(0, 2), Some(1)).await, Err(out_of_range(0, 0)));
    assert_eq!(delete(&service, at(0, 0), Some(12)).await, Ok(12));
    assert_eq!(delete(&service, at(0, 0), Some(7)).await, Ok(12), "it never goes back");
    assert_eq!(delete(&service, at(9, 0), None).await, Err(StorageError::UnknownPartition(at(9, 0))));

    assert_eq!(read_error(&service, at(0, 0), 11).await, Some(out_of_range(12, 50)));
    let Records::Batches(batches) = service.read(read_request(at(0, 0), 12)).await.unwrap().records else { panic!() };
    assert_eq!(batches[0].base_offset, 10, "the batch that holds it");
    assert_eq!(find(&service, at(0, 0), OffsetSpec::Earliest).await.0, 12);
    assert_eq!(find(&service, at(0, 0), OffsetSpec::EarliestLocal).await.0, 12);
    assert_eq!(read_error(&service, at(0, 1), 0).await, None, "nobody else's moved");
    world.crash(service).await;
    let service = world.start().await.unwrap();
    assert_eq!(read_error(&service, at(0, 0), 11).await, Some(out_of_range(12, 50)));
    assert_eq!(delete(&service, at(0, 0), None).await, Ok(50));
    assert_eq!(append(&service, at(0, 0), sequenced(45, 5)).await.unwrap().base_offset, 45, "a duplicate still");
    assert_eq!(append(&service, at(0, 0), sequenced(50, 5)).await.unwrap().base_offset, 50);
    world.crash(service).await;
    let service = world.start().await.unwrap();
    assert_eq!(bases(&read_from(&service, at(0, 0), 50).await), [50]);
}

async fn read_from(service: &Service, partition: TopicPartition, offset: i64) -> Vec<Batch> {
    match service.read(read_request(partition, offset)).await.unwrap().records {
        Records::Batches(batches) => batches,
        Records::Tiered(runs) => panic!("{runs:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_answered_when_no_broker_serves_below_it() {
    let world = World::new(1);
    let service = world.start().await.unwrap();
    for n in 0..4 {
        append(&service, at(0, 0), sequenced(n * 5, 5)).await.unwrap();
    }
    let mut follower = Tailing::new(&service);
    follower.subscribe(at(0, 0), 20, 1 << 20);
    assert_eq!(follower.batches().await, (at(0, 0), 20, vec![]));
    let seen = |log_start_offset| TailCommand::Seen { partition: at(0, 0), log_start_offset };
    follower.commands.send(seen(0)).unwrap();

    let mut deleting = delete(&service, at(0, 0), Some(10)).boxed();
    assert!((&mut deleting).now_or_never().is_none());
    assert_eq!(follower.log_start().await, 10);
    assert!(tokio::time::timeout(TIMEOUT / 2, &mut deleting).await.is_err(), "told is not seen");
    follower.commands.send(seen(10)).unwrap();
    let next = follower.events.next();
    assert_eq!(tokio::select! { done = deleting => done, _ = next => panic!("no news") }, Ok(10));

    // One that fell behind is told that its subscription is over, and may serve until it says that it knows.
    let mut slow = Tailing::new(&service);
    slow.subscribe(at(0, 0), 10, 0);
    assert_eq!(slow.batches().await, (at(0, 0), 20, vec![]));
    slow.commands.send(seen(10)).unwrap();
    let mut deleting = delete(&service, at(0, 0), Some(15)).boxed();
    assert!((&mut deleting).now_or_never().is_none());
    assert_eq!(follower.log_start().await, 15);
    follower.commands.send(seen(15)).unwrap();
    assert!(follower.is_silent().await);
    assert_eq!(slow.ended().await, (at(0, 0), out_of_range(15, 20)));
    slow.commands.send(TailCommand::Unsubscribe { partition: at(0, 0) }).unwrap();
    let next = slow.events.next();
    assert_eq!(tokio::select! { done = deleting => done, _ = next => panic!("no news") }, Ok(15));

    // One that never says so costs the client's timeout, and the records are gone all the same.
    assert!(matches!(delete(&service, at(0, 0), Some(18)).await, Err(StorageError::TimedOut(_))));
    assert_eq!(log_start(&service, at(0, 0)), 18);
    drop(follower.events);
    assert_eq!(delete(&service, at(0, 0), None).await, Ok(20), "a stream that ended is not waited for");
}

#[tokio::test(start_paused = true)]
async fn what_was_deleted_before_it_was_tiered_never_is_and_what_was_tiered_goes() {
    let mut world = World::new(1);
    tiering(&mut world);
    let service = world.start().await.unwrap();
    fill(&service, at(0, 0), 10).await;
    fill(&service, at(0, 1), 4).await;
    assert_eq!(delete(&service, at(0, 0), Some(6)).await, Ok(6));
    assert_eq!(delete(&service, at(0, 1), None).await, Ok(4));
    until("all is tiered", || service.journal().lock().untiered_bytes() == 0).await;
    let runs = |partition| service.journal().lock().state.partitions[&partition].runs.clone();
    assert_eq!((runs(at(0, 0))[0].first_offset, runs(at(0, 0)).len(), runs(at(0, 1)).len()), (6, 1, 0));
    assert_eq!(find(&service, at(0, 1), OffsetSpec::EarliestPendingUpload).await.0, 4);
    // The log does not have it any more either, once it was trimmed, and a restart misses nothing.
    world.crash(service).await;
    let service = world.start().await.unwrap();
    assert_eq!(read_error(&service, at(0, 0), 5).await, Some(out_of_range(6, 10)));
    assert_eq!(delete(&service, at(0, 0), Some(8)).await, Ok(8));
    assert_eq!(service.journal().lock().state.partitions[&at(0, 0)].runs.len(), 1, "it holds records above");
    assert_eq!(delete(&service, at(0, 0), None).await, Ok(10));
    assert_eq!(segments(&world).await, 1);
    until("its object is deleted", || service.journal().lock().state.garbage.is_empty()).await;
    assert_eq!(segments(&world).await, 0);
    assert_eq!(append(&service, at(0, 0), plain(10)).await.unwrap().base_offset, 10);
    service.shutdown().await;
    drop(service);
    let service = world.start().await.unwrap();
    assert_eq!(log_start(&service, at(0, 0)), 10, "from the checkpoint");
}

#[tokio::test(start_paused = true)]
async fn a_time_is_not_found_below_the_log_start() {
    let mut world = World::new(1);
    tiering(&mut world);
    let service = world.start().await.unwrap();
    // The largest times come first.
    for n in 0..10 {
        append(&service, at(0, 0), batch_of(0, &[9_000 - n * 100, 8_950 - n * 100, 1_000 + n], 1)).await.unwrap();
    }
    assert_eq!(find(&service, at(0, 0), OffsetSpec::Timestamp(8_600)).await, (0, 9_000));
    assert_eq!(find(&service, at(0, 0), OffsetSpec::MaxTimestamp).await, (0, 9_000));
    delete(&service, at(0, 0), Some(13)).await.unwrap();
    let expected_first = (13, 8_550);
    assert_eq!(find(&service, at(0, 0), OffsetSpec::Timestamp(8_501)).await, expected_first);
    assert_eq!(find(&service, at(0, 0), OffsetSpec::Timestamp(8_551)).await, (-1, -1));
    assert_eq!(find(&service, at(0, 0), OffsetSpec::MaxTimestamp).await, expected_first);
    delete(&service, at(0, 0), Some(14)).await.unwrap();
    assert_eq!(find(&service, at(0, 0), OffsetSpec::MaxTimestamp).await, (15, 8_500), "in the next batch");
    until("all is tiered", || service.journal().lock().untiered_bytes() == 0).await;
    service.shutdown().await;
    drop(service);
    let service = world.start().await.unwrap();
    assert_eq!(find(&service, at(0, 0), OffsetSpec::MaxTimestamp).await, (15, 8_500), "from the object store");
    assert_eq!(find(&service, at(0, 0), OffsetSpec::Timestamp(8_401)).await, (15, 8_500));
    assert_eq!(find(&service, at(0, 0), OffsetSpec::Timestamp(8_501)).await, (-1, -1));
}

pub(super) fn set(world: &World, topic: u128, configs: &[(&str, &str)]) {
    world.change_view(|state| {
        let mut changed = topic_of(topic);
        changed.configs = configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        state.upsert(Record::Topic(changed));
    });
}

#[tokio::test(start_paused = true)]
async fn retention_by_age_takes_whole_runs_and_what_is_not_tiered() {
    let mut world = World::new(1);
    tiering(&mut world);
    world.config.retention_check_ms = 1_000;
    let service = world.start().await.unwrap();
    set(&world, 0, &[("retention.ms", "1000")]);
    for second in [10, 20, 30] {
        append(&service, at(0, 0), batch_of(0, &[second * 1_000], 0)).await.unwrap();
        append(&service, at(1, 0), batch_of(0, &[second * 1_000], 0)).await.unwrap();
        until("it is tiered", || service.journal().lock().untiered_bytes() == 0).await;
    }
    append(&service, at(0, 0), batch_of(0, &[40_000], 0)).await.unwrap();
    let runs = service.journal().lock().state.partitions[&at(0, 0)].runs.len();
    assert_eq!(runs, 3);
    world.clock.set(20_500);
    until("the first goes", || log_start(&service, at(0, 0)) == 1).await;
    world.clock.set(31_001);
    until("three have gone", || log_start(&service, at(0, 0)) == 3).await;
    assert_eq!(log_start(&service, at(1, 0)), 0, "a week is the default");
    assert_eq!(read_error(&service, at(0, 0), 2).await, Some(out_of_range(3, 4)));
    world.clock.set(41_001);
    until("all has gone", || log_start(&service, at(0, 0)) == 4).await;
    until("objects without any run are deleted", || service.journal().lock().state.garbage.is_empty()).await;
    assert_eq!(read_all(&world, &service, at(1, 0)).await.len(), 3, "of others nothing went with them");
    world.crash(service).await;
    let service = world.start().await.unwrap();
    assert_eq!(log_start(&service, at(0, 0)), 4);
    assert_eq!(append(&service, at(0, 0), plain(1)).await.unwrap().base_offset, 4);
}

#[tokio::test(start_paused = true)]
async fn retention_by_size_keeps_at_least_that_and_goes_on_without_the_object_store() {
    let switch = Arc::new(super::tiered::Switch::default());
    let mut world = World::with_store_faults(1, switch.clone());
    tiering(&mut world);
    world.config.retention_check_ms = 1_000;
    let service = world.start().await.unwrap();
    set(&world, 0, &[("retention.ms", "-1"), ("retention.bytes", "50000"), ("segment.bytes", "1048576")]);
    fill(&service, at(0, 0), 150).await;
    until("it is tiered", || service.journal().lock().untiered_bytes() == 0).await;
    until("some has gone", || log_start(&service, at(0, 0)) > 0).await;
    let kept = 150 - log_start(&service, at(0, 0));
    assert!((48..=80).contains(&kept), "{kept} records of about 1,060 bytes, in runs of about 19");
    // Without the object store what is not tiered is cut by `segment.bytes`, and goes by the same rule.
    switch.set(true);
    set(&world, 1, &[("retention.ms", "1000"), ("segment.ms", "5000")]);
    for second in [10, 11, 20, 21] {
        append(&service, at(1, 0), batch_of(0, &[second * 1_000], 0)).await.unwrap();
    }
    world.clock.set(15_000);
    until("the rolled piece goes", || log_start(&service, at(1, 0)) == 2).await;
}
