//! What the tests of this crate run on: a storage node on a simulated disk, with an object store in memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};
use tidemark_model::coordinator::{Changed, ConfigChange, NewTopic, OpenJournal, TopicRef};
use tidemark_model::route::Route;
use tidemark_model::storage::{Acks, Append, AppendRequest, Appended, Read, ReadRequest, Records};
use tidemark_model::{
    Batch, Clock, ClusterState, ClusterUpdate, Coordinator, CoordinatorError, Journal, JournalId, NodeId, Partition,
    Record, RecordKey, Registration, Replica, Role, Storage as _, StorageError, Topic, TopicId, TopicPartition,
};
use tidemark_segment::testing::{Faults, Script, Seeded};
use tidemark_segment::{Bucket, SegmentIndex};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::disk::sim::SimDisk;
use crate::store::Store;
use crate::tier::FoldLimits;
use crate::{Config, DataDir, Dependencies, Service, StartError};

pub(crate) const JOURNAL: JournalId = JournalId(1);
/// The log of a journal that has none.
const WAITING: u64 = 0;
const NODE: NodeId = NodeId(3);
/// Topics and partitions there are at first.
pub(crate) const TOPICS: u128 = 2;
pub(crate) const PARTITIONS: usize = 3;

/// A storage node and what is around it, all of which outlives a crash of the node.
pub(crate) struct World {
    pub(crate) disk: SimDisk,
    /// Without the faults.
    pub(crate) bucket: Bucket,
    faults: Arc<dyn Faults>,
    pub(crate) coordinator: Arc<FakeCoordinator>,
    pub(crate) view: watch::Sender<Arc<ClusterState>>,
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) entropy: Arc<Seeded>,
    pub(crate) config: Config,
    pub(crate) folds: FoldLimits,
}

/// A coordinator that opens journals, and does nothing else.
#[derive(Debug, Default)]
pub(crate) struct FakeCoordinator(Mutex<Opened>);

#[derive(Debug, Default)]
struct Opened {
    /// The log and the epoch of each journal, by its number from 1.
    journals: Vec<(u64, u32)>,
    refuse: Option<CoordinatorError>,
}

#[derive(Debug, Default)]
pub(crate) struct FixedClock(Mutex<i64>);

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self::with_store_faults(seed, Arc::new(Script::default()))
    }

    pub(crate) fn with_store_faults(seed: u64, faults: Arc<dyn Faults>) -> Self {
        let entropy = Arc::new(Seeded::new(seed));
        let bucket = Bucket::in_memory(entropy.clone());
        let mut state = ClusterState::new("cluster".into());
        for topic in 0..TOPICS {
            state.upsert(Record::Topic(topic_of(topic)));
        }
        state.revision = 10;
        let config = Config {
            data_dir: "/data".into(),
            journals: 1,
            wal_file_bytes: 64 << 10,
            wal_max_bytes: 4 << 20,
            // No tiering but where a test asks for it.
            segment_bytes: 1 << 40,
            segment_ms: 1 << 40,
            memory_bytes: 32 << 10,
            delete_grace_ms: 1_000,
            ..Config::default()
        };
        Self {
            disk: SimDisk::default(),
            bucket,
            faults,
            coordinator: Arc::default(),
            view: watch::channel(Arc::new(state)).0,
            clock: Arc::default(),
            entropy,
            config,
            folds: FoldLimits::default(),
        }
    }

    pub(crate) async fn start(&self) -> Result<Arc<Service>, StartError> {
        let data_dir = DataDir::open(Arc::new(self.disk.clone()), Path::new("/data"), &*self.entropy)?;
        let deps = Dependencies {
            node: NODE,
            data_dir,
            bucket: self.bucket.clone(),
            coordinator: self.coordinator.clone(),
            view: self.view.subscribe(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            shutdown: CancellationToken::new(),
        };
        let store = |bucket, keys| Store::new(bucket, keys).with_faults(self.faults.clone());
        crate::start::start(&self.config, deps, self.folds, store).await
    }

    /// The power goes: the service is gone with what its disk had not made durable.
    pub(crate) async fn crash(&self, service: Arc<Service>) {
        self.disk.crash(&*self.entropy);
        service.stop.cancel();
        for task in std::mem::take(&mut *service.tasks.lock().await) {
            task.abort();
            let _ = task.await;
        }
    }

    pub(crate) fn change_view(&self, change: impl FnOnce(&mut ClusterState)) {
        self.view.send_modify(|state| {
            let mut next = ClusterState::clone(state);
            next.revision += 1;
            change(&mut next);
            *state = Arc::new(next);
        });
    }

    pub(crate) fn delete_topic(&self, topic: u128) {
        self.change_view(|state| state.remove(RecordKey::Topic(topic_id(topic))));
    }
}

impl Service {
    /// The journal, of a node that has one.
    pub(crate) fn journal(&self) -> &Arc<crate::journal::Journal> {
        &self.journals[&JOURNAL].journal
    }
}

impl FakeCoordinator {
    pub(crate) fn refuse(&self, error: Option<CoordinatorError>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).refuse = error;
    }

    /// Everything was lost but the first journal, which waits for a log since `epoch`.
    pub(crate) fn rebuilt(&self, epoch: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).journals = vec![(WAITING, epoch)];
    }

    /// The first journal is at this epoch.
    pub(crate) fn raise(&self, epoch: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).journals[0].1 = epoch;
    }

    /// The epoch of the first journal.
    pub(crate) fn epoch(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).journals[0].1
    }

    /// The log of each journal.
    pub(crate) fn logs(&self) -> Vec<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).journals.iter().map(|(log, _)| *log).collect()
    }
}

impl FixedClock {
    pub(crate) fn set(&self, now_ms: i64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now_ms;
    }
}

impl Clock for FixedClock {
    fn now_ms(&self) -> i64 {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Coordinator for FakeCoordinator {
    fn join(&self, _: Registration, _: Option<u64>) -> BoxStream<'static, Result<ClusterUpdate, CoordinatorError>> {
        stream::empty().boxed()
    }

    async fn leave(&self, _: Role, _: NodeId, _: u64) -> Result<(), CoordinatorError> {
        Ok(())
    }

    async fn open_journal(&self, open: OpenJournal) -> Result<Journal, CoordinatorError> {
        let OpenJournal { node, wal_incarnation: incarnation, logs, succeeds } = open;
        assert!(logs.contains(&incarnation));
        let mut opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = &opened.refuse {
            return Err(error.clone());
        }
        let known = opened.journals.iter().position(|(log, _)| *log == incarnation || succeeds == Some(*log));
        let known = known.or_else(|| opened.journals.iter().position(|(log, _)| *log == WAITING));
        let at = known.unwrap_or_else(|| {
            assert_eq!(succeeds, None, "no journal has the log that failed");
            opened.journals.push((incarnation, 0));
            opened.journals.len() - 1
        });
        let (log, epoch) = &mut opened.journals[at];
        (*log, *epoch) = (incarnation, *epoch + 1);
        let replicas = vec![Replica { node, incarnation }];
        let id = JournalId(at as u32 + 1);
        Ok(Journal { id, epoch: *epoch, leader: node, replicas: replicas.clone(), isr: replicas })
    }

    async fn create_topics(&self, _: Vec<NewTopic>, _: bool) -> Vec<Result<Changed, CoordinatorError>> {
        Vec::new()
    }

    async fn delete_topics(&self, _: Vec<TopicRef>) -> Vec<Result<Changed, CoordinatorError>> {
        Vec::new()
    }

    async fn create_partitions(&self, _: TopicRef, _: i32, _: bool) -> Result<Changed, CoordinatorError> {
        Err(CoordinatorError::Unavailable("not in this test".into()))
    }

    async fn alter_topic_configs(
        &self,
        _: TopicRef,
        _: Vec<ConfigChange>,
        _: bool,
    ) -> Result<Changed, CoordinatorError> {
        Err(CoordinatorError::Unavailable("not in this test".into()))
    }

    async fn allocate_producer_ids(&self, _: u32) -> Result<Range<i64>, CoordinatorError> {
        Err(CoordinatorError::Unavailable("not in this test".into()))
    }
}

pub(crate) fn topic_id(n: u128) -> TopicId {
    TopicId(Uuid::from_u128(n + 1))
}

pub(crate) fn topic_of(n: u128) -> Topic {
    Topic {
        id: topic_id(n),
        name: format!("topic-{n}"),
        replication_factor: 1,
        partitions: vec![Partition { journal: JOURNAL, epoch_base: 100 }; PARTITIONS],
        configs: BTreeMap::new(),
    }
}

pub(crate) fn at(topic: u128, partition: i32) -> TopicPartition {
    TopicPartition::new(topic_id(topic), partition)
}

pub(crate) fn route(generation: u64) -> Route {
    Route { generation, gateway: NodeId(1), broker: NodeId(2) }
}

pub(crate) fn request(appends: Vec<(TopicPartition, Batch)>) -> AppendRequest {
    AppendRequest {
        journal: JOURNAL,
        route: route(1),
        acks: Acks::All,
        timeout: Duration::from_secs(30),
        appends: appends.into_iter().map(|(partition, batch)| Append { partition, batch }).collect(),
    }
}

/// Calls at once, whether or not the answer is awaited.
pub(crate) fn append(
    service: &Service,
    at: TopicPartition,
    batch: Batch,
) -> BoxFuture<'static, Result<Appended, StorageError>> {
    let answer = service.append(request(vec![(at, batch)]));
    Box::pin(async move { answer.await.remove(0) })
}

pub(crate) fn read_request(partition: TopicPartition, offset: i64) -> ReadRequest {
    ReadRequest { journal: JOURNAL, partition, revision: 1, offset, max_bytes: 1 << 20, current_leader_epoch: None }
}

/// All batches of a partition, from wherever they are.
pub(crate) async fn read_all(world: &World, service: &Service, at: TopicPartition) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    loop {
        let next = batches.last().map_or(0, Batch::next_offset);
        let Read { bounds, records, .. } = service.read(read_request(at, next)).await.unwrap();
        match records {
            Records::Batches(more) if more.is_empty() => {
                assert_eq!(next, bounds.high_watermark);
                return batches;
            }
            Records::Batches(more) => batches.extend(more),
            Records::Tiered(runs) => {
                for run in runs {
                    let index = SegmentIndex::read(&world.bucket, &run.object, run.object_size).await.unwrap();
                    let indexed = index.run(at).unwrap();
                    let span = indexed.blocks_span(0..indexed.blocks.len()).unwrap();
                    let bytes = world.bucket.get_range(&run.object, span.bytes.clone()).await.unwrap();
                    let read = indexed.decode(&span, &bytes).unwrap();
                    let next = batches.last().map_or(0, Batch::next_offset);
                    batches.extend(read.into_iter().filter(|batch| batch.base_offset >= next));
                }
            }
        }
    }
}

/// Lets everything that can run do so, until a condition holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come about");
}
