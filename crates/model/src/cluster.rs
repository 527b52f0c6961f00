//! The cluster state that every service follows: nodes, journals, topics and slots, as of a revision of the metadata store.
//!
//! It is a set of [`Record`]s, each under its [`RecordKey`]. A follower gets all of them once, in chunks, then the
//! changes by revision, and never goes back to an older revision.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{JournalId, NodeId, SlotId, TopicId, TopicPartition};

/// Which of the services a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Gateway,
    Broker,
    Storage,
    Coordinator,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Broker => "broker",
            Self::Storage => "storage",
            Self::Coordinator => "coordinator",
        }
    }
}

/// A live node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub role: Role,
    pub id: NodeId,
    /// Another number at each start of the process, so that a restart is seen.
    pub incarnation: u64,
    /// `host:port` where others reach it: for a gateway what Kafka clients connect to, otherwise gRPC.
    pub address: String,
    pub rack: Option<String>,
}

/// A copy of a journal: a node and the incarnation of its write-ahead log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replica {
    pub node: NodeId,
    /// Another number whenever the log is new, was emptied or had an fsync fail.
    pub incarnation: u64,
}

/// A journal's configuration, changed only by compare-and-swap in the metadata store (PacificA).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    pub id: JournalId,
    /// Raised at each change of leader and each restart of one.
    pub epoch: u32,
    pub leader: NodeId,
    pub replicas: Vec<Replica>,
    pub isr: Vec<Replica>,
}

/// Where a partition lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    pub journal: JournalId,
    /// What is added to the journal's epoch to make the partition's leader epoch.
    pub epoch_base: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub id: TopicId,
    pub name: String,
    pub replication_factor: i16,
    /// By partition number.
    pub partitions: Vec<Partition>,
    /// Only what was set on the topic; everything else has its default ([`crate::topic_config`]).
    pub configs: BTreeMap<String, String>,
}

/// Who owns the groups of a slot. Every write of the slot is conditional on this record being what the owner put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub id: SlotId,
    /// Raised at each change of owner: Kafka's coordinator epoch.
    pub epoch: u32,
    /// A coordinator. It need not be alive.
    pub owner: NodeId,
    /// The owner's process: another one at the same address is not the owner.
    pub incarnation: u64,
}

/// By what a cluster holds its bucket. It is kept in the metadata store and in the bucket, so that neither another cluster
/// nor what is left of this one from before a rebuild takes the bucket for its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// 1, and one more with each rebuild from the bucket. The highest one in the bucket holds it.
    pub generation: u32,
    /// A random number, so that no two metadata stores have the same claim.
    pub id: u64,
}

/// One fact of the cluster state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Node(Node),
    Journal(Journal),
    Topic(Topic),
    Slot(Slot),
}

/// What a record is stored under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKey {
    Node(Role, NodeId),
    Journal(JournalId),
    Topic(TopicId),
    Slot(SlotId),
}

impl Record {
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Node(node) => RecordKey::Node(node.role, node.id),
            Self::Journal(journal) => RecordKey::Journal(journal.id),
            Self::Topic(topic) => RecordKey::Topic(topic.id),
            Self::Slot(slot) => RecordKey::Slot(slot.id),
        }
    }
}

/// What a coordinator tells a service that follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterUpdate {
    /// First of all: who the service is, by what the cluster holds its bucket (none where nobody gave it one), and what the
    /// coordinator is configured with, by Kafka's names.
    Joined { cluster_id: String, claim: Option<Claim>, node: NodeId, settings: BTreeMap<String, String> },
    /// A chunk of the whole state at a revision. The chunks of one snapshot follow each other; `last` closes it.
    Snapshot { revision: u64, records: Vec<Record>, last: bool },
    /// All changes of one revision. Also sent empty, so that a follower knows that it is up to date.
    Delta { revision: u64, upserts: Vec<Record>, removals: Vec<RecordKey> },
}

/// The state as of `revision`. Cheap to clone as far as its records go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterState {
    pub cluster_id: String,
    /// By what the cluster holds its bucket.
    pub claim: Option<Claim>,
    pub revision: u64,
    /// What the coordinator that was joined last is configured with, by Kafka's names for broker configs.
    pub settings: Arc<BTreeMap<String, String>>,
    nodes: BTreeMap<(Role, NodeId), Arc<Node>>,
    journals: BTreeMap<JournalId, Arc<Journal>>,
    topics: BTreeMap<TopicId, Arc<Topic>>,
    names: BTreeMap<String, TopicId>,
    slots: BTreeMap<SlotId, Slot>,
}

impl ClusterState {
    pub fn new(cluster_id: String) -> Self {
        Self { cluster_id, ..Self::default() }
    }

    /// The live nodes of a role, by id.
    pub fn nodes(&self, role: Role) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.range((role, NodeId(i32::MIN))..=(role, NodeId(i32::MAX))).map(|(_, node)| node)
    }

    pub fn node(&self, role: Role, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&(role, id))
    }

    pub fn journals(&self) -> impl Iterator<Item = &Arc<Journal>> {
        self.journals.values()
    }

    pub fn journal(&self, id: JournalId) -> Option<&Arc<Journal>> {
        self.journals.get(&id)
    }

    /// All topics, by id.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// All topics, by name.
    pub fn topics_by_name(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.names.values().filter_map(|id| self.topics.get(id))
    }

    pub fn topic(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    pub fn topic_named(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(self.names.get(name)?)
    }

    /// All slots that have had an owner, by id.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values()
    }

    pub fn slot(&self, id: SlotId) -> Option<&Slot> {
        self.slots.get(&id)
    }

    pub fn partition(&self, at: TopicPartition) -> Option<Partition> {
        let index = usize::try_from(at.partition).ok()?;
        self.topics.get(&at.topic)?.partitions.get(index).copied()
    }

    /// The partition's leader epoch: its base plus its journal's epoch.
    pub fn leader_epoch(&self, at: TopicPartition) -> Option<i32> {
        let partition = self.partition(at)?;
        let journal = self.journals.get(&partition.journal)?;
        Some(partition.epoch_base.saturating_add(i32::try_from(journal.epoch).unwrap_or(i32::MAX)))
    }

    pub fn upsert(&mut self, record: Record) {
        match record {
            Record::Node(node) => {
                self.nodes.insert((node.role, node.id), Arc::new(node));
            }
            Record::Journal(journal) => {
                self.journals.insert(journal.id, Arc::new(journal));
            }
            Record::Topic(topic) => {
                self.names.insert(topic.name.clone(), topic.id);
                self.topics.insert(topic.id, Arc::new(topic));
            }
            Record::Slot(slot) => {
                self.slots.insert(slot.id, slot);
            }
        }
    }

    pub fn remove(&mut self, key: RecordKey) {
        match key {
            RecordKey::Node(role, id) => {
                self.nodes.remove(&(role, id));
            }
            RecordKey::Journal(id) => {
                self.journals.remove(&id);
            }
            RecordKey::Topic(id) => {
                if let Some(topic) = self.topics.remove(&id) {
                    // A topic of the same name may have been created since.
                    if self.names.get(&topic.name) == Some(&id) {
                        self.names.remove(&topic.name);
                    }
                }
            }
            RecordKey::Slot(id) => {
                self.slots.remove(&id);
            }
        }
    }

    /// Every record, in the order of the keys.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let nodes = self.nodes.values().map(|node| Record::Node(Node::clone(node)));
        let journals = self.journals.values().map(|journal| Record::Journal(Journal::clone(journal)));
        let topics = self.topics.values().map(|topic| Record::Topic(Topic::clone(topic)));
        let slots = self.slots.values().copied().map(Record::Slot);
        nodes.chain(journals).chain(topics).chain(slots)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn topic(id: u128, name: &str) -> Record {
        Record::Topic(Topic {
            id: TopicId(Uuid::from_u128(id)),
            name: name.into(),
            replication_factor: 1,
            partitions: vec![Partition { journal: JournalId(1), epoch_base: 4 }],
            configs: BTreeMap::new(),
        })
    }

    #[test]
    fn a_recreated_topic_keeps_its_name_when_the_old_one_goes() {
        let mut state = ClusterState::new("c".into());
        let old = topic(1, "orders");
        state.upsert(old.clone());
        state.upsert(topic(2, "orders"));
        state.remove(old.key());
        assert_eq!(state.topic_named("orders").map(|t| t.id), Some(TopicId(Uuid::from_u128(2))));
    }

    #[test]
    fn the_leader_epoch_is_base_plus_journal_epoch() {
        let mut state = ClusterState::new("c".into());
        state.upsert(topic(1, "orders"));
        let at = TopicPartition::new(TopicId(Uuid::from_u128(1)), 0);
        assert_eq!(state.leader_epoch(at), None);
        state.upsert(Record::Journal(Journal {
            id: JournalId(1),
            epoch: 3,
            leader: NodeId(1),
            replicas: vec![],
            isr: vec![],
        }));
        assert_eq!(state.leader_epoch(at), Some(7));
        assert_eq!(state.leader_epoch(TopicPartition::new(at.topic, 1)), None);
        assert_eq!(state.leader_epoch(TopicPartition::new(at.topic, -1)), None);
    }
}
