//! What goes into the new store. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidemark_model::{Journal, JournalId, NodeId, Partition, RecordKey, Replica, Role, Slot, Topic, TopicId};

use super::{JournalFound, Journals, Log, PartitionFound, Saved};
use crate::journals::NO_LEADER;
use crate::records::{
    Counter, Keys, NodeName, TopicName, encode_counter, encode_journal, encode_node_name, encode_slot, encode_topic,
    encode_topic_name,
};

/// How far above the highest epoch that was seen a journal goes on. What was lost may have had some more: one for each restart
/// and each failed write since the snapshot, of which there are a few a second at the worst.
const EPOCH_MARGIN: u32 = 10_000;
/// How far above the highest producer id that was seen new ones are. Gateways take them by the thousand.
const PRODUCER_MARGIN: i64 = 1_000_000;
/// How far above the highest revision that was seen the new store's are counted: many days of writes.
const REVISION_MARGIN: u64 = 1_000_000_000;
/// How far above the owners that were seen the next ones of slots are (Kafka's coordinator epoch).
const SLOT_MARGIN: u32 = 1_000;
/// What the names begin with of topics that only the journals know.
const RECOVERED: &str = "recovered-";

/// Everything that a rebuilt cluster begins with.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The epoch of each journal; it is opened in a higher one. Where its log was lost a checkpoint of this epoch has what it
    /// begins on.
    pub epochs: BTreeMap<JournalId, u32>,
    /// By name.
    pub topics: Vec<PlannedTopic>,
    /// Topics that the journals have and that are left out: the snapshot is from after their deletion.
    pub deleted: Vec<TopicId>,
    /// What the new store's revisions are counted from.
    pub(super) revisions: u64,
    /// Keys without the root, and values.
    pub(super) entries: BTreeMap<String, Bytes>,
}

/// A topic of the rebuilt cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTopic {
    pub topic: Topic,
    pub origin: Origin,
}

/// Where a topic is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Snapshot,
    /// The snapshot has fewer partitions of it than the journals.
    Grown,
    /// The snapshot does not have it: its name and its configs are lost.
    Journals,
}

impl Plan {
    pub fn of(saved: &Saved, found: &Journals) -> Self {
        let keys = Keys::new("plan");
        let mut plan = Self {
            epochs: BTreeMap::new(),
            topics: Vec::new(),
            deleted: Vec::new(),
            revisions: saved.revision.max(found.revision).saturating_add(REVISION_MARGIN),
            entries: saved.kept.clone(),
        };
        plan.topics(saved, found);
        plan.journals(saved, found, &keys);
        plan.slots(saved, &keys);
        let ids = saved.journals.keys().chain(found.journals.keys()).map(|id| i64::from(id.0) + 1).max().unwrap_or(1);
        plan.count(saved, &keys, Counter::Journals, ids);
        let producers = found.producer_id.map_or(0, |id| id.saturating_add(1));
        let producers = producers.max(saved.counter(&keys, Counter::Producers).unwrap_or(0));
        plan.count(saved, &keys, Counter::Producers, producers.saturating_add(PRODUCER_MARGIN));
        for role in [Role::Gateway, Role::Broker, Role::Storage, Role::Coordinator] {
            plan.count(saved, &keys, Counter::Nodes(role), 1);
        }
        for PlannedTopic { topic, .. } in &plan.topics {
            let name = TopicName { name: topic.name.clone(), id: topic.id.0 };
            plan.entries.insert(relative(&keys, &keys.record(RecordKey::Topic(topic.id))), encode_topic(topic));
            plan.entries.insert(relative(&keys, &keys.topic_name(&topic.name)), encode_topic_name(&name));
        }
        plan
    }

    fn topics(&mut self, saved: &Saved, found: &Journals) {
        // What the journals have, by topic.
        let mut there: BTreeMap<TopicId, BTreeMap<i32, (JournalId, &PartitionFound)>> = BTreeMap::new();
        for (journal, JournalFound { partitions, .. }) in &found.journals {
            for found in partitions {
                let of_topic = there.entry(found.partition.topic).or_default();
                of_topic.insert(found.partition.partition, (*journal, found));
            }
        }
        for topic in saved.topics.values() {
            let more = there.remove(&topic.id).unwrap_or_default();
            let (topic, grown) = grow(topic.clone(), &more);
            let origin = if grown { Origin::Grown } else { Origin::Snapshot };
            self.topics.push(PlannedTopic { topic, origin });
        }
        for (id, partitions) in there {
            // One that the snapshot would have, had it not been deleted.
            let newer = |(_, found): &(JournalId, &PartitionFound)| found.revision.is_none_or(|at| at > saved.revision);
            if !partitions.values().any(newer) {
                self.deleted.push(id);
                continue;
            }
            let name = format!("{RECOVERED}{id}");
            let topic = Topic { id, name, replication_factor: 1, partitions: Vec::new(), configs: BTreeMap::new() };
            self.topics.push(PlannedTopic { topic: grow(topic, &partitions).0, origin: Origin::Journals });
        }
        self.topics.sort_by(|a, b| a.topic.name.cmp(&b.topic.name));
    }

    fn journals(&mut self, saved: &Saved, found: &Journals, keys: &Keys) {
        let bases: BTreeMap<(TopicId, usize), i32> = self
            .topics
            .iter()
            .flat_map(|PlannedTopic { topic, .. }| {
                topic.partitions.iter().enumerate().map(|(at, partition)| ((topic.id, at), partition.epoch_base))
            })
            .collect();
        let nothing = JournalFound::default();
        let ids: BTreeSet<JournalId> = saved.journals.keys().chain(found.journals.keys()).copied().collect();
        for id in ids {
            let known = saved.journals.get(&id);
            let there = found.journals.get(&id).unwrap_or(&nothing);
            // A partition's leader epoch is its base and its journal's epoch.
            let of_partitions = there.partitions.iter().map(|found| {
                let at = usize::try_from(found.partition.partition).unwrap_or(0);
                let base = bases.get(&(found.partition.topic, at)).copied().unwrap_or(0);
                u32::try_from(i64::from(found.leader_epoch) - i64::from(base)).unwrap_or(0)
            });
            let seen = of_partitions.chain(known.map(|journal| journal.epoch)).chain([there.epoch]).max().unwrap_or(0);
            let epoch = seen.saturating_add(EPOCH_MARGIN);
            let (replicas, isr) = match &there.log {
                Log::Lost => (Vec::new(), Vec::new()),
                Log::Kept => known.map_or_else(Default::default, |known| (known.replicas.clone(), known.isr.clone())),
                Log::On { node, incarnation } => {
                    let replica = Replica { node: self.storage_node(saved, keys, node), incarnation: *incarnation };
                    (vec![replica], vec![replica])
                }
            };
            let journal = Journal { id, epoch, leader: NO_LEADER, replicas, isr };
            self.entries.insert(relative(keys, &keys.record(RecordKey::Journal(id))), encode_journal(&journal));
            self.epochs.insert(id, epoch);
        }
    }

    /// The id of the storage node of this name, a new one where the snapshot does not know it.
    fn storage_node(&mut self, saved: &Saved, keys: &Keys, name: &str) -> NodeId {
        if let Some(known) = saved.storage_nodes.get(name) {
            return NodeId(known.id);
        }
        let key = relative(keys, &keys.node_name(Role::Storage, name));
        let highest = saved.storage_nodes.values().map(|node| node.id).max().unwrap_or(0);
        let counted = saved.counter(keys, Counter::Nodes(Role::Storage)).and_then(|next| i32::try_from(next).ok());
        let given = self.entries.iter().filter(|(key, _)| !saved.kept.contains_key(*key));
        let given = given.filter_map(|(_, value)| crate::records::decode_node_name(value).ok().map(|name| name.id));
        if let Some(again) = self.entries.get(&key).and_then(|value| crate::records::decode_node_name(value).ok()) {
            return NodeId(again.id);
        }
        let next = given.max().unwrap_or(0).max(highest).saturating_add(1).max(counted.unwrap_or(1));
        self.entries.insert(key, encode_node_name(&NodeName { id: next, incarnation: 0, replaced: Vec::new() }));
        self.count(saved, keys, Counter::Nodes(Role::Storage), i64::from(next) + 1);
        NodeId(next)
    }

    fn slots(&mut self, saved: &Saved, keys: &Keys) {
        for slot in saved.slots.values() {
            // Its owner is gone with its node's record, so that it is taken by who comes first.
            let slot = Slot { epoch: slot.epoch.saturating_add(SLOT_MARGIN), ..*slot };
            self.entries.insert(relative(keys, &keys.record(RecordKey::Slot(slot.id))), encode_slot(slot));
        }
    }

    /// Sets a counter to the larger of what was saved and this, unless it is higher already.
    fn count(&mut self, saved: &Saved, keys: &Keys, counter: Counter, least: i64) {
        let key = relative(keys, &keys.counter(counter));
        let planned = self.entries.get(&key).and_then(|value| crate::records::decode_counter(value).ok());
        let next = least.max(saved.counter(keys, counter).unwrap_or(0)).max(planned.unwrap_or(0));
        self.entries.insert(key, encode_counter(next));
    }
}

/// The topic with as many partitions as the journals have, and whether it has more than before.
fn grow(mut topic: Topic, there: &BTreeMap<i32, (JournalId, &PartitionFound)>) -> (Topic, bool) {
    let before = topic.partitions.len();
    let Some((last, (journal, _))) = there.last_key_value() else { return (topic, false) };
    for number in before..usize::try_from(*last).map_or(0, |last| last + 1) {
        // One of which nothing was written yet may be on any journal.
        let at = i32::try_from(number).ok().and_then(|number| there.get(&number));
        topic.partitions.push(Partition { journal: at.map_or(*journal, |(journal, _)| *journal), epoch_base: 0 });
    }
    let grown = topic.partitions.len() > before;
    (topic, grown)
}

fn relative(keys: &Keys, key: &str) -> String {
    key.strip_prefix(keys.root()).unwrap_or(key).to_owned()
}
