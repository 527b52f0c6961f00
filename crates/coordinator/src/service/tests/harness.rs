use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use tidemark_model::coordinator::{Changed, NewTopic, OpenJournal};
use tidemark_model::{
    Claim, ClusterState, ClusterUpdate, Coordinator, CoordinatorError, Entropy, Journal, NodeId, Registration, Role,
};
use tidemark_runtime::seams::SystemClock;
use tokio_util::sync::CancellationToken;

use crate::store::MetadataStore;
use crate::{Service, Settings};

/// Longer than anything here takes. A case that waits this long has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

pub(super) type Store = Arc<dyn MetadataStore>;

/// Random enough, and the same in each run, but for the seed.
#[derive(Debug)]
pub(super) struct Seeded(pub(super) AtomicU64);

impl Entropy for Seeded {
    fn next_u64(&self) -> u64 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 31)
    }
}

/// Coordinators on one store draw different numbers.
pub(super) static SEEDS: AtomicU64 = AtomicU64::new(1);

pub(super) fn settings() -> Settings {
    // etcd's shortest.
    let shortest = Duration::from_secs(2);
    Settings { node_lease: shortest, coordinator_lease: shortest, ..Settings::default() }
}

pub(super) fn start(store: &Store, settings: Settings) -> Service {
    start_until(store, settings, CancellationToken::new())
}

pub(super) fn start_until(store: &Store, settings: Settings, shutdown: CancellationToken) -> Service {
    let seed = SEEDS.fetch_add(1, Ordering::Relaxed);
    let (entropy, settings) = (Seeded(AtomicU64::new(seed << 32)), Settings { name: format!("c{seed}"), ..settings });
    Service::start(Arc::clone(store), None, settings, Arc::new(SystemClock), Arc::new(entropy), shutdown)
}

/// A coordinator that has loaded the state.
pub(super) async fn coordinator(store: &Store) -> Service {
    let service = start(store, settings());
    within(service.ready()).await;
    service
}

/// A coordinator on a store with a storage node, away by now, that has opened a journal.
pub(super) async fn with_a_journal(store: &Store) -> Service {
    let service = coordinator(store).await;
    open(&service, NodeId(1), 7).await.unwrap();
    service
}

/// Opens the journal of a node's only log.
pub(super) async fn open(service: &Service, node: NodeId, log: u64) -> Result<Journal, CoordinatorError> {
    open_of(service, node, log, &[log], None).await
}

/// Opens the journal of one of a node's logs, which may succeed another.
pub(super) async fn open_of(
    service: &Service,
    node: NodeId,
    wal_incarnation: u64,
    logs: &[u64],
    succeeds: Option<u64>,
) -> Result<Journal, CoordinatorError> {
    service.open_journal(OpenJournal { node, wal_incarnation, logs: logs.to_vec(), succeeds }).await
}

pub(super) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it does not come")
}

pub(super) fn registration(role: Role, name: &str, incarnation: u64) -> Registration {
    Registration { role, name: name.into(), incarnation, address: format!("{name}:1"), rack: None }
}

pub(super) fn new(name: &str) -> NewTopic {
    sized(name, 1)
}

pub(super) fn sized(name: &str, partitions: i32) -> NewTopic {
    NewTopic { name: name.into(), partitions, replication_factor: -1, configs: BTreeMap::new() }
}

pub(super) async fn create(service: &Service, topic: NewTopic) -> Result<Changed, CoordinatorError> {
    service.create_topics(vec![topic], false).await.remove(0)
}

/// A node that follows the cluster state.
pub(super) struct Node {
    updates: BoxStream<'static, Result<ClusterUpdate, CoordinatorError>>,
    pub(super) id: NodeId,
    pub(super) cluster_id: String,
    pub(super) claim: Option<Claim>,
    pub(super) state: ClusterState,
    pub(super) snapshots: usize,
    pub(super) empty_deltas: usize,
}

impl Node {
    pub(super) async fn join(service: &Service, registration: Registration) -> Self {
        Self::try_join(service, registration, None).await.unwrap()
    }

    pub(super) async fn try_join(
        service: &Service,
        registration: Registration,
        resume: Option<ClusterState>,
    ) -> Result<Self, CoordinatorError> {
        let mut updates = service.join(registration, resume.as_ref().map(|state| state.revision));
        let ClusterUpdate::Joined { cluster_id, claim, node: id, settings: _ } =
            within(updates.next()).await.unwrap()?
        else {
            panic!("the first update is Joined")
        };
        let state = resume.unwrap_or_default();
        Ok(Self { updates, id, cluster_id, claim, state, snapshots: 0, empty_deltas: 0 })
    }

    /// A gateway, of which nothing but what it follows is of interest.
    pub(super) async fn observer(service: &Service, name: &str) -> Self {
        Self::join(service, registration(Role::Gateway, name, 1)).await
    }

    /// Takes one update.
    pub(super) async fn step(&mut self) -> Result<(), CoordinatorError> {
        match within(self.updates.next()).await.expect("the stream ended")? {
            ClusterUpdate::Joined { .. } => panic!("joined twice"),
            ClusterUpdate::Snapshot { revision, records, last } => {
                assert!(revision >= self.state.revision, "went back to an older state");
                let mut state = ClusterState::new(self.cluster_id.clone());
                state.revision = revision;
                records.into_iter().for_each(|record| state.upsert(record));
                assert!(last, "these states are small");
                self.state = state;
                self.snapshots += 1;
            }
            ClusterUpdate::Delta { revision, upserts, removals } => {
                let empty = upserts.is_empty() && removals.is_empty();
                assert!(revision > self.state.revision || (empty && revision == self.state.revision));
                self.empty_deltas += usize::from(empty);
                removals.into_iter().for_each(|key| self.state.remove(key));
                upserts.into_iter().for_each(|record| self.state.upsert(record));
                self.state.revision = revision;
            }
        }
        Ok(())
    }

    pub(super) async fn until(&mut self, done: impl Fn(&ClusterState) -> bool) {
        while !done(&self.state) {
            self.step().await.unwrap();
        }
    }

    pub(super) async fn until_revision(&mut self, revision: u64) {
        self.until(|state| state.revision >= revision).await;
    }

    /// Takes updates until the stream ends, and says by what.
    pub(super) async fn ended_by(mut self) -> CoordinatorError {
        loop {
            if let Err(error) = self.step().await {
                assert!(within(self.updates.next()).await.is_none());
                return error;
            }
        }
    }
}
