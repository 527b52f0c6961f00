//! Several journals on one node, and logs that come to their end.

use std::path::PathBuf;

use futures::future::BoxFuture;
use tidemark_model::storage::Appended;

use super::*;

const SECOND: JournalId = JournalId(2);

/// A node with two journals, and a topic with a partition in each.
fn two() -> World {
    let mut world = World::new(1);
    world.config.journals = 2;
    world.change_view(|state| {
        let mut topic = topic_of(5);
        topic.partitions[1].journal = SECOND;
        state.upsert(Record::Topic(topic));
    });
    world
}

fn append_to(
    service: &Service,
    journal: JournalId,
    at: TopicPartition,
    batch: Batch,
) -> BoxFuture<'static, Result<Appended, StorageError>> {
    let answer = service.append(tidemark_model::storage::AppendRequest { journal, ..request(vec![(at, batch)]) });
    Box::pin(async move { answer.await.remove(0) })
}

async fn read_from(service: &Service, journal: JournalId, at: TopicPartition) -> Vec<i64> {
    let request = tidemark_model::storage::ReadRequest { journal, ..read_request(at, 0) };
    let Records::Batches(batches) = service.read(request).await.unwrap().records else { panic!("tiered") };
    bases(&batches)
}

/// The directories that have files of a log.
fn log_dirs(world: &World) -> Vec<PathBuf> {
    let in_wal = |path: &PathBuf| path.starts_with("/data/wal");
    let mut dirs: Vec<_> =
        world.disk.paths().iter().filter(|path| in_wal(path)).map(|path| path.parent().unwrap().to_owned()).collect();
    dirs.dedup();
    dirs
}

fn dir_of(log: u64) -> PathBuf {
    PathBuf::from(format!("/data/wal/{log:016x}"))
}

#[tokio::test(start_paused = true)]
async fn journals_of_a_node_are_apart_and_are_all_there_after_a_restart() {
    let world = two();
    let service = world.start().await.unwrap();
    for n in 0..5 {
        assert_eq!(append_to(&service, JOURNAL, at(5, 0), plain(10)).await.unwrap().base_offset, n);
    }
    assert_eq!(append_to(&service, SECOND, at(5, 1), plain(10)).await.unwrap().base_offset, 0);
    let elsewhere = append_to(&service, SECOND, at(5, 0), plain(10)).await;
    assert!(matches!(elsewhere, Err(StorageError::NotLeader(_))), "{elsewhere:?}");
    let unknown = append_to(&service, JournalId(3), at(5, 0), plain(10)).await;
    assert!(matches!(unknown, Err(StorageError::NotLeader(_))), "{unknown:?}");
    let mut tail = Tailing::new(&service);
    for (journal, partition) in [(JOURNAL, at(5, 0)), (SECOND, at(5, 1))] {
        tail.subscribe_in(journal, partition, 0, 1_000);
        assert_eq!(tail.batches().await.0, partition);
    }
    // One log fails; the other journal goes on.
    world.disk.inject(Operation::Write, [Fault::Io]);
    world.coordinator.refuse(Some(CoordinatorError::Unavailable("down".into())));
    append_to(&service, JOURNAL, at(5, 0), plain(10)).await.unwrap_err();
    let why = service.wal_health().borrow().clone().unwrap_err();
    assert!(why.starts_with("journal 1: "), "{why}");
    append_to(&service, SECOND, at(5, 1), plain(10)).await.unwrap();
    world.coordinator.refuse(None);
    service.wal_health().wait_for(Result::is_ok).await.unwrap();
    drop(tail);
    service.shutdown().await;
    drop(service);

    let service = world.start().await.unwrap();
    assert_eq!(read_from(&service, JOURNAL, at(5, 0)).await, [0, 1, 2, 3, 4]);
    assert_eq!(read_from(&service, SECOND, at(5, 1)).await, [0, 1]);
    assert_eq!(log_dirs(&world).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_gets_more_journals_and_never_fewer() {
    let mut world = two();
    world.config.journals = 1;
    let service = world.start().await.unwrap();
    append_to(&service, JOURNAL, at(5, 0), plain(10)).await.unwrap();
    service.shutdown().await;
    drop(service);
    for journals in [2, 1] {
        world.config.journals = journals;
        let service = world.start().await.unwrap();
        append_to(&service, SECOND, at(5, 1), plain(10)).await.unwrap();
        assert_eq!(read_from(&service, JOURNAL, at(5, 0)).await, [0]);
        service.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_emptied_log_is_another_and_the_others_stay() {
    let world = two();
    let service = world.start().await.unwrap();
    append_to(&service, JOURNAL, at(5, 0), plain(10)).await.unwrap();
    append_to(&service, SECOND, at(5, 1), plain(10)).await.unwrap();
    service.shutdown().await;
    drop(service);
    let [first, second] = world.coordinator.logs()[..] else { panic!("two journals") };
    crate::disk::Disk::remove(&world.disk, &dir_of(first).join("0001.wal")).unwrap();
    let service = world.start().await.unwrap();
    assert_eq!(read_from(&service, SECOND, at(5, 1)).await, [0]);
    let gone = append_to(&service, JOURNAL, at(5, 0), plain(10)).await;
    assert!(matches!(gone, Err(StorageError::NotLeader(_))), "{gone:?}");
    let logs = world.coordinator.logs();
    assert_eq!((logs.len(), logs[1]), (3, second), "the new log is of a third journal");
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_the_logs_is_of_all_together_and_the_fullest_makes_room() {
    let mut world = two();
    world.config.wal_max_bytes = 500_000;
    world.config.wal_file_bytes = 16 << 10;
    let service = world.start().await.unwrap();
    append_to(&service, SECOND, at(5, 1), plain(5_000)).await.unwrap();
    for _ in 0..300 {
        // Many times the limit: tiering has to keep up.
        while append_to(&service, JOURNAL, at(5, 0), plain(5_000)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let small = &service.journals[&SECOND].journal;
    assert!(small.lock().untiered_bytes() > 0, "its share is small, and nothing is gained by tiering it");
    assert!(service.journal().lock().state.tiered_through > 0);
}

#[tokio::test(start_paused = true)]
async fn a_log_with_a_failed_fdatasync_is_succeeded_by_a_copy_of_what_was_acknowledged() {
    let world = World::new(1);
    let service = world.start().await.unwrap();
    // More than one file.
    for n in 0..20 {
        append(&service, at(0, 0), sequenced(n * 5, 5)).await.unwrap();
        append(&service, at(0, 1), plain(9_000)).await.unwrap();
    }
    let old = world.coordinator.logs().remove(0);
    world.disk.inject(Operation::Sync, [Fault::Io]);
    assert!(append(&service, at(0, 0), sequenced(100, 5)).await.is_err());
    service.shutdown().await;
    drop(service);
    // The power stays: what was written without being durable can be read, and is not taken in.
    let service = world.start().await.unwrap();
    let new = world.coordinator.logs().remove(0);
    assert_ne!(new, old);
    assert_eq!(log_dirs(&world), [dir_of(new)], "the log that failed is gone");
    assert_eq!(read_all(&world, &service, at(0, 0)).await.len(), 20);
    assert_eq!(read_all(&world, &service, at(0, 1)).await.len(), 20);
    assert_eq!(append(&service, at(0, 0), sequenced(95, 5)).await.unwrap().base_offset, 95, "sequences are known");
    assert_eq!(append(&service, at(0, 0), sequenced(100, 5)).await.unwrap().base_offset, 100);
    world.crash(service).await;
    let service = world.start().await.unwrap();
    assert_eq!(world.coordinator.logs(), [new], "and is the log from then on");
    assert_eq!(read_all(&world, &service, at(0, 0)).await.len(), 21);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_does_not_come_to_its_end_is_made_again() {
    let world = World::new(1);
    let service = world.start().await.unwrap();
    for _ in 0..40 {
        append(&service, at(0, 0), plain(9_000)).await.unwrap();
    }
    let old = world.coordinator.logs().remove(0);
    world.disk.inject(Operation::Sync, [Fault::Io]);
    append(&service, at(0, 0), plain(10)).await.unwrap_err();
    world.crash(service).await;
    for fault in [(Operation::Write, Fault::Io), (Operation::Sync, Fault::Io), (Operation::Read, Fault::Io)] {
        world.disk.inject(fault.0, [fault.1]);
        let failed = world.start().await.unwrap_err();
        assert!(matches!(failed, StartError::Io { .. } | StartError::Recovery(_)), "{failed}");
        assert_eq!(world.coordinator.logs(), [old], "the coordinator hears of whole copies only");
    }
    // The copy is whole, and the node stops before the coordinator knows.
    world.coordinator.refuse(Some(CoordinatorError::Fenced("not now".into())));
    assert!(matches!(world.start().await, Err(StartError::Coordinator(_))));
    world.coordinator.refuse(None);
    let service = world.start().await.unwrap();
    assert_eq!(read_all(&world, &service, at(0, 0)).await.len(), 40);
    assert_eq!(log_dirs(&world), [dir_of(world.coordinator.logs()[0])]);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_lost_what_was_acknowledged_is_not_copied() {
    let world = World::new(1);
    let service = world.start().await.unwrap();
    append(&service, at(0, 0), plain(10)).await.unwrap();
    append(&service, at(0, 0), plain(10)).await.unwrap();
    world.disk.inject(Operation::Sync, [Fault::Io]);
    append(&service, at(0, 0), plain(10)).await.unwrap_err();
    service.shutdown().await;
    drop(service);
    let file = dir_of(world.coordinator.logs()[0]).join("0001.wal");
    let bytes = world.disk.bytes(&file);
    // Everything from the second batch's group on, as if it had never been written.
    world.disk.edit(&file, |bytes| bytes[2 * 4096..].fill(0));
    let refused = world.start().await.unwrap_err();
    assert!(matches!(refused, StartError::LostAcknowledged { .. }), "{refused}");
    world.disk.edit(&file, |now| *now = bytes);
    let service = world.start().await.unwrap();
    assert_eq!(read_all(&world, &service, at(0, 0)).await.len(), 2, "nothing was done to it");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_failed_before_it_was_opened_leaves_no_trace() {
    let world = World::new(1);
    world.disk.inject(Operation::Sync, [Fault::Io]);
    assert!(matches!(world.start().await, Err(StartError::Open(_))));
    let service = world.start().await.unwrap();
    assert_eq!(world.coordinator.logs().len(), 1, "the same journal");
    append(&service, at(0, 0), plain(10)).await.unwrap();
    assert_eq!(log_dirs(&world), [dir_of(world.coordinator.logs()[0])]);
}
