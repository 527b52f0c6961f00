//! The broker as a gateway sees it, on a storage node that is a log in memory.

mod log;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tidemark_model::broker::{BatchFault, FetchPartition, FetchRequest, Isolation, ProducePartition, ProduceRequest};
use tidemark_model::storage::{Acks, TailCommand};
use tidemark_model::{
    Broker, BrokerError, Clock, ClusterState, Dial, Entropy, Journal, JournalId, Node, NodeId, Partition, Record, Role,
    Storage, StorageError, Topic, TopicId, TopicPartition,
};
use tidemark_segment::Bucket;
use tidemark_wire::batch::{BatchBuilder, Codec, Compression, codec, recompressed};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::log::{Log, records};
use crate::{Config, Dependencies, Service};

#[derive(Debug)]
struct Fixed;

impl Clock for Fixed {
    fn now_ms(&self) -> i64 {
        1_000_000
    }
}

impl Entropy for Fixed {
    fn next_u64(&self) -> u64 {
        4
    }
}

struct One(Arc<Log>);

impl Dial<dyn Storage> for One {
    fn dial(&self, _: NodeId, _: &str) -> Arc<dyn Storage> {
        self.0.clone()
    }
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new(TopicId(Uuid::from_u128(1)), partition)
}

fn state(revision: u64, partitions: usize, epoch: u32) -> ClusterState {
    let mut state = ClusterState::new("c".into());
    state.revision = revision;
    state.upsert(Record::Node(Node {
        role: Role::Storage,
        id: NodeId(1),
        incarnation: 1,
        address: String::new(),
        rack: None,
    }));
    state.upsert(Record::Journal(Journal {
        id: JournalId(1),
        epoch,
        leader: NodeId(1),
        replicas: vec![],
        isr: vec![],
    }));
    state.upsert(Record::Topic(Topic {
        id: at(0).topic,
        name: "t".into(),
        replication_factor: 1,
        partitions: vec![Partition { journal: JournalId(1), epoch_base: 0 }; partitions],
        configs: BTreeMap::new(),
    }));
    state
}

struct Cluster {
    log: Arc<Log>,
    bucket: Bucket,
    broker: Arc<Service>,
    view: watch::Sender<Arc<ClusterState>>,
    _end: tokio_util::sync::DropGuard,
}

async fn cluster() -> Cluster {
    cluster_of(&Config::default()).await
}

async fn cluster_of(config: &Config) -> Cluster {
    let log = Log::new(1);
    let (view, receiver) = watch::channel(Arc::new(state(1, 2, 1)));
    let end = CancellationToken::new();
    let bucket = Bucket::in_memory(Arc::new(Fixed));
    let deps = Dependencies {
        node: NodeId(7),
        view: receiver,
        storages: Arc::new(One(log.clone())),
        bucket: bucket.clone(),
        clock: Arc::new(Fixed),
        shutdown: end.clone(),
    };
    let broker = Service::start(config, deps).await.unwrap();
    Cluster { log, bucket, broker, view, _end: end.drop_guard() }
}

fn fetch(offset: i64, max_wait: Duration) -> FetchRequest {
    FetchRequest {
        revision: 1,
        max_wait,
        min_bytes: 1,
        max_bytes: 1 << 20,
        isolation: Isolation::ReadUncommitted,
        partitions: vec![FetchPartition {
            partition: at(0),
            offset,
            max_bytes: 1 << 20,
            current_leader_epoch: None,
            last_fetched_epoch: None,
        }],
    }
}

fn produce(revision: u64, partition: i32) -> ProduceRequest {
    ProduceRequest {
        gateway: NodeId(1),
        revision,
        acks: Acks::All,
        timeout: Duration::from_secs(30),
        partitions: vec![ProducePartition { partition: at(partition), records: records(10) }],
    }
}

async fn fetched(cluster: &Cluster, request: FetchRequest) -> Result<Vec<i64>, BrokerError> {
    let answers = cluster.broker.fetch(request).await;
    assert_eq!(answers.len(), 1);
    answers.into_iter().next().unwrap().map(|f| f.batches.iter().map(|b| b.base_offset).collect())
}

const LONG: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn a_long_poll_wakes_on_data_and_many_readers_cost_one_leader_read() {
    let cluster = cluster().await;
    let broker = cluster.broker.clone();
    let first = tokio::spawn(async move { broker.fetch(fetch(0, LONG)).await });
    cluster.log.subscribed(at(0)).await;
    let reads = cluster.log.reads();
    let waiting: Vec<_> = (0..16)
        .map(|_| {
            let broker = cluster.broker.clone();
            tokio::spawn(async move { broker.fetch(fetch(0, LONG)).await })
        })
        .collect();
    assert!(cluster.broker.produce(produce(1, 0)).await[0].is_ok());
    for reader in waiting.into_iter().chain([first]) {
        let answers = reader.await.unwrap();
        assert_eq!(answers[0].as_ref().unwrap().batches.len(), 1);
    }
    assert_eq!(cluster.log.reads(), reads, "the readers were served from the broker's memory");
    assert_eq!(cluster.log.tail_commands().iter().filter(|c| matches!(c, TailCommand::Subscribe { .. })).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn sixteen_readers_of_one_partition_from_its_start_cost_one_leader_read() {
    let cluster = cluster().await;
    for _ in 0..20 {
        assert!(cluster.broker.produce(produce(1, 0)).await[0].is_ok());
    }
    let few = FetchRequest { max_bytes: 3 * records(10).len(), ..fetch(0, LONG) };
    let readers: Vec<_> = (0..16)
        .map(|_| {
            let (broker, mut request) = (cluster.broker.clone(), few.clone());
            tokio::spawn(async move {
                while request.partitions[0].offset < 20 {
                    let answer = broker.fetch(request.clone()).await.remove(0).unwrap();
                    assert_eq!(answer.batches[0].base_offset, request.partitions[0].offset);
                    request.partitions[0].offset += answer.batches.len() as i64;
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(cluster.log.reads(), 1);
    assert_eq!(cluster.log.tail_commands().iter().filter(|c| matches!(c, TailCommand::Subscribe { .. })).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_and_what_came_first_leaves_it_first() {
    let cluster = cluster_of(&Config { tail_bytes: 6_000, ..Config::default() }).await;
    for partition in [0, 1] {
        let mut follow = fetch(0, Duration::ZERO);
        follow.partitions[0].partition = at(partition);
        assert_eq!(fetched(&cluster, follow).await, Ok(vec![]));
        cluster.log.subscribed(at(partition)).await;
    }
    let read = async |partition, offset| {
        let mut request = fetch(offset, LONG);
        request.partitions[0].partition = at(partition);
        let before = cluster.log.reads();
        let offsets = fetched(&cluster, request).await.unwrap();
        (offsets, cluster.log.reads() - before)
    };
    assert!(cluster.broker.produce(produce(1, 0)).await[0].is_ok());
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(read(0, 0).await, (vec![0], 0), "from memory");
    for _ in 0..30 {
        assert!(cluster.broker.produce(produce(1, 1)).await[0].is_ok());
    }
    // Time goes on when nobody has anything to do: all has come by the stream.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(read(1, 29).await, (vec![29], 0), "the last of the other, from memory");
    assert_eq!(read(0, 0).await, (vec![0], 1), "it had to go, though its partition has nothing else");
    assert_eq!(read(1, 0).await.1, 1, "and so had the first of the other");
}

#[tokio::test(start_paused = true)]
async fn an_empty_fetch_ends_after_its_wait_and_an_error_at_once() {
    let cluster = cluster().await;
    let begun = tokio::time::Instant::now();
    assert_eq!(fetched(&cluster, fetch(0, Duration::from_millis(500))).await, Ok(vec![]));
    assert_eq!(begun.elapsed(), Duration::from_millis(500));
    let out = fetched(&cluster, fetch(9, LONG)).await;
    assert!(matches!(out, Err(BrokerError::Storage(StorageError::OffsetOutOfRange { .. }))), "{out:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reader_far_behind_is_not_given_what_is_in_memory() {
    let cluster = cluster().await;
    for _ in 0..3 {
        assert!(cluster.broker.produce(produce(1, 0)).await[0].is_ok());
    }
    assert_eq!(fetched(&cluster, fetch(2, LONG)).await, Ok(vec![2]));
    assert_eq!(fetched(&cluster, fetch(0, LONG)).await, Ok(vec![0, 1, 2]));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_catches_up_behind_another_has_a_stream_too_and_one_behind_both_when_that_stops() {
    let cluster = cluster().await;
    for _ in 0..20 {
        assert!(cluster.broker.produce(produce(1, 0)).await[0].is_ok());
    }
    let few = |offset| FetchRequest { max_bytes: 2 * records(10).len(), ..fetch(offset, LONG) };
    assert_eq!(fetched(&cluster, fetch(19, LONG)).await, Ok(vec![19]), "somebody is at the end");
    let settle = || tokio::time::sleep(Duration::from_millis(1));
    let read = async |from: i64, to: i64| {
        let before = cluster.log.reads();
        for offset in (from..to).step_by(2) {
            assert_eq!(fetched(&cluster, few(offset)).await, Ok(vec![offset, offset + 1]));
            settle().await;
        }
        cluster.log.reads() - before
    };
    assert_eq!(read(8, 16).await, 1, "the first of four, and then its stream");
    assert_eq!(read(0, 4).await, 2, "a third finds both places taken");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(read(0, 8).await, 1, "and has that of one who stopped");
    assert!(cluster.broker.produce(produce(1, 0)).await[0].is_ok());
    settle().await;
    let before = cluster.log.reads();
    assert_eq!(fetched(&cluster, fetch(20, LONG)).await, Ok(vec![20]));
    assert_eq!(cluster.log.reads(), before, "who is at the end never noticed");
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_epoch_drops_what_is_in_memory() {
    let cluster = cluster().await;
    assert!(cluster.broker.produce(produce(1, 0)).await[0].is_ok());
    assert_eq!(fetched(&cluster, fetch(0, LONG)).await, Ok(vec![0]));
    cluster.log.subscribed(at(0)).await;
    let reads = cluster.log.reads();
    cluster.log.raise_epoch(2);
    cluster.view.send_replace(Arc::new(state(2, 2, 2)));
    assert!(cluster.broker.produce(produce(2, 0)).await[0].is_ok());
    assert_eq!(fetched(&cluster, fetch(1, LONG)).await, Ok(vec![1]));
    assert!(cluster.log.reads() > reads, "the new leader was asked");
}

#[tokio::test(start_paused = true)]
async fn what_the_leader_deleted_is_not_served_from_memory_and_the_leader_is_told_so() {
    let cluster = cluster().await;
    assert!(cluster.broker.produce(produce(1, 0)).await[0].is_ok());
    assert_eq!(fetched(&cluster, fetch(0, LONG)).await, Ok(vec![0]));
    cluster.log.subscribed(at(0)).await;
    for _ in 0..3 {
        assert!(cluster.broker.produce(produce(1, 0)).await[0].is_ok());
    }
    assert_eq!(fetched(&cluster, fetch(1, LONG)).await, Ok(vec![1, 2, 3]));
    let seen = |wanted| move |command: &TailCommand| matches!(command, TailCommand::Seen { log_start_offset, .. } if *log_start_offset == wanted);
    cluster.log.told(seen(0)).await;
    let reads = cluster.log.reads();
    cluster.log.delete_before(at(0), 2);
    cluster.log.told(seen(2)).await;
    let out = fetched(&cluster, fetch(1, Duration::ZERO)).await;
    let bounds = StorageError::OffsetOutOfRange { log_start_offset: 2, high_watermark: 4 };
    assert_eq!(out, Err(BrokerError::Storage(bounds)), "the leader was asked");
    assert_eq!(cluster.log.reads(), reads + 1);
    assert_eq!(fetched(&cluster, fetch(2, LONG)).await, Ok(vec![2, 3]));
    assert_eq!(cluster.log.reads(), reads + 1, "from memory");
    cluster.log.end_subscriptions();
    cluster.log.told(|command| matches!(command, TailCommand::Unsubscribe { .. })).await;
    assert_eq!(fetched(&cluster, fetch(2, LONG)).await, Ok(vec![2, 3]));
    assert_eq!(cluster.log.reads(), reads + 2, "memory was dropped before the word");
}

#[tokio::test(start_paused = true)]
async fn a_broken_tail_stream_is_opened_again() {
    let cluster = cluster().await;
    let broker = cluster.broker.clone();
    let waiting = tokio::spawn(async move { broker.fetch(fetch(0, LONG)).await });
    cluster.log.subscribed(at(0)).await;
    cluster.log.cut_streams();
    cluster.log.subscribed(at(0)).await;
    assert!(cluster.broker.produce(produce(1, 0)).await[0].is_ok());
    assert_eq!(waiting.await.unwrap()[0].as_ref().unwrap().batches.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn produce_waits_for_the_cluster_state_and_keeps_its_order() {
    let cluster = cluster().await;
    // The third partition is known from revision 2 on.
    let ahead = cluster.broker.produce(produce(2, 2));
    let after = cluster.broker.produce(produce(1, 0));
    assert_eq!(cluster.log.appended(), []);
    cluster.view.send_replace(Arc::new(state(2, 3, 1)));
    assert!(ahead.await[0].is_ok() && after.await[0].is_ok());
    assert_eq!(cluster.log.appended(), [at(2), at(0)], "the second call did not overtake the first");
}

/// The state with `compression.type` of the topic set.
fn compressing(revision: u64, codec: &str) -> ClusterState {
    let mut state = state(revision, 2, 1);
    let mut topic = Topic::clone(state.topic(at(0).topic).unwrap());
    topic.configs = [("compression.type".to_owned(), codec.to_owned())].into();
    state.upsert(Record::Topic(topic));
    state
}

#[tokio::test]
async fn batches_are_compressed_as_their_topic_wants_and_keep_their_order() {
    let cluster = cluster().await;
    cluster.view.send_replace(Arc::new(compressing(2, "zstd")));
    let of = |revision, partition, value: &str| {
        let batch = BatchBuilder::new().timestamp(1_000_000).record(None, Some(value.as_bytes())).build();
        let mut wire = BytesMut::from(&batch.prefix()[..]);
        wire.extend_from_slice(batch.body());
        let partitions = vec![ProducePartition { partition: at(partition), records: wire.freeze() }];
        ProduceRequest { partitions, ..produce(revision, partition) }
    };
    // Long ones first, which take longer; and at the end one that is not compressed any more.
    let values: Vec<String> = (0..20).map(|n| format!("{n}").repeat(1 + 100_000 / (n + 1))).collect();
    let mut calls: Vec<_> = values.iter().map(|value| cluster.broker.produce(of(2, 0, value))).collect();
    cluster.view.send_replace(Arc::new(compressing(3, "producer")));
    calls.push(cluster.broker.produce(of(3, 0, "the last")));
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await[0].as_ref().unwrap().base_offset, n as i64);
    }
    let batches = cluster.log.batches(at(0));
    assert_eq!(batches.len(), 21);
    for (batch, value) in batches.iter().zip(values.iter().map(String::as_str).chain(["the last"])) {
        let expected = if value == "the last" { Codec::None } else { Codec::Zstd };
        assert_eq!(codec(batch), Some(expected));
        let plain = recompressed(batch, Compression::None, 1 << 30).unwrap();
        let record = tidemark_wire::batch::records(&plain).next().unwrap().unwrap();
        assert_eq!(record.value.as_deref(), Some(value.as_bytes()));
    }
    // What cannot be read is refused, and stops nobody.
    cluster.view.send_replace(Arc::new(compressing(4, "gzip")));
    let refused = cluster.broker.produce(ProduceRequest { revision: 4, ..produce(4, 0) }).await;
    assert!(matches!(refused[0], Err(BrokerError::Rejected { fault: BatchFault::InvalidRecord, .. })), "{refused:?}");
    assert_eq!(cluster.broker.produce(of(4, 0, "fine")).await[0].as_ref().unwrap().base_offset, 21);
}

#[tokio::test(start_paused = true)]
async fn bad_records_and_unknown_partitions_are_refused_in_their_place() {
    let cluster = cluster().await;
    let mut request = produce(1, 0);
    let mut damaged = records(10).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    request.partitions.insert(0, ProducePartition { partition: at(9), records: records(10) });
    request.partitions.push(ProducePartition { partition: at(1), records: damaged.into() });
    let answers = cluster.broker.produce(request).await;
    assert_eq!(answers[0], Err(StorageError::UnknownPartition(at(9)).into()));
    assert!(answers[1].is_ok());
    assert!(matches!(answers[2], Err(BrokerError::Rejected { fault: BatchFault::Corrupt, .. })), "{:?}", answers[2]);
    assert_eq!(cluster.log.appended(), [at(0)]);
}

#[tokio::test(start_paused = true)]
async fn tiered_batches_are_read_from_the_object_store_through_the_cache() {
    let cluster = cluster().await;
    for _ in 0..5 {
        assert!(cluster.broker.produce(produce(1, 0)).await[0].is_ok());
    }
    cluster.log.tier(&cluster.bucket, at(0)).await;
    assert_eq!(fetched(&cluster, fetch(3, LONG)).await, Ok(vec![3, 4]));
    cluster.bucket.delete(&["segment".into()]).await.unwrap();
    assert_eq!(fetched(&cluster, fetch(1, LONG)).await, Ok(vec![1, 2, 3, 4]), "from the cache");
}

#[tokio::test(start_paused = true)]
async fn the_byte_limit_of_the_whole_fetch_holds_and_ends_the_wait() {
    let cluster = cluster().await;
    for partition in [0, 0, 1] {
        assert!(cluster.broker.produce(produce(1, partition)).await[0].is_ok());
    }
    for _from_the_leader_then_from_memory in 0..2 {
        let mut request = fetch(0, LONG);
        request.partitions.push(FetchPartition { partition: at(1), ..request.partitions[0] });
        request.max_bytes = 10;
        request.min_bytes = 1_000;
        let answers = cluster.broker.fetch(request).await;
        let counts: Vec<usize> = answers.iter().map(|a| a.as_ref().unwrap().batches.len()).collect();
        assert_eq!(counts, [1, 0], "at least one batch, and no more than that");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_does_not_wait_misses_nothing_that_memory_does_not_have_yet() {
    let cluster = cluster().await;
    assert_eq!(fetched(&cluster, fetch(0, Duration::ZERO)).await, Ok(vec![]));
    cluster.log.subscribed(at(0)).await;
    cluster.log.hold_tail();
    assert!(cluster.broker.produce(produce(1, 0)).await[0].is_ok());
    assert_eq!(fetched(&cluster, fetch(0, Duration::ZERO)).await, Ok(vec![0]), "from the leader");
}

#[tokio::test(start_paused = true)]
async fn what_a_stream_does_not_bring_comes_from_the_leader() {
    let cluster = cluster().await;
    cluster.log.hold_tail();
    for _ in 0..6 {
        assert!(cluster.broker.produce(produce(1, 0)).await[0].is_ok());
    }
    let few = |offset| FetchRequest { max_bytes: 2 * records(10).len(), ..fetch(offset, LONG) };
    for offset in [0, 2, 4] {
        assert_eq!(fetched(&cluster, few(offset)).await, Ok(vec![offset, offset + 1]));
    }
    assert_eq!(cluster.log.reads(), 3);
}

#[tokio::test(start_paused = true)]
async fn min_bytes_are_waited_for() {
    let cluster = cluster().await;
    let size = records(10).len();
    let broker = cluster.broker.clone();
    let request = FetchRequest { min_bytes: 2 * size, ..fetch(0, LONG) };
    let waiting = tokio::spawn(async move { broker.fetch(request).await });
    cluster.log.subscribed(at(0)).await;
    assert!(cluster.broker.produce(produce(1, 0)).await[0].is_ok());
    assert!(cluster.broker.produce(produce(1, 0)).await[0].is_ok());
    assert_eq!(waiting.await.unwrap()[0].as_ref().unwrap().batches.len(), 2);
}
