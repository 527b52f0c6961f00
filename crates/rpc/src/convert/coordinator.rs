//! `coordinator.proto`.

use std::ops::Range;

use tidemark_model::coordinator::{Changed, ConfigChange, NewTopic, TopicRef};
use tidemark_model::{
    Claim, ClusterUpdate, CoordinatorError, Journal, JournalId, Node, NodeId, Partition, Record, RecordKey,
    Registration, Replica, Role, Slot, SlotId, Topic,
};

use super::{Malformed, all, each, outcome, required};
use crate::proto as wire;

outcome!(ChangedTopic, changed_topic, Changed: Changed, CoordinatorError);
outcome!(OpenJournalResponse, open_journal_response, Journal: Journal, CoordinatorError);
outcome!(AllocateProducerIdsResponse, allocate_producer_ids_response, Ids: Range<i64>, CoordinatorError);

impl From<Role> for wire::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Gateway => Self::Gateway,
            Role::Broker => Self::Broker,
            Role::Storage => Self::Storage,
            Role::Coordinator => Self::Coordinator,
        }
    }
}

/// An enum field, whose number may be one that we do not know.
pub(crate) fn role(number: i32) -> Result<Role, Malformed> {
    match wire::Role::try_from(number).map_err(|_| Malformed::OutOfRange("role"))? {
        wire::Role::Unspecified => Err(Malformed::Missing("role")),
        wire::Role::Gateway => Ok(Role::Gateway),
        wire::Role::Broker => Ok(Role::Broker),
        wire::Role::Storage => Ok(Role::Storage),
        wire::Role::Coordinator => Ok(Role::Coordinator),
    }
}

impl From<(Registration, Option<u64>)> for wire::JoinRequest {
    fn from((registration, resume): (Registration, Option<u64>)) -> Self {
        let Registration { role, name, incarnation, address, rack } = registration;
        Self { role: wire::Role::from(role).into(), name, incarnation, address, rack, resume }
    }
}

impl TryFrom<wire::JoinRequest> for (Registration, Option<u64>) {
    type Error = Malformed;

    fn try_from(request: wire::JoinRequest) -> Result<Self, Malformed> {
        let wire::JoinRequest { role: number, name, incarnation, address, rack, resume } = request;
        Ok((Registration { role: role(number)?, name, incarnation, address, rack }, resume))
    }
}

impl From<Result<ClusterUpdate, CoordinatorError>> for wire::ClusterUpdate {
    fn from(update: Result<ClusterUpdate, CoordinatorError>) -> Self {
        use wire::cluster_update as w;
        let update = match update {
            Ok(ClusterUpdate::Joined { cluster_id, claim, node, settings }) => {
                let claim = claim.map(|Claim { generation, id }| w::Claim { generation, id });
                let settings = settings.into_iter().collect();
                w::Update::Joined(w::Joined { cluster_id, claim, node: node.0, settings })
            }
            Ok(ClusterUpdate::Snapshot { revision, records, last }) => {
                w::Update::Snapshot(w::Snapshot { revision, records: all(records), last })
            }
            Ok(ClusterUpdate::Delta { revision, upserts, removals }) => {
                w::Update::Delta(w::Delta { revision, upserts: all(upserts), removals: all(removals) })
            }
            Err(error) => w::Update::Failed(error.into()),
        };
        Self { update: Some(update) }
    }
}

impl TryFrom<wire::ClusterUpdate> for Result<ClusterUpdate, CoordinatorError> {
    type Error = Malformed;

    fn try_from(wire::ClusterUpdate { update }: wire::ClusterUpdate) -> Result<Self, Malformed> {
        use wire::cluster_update as w;
        Ok(match update.ok_or(Malformed::Missing("update"))? {
            w::Update::Joined(w::Joined { cluster_id, claim, node, settings }) => {
                let claim = claim.map(|w::Claim { generation, id }| Claim { generation, id });
                let settings = settings.into_iter().collect();
                Ok(ClusterUpdate::Joined { cluster_id, claim, node: NodeId(node), settings })
            }
            w::Update::Snapshot(w::Snapshot { revision, records, last }) => {
                Ok(ClusterUpdate::Snapshot { revision, records: each(records)?, last })
            }
            w::Update::Delta(w::Delta { revision, upserts, removals }) => {
                Ok(ClusterUpdate::Delta { revision, upserts: each(upserts)?, removals: each(removals)? })
            }
            w::Update::Failed(error) => Err(error.try_into()?),
        })
    }
}

impl From<Record> for wire::Record {
    fn from(record: Record) -> Self {
        use wire::record::Record as W;
        let record = match record {
            Record::Node(node) => W::Node(node.into()),
            Record::Journal(journal) => W::Journal(journal.into()),
            Record::Topic(topic) => W::Topic(topic.into()),
            Record::Slot(slot) => W::Slot(slot.into()),
        };
        Self { record: Some(record) }
    }
}

impl TryFrom<wire::Record> for Record {
    type Error = Malformed;

    fn try_from(wire::Record { record }: wire::Record) -> Result<Self, Malformed> {
        use wire::record::Record as W;
        Ok(match record.ok_or(Malformed::Missing("record"))? {
            W::Node(node) => Self::Node(node.try_into()?),
            W::Journal(journal) => Self::Journal(journal.into()),
            W::Topic(topic) => Self::Topic(topic.try_into()?),
            W::Slot(slot) => Self::Slot(slot.into()),
        })
    }
}

impl From<RecordKey> for wire::RecordKey {
    fn from(key: RecordKey) -> Self {
        use wire::record_key as w;
        let key = match key {
            RecordKey::Node(role, id) => w::Key::Node(w::NodeKey { role: wire::Role::from(role).into(), id: id.0 }),
            RecordKey::Journal(id) => w::Key::Journal(id.0),
            RecordKey::Topic(id) => w::Key::Topic(id.into()),
            RecordKey::Slot(id) => w::Key::Slot(id.0),
        };
        Self { key: Some(key) }
    }
}

impl TryFrom<wire::RecordKey> for RecordKey {
    type Error = Malformed;

    fn try_from(wire::RecordKey { key }: wire::RecordKey) -> Result<Self, Malformed> {
        use wire::record_key as w;
        Ok(match key.ok_or(Malformed::Missing("key"))? {
            w::Key::Node(w::NodeKey { role: number, id }) => Self::Node(role(number)?, NodeId(id)),
            w::Key::Journal(id) => Self::Journal(JournalId(id)),
            w::Key::Topic(id) => Self::Topic(id.into()),
            w::Key::Slot(id) => Self::Slot(SlotId(id)),
        })
    }
}

impl From<Slot> for wire::Slot {
    fn from(Slot { id, epoch, owner, incarnation }: Slot) -> Self {
        Self { id: id.0, epoch, owner: owner.0, incarnation }
    }
}

impl From<wire::Slot> for Slot {
    fn from(wire::Slot { id, epoch, owner, incarnation }: wire::Slot) -> Self {
        Self { id: SlotId(id), epoch, owner: NodeId(owner), incarnation }
    }
}

impl From<Node> for wire::Node {
    fn from(Node { role, id, incarnation, address, rack }: Node) -> Self {
        Self { role: wire::Role::from(role).into(), id: id.0, incarnation, address, rack }
    }
}

impl TryFrom<wire::Node> for Node {
    type Error = Malformed;

    fn try_from(wire::Node { role: number, id, incarnation, address, rack }: wire::Node) -> Result<Self, Malformed> {
        Ok(Self { role: role(number)?, id: NodeId(id), incarnation, address, rack })
    }
}

impl From<Replica> for wire::Replica {
    fn from(Replica { node, incarnation }: Replica) -> Self {
        Self { node: node.0, incarnation }
    }
}

impl From<wire::Replica> for Replica {
    fn from(wire::Replica { node, incarnation }: wire::Replica) -> Self {
        Self { node: NodeId(node), incarnation }
    }
}

impl From<Journal> for wire::Journal {
    fn from(Journal { id, epoch, leader, replicas, isr }: Journal) -> Self {
        Self { id: id.0, epoch, leader: leader.0, replicas: all(replicas), isr: all(isr) }
    }
}

impl From<wire::Journal> for Journal {
    fn from(wire::Journal { id, epoch, leader, replicas, isr }: wire::Journal) -> Self {
        Self { id: JournalId(id), epoch, leader: NodeId(leader), replicas: all(replicas), isr: all(isr) }
    }
}

impl From<Partition> for wire::Partition {
    fn from(Partition { journal, epoch_base }: Partition) -> Self {
        Self { journal: journal.0, epoch_base }
    }
}

impl From<wire::Partition> for Partition {
    fn from(wire::Partition { journal, epoch_base }: wire::Partition) -> Self {
        Self { journal: JournalId(journal), epoch_base }
    }
}

impl From<Topic> for wire::Topic {
    fn from(Topic { id, name, replication_factor, partitions, configs }: Topic) -> Self {
        Self {
            id: Some(id.into()),
            name,
            replication_factor: replication_factor.into(),
            partitions: all(partitions),
            configs,
        }
    }
}

impl TryFrom<wire::Topic> for Topic {
    type Error = Malformed;

    fn try_from(topic: wire::Topic) -> Result<Self, Malformed> {
        let wire::Topic { id, name, replication_factor, partitions, configs } = topic;
        Ok(Self {
            id: required(id, "topic id")?,
            name,
            replication_factor: short(replication_factor)?,
            partitions: each(partitions)?,
            configs,
        })
    }
}

impl From<NewTopic> for wire::NewTopic {
    fn from(NewTopic { name, partitions, replication_factor, configs }: NewTopic) -> Self {
        Self { name, partitions, replication_factor: replication_factor.into(), configs }
    }
}

impl TryFrom<wire::NewTopic> for NewTopic {
    type Error = Malformed;

    fn try_from(topic: wire::NewTopic) -> Result<Self, Malformed> {
        let wire::NewTopic { name, partitions, replication_factor, configs } = topic;
        Ok(Self { name, partitions, replication_factor: short(replication_factor)?, configs })
    }
}

impl From<TopicRef> for wire::TopicRef {
    fn from(topic: TopicRef) -> Self {
        use wire::topic_ref::Topic as W;
        let topic = match topic {
            TopicRef::Id(id) => W::Id(id.into()),
            TopicRef::Name(name) => W::Name(name),
        };
        Self { topic: Some(topic) }
    }
}

impl TryFrom<wire::TopicRef> for TopicRef {
    type Error = Malformed;

    fn try_from(wire::TopicRef { topic }: wire::TopicRef) -> Result<Self, Malformed> {
        use wire::topic_ref::Topic as W;
        Ok(match topic.ok_or(Malformed::Missing("topic"))? {
            W::Id(id) => Self::Id(id.into()),
            W::Name(name) => Self::Name(name),
        })
    }
}

impl From<ConfigChange> for wire::ConfigChange {
    fn from(change: ConfigChange) -> Self {
        use wire::config_change::{Change, Entry};
        let change = match change {
            ConfigChange::Set { name, value } => Change::Set(Entry { name, value }),
            ConfigChange::Delete { name } => Change::Delete(name),
            ConfigChange::Append { name, value } => Change::Append(Entry { name, value }),
            ConfigChange::Subtract { name, value } => Change::Subtract(Entry { name, value }),
        };
        Self { change: Some(change) }
    }
}

impl TryFrom<wire::ConfigChange> for ConfigChange {
    type Error = Malformed;

    fn try_from(wire::ConfigChange { change }: wire::ConfigChange) -> Result<Self, Malformed> {
        use wire::config_change::{Change, Entry};
        Ok(match change.ok_or(Malformed::Missing("change"))? {
            Change::Set(Entry { name, value }) => Self::Set { name, value },
            Change::Delete(name) => Self::Delete { name },
            Change::Append(Entry { name, value }) => Self::Append { name, value },
            Change::Subtract(Entry { name, value }) => Self::Subtract { name, value },
        })
    }
}

impl From<Changed> for wire::Changed {
    fn from(Changed { topic, revision }: Changed) -> Self {
        Self { topic: Some(topic.into()), revision }
    }
}

impl TryFrom<wire::Changed> for Changed {
    type Error = Malformed;

    fn try_from(wire::Changed { topic, revision }: wire::Changed) -> Result<Self, Malformed> {
        Ok(Self { topic: required(topic, "topic")?, revision })
    }
}

impl From<Range<i64>> for wire::allocate_producer_ids_response::Ids {
    fn from(Range { start, end }: Range<i64>) -> Self {
        Self { start, end }
    }
}

impl TryFrom<wire::allocate_producer_ids_response::Ids> for Range<i64> {
    type Error = Malformed;

    fn try_from(ids: wire::allocate_producer_ids_response::Ids) -> Result<Self, Malformed> {
        let wire::allocate_producer_ids_response::Ids { start, end } = ids;
        if start < 0 || end < start {
            return Err(Malformed::OutOfRange("producer ids"));
        }
        Ok(start..end)
    }
}

impl From<CoordinatorError> for wire::CoordinatorError {
    fn from(error: CoordinatorError) -> Self {
        use wire::coordinator_error::Error as W;
        let error = match error {
            CoordinatorError::TopicExists(text) => W::TopicExists(text),
            CoordinatorError::UnknownTopic(text) => W::UnknownTopic(text),
            CoordinatorError::InvalidTopicName(text) => W::InvalidTopicName(text),
            CoordinatorError::InvalidPartitions(text) => W::InvalidPartitions(text),
            CoordinatorError::InvalidReplicationFactor(text) => W::InvalidReplicationFactor(text),
            CoordinatorError::InvalidConfig(text) => W::InvalidConfig(text),
            CoordinatorError::InvalidRequest(text) => W::InvalidRequest(text),
            CoordinatorError::Fenced(text) => W::Fenced(text),
            CoordinatorError::Unavailable(text) => W::Unavailable(text),
        };
        Self { error: Some(error) }
    }
}

impl TryFrom<wire::CoordinatorError> for CoordinatorError {
    type Error = Malformed;

    fn try_from(wire::CoordinatorError { error }: wire::CoordinatorError) -> Result<Self, Malformed> {
        use wire::coordinator_error::Error as W;
        Ok(match error.ok_or(Malformed::Missing("error"))? {
            W::TopicExists(text) => Self::TopicExists(text),
            W::UnknownTopic(text) => Self::UnknownTopic(text),
            W::InvalidTopicName(text) => Self::InvalidTopicName(text),
            W::InvalidPartitions(text) => Self::InvalidPartitions(text),
            W::InvalidReplicationFactor(text) => Self::InvalidReplicationFactor(text),
            W::InvalidConfig(text) => Self::InvalidConfig(text),
            W::InvalidRequest(text) => Self::InvalidRequest(text),
            W::Fenced(text) => Self::Fenced(text),
            W::Unavailable(text) => Self::Unavailable(text),
        })
    }
}

fn short(value: i32) -> Result<i16, Malformed> {
    i16::try_from(value).map_err(|_| Malformed::OutOfRange("replication factor"))
}
