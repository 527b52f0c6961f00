//! Tail streams that begin behind the memory.

use super::*;

/// A node that has little in memory of what is in the log.
async fn filled(world: &World, size: usize, each: usize) -> Arc<Service> {
    let service = world.start().await.unwrap();
    for _ in 0..each {
        for partition in 0..PARTITIONS as i32 {
            append(&service, at(0, partition), plain(size)).await.unwrap();
        }
    }
    service
}

/// What comes of a stream until each partition has come to `end`.
async fn read_to(tail: &mut Tailing, end: i64) -> [Vec<i64>; PARTITIONS] {
    let mut read = [const { Vec::new() }; PARTITIONS];
    while read.iter().any(|offsets| offsets.len() < end as usize) {
        let (partition, high_watermark, more) = tail.batches().await;
        assert_eq!(high_watermark, end);
        read[partition.partition as usize].extend(more);
    }
    read
}

#[tokio::test(start_paused = true)]
async fn partitions_that_are_behind_are_read_in_one_pass_and_then_go_on_at_the_tail() {
    let world = World::new(1);
    let service = filled(&world, 2_000, 100).await;
    let mut tail = Tailing::new(&service);
    let before = world.disk.reads();
    for partition in 0..PARTITIONS as i32 {
        tail.subscribe(at(0, partition), 0, 1 << 20);
    }
    let expected: Vec<i64> = (0..100).collect();
    assert_eq!(read_to(&mut tail, 100).await, [expected.clone(), expected.clone(), expected]);
    /// Each batch has a block to itself, and 15 of them a file.
    const FILES: usize = 300 / 15 + 1;
    let reads = world.disk.reads() - before;
    assert!(reads <= FILES, "{reads} reads: the partitions lie side by side, and are read together");
    append(&service, at(0, 1), plain(10)).await.unwrap();
    assert_eq!(tail.batches().await, (at(0, 1), 101, vec![100]));
    assert!(tail.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn what_is_behind_comes_as_credit_allows_and_stalls_nobody() {
    let world = World::new(1);
    let service = filled(&world, 2_000, 40).await;
    let mut tail = Tailing::new(&service);
    tail.subscribe(at(0, 0), 3, 1);
    assert_eq!(tail.batches().await, (at(0, 0), 40, vec![3]), "any credit is good for one batch");
    assert!(tail.is_silent().await, "and then there is none");
    tail.subscribe(at(0, 1), 0, 1);
    assert_eq!(tail.batches().await, (at(0, 1), 40, vec![0]));
    append(&service, at(1, 0), plain(10)).await.unwrap();
    tail.subscribe(at(1, 0), 0, 1_000);
    assert_eq!(tail.batches().await.0, at(1, 0));
    tail.commands.send(TailCommand::Credit { partition: at(0, 0), bytes: 2 * 2_061 + 2_060 }).unwrap();
    assert_eq!(tail.batches().await, (at(0, 0), 40, vec![4]));
    assert_eq!(tail.batches().await, (at(0, 0), 40, vec![5]));
    assert!(tail.is_silent().await);
}

/// Also while a scan is under way, what it reads is of the subscription that it was begun for.
#[tokio::test(start_paused = true)]
async fn a_subscription_that_begins_anew_gets_nothing_of_the_one_before() {
    let world = World::new(1);
    let service = filled(&world, 2_000, 40).await;
    world.disk.set_latency(Duration::from_millis(50));
    let mut tail = Tailing::new(&service);
    tail.subscribe(at(0, 0), 0, 5_000);
    assert!(tokio::time::timeout(Duration::ZERO, tail.events.next()).await.is_err(), "the scan has begun");
    tail.commands.send(TailCommand::Unsubscribe { partition: at(0, 0) }).unwrap();
    tail.subscribe(at(0, 0), 10, 1);
    assert_eq!(tail.batches().await, (at(0, 0), 40, vec![10]));
    assert!(tail.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_ends_the_subscription_and_another_goes_on() {
    let world = World::new(1);
    let service = filled(&world, 2_000, 40).await;
    let mut tail = Tailing::new(&service);
    world.disk.inject(Operation::Read, [Fault::Io]);
    tail.subscribe(at(0, 0), 0, 1_000);
    assert!(matches!(tail.ended().await, (partition, StorageError::Unavailable(_)) if partition == at(0, 0)));
    tail.subscribe(at(0, 0), 0, 1);
    assert_eq!(tail.batches().await.2, [0]);
    let log = std::path::PathBuf::from(format!("/data/wal/{:016x}/0001.wal", world.coordinator.logs()[0]));
    // In the records of the second batch of partition 0.
    world.disk.edit(&log, |bytes| bytes[4 * 4096 + 1_500] ^= 1);
    tail.commands.send(TailCommand::Credit { partition: at(0, 0), bytes: 5_000 }).unwrap();
    assert!(matches!(tail.ended().await.1, StorageError::Corrupt(_)));
    assert!(matches!(service.read(read_request(at(0, 0), 1)).await, Err(StorageError::Corrupt(_))));
    tail.subscribe(at(0, 1), 5, 1_000);
    assert_eq!(tail.batches().await.2, [5]);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_freed_before_it_is_read_sends_the_reader_elsewhere() {
    let world = World::new(1);
    let service = filled(&world, 2_000, 40).await;
    let mut tail = Tailing::new(&service);
    tail.subscribe(at(0, 0), 0, 1);
    assert_eq!(tail.batches().await.2, [0]);
    let files = service.journal().files.clone();
    world.disk.set_latency(Duration::from_secs(1));
    tail.commands.send(TailCommand::Credit { partition: at(0, 0), bytes: 5_000 }).unwrap();
    assert!(tokio::time::timeout(Duration::ZERO, tail.events.next()).await.is_err(), "the scan has begun");
    // As trimming does, once it is all in the object store.
    assert!(files.trim(u64::MAX) > 0);
    assert!(matches!(tail.ended().await, (partition, StorageError::Unavailable(_)) if partition == at(0, 0)));
}

#[tokio::test(start_paused = true)]
async fn what_is_only_in_the_object_store_is_not_on_the_stream() {
    let mut world = World::new(1);
    tiered::tiering(&mut world);
    let service = filled(&world, 2_000, 40).await;
    until("all is tiered", || service.journal().lock().untiered_bytes() == 0).await;
    let mut tail = Tailing::new(&service);
    tail.subscribe(at(0, 0), 0, 1_000);
    assert!(matches!(tail.ended().await.1, StorageError::Unavailable(_)));
    assert!(matches!(service.read(read_request(at(0, 0), 0)).await.unwrap().records, Records::Tiered(_)));
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_while_it_is_read_is_not_served_on() {
    let world = World::new(1);
    let service = filled(&world, 2_000, 40).await;
    let mut tail = Tailing::new(&service);
    tail.subscribe(at(0, 0), 0, 1);
    assert_eq!(tail.batches().await.2, [0]);
    let delete = tidemark_model::storage::RecordDeletion {
        journal: JOURNAL,
        partition: at(0, 0),
        revision: 1,
        before: Some(10),
        timeout: Duration::from_secs(1),
    };
    let deleted = service.delete_records(vec![delete]);
    let (_, event) = tokio::join!(deleted, tail.events.next());
    let told =
        |event| matches!(event, Some(Ok(TailEvent::Ended { reason: StorageError::OffsetOutOfRange { .. }, .. })));
    assert!(told(event), "the next offset is below the log start now");
}
