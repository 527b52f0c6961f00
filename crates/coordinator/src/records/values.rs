//! Values, apart from the model: a field added to the model is a compile error here, and asks for a new version.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use tidemark_model::{Claim, Journal, JournalId, Node, NodeId, Partition, Replica, Role, Slot, SlotId, Topic, TopicId};
use uuid::Uuid;

/// The version that is written.
const VERSION: u32 = 1;

/// A node, and what a coordinator that takes it over must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredNode {
    pub(crate) node: Node,
    /// As in its registration: the key of its [`NodeName`].
    pub(crate) name: String,
}

/// Whose a node's name is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeName {
    pub(crate) id: i32,
    /// The process that has the name now.
    pub(crate) incarnation: u64,
    /// Processes that had it before, or left: they get it back never. The latest last.
    pub(crate) replaced: Vec<u64>,
}

/// Whose a topic's name is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopicName {
    /// As it was created, with its dots.
    pub(crate) name: String,
    pub(crate) id: Uuid,
}

/// How far the store's history is forgotten. Writing it also lets every watch see a revision above that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Compaction {
    pub(crate) revision: u64,
}

/// What is known of snapshots in the bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredBackup {
    /// The newest one's number; 0 when there is none.
    pub(crate) number: u64,
    /// The revision of the store that it has.
    pub(crate) revision: u64,
    /// When it was taken, milliseconds since the epoch.
    pub(crate) taken_ms: i64,
    /// When the last one was begun, which may be one more.
    pub(crate) begun_ms: i64,
}

/// Of a store that was made from a snapshot: what its revisions are counted from, and whether it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revisions {
    /// Added to each of the store's own: above all that the cluster has ever seen.
    pub(crate) base: u64,
    /// It is being made, or its making was cut short.
    pub(crate) unfinished: bool,
}

/// A value that cannot be used: written by a newer version, or damaged. The caller leaves it alone and tells the operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadValue {
    #[error("version {0}, this coordinator reads {VERSION}")]
    Version(u32),
    #[error("not readable: {0}")]
    Unreadable(String),
}

#[derive(Serialize, Deserialize)]
struct NodeV1 {
    role: String,
    id: i32,
    incarnation: u64,
    address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rack: Option<String>,
    name: String,
}

#[derive(Serialize, Deserialize)]
struct ClaimV1 {
    generation: u32,
    id: u64,
}

#[derive(Serialize, Deserialize)]
struct JournalV1 {
    id: u32,
    epoch: u32,
    leader: i32,
    replicas: Vec<(i32, u64)>,
    isr: Vec<(i32, u64)>,
}

#[derive(Serialize, Deserialize)]
struct SlotV1 {
    id: u32,
    epoch: u32,
    owner: i32,
    incarnation: u64,
}

#[derive(Serialize, Deserialize)]
struct TopicV1 {
    id: Uuid,
    name: String,
    replication_factor: i16,
    /// By partition number.
    journals: Vec<u32>,
    /// By partition number; left out when all are 0, as they are until a partition moves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    epoch_bases: Vec<i32>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    configs: BTreeMap<String, String>,
}

pub(crate) fn encode_node(stored: &StoredNode) -> Bytes {
    let StoredNode { node: Node { role, id, incarnation, address, rack }, name } = stored;
    encode(&NodeV1 {
        role: role.as_str().to_owned(),
        id: id.0,
        incarnation: *incarnation,
        address: address.clone(),
        rack: rack.clone(),
        name: name.clone(),
    })
}

pub(crate) fn decode_node(bytes: &[u8]) -> Result<StoredNode, BadValue> {
    let NodeV1 { role, id, incarnation, address, rack, name } = decode(bytes)?;
    let role: Role = super::parse_role(&role).ok_or_else(|| BadValue::Unreadable(format!("role {role}")))?;
    Ok(StoredNode { node: Node { role, id: NodeId(id), incarnation, address, rack }, name })
}

pub(crate) fn encode_slot(slot: Slot) -> Bytes {
    let Slot { id, epoch, owner, incarnation } = slot;
    encode(&SlotV1 { id: id.0, epoch, owner: owner.0, incarnation })
}

pub(crate) fn decode_slot(bytes: &[u8]) -> Result<Slot, BadValue> {
    let SlotV1 { id, epoch, owner, incarnation } = decode(bytes)?;
    Ok(Slot { id: SlotId(id), epoch, owner: NodeId(owner), incarnation })
}

pub(crate) fn encode_journal(journal: &Journal) -> Bytes {
    let Journal { id, epoch, leader, replicas, isr } = journal;
    let pairs =
        |replicas: &[Replica]| replicas.iter().map(|Replica { node, incarnation }| (node.0, *incarnation)).collect();
    encode(&JournalV1 { id: id.0, epoch: *epoch, leader: leader.0, replicas: pairs(replicas), isr: pairs(isr) })
}

pub(crate) fn decode_journal(bytes: &[u8]) -> Result<Journal, BadValue> {
    let JournalV1 { id, epoch, leader, replicas, isr } = decode(bytes)?;
    let replicas_of = |pairs: Vec<(i32, u64)>| -> Vec<Replica> {
        pairs.into_iter().map(|(node, incarnation)| Replica { node: NodeId(node), incarnation }).collect()
    };
    let (replicas, isr) = (replicas_of(replicas), replicas_of(isr));
    Ok(Journal { id: JournalId(id), epoch, leader: NodeId(leader), replicas, isr })
}

pub(crate) fn encode_topic(topic: &Topic) -> Bytes {
    let Topic { id, name, replication_factor, partitions, configs } = topic;
    let mut epoch_bases: Vec<i32> = partitions.iter().map(|partition| partition.epoch_base).collect();
    if epoch_bases.iter().all(|base| *base == 0) {
        epoch_bases.clear();
    }
    encode(&TopicV1 {
        id: id.0,
        name: name.clone(),
        replication_factor: *replication_factor,
        journals: partitions.iter().map(|partition| partition.journal.0).collect(),
        epoch_bases,
        configs: configs.clone(),
    })
}

pub(crate) fn decode_topic(bytes: &[u8]) -> Result<Topic, BadValue> {
    let TopicV1 { id, name, replication_factor, journals, epoch_bases, configs } = decode(bytes)?;
    if !epoch_bases.is_empty() && epoch_bases.len() != journals.len() {
        return Err(BadValue::Unreadable(format!(
            "{} epoch bases of {} partitions",
            epoch_bases.len(),
            journals.len()
        )));
    }
    let bases = epoch_bases.into_iter().chain(std::iter::repeat(0));
    let partitions = journals
        .into_iter()
        .zip(bases)
        .map(|(journal, epoch_base)| Partition { journal: JournalId(journal), epoch_base });
    Ok(Topic { id: TopicId(id), name, replication_factor, partitions: partitions.collect(), configs })
}

pub(crate) fn encode_node_name(name: &NodeName) -> Bytes {
    encode(name)
}

pub(crate) fn decode_node_name(bytes: &[u8]) -> Result<NodeName, BadValue> {
    decode(bytes)
}

pub(crate) fn encode_topic_name(name: &TopicName) -> Bytes {
    encode(name)
}

pub(crate) fn decode_topic_name(bytes: &[u8]) -> Result<TopicName, BadValue> {
    decode(bytes)
}

pub(crate) fn encode_compaction(compaction: Compaction) -> Bytes {
    encode(&compaction)
}

pub(crate) fn decode_compaction(bytes: &[u8]) -> Result<Compaction, BadValue> {
    decode(bytes)
}

pub(crate) fn encode_claim(claim: Claim) -> Bytes {
    let Claim { generation, id } = claim;
    encode(&ClaimV1 { generation, id })
}

pub(crate) fn decode_claim(bytes: &[u8]) -> Result<Claim, BadValue> {
    let ClaimV1 { generation, id } = decode(bytes)?;
    Ok(Claim { generation, id })
}

pub(crate) fn encode_backup(backup: &StoredBackup) -> Bytes {
    encode(backup)
}

pub(crate) fn decode_backup(bytes: &[u8]) -> Result<StoredBackup, BadValue> {
    decode(bytes)
}

pub(crate) fn encode_revisions(revisions: Revisions) -> Bytes {
    encode(&revisions)
}

pub(crate) fn decode_revisions(bytes: &[u8]) -> Result<Revisions, BadValue> {
    decode(bytes)
}

pub(crate) fn encode_counter(next: i64) -> Bytes {
    Bytes::from(next.to_string())
}

pub(crate) fn decode_counter(bytes: &[u8]) -> Result<i64, BadValue> {
    let next = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).filter(|next| *next >= 0);
    next.ok_or_else(|| BadValue::Unreadable("not a number".into()))
}

pub(super) fn encode<T: Serialize>(value: &T) -> Bytes {
    let json = serde_json::to_vec(&(VERSION, value)).expect("these values have string keys and no failing serializers");
    Bytes::from(json)
}

pub(super) fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, BadValue> {
    let unreadable = |error: serde_json::Error| BadValue::Unreadable(error.to_string());
    let (version, _): (u32, IgnoredAny) = serde_json::from_slice(bytes).map_err(unreadable)?;
    if version != VERSION {
        return Err(BadValue::Version(version));
    }
    let (_, value): (u32, T) = serde_json::from_slice(bytes).map_err(unreadable)?;
    Ok(value)
}
