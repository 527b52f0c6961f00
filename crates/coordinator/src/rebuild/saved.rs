//! What a snapshot says.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidemark_model::{Journal, JournalId, RecordKey, Role, SlotId, Topic, TopicId};
use tidemark_segment::MetadataSnapshot;

use crate::records::{
    BadValue, Counter, Keys, NodeName, StateKey, decode_counter, decode_journal, decode_node_name, decode_slot,
    decode_topic,
};

/// A snapshot, read.
#[derive(Debug, Clone, Default)]
pub struct Saved {
    /// The revision of the metadata store that it is of. 0 when there is none.
    pub revision: u64,
    pub journals: BTreeMap<JournalId, Journal>,
    pub topics: BTreeMap<TopicId, Topic>,
    pub(super) slots: BTreeMap<SlotId, tidemark_model::Slot>,
    pub(super) storage_nodes: BTreeMap<String, NodeName>,
    pub(super) counters: BTreeMap<String, i64>,
    /// What goes over as it is, by keys without the root: groups, and the names of nodes and topics.
    pub(super) kept: BTreeMap<String, Bytes>,
    /// How many groups it has.
    pub groups: usize,
}

impl Saved {
    /// Reads a snapshot. What this release cannot read is an error, with the key: to leave it out would lose it.
    pub fn read(snapshot: &MetadataSnapshot) -> Result<Self, String> {
        // The root is left out of the keys of a snapshot. Here it is any one.
        let keys = Keys::new("snapshot");
        let mut saved = Self { revision: snapshot.revision, ..Self::default() };
        let mut groups = BTreeSet::new();
        for (key, value) in &snapshot.entries {
            saved.entry(&keys, key, value).map_err(|error| format!("{key}: {error}"))?;
            if let Some((slot, rest)) = key.strip_prefix("groups/").and_then(|rest| rest.split_once('/')) {
                groups.insert((slot, rest.split('/').next()));
            }
        }
        saved.groups = groups.len();
        Ok(saved)
    }

    fn entry(&mut self, keys: &Keys, key: &str, value: &Bytes) -> Result<(), BadValue> {
        let full = format!("{}{key}", keys.root());
        match keys.parse_state(&full) {
            Some(StateKey::Record(RecordKey::Journal(_))) => {
                let journal = decode_journal(value)?;
                self.journals.insert(journal.id, journal);
            }
            Some(StateKey::Record(RecordKey::Topic(_))) => {
                let topic = decode_topic(value)?;
                self.topics.insert(topic.id, topic);
            }
            Some(StateKey::Record(RecordKey::Slot(_))) => {
                let slot = decode_slot(value)?;
                self.slots.insert(slot.id, slot);
            }
            // Processes, and the history of the old store.
            Some(StateKey::Record(RecordKey::Node(..)) | StateKey::Compaction) => {}
            None if full == keys.cluster_id() => {}
            None if key.starts_with("counters/") => {
                self.counters.insert(key.to_owned(), decode_counter(value)?);
            }
            // A broker's name never comes again.
            None if full.starts_with(&keys.node_names(Role::Broker)) => {}
            None => {
                if let Some(name) = full.strip_prefix(&keys.node_names(Role::Storage)) {
                    self.storage_nodes.insert(name.to_owned(), decode_node_name(value)?);
                }
                self.kept.insert(key.to_owned(), value.clone());
            }
        }
        Ok(())
    }

    pub(super) fn counter(&self, keys: &Keys, counter: Counter) -> Option<i64> {
        self.counters.get(keys.counter(counter).strip_prefix(keys.root())?).copied()
    }
}
