//! Services that write down what they are asked, and answer when they are told to.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{self, BoxStream, StreamExt as _};
use tidemark_model::broker::*;
use tidemark_model::coordinator::*;
use tidemark_model::route::Route;
use tidemark_model::storage::*;
use tidemark_model::*;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

pub fn at(partition: i32) -> TopicPartition {
    TopicPartition::new(TopicId(Uuid::from_u128(7)), partition)
}

pub fn batch(records: usize) -> Batch {
    let mut body = vec![0; 45 + records];
    body[0] = 2;
    Batch::from_body(0, 0, body.into()).unwrap()
}

/// A request that is told from others by `tag`.
pub fn produce(tag: u64, size: usize) -> ProduceRequest {
    let records = Bytes::from(vec![tag as u8; size]);
    ProduceRequest {
        gateway: NodeId(3),
        revision: tag,
        acks: Acks::All,
        timeout: std::time::Duration::from_secs(30),
        partitions: vec![ProducePartition { partition: at(0), records }],
    }
}

pub fn append(tag: u64, size: usize) -> AppendRequest {
    AppendRequest {
        journal: JournalId(1),
        route: Route { generation: tag, gateway: NodeId(3), broker: NodeId(4) },
        acks: Acks::Leader,
        timeout: std::time::Duration::from_secs(30),
        appends: vec![Append { partition: at(0), batch: batch(size) }],
    }
}

pub fn landed(tag: u64) -> Appended {
    Appended { base_offset: tag as i64, log_append_time_ms: -1, log_start_offset: 0 }
}

/// What the tests steer and look at.
#[derive(Debug)]
pub struct Fake {
    /// The tags of what was to be written, in the order in which the calls were made.
    pub written: Mutex<Vec<u64>>,
    /// Bytes of records that were to be written.
    pub bytes: AtomicUsize,
    /// What a write answers; by default where it landed.
    pub error: Mutex<Option<BrokerError>>,
    /// Writes are answered while this is true.
    pub answering: watch::Sender<bool>,
    /// Long polls under way.
    pub polling: Arc<AtomicUsize>,
    /// What was asked of the tail, and whether its commands ended.
    pub commands: Arc<Mutex<Vec<String>>>,
    /// Sends on the open tail or join stream.
    pub events: Mutex<Option<mpsc::UnboundedSender<Result<TailEvent, StorageError>>>>,
    pub updates: Mutex<Option<mpsc::UnboundedSender<Result<ClusterUpdate, CoordinatorError>>>>,
    pub joins: Mutex<Vec<(Registration, Option<u64>)>>,
    pub calls: Mutex<Vec<String>>,
}

impl Fake {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            written: Mutex::default(),
            bytes: AtomicUsize::new(0),
            error: Mutex::default(),
            answering: watch::channel(true).0,
            polling: Arc::default(),
            commands: Arc::default(),
            events: Mutex::default(),
            updates: Mutex::default(),
            joins: Mutex::default(),
            calls: Mutex::default(),
        })
    }

    pub fn written(&self) -> Vec<u64> {
        self.written.lock().unwrap().clone()
    }

    fn write(&self, tag: u64, bytes: usize) -> BoxFuture<'static, Result<Appended, BrokerError>> {
        self.written.lock().unwrap().push(tag);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let outcome = self.error.lock().unwrap().clone().map_or(Ok(landed(tag)), Err);
        let mut answering = self.answering.subscribe();
        async move {
            // What was asked first is not always answered first.
            for _ in 0..(tag * 7) % 13 {
                tokio::task::yield_now().await;
            }
            let _ = answering.wait_for(|answering| *answering).await;
            outcome
        }
        .boxed()
    }
}

struct Polling(Arc<AtomicUsize>);

impl Polling {
    fn start(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Broker for Fake {
    fn produce(&self, request: ProduceRequest) -> BoxFuture<'static, Vec<Result<Appended, BrokerError>>> {
        let bytes = request.partitions.iter().map(|partition| partition.records.len()).sum();
        let written = self.write(request.revision, bytes);
        async move {
            let outcome = written.await;
            request.partitions.iter().map(|_| outcome.clone()).collect()
        }
        .boxed()
    }

    /// Waits for ever without `min_bytes`; otherwise gives as many bytes as `max_bytes` in one batch for each.
    async fn fetch(&self, request: FetchRequest) -> Vec<Result<Fetched, BrokerError>> {
        let _polling = Polling::start(&self.polling);
        if request.min_bytes > 0 {
            std::future::pending::<()>().await;
        }
        let fetch = |partition: FetchPartition| {
            if partition.offset < 0 {
                let (log_start_offset, high_watermark) = (5, 9);
                return Err(StorageError::OffsetOutOfRange { log_start_offset, high_watermark }.into());
            }
            Ok(Fetched {
                leader_epoch: 4,
                log_start_offset: 0,
                high_watermark: request.max_bytes as i64,
                last_stable_offset: 2,
                aborted: vec![AbortedTransaction { first_offset: 1, last_offset: 2, producer_id: 3 }],
                diverging: Some(EpochEnd { leader_epoch: 3, end_offset: 8 }),
                batches: vec![batch(partition.max_bytes)],
            })
        };
        request.partitions.into_iter().map(fetch).collect()
    }

    async fn list_offsets(&self, queries: Vec<PartitionOffsetQuery>) -> Vec<Result<FoundOffset, BrokerError>> {
        let answer = |query: PartitionOffsetQuery| match query.spec {
            OffsetSpec::Timestamp(timestamp) => Ok(FoundOffset { leader_epoch: 1, offset: 2, timestamp }),
            _ => Err(BrokerError::Unavailable("moved".into())),
        };
        queries.into_iter().map(answer).collect()
    }

    async fn epoch_ends(&self, queries: Vec<PartitionEpochQuery>) -> Vec<Result<EpochEnd, BrokerError>> {
        let answer = |query: PartitionEpochQuery| match query.current_leader_epoch {
            Some(epoch) => Err(StorageError::FencedEpoch(epoch).into()),
            None => Ok(EpochEnd { leader_epoch: query.leader_epoch, end_offset: 12 }),
        };
        queries.into_iter().map(answer).collect()
    }

    async fn delete_records(&self, deletions: Vec<PartitionRecordDeletion>) -> Vec<Result<i64, BrokerError>> {
        let answer = |deletion: PartitionRecordDeletion| match deletion.before {
            Some(before) => Ok(before + deletion.timeout.as_millis() as i64),
            None => Err(BrokerError::Unavailable("moved".into())),
        };
        deletions.into_iter().map(answer).collect()
    }
}

#[async_trait]
impl Storage for Fake {
    fn append(&self, request: AppendRequest) -> BoxFuture<'static, Vec<Result<Appended, StorageError>>> {
        let bytes = request.appends.iter().map(|append| append.batch.wire_len()).sum();
        let written = self.write(request.route.generation, bytes);
        async move {
            let outcome = written.await.map_err(|error| match error {
                BrokerError::Storage(error) => error,
                other => StorageError::Corrupt(other.to_string()),
            });
            request.appends.iter().map(|_| outcome.clone()).collect()
        }
        .boxed()
    }

    async fn read(&self, request: ReadRequest) -> Result<Read, StorageError> {
        let _polling = Polling::start(&self.polling);
        let bounds = Bounds { leader_epoch: 1, log_start_offset: 2, high_watermark: 3, last_stable_offset: 4 };
        match request.offset {
            -1 => Err(StorageError::UnknownPartition(request.partition)),
            0 => {
                let run = TieredRun {
                    object: "segments/1".into(),
                    partition: request.partition,
                    first_offset: 0,
                    last_offset: 9,
                    position: 10,
                    length: 20,
                    object_size: 40,
                    max_timestamp: 5,
                    leader_epoch: 1,
                };
                Ok(Read { bounds, records: Records::Tiered(vec![run]), aborted: vec![] })
            }
            _ => Ok(Read { bounds, records: Records::Batches(vec![batch(request.max_bytes)]), aborted: vec![] }),
        }
    }

    async fn list_offsets(&self, queries: Vec<OffsetQuery>) -> Vec<Result<FoundOffset, StorageError>> {
        let answer = |query: OffsetQuery| match query.spec {
            OffsetSpec::Latest => Ok(FoundOffset { leader_epoch: 1, offset: query.revision as i64, timestamp: -1 }),
            _ => Err(StorageError::NotLeader("moved".into())),
        };
        queries.into_iter().map(answer).collect()
    }

    async fn epoch_ends(&self, queries: Vec<EpochQuery>) -> Vec<Result<EpochEnd, StorageError>> {
        queries.iter().map(|query| Ok(EpochEnd { leader_epoch: query.leader_epoch, end_offset: 12 })).collect()
    }

    async fn delete_records(&self, deletions: Vec<RecordDeletion>) -> Vec<Result<i64, StorageError>> {
        let answer = |deletion: RecordDeletion| match deletion.before {
            Some(before) => Ok(before + deletion.timeout.as_millis() as i64),
            None => Err(StorageError::NotLeader("moved".into())),
        };
        deletions.into_iter().map(answer).collect()
    }

    fn tail(&self, commands: BoxStream<'static, TailCommand>) -> BoxStream<'static, Result<TailEvent, StorageError>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.events.lock().unwrap() = Some(sender);
        let seen = Arc::clone(&self.commands);
        let commands = commands.for_each(move |command| {
            seen.lock().unwrap().push(format!("{command:?}"));
            std::future::ready(())
        });
        let ended = Polling::start(&self.polling);
        let events = stream::unfold((receiver, ended), |(mut receiver, ended)| async move {
            Some((receiver.recv().await?, (receiver, ended)))
        });
        events.take_until(commands).boxed()
    }
}

#[async_trait]
impl Coordinator for Fake {
    fn join(
        &self,
        registration: Registration,
        resume: Option<u64>,
    ) -> BoxStream<'static, Result<ClusterUpdate, CoordinatorError>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.joins.lock().unwrap().push((registration, resume));
        *self.updates.lock().unwrap() = Some(sender);
        let ended = Polling::start(&self.polling);
        stream::unfold((receiver, ended), |(mut receiver, ended)| async move {
            Some((receiver.recv().await?, (receiver, ended)))
        })
        .boxed()
    }

    async fn leave(&self, role: Role, node: NodeId, incarnation: u64) -> Result<(), CoordinatorError> {
        self.calls.lock().unwrap().push(format!("leave {role:?} {node} {incarnation}"));
        if incarnation == 0 { Err(CoordinatorError::Fenced("older".into())) } else { Ok(()) }
    }

    async fn open_journal(&self, open: OpenJournal) -> Result<Journal, CoordinatorError> {
        let OpenJournal { node, wal_incarnation, logs, succeeds } = open;
        self.calls.lock().unwrap().push(format!("open {logs:?} {succeeds:?}"));
        if wal_incarnation == 0 {
            return Err(CoordinatorError::Fenced("not in the ISR".into()));
        }
        let replica = Replica { node, incarnation: wal_incarnation };
        Ok(Journal { id: JournalId(9), epoch: 2, leader: node, replicas: vec![replica], isr: vec![replica] })
    }

    async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> Vec<Result<Changed, CoordinatorError>> {
        self.calls.lock().unwrap().push(format!("create {} {validate_only}", topics.len()));
        let create = |topic: NewTopic| match topic.partitions {
            0 => Err(CoordinatorError::InvalidPartitions("0".into())),
            count => Ok(changed(topic.name, count, topic.configs)),
        };
        topics.into_iter().map(create).collect()
    }

    async fn delete_topics(&self, topics: Vec<TopicRef>) -> Vec<Result<Changed, CoordinatorError>> {
        let delete = |topic| match topic {
            TopicRef::Name(name) => Ok(changed(name, 1, BTreeMap::new())),
            TopicRef::Id(id) => Err(CoordinatorError::UnknownTopic(id.to_string())),
        };
        topics.into_iter().map(delete).collect()
    }

    async fn create_partitions(
        &self,
        topic: TopicRef,
        total: i32,
        validate_only: bool,
    ) -> Result<Changed, CoordinatorError> {
        Ok(changed(format!("{topic:?} {validate_only}"), total, BTreeMap::new()))
    }

    async fn alter_topic_configs(
        &self,
        topic: TopicRef,
        changes: Vec<ConfigChange>,
        validate_only: bool,
    ) -> Result<Changed, CoordinatorError> {
        Err(CoordinatorError::InvalidConfig(format!("{topic:?} {changes:?} {validate_only}")))
    }

    async fn allocate_producer_ids(&self, count: u32) -> Result<Range<i64>, CoordinatorError> {
        self.calls.lock().unwrap().push(format!("ids {count}"));
        Ok(1_000..1_000 + i64::from(count))
    }
}

fn changed(name: String, partitions: i32, configs: BTreeMap<String, String>) -> Changed {
    let partition = Partition { journal: JournalId(1), epoch_base: -4 };
    let partitions = vec![partition; partitions as usize];
    let topic = Topic { id: TopicId(Uuid::from_u128(9)), name, replication_factor: 1, partitions, configs };
    Changed { topic, revision: 77 }
}
