//! The coordinator service.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tidemark_model::coordinator::{Changed, ConfigChange, NewTopic, OpenJournal, TopicRef};
use tidemark_model::group::{GroupAnswer, GroupCall, ListedGroup};
use tidemark_model::{
    Clock, ClusterUpdate, Coordinator, CoordinatorError, Entropy, GroupCoordinator, GroupError, Journal, NodeId,
    Registration, Role, TopicId,
};
use tidemark_segment::Bucket;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::Settings;
use crate::error::Error;
use crate::groups::Groups;
use crate::records::Keys;
use crate::slots::{self, SlotUser};
use crate::state::State;
use crate::store::{Counted, LeaseId, MetadataStore};
use crate::{backup, counters, follow, journals, maintenance, metrics, nodes, topics};

/// How often a conditional transaction is tried before the caller is told to try again later.
pub(crate) const ATTEMPTS: usize = 10;

/// How long an answer waits for this coordinator's own state to have what was just written, so that who asks next
/// finds it. Longer only when the store's watch is cut.
pub(crate) const CATCH_UP: Duration = Duration::from_secs(2);

/// How long a node that joins waits for the state to be loaded.
const LOADING_PATIENCE: Duration = Duration::from_secs(5);

/// A coordinator. Clones are the same one.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
    groups: Arc<Groups>,
    stopped: CancellationToken,
}

pub(crate) struct Shared {
    pub(crate) store: Arc<dyn MetadataStore>,
    pub(crate) keys: Keys,
    pub(crate) settings: Settings,
    /// Where snapshots go.
    pub(crate) bucket: Option<Bucket>,
    pub(crate) backup_health: backup::Health,
    pub(crate) state: State,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Status {
    Loading,
    Ready,
    Failed(Error),
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("store", &self.shared.store).finish_non_exhaustive()
    }
}

impl Service {
    /// Starts following the state that is in `store`, and keeping snapshots of it in `bucket`, where there is one. Calls are answered at once, by errors where the state is needed
    /// and not there yet. At `shutdown` it hands over what it owns, and everything ends.
    pub fn start(
        store: Arc<dyn MetadataStore>,
        bucket: Option<Bucket>,
        settings: Settings,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        shutdown: CancellationToken,
    ) -> Self {
        let shared = Shared::new(store, bucket, settings, clock, entropy, shutdown);
        let groups = Arc::new(Groups::new(Arc::clone(&shared)));
        Self::run(shared, Arc::clone(&groups), groups)
    }

    /// As [`Self::start`], with what is to be done with the slots that this coordinator owns.
    #[cfg(test)]
    pub(crate) fn start_with(
        store: Arc<dyn MetadataStore>,
        settings: Settings,
        entropy: Arc<dyn Entropy>,
        shutdown: CancellationToken,
        user: Arc<dyn SlotUser>,
    ) -> Self {
        let clock = Arc::new(tidemark_runtime::seams::SystemClock);
        let shared = Shared::new(store, None, settings, clock, entropy, shutdown);
        let groups = Arc::new(Groups::new(Arc::clone(&shared)));
        Self::run(shared, groups, user)
    }

    fn run(shared: Arc<Shared>, groups: Arc<Groups>, user: Arc<dyn SlotUser>) -> Self {
        let (following, stopped) = (Arc::clone(&shared), CancellationToken::new());
        let guard = stopped.clone().drop_guard();
        tokio::spawn(async move {
            let _guard = guard;
            let ended = tokio::select! {
                biased;
                error = follow::follow(&following) => Err(error),
                // Ends only after the shutdown.
                ended = slots::run(&following, user) => ended,
                () = maintenance::maintain(&following) => Ok(()),
                error = back_up(&following) => Err(error),
            };
            if let Err(error) = ended {
                following.status.send_replace(Status::Failed(error));
            }
        });
        Self { shared, groups, stopped }
    }

    /// Whether the bucket has the snapshots that it should; if not, why.
    pub fn backup_health(&self) -> watch::Receiver<Result<(), String>> {
        self.shared.backup_health.subscribe()
    }

    /// Returns once everything has ended, after the shutdown: what this coordinator owned is handed over.
    pub async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    /// Returns once the state has been loaded.
    pub async fn ready(&self) {
        self.wait_for(|status| *status == Status::Ready).await;
    }

    /// Returns when this coordinator cannot go on, with the reason. Does not return otherwise.
    pub async fn failed(&self) -> Error {
        match self.wait_for(|status| matches!(status, Status::Failed(_))).await {
            Status::Failed(error) => error,
            Status::Loading | Status::Ready => std::future::pending().await,
        }
    }

    async fn wait_for(&self, wanted: impl FnMut(&Status) -> bool) -> Status {
        let mut status = self.shared.status.subscribe();
        let seen = status.wait_for(wanted).await.map(|status| status.clone());
        seen.expect("the sender is part of what this holds")
    }
}

impl Shared {
    fn new(
        store: Arc<dyn MetadataStore>,
        bucket: Option<Bucket>,
        settings: Settings,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        let keys = Keys::new(&settings.cluster);
        let store: Arc<dyn MetadataStore> = Arc::new(Counted::new(store, keys.revisions()));
        let (status, state) = (watch::Sender::new(Status::Loading), State::new(keys.clone()));
        let backup_health = watch::Sender::new(Ok(()));
        Arc::new(Self { store, keys, settings, bucket, backup_health, state, status, shutdown, clock, entropy })
    }

    /// Tells the process, when it is something else than before.
    pub(crate) fn say_of_backups(&self, health: Result<(), String>) {
        self.backup_health.send_if_modified(|said| {
            let other = *said != health;
            *said = health;
            other
        });
    }

    pub(crate) fn loaded(&self) -> bool {
        self.state.revision().is_some()
    }

    pub(crate) async fn wait_until_loaded(&self) -> Result<(), CoordinatorError> {
        let mut revisions = self.state.revisions();
        match tokio::time::timeout(LOADING_PATIENCE, revisions.wait_for(Option::is_some)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(CoordinatorError::Unavailable("the state is not loaded yet".into())),
        }
    }

    /// This process, as it registers itself.
    pub(crate) fn registration(&self) -> Registration {
        let Settings { name, address, rack, .. } = self.settings.clone();
        Registration { role: Role::Coordinator, name, incarnation: self.entropy.next_u64(), address, rack }
    }

    /// Ends a lease that nothing needs. When that fails it ends by itself.
    pub(crate) async fn forget_lease(&self, lease: LeaseId) {
        if let Err(error) = self.store.revoke(lease).await {
            tracing::debug!(%error, "a lease is left to expire");
        }
    }

    /// A random topic id, as Kafka makes them: of version 4, and not beginning with a `-` in base64, so that tools can
    /// take it as an argument.
    pub(crate) fn random_topic_id(&self) -> TopicId {
        TopicId(self.random_uuid())
    }

    /// A random cluster id, as Kafka makes them: 22 characters of base64.
    pub(crate) fn random_cluster_id(&self) -> String {
        base64(self.random_uuid())
    }

    fn random_uuid(&self) -> Uuid {
        loop {
            let (high, low) = (self.entropy.next_u64(), self.entropy.next_u64());
            let bits = (u128::from(high) << 64) | u128::from(low);
            // With its version and variant it is none of the ids that Kafka reserves, 0 and 1.
            let uuid = uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid();
            if !base64(uuid).starts_with('-') {
                return uuid;
            }
        }
    }
}

async fn back_up(shared: &Shared) -> Error {
    match &shared.bucket {
        Some(bucket) => backup::run(shared, bucket).await,
        None => std::future::pending().await,
    }
}

/// URL-safe base64 without padding.
fn base64(uuid: Uuid) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const DIGITS: u32 = 22;
    // 22 digits are 132 bits: the last one holds the lowest two bits of the 128, shifted up by four.
    let digit = |at: u32| match at {
        21 => (uuid.as_u128() << 4) & 0x3f,
        at => (uuid.as_u128() >> (122 - 6 * at)) & 0x3f,
    };
    (0..DIGITS).map(|at| char::from(ALPHABET[digit(at) as usize])).collect()
}

/// Counts an answer by its outcome.
fn counted<T>(request: &'static str, answer: Result<T, CoordinatorError>) -> Result<T, CoordinatorError> {
    let outcome = match &answer {
        Ok(_) => "ok",
        Err(CoordinatorError::Unavailable(_)) => "unavailable",
        Err(CoordinatorError::Fenced(_)) => "fenced",
        Err(
            CoordinatorError::TopicExists(_)
            | CoordinatorError::UnknownTopic(_)
            | CoordinatorError::InvalidTopicName(_)
            | CoordinatorError::InvalidPartitions(_)
            | CoordinatorError::InvalidReplicationFactor(_)
            | CoordinatorError::InvalidConfig(_)
            | CoordinatorError::InvalidRequest(_),
        ) => "refused",
    };
    metrics::answered(request, outcome);
    answer
}

#[async_trait]
impl Coordinator for Service {
    fn join(
        &self,
        registration: Registration,
        resume: Option<u64>,
    ) -> BoxStream<'static, Result<ClusterUpdate, CoordinatorError>> {
        nodes::join(Arc::clone(&self.shared), registration, resume)
    }

    async fn leave(&self, role: Role, node: NodeId, incarnation: u64) -> Result<(), CoordinatorError> {
        counted("leave", nodes::leave(&self.shared, role, node, incarnation).await)
    }

    async fn open_journal(&self, open: OpenJournal) -> Result<Journal, CoordinatorError> {
        counted("open_journal", journals::open(&self.shared, open).await)
    }

    async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> Vec<Result<Changed, CoordinatorError>> {
        let answers = topics::create(&self.shared, topics, validate_only).await;
        answers.into_iter().map(|answer| counted("create_topic", answer)).collect()
    }

    async fn delete_topics(&self, topics: Vec<TopicRef>) -> Vec<Result<Changed, CoordinatorError>> {
        let answers = topics::delete(&self.shared, topics).await;
        answers.into_iter().map(|answer| counted("delete_topic", answer)).collect()
    }

    async fn create_partitions(
        &self,
        topic: TopicRef,
        total: i32,
        validate_only: bool,
    ) -> Result<Changed, CoordinatorError> {
        let answer = topics::create_partitions(&self.shared, &topic, total, validate_only).await;
        counted("create_partitions", answer)
    }

    async fn alter_topic_configs(
        &self,
        topic: TopicRef,
        changes: Vec<ConfigChange>,
        validate_only: bool,
    ) -> Result<Changed, CoordinatorError> {
        let answer = topics::alter_configs(&self.shared, &topic, &changes, validate_only).await;
        counted("alter_topic_configs", answer)
    }

    async fn allocate_producer_ids(&self, count: u32) -> Result<Range<i64>, CoordinatorError> {
        counted("allocate_producer_ids", counters::allocate_producer_ids(&self.shared, count).await)
    }
}

#[async_trait]
impl GroupCoordinator for Service {
    fn call(&self, call: GroupCall) -> BoxFuture<'static, Result<GroupAnswer, GroupError>> {
        self.groups.call(call)
    }

    async fn list(&self) -> Result<Vec<ListedGroup>, GroupError> {
        self.groups.list().await
    }
}

#[cfg(test)]
mod tests;
