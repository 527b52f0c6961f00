//! A coordinator whose state is the gateway's view, and whose next calls a test can make fail.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tidemark_model::coordinator::{Changed, ConfigChange, NewTopic, OpenJournal, TopicRef};
use tidemark_model::{
    ClusterState, ClusterUpdate, Coordinator, CoordinatorError, Journal, NodeId, Record, RecordKey, Registration, Role,
    Topic,
};
use tokio::sync::watch;

/// What `num.partitions` is.
pub(crate) const DEFAULT_PARTITIONS: i32 = 4;

pub(crate) struct FakeCoordinator {
    state: watch::Sender<Arc<ClusterState>>,
    brokers: i32,
    failures: Mutex<VecDeque<CoordinatorError>>,
    next_producer_id: Mutex<i64>,
}

impl FakeCoordinator {
    pub(crate) fn new(state: watch::Sender<Arc<ClusterState>>, brokers: i32) -> Self {
        Self { state, brokers, failures: Mutex::default(), next_producer_id: Mutex::new(1_000) }
    }

    pub(crate) fn state(&self) -> Arc<ClusterState> {
        self.state.borrow().clone()
    }

    /// The next call fails with this.
    pub(crate) fn fail(&self, error: CoordinatorError) {
        self.failures.lock().unwrap().push_back(error);
    }

    pub(crate) fn put(&self, topic: Topic) -> Changed {
        self.change(|state| state.upsert(Record::Topic(topic.clone())));
        Changed { topic, revision: self.state().revision }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut ClusterState)) {
        self.state.send_modify(|state| {
            let mut next = ClusterState::clone(state);
            next.revision += 1;
            change(&mut next);
            *state = Arc::new(next);
        });
    }

    fn check(&self) -> Result<(), CoordinatorError> {
        self.failures.lock().unwrap().pop_front().map_or(Ok(()), Err)
    }

    fn find(&self, topic: &TopicRef) -> Result<Topic, CoordinatorError> {
        let state = self.state();
        let found = match topic {
            TopicRef::Id(id) => state.topic(*id),
            TopicRef::Name(name) => state.topic_named(name),
        };
        found.map(|topic| Topic::clone(topic)).ok_or_else(|| CoordinatorError::UnknownTopic("no such topic".into()))
    }

    fn create(&self, new: NewTopic, validate_only: bool) -> Result<Changed, CoordinatorError> {
        if self.state().topic_named(&new.name).is_some() {
            return Err(CoordinatorError::TopicExists(format!("Topic '{}' already exists.", new.name)));
        }
        let partitions = if new.partitions == -1 { DEFAULT_PARTITIONS } else { new.partitions };
        if partitions < 1 {
            return Err(CoordinatorError::InvalidPartitions("at least one".into()));
        }
        let mut topic = super::topic(&new.name, partitions, self.brokers);
        topic.configs = new.configs;
        if new.replication_factor > 0 {
            topic.replication_factor = new.replication_factor;
        }
        match validate_only {
            true => Ok(Changed { topic, revision: 0 }),
            false => Ok(self.put(topic)),
        }
    }
}

#[async_trait]
impl Coordinator for FakeCoordinator {
    fn join(
        &self,
        _registration: Registration,
        _resume: Option<u64>,
    ) -> BoxStream<'static, Result<ClusterUpdate, CoordinatorError>> {
        stream::pending().boxed()
    }

    async fn leave(&self, _role: Role, _node: NodeId, _incarnation: u64) -> Result<(), CoordinatorError> {
        Ok(())
    }

    async fn open_journal(&self, _: OpenJournal) -> Result<Journal, CoordinatorError> {
        Err(CoordinatorError::InvalidRequest("not asked by gateways".into()))
    }

    async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> Vec<Result<Changed, CoordinatorError>> {
        let failure = self.check();
        topics.into_iter().map(|new| failure.clone().and_then(|()| self.create(new, validate_only))).collect()
    }

    async fn delete_topics(&self, topics: Vec<TopicRef>) -> Vec<Result<Changed, CoordinatorError>> {
        let failure = self.check();
        let delete = |topic: &TopicRef| {
            failure.clone()?;
            let topic = self.find(topic)?;
            self.change(|state| state.remove(RecordKey::Topic(topic.id)));
            Ok(Changed { topic, revision: self.state().revision })
        };
        topics.iter().map(delete).collect()
    }

    async fn create_partitions(
        &self,
        topic: TopicRef,
        total: i32,
        validate_only: bool,
    ) -> Result<Changed, CoordinatorError> {
        self.check()?;
        let before = self.find(&topic)?;
        if total <= before.partitions.len() as i32 {
            return Err(CoordinatorError::InvalidPartitions("not more than there are".into()));
        }
        let after = super::topic(&before.name, total, self.brokers);
        Ok(if validate_only { Changed { topic: after, revision: 0 } } else { self.put(after) })
    }

    async fn alter_topic_configs(
        &self,
        topic: TopicRef,
        changes: Vec<ConfigChange>,
        validate_only: bool,
    ) -> Result<Changed, CoordinatorError> {
        self.check()?;
        let mut topic = self.find(&topic)?;
        for change in changes {
            match change {
                ConfigChange::Set { name, value } => drop(topic.configs.insert(name, value)),
                ConfigChange::Delete { name } => drop(topic.configs.remove(&name)),
                ConfigChange::Append { name, value } => {
                    let values = topic.configs.entry(name).or_default();
                    values.push_str(&format!(",{value}"));
                }
                ConfigChange::Subtract { name, .. } => return Err(CoordinatorError::InvalidConfig(name)),
            }
        }
        Ok(if validate_only { Changed { topic, revision: 0 } } else { self.put(topic) })
    }

    async fn allocate_producer_ids(&self, count: u32) -> Result<Range<i64>, CoordinatorError> {
        self.check()?;
        let mut next = self.next_producer_id.lock().unwrap();
        let first = *next;
        *next += i64::from(count);
        Ok(first..*next)
    }
}
