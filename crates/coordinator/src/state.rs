//! The cluster state as this coordinator has it, with the last changes for those who follow it.

mod revisions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemark_model::{Claim, ClusterState, ClusterUpdate, JournalId, Node, NodeId, Record, RecordKey, Role, Slot};

use self::revisions::Latest;
pub(crate) use self::revisions::Revisions;
use crate::journals::NO_LEADER;
use crate::metrics;
use crate::placement::Candidate;
use crate::records::{Keys, StateKey, decode_journal, decode_node, decode_slot, decode_topic};
use crate::store::{Changes, Entry, Event, Snapshot};

/// Changes that are kept for followers to resume after. One who missed more gets a snapshot, which is bounded too.
const MAX_HISTORY: usize = 4_096;

/// All changes of one revision, or what differs between two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delta {
    pub(crate) revision: u64,
    /// The older revision of the two. What was undone after it is not in the difference, so that this is nothing for a
    /// follower at a revision between them: it may have seen what was undone.
    pub(crate) differs_from: Option<u64>,
    pub(crate) upserts: Vec<Record>,
    pub(crate) removals: Vec<RecordKey>,
}

impl Delta {
    pub(crate) fn to_update(&self) -> ClusterUpdate {
        let Self { revision, differs_from: _, upserts, removals } = self.clone();
        ClusterUpdate::Delta { revision, upserts, removals }
    }
}

#[derive(Debug)]
pub(crate) struct State {
    keys: Keys,
    inner: Mutex<Inner>,
    /// The revision of what is known.
    latest: Arc<Latest>,
}

#[derive(Debug)]
struct Inner {
    cluster: ClusterState,
    history: VecDeque<Arc<Delta>>,
    /// Every change after this revision is in the history.
    base: u64,
    /// Partitions on each journal.
    loads: BTreeMap<JournalId, usize>,
    topics: usize,
    /// The revision of the last change of a topic or a journal.
    catalog: u64,
}

/// What a follower at some revision gets next.
#[derive(Debug)]
pub(crate) enum Next {
    /// It has everything.
    Nothing,
    Deltas(Vec<Arc<Delta>>),
    /// What it needs is no longer kept.
    TooOld,
    /// It knows more than this coordinator does yet.
    Ahead,
}

impl State {
    pub(crate) fn new(keys: Keys) -> Self {
        let inner = Inner {
            cluster: ClusterState::default(),
            history: VecDeque::new(),
            base: 0,
            loads: BTreeMap::new(),
            topics: 0,
            catalog: 0,
        };
        Self { keys, inner: Mutex::new(inner), latest: Arc::default() }
    }

    /// The revision as it moves.
    pub(crate) fn revisions(&self) -> Revisions {
        self.latest.follow()
    }

    pub(crate) fn revision(&self) -> Option<u64> {
        self.latest.get()
    }

    /// The cluster's id, and by what it holds its bucket.
    pub(crate) fn identity(&self) -> (String, Option<Claim>) {
        let inner = self.inner();
        (inner.cluster.cluster_id.clone(), inner.cluster.claim)
    }

    /// The revision of the last change of a topic or a journal; of the first load when there was none since.
    pub(crate) fn catalog(&self) -> u64 {
        self.inner().catalog
    }

    pub(crate) fn node(&self, role: Role, id: NodeId) -> Option<Arc<Node>> {
        self.inner().cluster.node(role, id).cloned()
    }

    /// The coordinators, and the slots that they own or owned.
    pub(crate) fn slots(&self) -> (Vec<Arc<Node>>, Vec<Slot>) {
        let inner = self.inner();
        let cluster = &inner.cluster;
        (cluster.nodes(Role::Coordinator).cloned().collect(), cluster.slots().copied().collect())
    }

    /// The whole state. Its records are shared, its maps are not.
    pub(crate) fn cluster(&self) -> ClusterState {
        self.inner().cluster.clone()
    }

    /// The journals that may get partitions, with what they carry.
    pub(crate) fn journals(&self) -> Vec<Candidate> {
        let inner = self.inner();
        let journals = inner.cluster.journals().filter(|journal| journal.leader != NO_LEADER);
        journals
            .map(|journal| Candidate {
                id: journal.id,
                replicas: journal.replicas.len(),
                live: inner.cluster.node(Role::Storage, journal.leader).is_some(),
                partitions: inner.loads.get(&journal.id).copied().unwrap_or(0),
            })
            .collect()
    }

    /// Waits until the state has this revision, for `patience` at most.
    pub(crate) async fn reached(&self, revision: u64, patience: Duration) -> bool {
        let mut revisions = self.revisions();
        let reached = revisions.wait_for(|known| known.is_some_and(|known| known >= revision));
        tokio::time::timeout(patience, reached).await.is_ok()
    }

    pub(crate) fn after(&self, revision: u64) -> Next {
        let inner = self.inner();
        if revision > inner.cluster.revision {
            return Next::Ahead;
        }
        if revision < inner.base {
            return Next::TooOld;
        }
        let from = inner.history.partition_point(|delta| delta.revision <= revision);
        let next = inner.history.get(from);
        if next.and_then(|next| next.differs_from).is_some_and(|older| older < revision) {
            return Next::TooOld;
        }
        let deltas: Vec<Arc<Delta>> = inner.history.range(from..).cloned().collect();
        if deltas.is_empty() { Next::Nothing } else { Next::Deltas(deltas) }
    }

    /// Takes over a snapshot. Followers get what differs as one delta, so that their streams go on.
    pub(crate) fn replace(&self, cluster_id: &str, claim: Option<Claim>, snapshot: &Snapshot) {
        let records: Vec<Record> = snapshot.entries.iter().filter_map(|entry| self.record(entry)).collect();
        let stored: BTreeSet<&str> = snapshot.entries.iter().map(|entry| entry.key.as_str()).collect();
        let mut inner = self.inner();
        let first = self.revision().is_none();
        if !first && snapshot.revision <= inner.cluster.revision {
            return;
        }
        let known = inner.cluster.records().map(|record| record.key());
        let removals = known.filter(|key| !stored.contains(self.keys.record(*key).as_str())).collect();
        let upserts = records.into_iter().filter(|record| !has(&inner.cluster, record)).collect();
        inner.cluster.cluster_id = cluster_id.to_owned();
        inner.cluster.claim = claim;
        if first {
            inner.base = snapshot.revision;
        }
        let (revision, differs_from) = (snapshot.revision, Some(inner.cluster.revision));
        inner.apply(Delta { revision, differs_from, upserts, removals }, !first);
        drop(inner);
        self.publish();
    }

    /// Applies the changes of one revision.
    pub(crate) fn apply(&self, changes: &Changes) {
        let (revision, upserts, removals) = (changes.revision, Vec::new(), Vec::new());
        let mut delta = Delta { revision, differs_from: None, upserts, removals };
        for event in &changes.events {
            match event {
                Event::Put(entry) => delta.upserts.extend(self.record(entry)),
                Event::Delete(key) => {
                    if let Some(StateKey::Record(key)) = self.keys.parse_state(key) {
                        delta.removals.push(key);
                    }
                }
            }
        }
        self.inner().apply(delta, true);
        self.publish();
    }

    fn publish(&self) {
        let inner = self.inner();
        let (revision, cluster) = (inner.cluster.revision, &inner.cluster);
        let roles = [Role::Gateway, Role::Broker, Role::Storage, Role::Coordinator];
        let nodes = roles.iter().map(|role| cluster.nodes(*role).count()).sum();
        metrics::state_changed(revision, nodes, cluster.journals().count(), inner.topics, inner.loads.values().sum());
        drop(inner);
        self.latest.set(revision);
    }

    /// What an entry says. What cannot be read is left as it was known before, and told to the operator.
    fn record(&self, entry: &Entry) -> Option<Record> {
        let record = match self.keys.parse_state(&entry.key)? {
            StateKey::Compaction => return None,
            StateKey::Record(RecordKey::Node(..)) => decode_node(&entry.value).map(|stored| Record::Node(stored.node)),
            StateKey::Record(RecordKey::Journal(_)) => decode_journal(&entry.value).map(Record::Journal),
            StateKey::Record(RecordKey::Topic(_)) => decode_topic(&entry.value).map(Record::Topic),
            StateKey::Record(RecordKey::Slot(_)) => decode_slot(&entry.value).map(Record::Slot),
        };
        record.inspect_err(|error| tracing::error!(key = entry.key, %error, "cannot read a record of the state")).ok()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics between two changes that belong together.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn apply(&mut self, delta: Delta, keep: bool) {
        let changed = delta.upserts.iter().map(Record::key).chain(delta.removals.iter().copied());
        if changed.into_iter().any(|key| matches!(key, RecordKey::Topic(_) | RecordKey::Journal(_))) {
            self.catalog = delta.revision;
        }
        for key in &delta.removals {
            self.count(*key, -1);
            self.cluster.remove(*key);
        }
        for record in &delta.upserts {
            self.count(record.key(), -1);
            self.cluster.upsert(record.clone());
            self.count(record.key(), 1);
        }
        self.cluster.revision = delta.revision;
        if !keep {
            return;
        }
        self.history.push_back(Arc::new(delta));
        if self.history.len() > MAX_HISTORY
            && let Some(oldest) = self.history.pop_front()
        {
            self.base = oldest.revision;
        }
    }

    fn count(&mut self, key: RecordKey, by: isize) {
        let RecordKey::Topic(id) = key else { return };
        let Some(topic) = self.cluster.topic(id) else { return };
        self.topics = self.topics.saturating_add_signed(by);
        for partition in &topic.partitions {
            let load = self.loads.entry(partition.journal).or_default();
            *load = load.saturating_add_signed(by);
        }
    }
}

fn has(cluster: &ClusterState, record: &Record) -> bool {
    match record {
        Record::Node(node) => cluster.node(node.role, node.id).is_some_and(|known| **known == *node),
        Record::Journal(journal) => cluster.journal(journal.id).is_some_and(|known| **known == *journal),
        Record::Topic(topic) => cluster.topic(topic.id).is_some_and(|known| **known == *topic),
        Record::Slot(slot) => cluster.slot(slot.id) == Some(slot),
    }
}

#[cfg(test)]
mod tests;
