//! A storage node and all that is around it, which outlives each of the node's lives.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemark_model::route::Route;
use tidemark_model::{ClusterState, JournalId, NodeId, Partition, Record, RecordKey, Topic, TopicId, TopicPartition};
use tidemark_segment::bucket::RetryPolicy;
use tidemark_segment::testing::Memory;
use tidemark_segment::testing::sim::{Chance, Trace};
use tidemark_segment::{Bucket, StoreError};
use tidemark_storage::disk::sim::{Odds, SimDisk};
use tidemark_storage::wal::recovery::RecoveryError;
use tidemark_storage::{Config, DataDir, Dependencies, FoldLimits, Service, StartError};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::coordinator::{Connected, Records};
use crate::model::{Model, Retention};
use crate::names;
use crate::store::{Seen, Skies, Weather};

pub const JOURNAL: JournalId = JournalId(1);
const NODE: NodeId = NodeId(3);
const EPOCH_BASE: i32 = 100;
/// Starts after which everything around the node is made to work, and after which it should have started.
const PATIENCE: usize = 20;

#[derive(Debug)]
pub struct World {
    pub trace: Trace,
    pub chance: Chance,
    pub disk: SimDisk,
    memory: Memory,
    pub skies: Arc<Skies>,
    pub records: Arc<Records>,
    pub view: watch::Sender<Arc<ClusterState>>,
    life: Mutex<Option<Arc<Life>>>,
    born: Notify,
    pub config: Config,
    folds: FoldLimits,
    model: Mutex<Model>,
    /// Clients finish what they have begun, and end.
    pub closing: CancellationToken,
    topics: Mutex<u128>,
}

/// A process of the node.
#[derive(Debug)]
pub struct Life {
    pub service: Arc<Service>,
    pub dead: CancellationToken,
}

/// Whether a life is over.
#[derive(Debug, Clone)]
pub struct Pulse {
    disk: SimDisk,
    life: u64,
}

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    PowerLoss,
    Kill,
    Shutdown,
    /// The power went already, at an operation of the disk.
    Happened,
}

impl Pulse {
    pub fn is_dead(&self) -> bool {
        self.disk.life() != self.life
    }
}

impl World {
    pub fn new(seed: u64, trace: Trace) -> Arc<Self> {
        let chance = Chance::of(seed, 1);
        let disk = SimDisk::by_chance(Chance::of(seed, 2).entropy());
        disk.watch(names::watcher(trace.clone()));
        disk.set_latency(Duration::from_micros(chance.pick(&[200, 2_000, 20_000])));
        let config = Config {
            data_dir: "/data".into(),
            journals: 1,
            wal_file_bytes: chance.pick(&[16 << 10, 32 << 10]),
            wal_max_bytes: chance.pick(&[600 << 10, 1 << 20, 4 << 20]),
            segment_bytes: chance.pick(&[8_000, 30_000, 100_000]),
            segment_ms: chance.pick(&[300, 2_000, 10_000]),
            memory_bytes: chance.pick(&[0, 4 << 10, 32 << 10, 1 << 20]),
            delete_grace_ms: 5_000,
            retention_check_ms: chance.pick(&[500, 3_000]),
            ..Config::default()
        };
        let mut state = ClusterState::new("cluster".into());
        state.revision = 10;
        Arc::new(Self {
            disk,
            memory: Memory::default(),
            skies: Arc::new(Skies::new(Chance::of(seed, 3), trace.clone())),
            records: Arc::new(Records::new(Chance::of(seed, 4), trace.clone())),
            view: watch::channel(Arc::new(state)).0,
            life: Mutex::default(),
            born: Notify::new(),
            config,
            folds: FoldLimits {
                runs: Chance::of(seed, 5).pick(&[2, 4, 8, 64]),
                kept: Chance::of(seed, 6).pick(&[0, 1, 3]),
                folds: Chance::of(seed, 7).pick(&[1, 3, 64]),
            },
            model: Mutex::default(),
            closing: CancellationToken::new(),
            topics: Mutex::new(0),
            trace,
            chance,
        })
    }

    pub fn model(&self) -> MutexGuard<'_, Model> {
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        model.time_is(self.trace.now_ms());
        model
    }

    /// The bucket, for those who see what is in it.
    pub fn bucket(&self) -> Bucket {
        self.memory.bucket(self.chance.entropy())
    }

    /// The bucket as one life sees it, or a reader beside it.
    pub fn faulty_bucket(&self, entropy: &Chance) -> Bucket {
        let pulse = Pulse { disk: self.disk.clone(), life: self.disk.life() };
        let seen = Arc::new(Seen { skies: self.skies.clone(), pulse });
        self.memory.faulty(seen, entropy.entropy()).with_retry(RetryPolicy {
            attempt_timeout: Duration::from_secs(1),
            budget: Duration::from_secs(3),
            first_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_millis(500),
        })
    }

    /// The life there is now, or comes next.
    pub async fn alive(&self) -> Arc<Life> {
        loop {
            let born = self.born.notified();
            if let Some(life) = self.life() {
                return life;
            }
            born.await;
        }
    }

    /// The life there is now.
    pub fn life(&self) -> Option<Arc<Life>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts the node, again and again until it stands. It may meet a crash while it starts.
    pub async fn boot(&self) -> Result<(), String> {
        for attempt in 0..2 * PATIENCE {
            if attempt == PATIENCE {
                self.calm();
            }
            let mut crashes = self.disk.crashes();
            crashes.mark_unchanged();
            let started = tokio::select! {
                biased;
                _ = crashes.changed() => None,
                started = self.start() => Some(started),
            };
            match started {
                Some(Ok(service)) => {
                    self.trace.note(format_args!("node: started"));
                    let life = Life { service, dead: CancellationToken::new() };
                    *self.life.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(life));
                    self.born.notify_waiters();
                    return Ok(());
                }
                Some(Err(error)) => {
                    self.trace.note(format_args!("node: does not start: {error}"));
                    if !self.may_fail(&error) {
                        return Err(format!("the node does not start: {error}"));
                    }
                    self.disk.kill();
                }
                None => self.trace.note(format_args!("node: crashed while it started")),
            }
            tokio::time::sleep(self.chance.up_to(Duration::from_millis(500))).await;
        }
        Err("the node does not start, with nothing around it that fails".into())
    }

    async fn start(&self) -> Result<Arc<Service>, StartError> {
        let disk = self.disk.of_this_life();
        let pulse = Pulse { disk: self.disk.clone(), life: disk.life() };
        let deps = Dependencies {
            node: NODE,
            data_dir: DataDir::open(Arc::new(disk), Path::new("/data"), &*self.chance.entropy())?,
            bucket: self.faulty_bucket(&self.chance),
            coordinator: Arc::new(Connected { records: self.records.clone(), pulse }),
            view: self.view.subscribe(),
            clock: Arc::new(self.trace.clone()),
            entropy: self.chance.entropy(),
            shutdown: CancellationToken::new(),
        };
        Box::pin(Service::start_folding(&self.config, deps, self.folds)).await
    }

    /// Whether a start may fail so while the disk and the object store do. Nothing else may ever be.
    fn may_fail(&self, error: &StartError) -> bool {
        match error {
            StartError::Store(StoreError::Unavailable(_))
            | StartError::Io { .. }
            | StartError::NotWritable { .. }
            | StartError::Open(_)
            | StartError::Recovery(RecoveryError::Io { .. }) => true,
            _ => self.disk.life() == u64::MAX,
        }
    }

    /// Ends the life there is.
    pub async fn down(&self, how: End) {
        let Some(life) = self.life.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        self.trace.note(format_args!("node: {how:?}"));
        self.skies.crash_at(None);
        match how {
            End::Shutdown => {
                let mut crashes = self.disk.crashes();
                tokio::select! {
                    biased;
                    // The power goes meanwhile: nobody is there any more who could come to an end.
                    _ = crashes.changed() => {}
                    () = life.service.shutdown() => self.disk.kill(),
                }
            }
            End::PowerLoss => self.disk.crash(&*self.chance.entropy()),
            End::Kill => self.disk.kill(),
            End::Happened => {}
        }
        self.trace.count("ends of a life");
        life.dead.cancel();
        for panic in life.service.kill().await {
            self.trace.wrong(format!("a task panicked: {panic}"));
        }
        if let Some(words) = self.disk.panic() {
            self.trace.wrong(format!("an I/O loop panicked: {words}"));
        }
    }

    /// Everything around the node works from now on.
    pub fn calm(&self) {
        self.trace.note(format_args!("all is calm"));
        self.disk.set_odds(Odds::default());
        self.disk.set_capacity(None);
        self.disk.lose_power_in(None);
        self.skies.set(Weather::Fine);
        self.skies.crash_at(None);
        self.records.set_fails(0);
    }

    pub fn create_topic(&self) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        *topics += 1;
        let partitions = 1 + self.chance.below(3) as usize;
        let id = TopicId(Uuid::from_u128(*topics));
        let (retention, configs) = match self.chance.below(4) {
            0 => {
                let ms = self.chance.pick(&[1_000, 5_000, 20_000]);
                (Retention::Age(ms), vec![("retention.ms", ms)])
            }
            1 => (Retention::Size, vec![("retention.bytes", self.chance.pick(&[0, 20_000])), ("segment.bytes", 5_000)]),
            _ => (Retention::Forever, vec![]),
        };
        for partition in 0..partitions as i32 {
            self.model().retains(TopicPartition::new(id, partition), retention);
        }
        let configs = [("retention.ms", -1)].into_iter().chain(configs);
        let topic = Topic {
            id,
            name: format!("topic-{}", *topics),
            replication_factor: 1,
            partitions: vec![Partition { journal: JOURNAL, epoch_base: EPOCH_BASE }; partitions],
            configs: configs.map(|(name, value): (&str, i64)| (name.to_owned(), value.to_string())).collect(),
        };
        self.trace.note(format_args!("cluster: {} with {partitions} partitions, {:?}", topic.name, topic.configs));
        self.change_view(|state| state.upsert(Record::Topic(topic)));
    }

    pub fn delete_topic(&self, topic: TopicId) {
        self.trace.note(format_args!("cluster: {} is deleted", topic.0));
        self.trace.count("topics deleted");
        for at in self.partitions().into_iter().filter(|at| at.topic == topic) {
            self.model().delete(at);
        }
        self.change_view(|state| state.remove(RecordKey::Topic(topic)));
    }

    /// The partitions there are.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        let view = self.view.borrow().clone();
        let topics =
            (1..=*self.topics.lock().unwrap_or_else(PoisonError::into_inner)).map(Uuid::from_u128).map(TopicId);
        let partitions = topics.filter_map(|id| view.topic(id)).flat_map(|topic| {
            (0..topic.partitions.len() as i32).map(|partition| TopicPartition::new(topic.id, partition))
        });
        partitions.collect()
    }

    /// The way of an append now.
    pub fn route(&self) -> Route {
        Route { generation: self.view.borrow().revision, gateway: NodeId(1), broker: NodeId(2) }
    }

    fn change_view(&self, change: impl FnOnce(&mut ClusterState)) {
        self.view.send_modify(|state| {
            let mut next = ClusterState::clone(state);
            next.revision += 1;
            change(&mut next);
            *state = Arc::new(next);
        });
    }
}

impl Life {
    /// Waits for an answer of this life. Nothing: nobody knows what became of what was asked.
    pub async fn answer<T>(&self, patience: Duration, answer: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            answer = answer => Some(answer),
            () = self.dead.cancelled() => None,
            () = tokio::time::sleep(patience) => None,
        }
    }
}
