//! What is persisted: every key and every value, in one place.
//!
//! All keys begin with `/tidemark/<cluster>/`. Those under `state/` are the cluster state, which every coordinator
//! watches and every service follows.
//!
//! | key | value | with a lease |
//! |---|---|---|
//! | `cluster-id` | the cluster's id, text | |
//! | `claim` | by what the cluster holds its bucket: [`Claim`] | |
//! | `backup` | what is known of the last snapshot in the bucket: [`StoredBackup`] | |
//! | `revisions` | [`Revisions`] | |
//! | `state/nodes/<role>/<id>` | [`StoredNode`] | the node's |
//! | `state/journals/<id>` | [`Journal`](tidemark_model::Journal) | |
//! | `state/topics/<uuid>` | [`Topic`](tidemark_model::Topic) | |
//! | `state/slots/<id>` | [`Slot`](tidemark_model::Slot) | |
//! | `state/compaction` | [`Compaction`] | |
//! | `topic-names/<name, . as _>` | [`TopicName`] | |
//! | `node-names/<role>/<name>` | [`NodeName`] | |
//! | `counters/<what>` | the next number, decimal text | |
//! | `defragmentation` | that a coordinator defragments the store | its own |
//! | `groups/<slot>/<group>/classic` | a group of the classic protocol | |
//! | `groups/<slot>/<group>/classic-members/<id>` | a member of it | |
//! | `groups/<slot>/<group>/consumer` | a consumer group (KIP-848) | |
//! | `groups/<slot>/<group>/consumer-members/<id>` | a member of it | |
//! | `groups/<slot>/<group>/consumer-targets/<id>` | what the member is to have | |
//! | `groups/<slot>/<group>/offsets/<topic's uuid>/<chunk>` | [`StoredOffset`]s of up to 32 partitions, in binary | |
//! | `groups/<slot>/<group>/configs` | what is set on the group | |
//!
//! Names of groups and members are escaped ([`groups`]). A value is JSON, `[version, {…}]`, but for offsets. A reader refuses a version that it does not know: an older coordinator leaves
//! alone what a newer one wrote.

mod consumer_groups;
mod groups;
mod values;
mod varint;

#[cfg(doc)]
use tidemark_model::Claim;
use tidemark_model::{JournalId, NodeId, RecordKey, Role, SlotId, TopicId};
use uuid::Uuid;

pub(crate) use consumer_groups::{
    StoredClassicSide, StoredConsumerGroup, StoredConsumerMember, StoredProgress, decode_consumer_group,
    decode_consumer_member, decode_consumer_target, encode_consumer_group, encode_consumer_member,
    encode_consumer_target,
};
pub(crate) use groups::{
    GroupKey, MAX_GROUP_NAME, OFFSETS_PER_CHUNK, StoredClassic, StoredClassicMember, StoredOffset, decode_classic,
    decode_classic_member, decode_group_configs, decode_offsets, encode_classic, encode_classic_member,
    encode_group_configs, encode_offsets,
};
pub(crate) use values::{
    BadValue, Compaction, NodeName, Revisions, StoredBackup, StoredNode, TopicName, decode_backup, decode_claim,
    decode_compaction, decode_counter, decode_journal, decode_node, decode_node_name, decode_revisions, decode_slot,
    decode_topic, decode_topic_name, encode_backup, encode_claim, encode_compaction, encode_counter, encode_journal,
    encode_node, encode_node_name, encode_revisions, encode_slot, encode_topic, encode_topic_name,
};

/// The keys of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    root: String,
    state: String,
}

/// Numbers that are handed out once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counter {
    Producers,
    Journals,
    Nodes(Role),
}

/// What a key under `state/` is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StateKey {
    Record(RecordKey),
    Compaction,
}

impl Keys {
    /// `cluster` is the part of the keys that tells clusters in one etcd apart, not the cluster's id.
    pub(crate) fn new(cluster: &str) -> Self {
        let root = format!("/tidemark/{cluster}/");
        Self { state: format!("{root}state/"), root }
    }

    pub(crate) fn cluster_id(&self) -> String {
        format!("{}cluster-id", self.root)
    }

    /// What all keys begin with.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    pub(crate) fn claim(&self) -> String {
        format!("{}claim", self.root)
    }

    pub(crate) fn backup(&self) -> String {
        format!("{}backup", self.root)
    }

    pub(crate) fn revisions(&self) -> String {
        format!("{}revisions", self.root)
    }

    /// The prefix of the cluster state.
    pub(crate) fn state(&self) -> &str {
        &self.state
    }

    pub(crate) fn record(&self, key: RecordKey) -> String {
        match key {
            RecordKey::Node(role, id) => format!("{}{id}", self.nodes(role)),
            RecordKey::Journal(id) => format!("{}{id}", self.journals()),
            RecordKey::Topic(id) => format!("{}topics/{id}", self.state),
            RecordKey::Slot(id) => format!("{}{id}", self.slots()),
        }
    }

    pub(crate) fn nodes(&self, role: Role) -> String {
        format!("{}nodes/{}/", self.state, role.as_str())
    }

    pub(crate) fn slots(&self) -> String {
        format!("{}slots/", self.state)
    }

    pub(crate) fn journals(&self) -> String {
        format!("{}journals/", self.state)
    }

    pub(crate) fn compaction(&self) -> String {
        format!("{}compaction", self.state)
    }

    pub(crate) fn defragmentation(&self) -> String {
        format!("{}defragmentation", self.root)
    }

    /// Kafka's metric names make `.` of `_`, so two topics may not differ only in that: they share a key here.
    pub(crate) fn topic_name(&self, name: &str) -> String {
        format!("{}topic-names/{}", self.root, name.replace('.', "_"))
    }

    pub(crate) fn node_name(&self, role: Role, name: &str) -> String {
        format!("{}{name}", self.node_names(role))
    }

    pub(crate) fn node_names(&self, role: Role) -> String {
        format!("{}node-names/{}/", self.root, role.as_str())
    }

    pub(crate) fn counter(&self, counter: Counter) -> String {
        match counter {
            Counter::Producers => format!("{}counters/producer-id", self.root),
            Counter::Journals => format!("{}counters/journal-id", self.root),
            Counter::Nodes(role) => format!("{}counters/{}-id", self.root, role.as_str()),
        }
    }

    /// What a key of the cluster state is of. None for what a newer version may have put there.
    pub(crate) fn parse_state(&self, key: &str) -> Option<StateKey> {
        let (kind, rest) = match key.strip_prefix(&self.state)?.split_once('/') {
            Some(parts) => parts,
            None if key.ends_with("compaction") => return Some(StateKey::Compaction),
            None => return None,
        };
        let record = match kind {
            "nodes" => {
                let (role, id) = rest.split_once('/')?;
                RecordKey::Node(parse_role(role)?, NodeId(id.parse().ok()?))
            }
            "journals" => RecordKey::Journal(JournalId(rest.parse().ok()?)),
            "topics" => RecordKey::Topic(TopicId(Uuid::try_parse(rest).ok()?)),
            "slots" => RecordKey::Slot(SlotId(rest.parse().ok()?)),
            _ => return None,
        };
        Some(StateKey::Record(record))
    }
}

fn parse_role(role: &str) -> Option<Role> {
    [Role::Gateway, Role::Broker, Role::Storage, Role::Coordinator].into_iter().find(|known| known.as_str() == role)
}

#[cfg(test)]
mod tests;
