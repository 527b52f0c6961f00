mod catch_up;
mod deletion;
mod disk_faults;
mod folds;
mod journals;
mod merging;
mod outage;
mod producers;
mod tiered;

use std::time::Duration;

use futures::StreamExt as _;
use tidemark_model::storage::{
    EpochEnd, EpochQuery, FoundOffset, OffsetQuery, OffsetSpec, Records, TailCommand, TailEvent,
};
use tidemark_model::{Batch, CoordinatorError, NodeId, Record, Storage as _, StorageError, TopicPartition};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::*;
use crate::disk::sim::{Fault, Operation};
use crate::entry::tests::sample_batch;
use crate::lookup::tests::batch_of;
use crate::testing::*;

/// A batch of one record of nobody in particular.
fn plain(size: usize) -> Batch {
    sample_batch((-1, -1, -1), 1, 5, &vec![7; size])
}

fn sequenced(sequence: i32, count: i32) -> Batch {
    sample_batch((9, 0, sequence), count, 5, b"records")
}

fn bases(batches: &[Batch]) -> Vec<i64> {
    batches.iter().map(|batch| batch.base_offset).collect()
}

fn query(partition: TopicPartition, spec: OffsetSpec) -> OffsetQuery {
    OffsetQuery { journal: JOURNAL, partition, revision: 1, current_leader_epoch: None, spec }
}

async fn find(service: &Service, partition: TopicPartition, spec: OffsetSpec) -> (i64, i64) {
    let FoundOffset { offset, timestamp, .. } =
        service.list_offsets(vec![query(partition, spec)]).await.remove(0).unwrap();
    (offset, timestamp)
}

#[tokio::test(start_paused = true)]
async fn appends_get_offsets_and_are_read_back_also_after_a_restart() {
    let world = World::new(1);
    let service = world.start().await.unwrap();
    let answers: Vec<_> = (0..20).map(|n| append(&service, at(0, n % 2), sequenced((n / 2) * 5, 5))).collect();
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.await.unwrap().base_offset, n as i64 / 2 * 5);
    }
    service.shutdown().await;
    assert!(matches!(append(&service, at(0, 0), plain(1)).await, Err(StorageError::Unavailable(_))));
    drop(service);
    let service = world.start().await.unwrap();
    let batches = read_all(&world, &service, at(0, 1)).await;
    assert_eq!(bases(&batches), (0..10).map(|n| n * 5).collect::<Vec<_>>());
    assert!(batches.iter().all(|batch| batch.leader_epoch == 101 && batch.crc_matches()));
    let next = append(&service, at(0, 1), sequenced(50, 5)).await.unwrap();
    assert_eq!(next.base_offset, 50);
    let last = read_all(&world, &service, at(0, 1)).await.pop().unwrap();
    assert_eq!(last.leader_epoch, 102);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_has_the_offset_of_its_original_once_that_is_durable() {
    let world = World::new(1);
    let service = world.start().await.unwrap();
    let first = append(&service, at(0, 0), sequenced(0, 5));
    let again = append(&service, at(0, 0), sequenced(0, 5));
    // Both are under way: when the write fails, so does the duplicate.
    world.disk.inject(Operation::Write, [Fault::NoSpace { kept: 100 }]);
    assert!(matches!(first.await, Err(StorageError::Full(_))));
    assert!(matches!(again.await, Err(StorageError::Full(_))));
    service.wal_health().wait_for(Result::is_ok).await.unwrap();
    assert_eq!(append(&service, at(0, 0), sequenced(0, 5)).await.unwrap().base_offset, 0);
    assert_eq!(append(&service, at(0, 0), sequenced(5, 5)).await.unwrap().base_offset, 5);
    assert_eq!(world.coordinator.epoch(), 2, "something may have been written");
    service.shutdown().await;
    drop(service);
    let service = world.start().await.unwrap();
    assert_eq!(append(&service, at(0, 0), sequenced(0, 5)).await.unwrap().base_offset, 0, "known after a restart");
    assert!(matches!(
        append(&service, at(0, 0), sequenced(20, 5)).await,
        Err(StorageError::OutOfOrderSequence { expected: 10, got: 20, .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_undoes_offsets_and_sequences_of_all_that_is_queued_and_recovers_by_itself() {
    let world = World::new(1);
    let service = world.start().await.unwrap();
    append(&service, at(0, 0), sequenced(0, 5)).await.unwrap();
    world.disk.set_capacity(Some(world.config.wal_file_bytes));
    let answers: Vec<_> = (0..40).map(|_| append(&service, at(0, 1), plain(11_000))).collect();
    let behind = append(&service, at(0, 0), sequenced(5, 5));
    let answers = futures::future::join_all(answers).await;
    let acked = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!(acked > 0 && answers[acked..].iter().all(|answer| matches!(answer, Err(StorageError::Full(_)))));
    assert!(matches!(behind.await, Err(StorageError::Full(_))));
    assert_eq!(read_all(&world, &service, at(0, 1)).await.len(), acked, "reads go on");
    assert_eq!(append(&service, at(0, 0), sequenced(5, 5)).await.unwrap().base_offset, 5, "what fits is taken");
    world.disk.set_capacity(None);
    assert_eq!(append(&service, at(0, 1), plain(11_000)).await.unwrap().base_offset, acked as i64);
    assert!(service.wal_health().borrow().is_ok());
    assert_eq!(world.coordinator.epoch(), 1, "nothing was written, so that the epoch stands");
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_the_log_is_back_pressure() {
    let mut world = World::new(1);
    world.config.wal_max_bytes = 100_000;
    let service = world.start().await.unwrap();
    let mut acked = 0;
    let refused = loop {
        match append(&service, at(0, 0), plain(5_000)).await {
            Ok(_) => acked += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StorageError::Full(_)) && acked > 10, "{refused} after {acked}");
    assert_eq!(read_all(&world, &service, at(0, 0)).await.len(), acked);
}

#[tokio::test(start_paused = true)]
async fn after_a_failed_write_the_journal_goes_on_in_a_new_epoch() {
    let world = World::new(1);
    let service = world.start().await.unwrap();
    append(&service, at(0, 0), sequenced(0, 5)).await.unwrap();
    world.coordinator.refuse(Some(CoordinatorError::Unavailable("down".into())));
    world.disk.inject(Operation::Write, [Fault::Short(50), Fault::Io]);
    let mut health = service.wal_health();
    assert!(matches!(append(&service, at(0, 0), sequenced(5, 5)).await, Err(StorageError::Unavailable(_))));
    health.wait_for(Result::is_err).await.unwrap();
    assert!(append(&service, at(0, 0), sequenced(5, 5)).await.is_err(), "not before the new epoch");
    world.coordinator.refuse(None);
    health.wait_for(Result::is_ok).await.unwrap();
    assert_eq!(append(&service, at(0, 0), sequenced(5, 5)).await.unwrap().base_offset, 5);
    let batches = read_all(&world, &service, at(0, 0)).await;
    assert_eq!(batches.iter().map(|batch| batch.leader_epoch).collect::<Vec<_>>(), [101, 102]);
    world.crash(service).await;
    let service = world.start().await.unwrap();
    assert_eq!(bases(&read_all(&world, &service, at(0, 0)).await), [0, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_fdatasync_ends_the_log_until_a_restart() {
    let world = World::new(1);
    let service = world.start().await.unwrap();
    append(&service, at(0, 0), plain(10)).await.unwrap();
    world.disk.inject(Operation::Sync, [Fault::Io]);
    let failed = [append(&service, at(0, 0), plain(10)), append(&service, at(0, 0), plain(10))];
    for answer in failed {
        assert!(matches!(answer.await, Err(StorageError::Unavailable(_))));
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(matches!(append(&service, at(0, 0), plain(10)).await, Err(StorageError::Unavailable(_))));
    assert!(service.wal_health().borrow().is_err(), "not ready");
    assert_eq!(read_all(&world, &service, at(0, 0)).await.len(), 1, "reads go on");
    world.crash(service).await;
    let service = world.start().await.unwrap();
    assert!(!read_all(&world, &service, at(0, 0)).await.is_empty());
    append(&service, at(0, 0), plain(10)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_no_longer_the_way_is_refused() {
    let world = World::new(1);
    let service = world.start().await.unwrap();
    let send = |generation, broker| {
        let mut request = request(vec![(at(0, 0), plain(10))]);
        request.route.generation = generation;
        request.route.broker = NodeId(broker);
        let answer = service.append(request);
        async move { answer.await.remove(0) }
    };
    send(5, 2).await.unwrap();
    send(4, 2).await.unwrap();
    assert!(matches!(send(4, 7).await, Err(StorageError::NotLeader(_))), "another way, older");
    send(6, 7).await.unwrap();
    assert!(matches!(send(5, 2).await, Err(StorageError::NotLeader(_))), "the old way");
    assert_eq!(read_all(&world, &service, at(0, 0)).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_only_the_caller_knows_yet_is_waited_for_in_order() {
    let world = World::new(1);
    let service = world.start().await.unwrap();
    let new = at(7, 0);
    let send = |batch| {
        let mut request = request(vec![(new, batch)]);
        request.route.generation = 11;
        let answer = service.append(request);
        async move { answer.await.remove(0) }
    };
    let (first, second) = (send(sequenced(0, 5)), send(sequenced(5, 5)));
    let other = append(&service, at(0, 0), plain(10)).await;
    assert!(other.is_ok(), "others do not wait");
    world.change_view(|state| state.upsert(Record::Topic(topic_of(7))));
    assert_eq!(first.await.unwrap().base_offset, 0);
    assert_eq!(second.await.unwrap().base_offset, 5);
    let started = tokio::time::Instant::now();
    let mut request = request(vec![(at(8, 0), plain(10))]);
    request.route.generation = 99;
    assert_eq!(service.append(request).await.remove(0), Err(StorageError::UnknownPartition(at(8, 0))));
    assert!(started.elapsed() >= Duration::from_secs(1), "a view that may be behind is waited for");
    let mut request = read_request(at(8, 0), 0);
    request.revision = 99;
    assert!(matches!(service.read(request).await, Err(StorageError::UnknownPartition(_))));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_is_gone_and_one_that_an_older_view_lacks_is_not() {
    let world = World::new(1);
    let before = world.view.borrow().clone();
    world.change_view(|state| state.upsert(Record::Topic(topic_of(5))));
    let service = world.start().await.unwrap();
    append(&service, at(5, 0), plain(10)).await.unwrap();
    append(&service, at(0, 0), plain(10)).await.unwrap();
    service.shutdown().await;
    drop(service);
    // A coordinator that is behind does not know the topic yet.
    let now = world.view.send_replace(before);
    let service = world.start().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(service.journal().lock().state.partitions.contains_key(&at(5, 0)));
    world.view.send_replace(now);
    until("the topic is known again", || service.journal().lock().view.topic(topic_id(5)).is_some()).await;
    world.delete_topic(5);
    until("the topic is deleted", || !service.journal().lock().state.partitions.contains_key(&at(5, 0))).await;
    assert!(matches!(append(&service, at(5, 0), plain(10)).await, Err(StorageError::UnknownPartition(_))));
    assert!(matches!(service.read(read_request(at(5, 0), 0)).await, Err(StorageError::UnknownPartition(_))));
    assert_eq!(read_all(&world, &service, at(0, 0)).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn reads_outside_the_log_and_of_other_epochs_are_refused() {
    let world = World::new(1);
    let service = world.start().await.unwrap();
    append(&service, at(0, 0), sequenced(0, 5)).await.unwrap();
    for offset in [-1, 6] {
        let refused = service.read(read_request(at(0, 0), offset)).await.unwrap_err();
        assert_eq!(refused, StorageError::OffsetOutOfRange { log_start_offset: 0, high_watermark: 5 });
    }
    for (epoch, refusal) in [(100, StorageError::FencedEpoch(101)), (102, StorageError::UnknownEpoch(101))] {
        let mut request = read_request(at(0, 0), 0);
        request.current_leader_epoch = Some(epoch);
        assert_eq!(service.read(request).await.unwrap_err(), refusal);
    }
    let mut request = read_request(at(0, 0), 3);
    request.max_bytes = 1;
    let Records::Batches(batches) = service.read(request).await.unwrap().records else { panic!() };
    assert_eq!(bases(&batches), [0], "at least one batch, the one that holds the offset");
    let empty = service.read(read_request(at(0, 2), 0)).await.unwrap();
    assert_eq!((empty.bounds.high_watermark, empty.bounds.leader_epoch), (0, 101));
}

#[tokio::test(start_paused = true)]
async fn offsets_are_found_by_time_and_by_name() {
    let world = World::new(1);
    let service = world.start().await.unwrap();
    let p = at(0, 0);
    for spec in [OffsetSpec::Timestamp(0), OffsetSpec::MaxTimestamp, OffsetSpec::LatestTiered] {
        assert_eq!(find(&service, p, spec).await, (-1, -1), "{spec:?} of an empty log");
    }
    append(&service, p, batch_of(0, &[10, 20, 30], 1)).await.unwrap();
    append(&service, p, batch_of(0, &[50, 40, 60, 60], 0)).await.unwrap();
    append(&service, p, batch_of(0, &[35, 36], 4)).await.unwrap();
    let expected = [
        (OffsetSpec::Timestamp(0), (0, 10)),
        (OffsetSpec::Timestamp(15), (1, 20)),
        (OffsetSpec::Timestamp(31), (3, 50)),
        (OffsetSpec::Timestamp(51), (5, 60)),
        (OffsetSpec::Timestamp(61), (-1, -1)),
        (OffsetSpec::MaxTimestamp, (5, 60)),
        (OffsetSpec::Earliest, (0, -1)),
        (OffsetSpec::Latest, (9, -1)),
        (OffsetSpec::LastStable, (9, -1)),
        (OffsetSpec::EarliestLocal, (0, -1)),
        (OffsetSpec::LatestTiered, (-1, -1)),
        (OffsetSpec::EarliestPendingUpload, (0, -1)),
    ];
    for (spec, found) in expected {
        assert_eq!(find(&service, p, spec).await, found, "{spec:?}");
    }
    service.shutdown().await;
    drop(service);
    let service = world.start().await.unwrap();
    append(&service, p, batch_of(0, &[70], 0)).await.unwrap();
    for (spec, found) in [(OffsetSpec::Timestamp(51), (5, 60)), (OffsetSpec::MaxTimestamp, (9, 70))] {
        assert_eq!(find(&service, p, spec).await, found, "{spec:?} from the write-ahead log");
    }
    let ask = |leader_epoch| EpochQuery {
        journal: JOURNAL,
        partition: p,
        revision: 1,
        current_leader_epoch: None,
        leader_epoch,
    };
    let ends = service.epoch_ends(vec![ask(101), ask(102), ask(103)]).await;
    let is = |leader_epoch, end_offset| Ok(EpochEnd { leader_epoch, end_offset });
    assert_eq!(ends, [is(101, 9), is(102, 10), is(-1, -1)]);
}

#[tokio::test(start_paused = true)]
async fn log_append_time_is_the_leaders() {
    let world = World::new(1);
    world.change_view(|state| {
        let mut topic = topic_of(0);
        topic.configs.insert("message.timestamp.type".into(), "LogAppendTime".into());
        state.upsert(Record::Topic(topic));
    });
    world.clock.set(9_999);
    let service = world.start().await.unwrap();
    assert_eq!(append(&service, at(0, 0), sequenced(0, 5)).await.unwrap().log_append_time_ms, 9_999);
    world.clock.set(10_500);
    assert_eq!(append(&service, at(0, 0), sequenced(0, 5)).await.unwrap().log_append_time_ms, 9_999, "a duplicate");
    assert_eq!(append(&service, at(1, 0), sequenced(0, 5)).await.unwrap().log_append_time_ms, -1);
    let batch = read_all(&world, &service, at(0, 0)).await.remove(0);
    assert!(batch.crc_matches() && batch.max_timestamp() == 9_999);
}

/// A tail stream and the way to command it.
struct Tailing {
    commands: mpsc::UnboundedSender<TailCommand>,
    events: BoxStream<'static, Result<TailEvent, StorageError>>,
}

impl Tailing {
    fn new(service: &Service) -> Self {
        let (commands, receiver) = mpsc::unbounded_channel();
        Self { commands, events: service.tail(UnboundedReceiverStream::new(receiver).boxed()) }
    }

    fn subscribe(&self, partition: TopicPartition, offset: i64, credit: u64) {
        self.subscribe_in(JOURNAL, partition, offset, credit);
    }

    fn subscribe_in(&self, journal: JournalId, partition: TopicPartition, offset: i64, credit: u64) {
        let subscribe = TailCommand::Subscribe { journal, partition, revision: 1, offset, credit };
        self.commands.send(subscribe).unwrap();
    }

    /// The next event, as partition, high watermark and offsets.
    async fn batches(&mut self) -> (TopicPartition, i64, Vec<i64>) {
        match self.events.next().await.unwrap().unwrap() {
            TailEvent::Batches { partition, bounds, batches, .. } => {
                (partition, bounds.high_watermark, bases(&batches))
            }
            TailEvent::Ended { partition, reason } => panic!("{partition} ended: {reason}"),
        }
    }

    /// The log start of the next event.
    async fn log_start(&mut self) -> i64 {
        match self.events.next().await.unwrap().unwrap() {
            TailEvent::Batches { bounds, .. } => bounds.log_start_offset,
            TailEvent::Ended { partition, reason } => panic!("{partition} ended: {reason}"),
        }
    }

    async fn ended(&mut self) -> (TopicPartition, StorageError) {
        match self.events.next().await.unwrap().unwrap() {
            TailEvent::Ended { partition, reason } => (partition, reason),
            event => panic!("{event:?}"),
        }
    }

    async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(Duration::from_secs(5), self.events.next()).await.is_err()
    }
}

#[tokio::test(start_paused = true)]
async fn the_tail_sends_what_is_committed_as_credit_allows() {
    let world = World::new(1);
    let service = world.start().await.unwrap();
    append(&service, at(0, 0), sequenced(0, 5)).await.unwrap();
    let mut tail = Tailing::new(&service);
    tail.subscribe(at(0, 0), 3, 1_000);
    tail.subscribe(at(0, 1), 0, 1);
    let first = tail.batches().await;
    assert_eq!(first, (at(0, 0), 5, vec![0]), "the first batch holds the offset asked for");
    assert_eq!(tail.batches().await, (at(0, 1), 0, vec![]), "bounds at once, also of an empty partition");
    append(&service, at(0, 0), sequenced(5, 5)).await.unwrap();
    assert_eq!(tail.batches().await, (at(0, 0), 10, vec![5]));
    append(&service, at(0, 1), plain(500)).await.unwrap();
    append(&service, at(0, 1), plain(500)).await.unwrap();
    assert_eq!(tail.batches().await, (at(0, 1), 2, vec![0]), "any credit is good for one batch");
    assert!(tail.is_silent().await, "and then there is none");
    append(&service, at(0, 0), sequenced(10, 5)).await.unwrap();
    assert_eq!(tail.batches().await.2, [10], "which stalls nobody else");
    tail.commands.send(TailCommand::Credit { partition: at(0, 1), bytes: 2_000 }).unwrap();
    assert_eq!(tail.batches().await, (at(0, 1), 2, vec![1]));
    tail.commands.send(TailCommand::Unsubscribe { partition: at(0, 0) }).unwrap();
    assert!(tail.is_silent().await);
    append(&service, at(0, 0), sequenced(15, 5)).await.unwrap();
    assert!(tail.is_silent().await);
    drop(tail.commands);
    assert!(tail.events.next().await.is_none());
    drop(tail.events);
    assert!(service.journal().lock().slots.values().all(|slot| slot.readers.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn a_tail_that_cannot_go_on_says_why() {
    let world = World::new(1);
    let service = world.start().await.unwrap();
    for _ in 0..40 {
        append(&service, at(0, 0), plain(2_000)).await.unwrap();
    }
    let mut tail = Tailing::new(&service);
    tail.subscribe(at(0, 0), 41, 1_000);
    assert!(matches!(tail.ended().await.1, StorageError::OffsetOutOfRange { high_watermark: 40, .. }));
    tail.subscribe(at(9, 0), 0, 1_000);
    assert!(matches!(tail.ended().await, (partition, StorageError::UnknownPartition(_)) if partition == at(9, 0)));
    tail.subscribe(at(0, 0), 40, 1_000);
    assert_eq!(tail.batches().await.1, 40);
    tail.subscribe(at(1, 0), 0, 1_000);
    assert_eq!(tail.batches().await.0, at(1, 0));
    world.delete_topic(1);
    assert!(matches!(tail.ended().await, (partition, StorageError::UnknownPartition(_)) if partition == at(1, 0)));
    world.disk.inject(Operation::Write, [Fault::Io]);
    assert!(append(&service, at(0, 0), plain(10)).await.is_err());
    assert!(matches!(tail.ended().await.1, StorageError::NotLeader(_)), "another epoch");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_emptied_or_is_anothers_is_not_taken_for_its_own() {
    let world = World::new(1);
    let service = world.start().await.unwrap();
    append(&service, at(0, 0), plain(10)).await.unwrap();
    service.shutdown().await;
    drop(service);
    let log = &std::path::PathBuf::from(format!("/data/wal/{:016x}/0001.wal", world.coordinator.logs()[0]));
    let bytes = world.disk.bytes(log);
    world.disk.edit(log, |bytes| {
        bytes[20] ^= 1;
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_be_bytes());
    });
    assert!(matches!(world.start().await, Err(StartError::ForeignLog { .. })));
    world.disk.edit(log, |now| *now = bytes);
    world.start().await.unwrap().shutdown().await;
    crate::disk::Disk::remove(&world.disk, log).unwrap();
    world.start().await.unwrap().shutdown().await;
    assert_eq!(world.coordinator.logs().len(), 2, "another log, and another journal");
}
