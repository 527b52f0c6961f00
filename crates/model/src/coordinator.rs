//! The coordinator service as the others see it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::{ClusterUpdate, Journal, NodeId, Role, Topic, TopicId};

/// What a service says of itself when it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    pub role: Role,
    /// The same at each start of the same node, and of no other: a storage node's from its data directory, a
    /// gateway's its advertised address, a broker's a random one. The node id goes with it.
    pub name: String,
    /// Another number at each start of the process.
    pub incarnation: u64,
    /// `host:port` where others reach it.
    pub address: String,
    pub rack: Option<String>,
}

/// A storage node that opens the journal of one of its write-ahead logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenJournal {
    pub node: NodeId,
    /// The incarnation of the log.
    pub wal_incarnation: u64,
    /// The incarnations of all logs that the node has. It cannot lead a journal of any other.
    pub logs: Vec<u64>,
    /// The log that this one was copied from, because an fdatasync of it failed.
    pub succeeds: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    /// At least 1, or -1 for the cluster's `num.partitions`.
    pub partitions: i32,
    /// At least 1, or -1 for the cluster's `default.replication.factor`.
    pub replication_factor: i16,
    pub configs: BTreeMap<String, String>,
}

/// A topic as it now is, and the revision at which every service that follows has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub topic: Topic,
    pub revision: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicRef {
    Id(TopicId),
    Name(String),
}

/// One change of IncrementalAlterConfigs (KIP-339).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    Set {
        name: String,
        value: String,
    },
    Delete {
        name: String,
    },
    /// Adds values to a list config.
    Append {
        name: String,
        value: String,
    },
    /// Takes values out of a list config.
    Subtract {
        name: String,
        value: String,
    },
}

/// Why a coordinator did not do it, by what the caller does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoordinatorError {
    /// The topic exists already: tell the client.
    #[error("{0}")]
    TopicExists(String),
    /// There is no such topic: tell the client.
    #[error("{0}")]
    UnknownTopic(String),
    /// The name breaks Kafka's rules or collides with another: tell the client.
    #[error("{0}")]
    InvalidTopicName(String),
    /// The number of partitions is out of range, or not above the present one: tell the client.
    #[error("{0}")]
    InvalidPartitions(String),
    /// More replicas than there are storage nodes: tell the client.
    #[error("{0}")]
    InvalidReplicationFactor(String),
    /// An unknown config or a value it does not take: tell the client which.
    #[error("{0}")]
    InvalidConfig(String),
    /// The request contradicts itself: tell the client.
    #[error("{0}")]
    InvalidRequest(String),
    /// Someone newer holds what the caller holds (a journal, a node's name): stop.
    #[error("fenced: {0}")]
    Fenced(String),
    /// The metadata store or the coordinator cannot be reached, or a write lost a race too often: retry.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

/// How often a follower of the cluster state hears something at least, be it that nothing has changed: so it knows one
/// coordinator that sleeps, or is cut off, from a cluster that is at rest.
pub const FEED_INTERVAL: Duration = Duration::from_secs(1);

/// The control plane.
#[async_trait]
pub trait Coordinator: Send + Sync {
    /// Registers a node for as long as the stream is held, and follows the cluster state: `Joined`, then a snapshot in
    /// chunks (or, when `resume` is a revision that is still known, nothing), then deltas, one every [`FEED_INTERVAL`] at
    /// least.
    fn join(
        &self,
        registration: Registration,
        resume: Option<u64>,
    ) -> BoxStream<'static, Result<ClusterUpdate, CoordinatorError>>;

    /// Takes the node out of the cluster state at once: a clean shutdown.
    async fn leave(&self, role: Role, node: NodeId, incarnation: u64) -> Result<(), CoordinatorError>;

    /// Makes a storage node the leader of the journal that its write-ahead log of this incarnation holds, in a new
    /// epoch, creating the journal when the log is new. Fenced when the journal's in-sync replicas do not include it.
    ///
    /// A log that succeeds another takes its place only where that one was alone in sync: others in sync have what was
    /// acknowledged without trust in a failing disk. Journals that the node led with logs it has no more lose their leader.
    async fn open_journal(&self, open: OpenJournal) -> Result<Journal, CoordinatorError>;

    /// Creates topics, answering each in its place. `validate_only` checks and writes nothing.
    async fn create_topics(&self, topics: Vec<NewTopic>, validate_only: bool)
    -> Vec<Result<Changed, CoordinatorError>>;

    /// Deletes topics, answering each in its place with the topic that was.
    async fn delete_topics(&self, topics: Vec<TopicRef>) -> Vec<Result<Changed, CoordinatorError>>;

    /// Raises the number of a topic's partitions to `total`.
    async fn create_partitions(
        &self,
        topic: TopicRef,
        total: i32,
        validate_only: bool,
    ) -> Result<Changed, CoordinatorError>;

    /// Changes a topic's configs, all or none.
    async fn alter_topic_configs(
        &self,
        topic: TopicRef,
        changes: Vec<ConfigChange>,
        validate_only: bool,
    ) -> Result<Changed, CoordinatorError>;

    /// Hands out producer ids that nobody else ever gets.
    async fn allocate_producer_ids(&self, count: u32) -> Result<Range<i64>, CoordinatorError>;
}
