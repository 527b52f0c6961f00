//! What goes into a group and what comes out of it.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_model::group::{GroupAnswer, GroupCall};
use tidemark_model::{ClusterState, Entropy, GroupError, TopicId};
use tokio::time::Instant;
use uuid::Uuid;

use crate::config::GroupSettings;
use crate::records::GroupKey;

/// A caller who waits for its one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

#[derive(Debug)]
pub(crate) enum Event {
    Call(Ticket, Box<GroupCall>),
    /// [`Group::deadline`](super::Group::deadline) has passed, or is about to: the group looks for itself.
    Deadline,
    /// Topics came, went or grew: the context has them as they are now. These are gone for good.
    Topics {
        removed: Arc<[TopicId]>,
    },
    /// The store has what [`Group::take_writes`](super::Group::take_writes) handed out under this number, and all before.
    Stored(u64),
    /// Time to look for offsets that have expired, and for a group that nothing is left of.
    Sweep,
}

/// When an answer may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// At once: it tells nothing that another owner could contradict.
    Open,
    /// When the store has all that the group has changed until now. Where it has changed nothing since, when the ownership
    /// of the slot has been confirmed after the step.
    Settled,
    /// When the store has the write of this number, and all before: nothing is told that came later.
    Stored(u64),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) ticket: Ticket,
    pub(crate) result: Result<GroupAnswer, GroupError>,
    pub(crate) gate: Gate,
}

/// Records to write, in one piece where the store's bounds allow it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Writes {
    /// For [`Event::Stored`].
    pub(crate) number: u64,
    /// None deletes.
    pub(crate) records: Vec<(GroupKey, Option<Bytes>)>,
}

/// What all groups of a coordinator decide by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    /// For timers.
    pub(crate) now: Instant,
    /// Milliseconds since the Unix epoch, for what is stored.
    pub(crate) wall_ms: i64,
    pub(crate) cluster: &'a ClusterState,
    pub(crate) settings: &'a GroupSettings,
    pub(crate) entropy: &'a dyn Entropy,
}

/// What the parts of one group decide by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) group: &'a str,
    /// What is set on the group.
    pub(crate) configs: &'a BTreeMap<String, String>,
    pub(crate) context: &'a Context<'a>,
}

impl<'a> Deref for Scope<'a> {
    type Target = Context<'a>;

    fn deref(&self) -> &Context<'a> {
        self.context
    }
}

impl Context<'_> {
    /// As Kafka makes member ids: what goes before, `-`, and a random UUID.
    pub(crate) fn new_member_id(&self, prefix: &str) -> String {
        format!("{prefix}-{}", self.random_uuid())
    }

    pub(crate) fn random_uuid(&self) -> Uuid {
        let (high, low) = (self.entropy.next_u64(), self.entropy.next_u64());
        uuid::Builder::from_random_bytes(((u128::from(high) << 64) | u128::from(low)).to_be_bytes()).into_uuid()
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) ticket: Ticket,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
}

/// Collects what a step does.
#[derive(Debug)]
pub(crate) struct Out {
    /// The number of the write that will have what is changed now.
    pub(super) write: u64,
    pub(super) answers: Vec<Answer>,
    pub(super) changes: BTreeMap<GroupKey, Change>,
}

/// What is to become of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// Whatever it is when writes are taken.
    Current,
    Put(Bytes),
    Delete,
}

impl Out {
    pub(super) fn new(write: u64) -> Self {
        Self { write, answers: Vec::new(), changes: BTreeMap::new() }
    }

    /// Answers at once.
    pub(crate) fn answer(&mut self, ticket: Ticket, result: Result<GroupAnswer, GroupError>) {
        self.answers.push(Answer { ticket, result, gate: Gate::Open });
    }

    /// Answers when what was changed until the end of this step is stored.
    pub(crate) fn answer_settled(&mut self, ticket: Ticket, result: Result<GroupAnswer, GroupError>) {
        self.answers.push(Answer { ticket, result, gate: Gate::Settled });
    }

    /// Answers when what this step has changed is stored; at once when it has changed nothing.
    pub(crate) fn answer_when_stored(&mut self, ticket: Ticket, result: Result<GroupAnswer, GroupError>) {
        let gate = if self.changes.is_empty() { Gate::Open } else { Gate::Settled };
        self.answers.push(Answer { ticket, result, gate });
    }

    /// Answers when the write of this number is stored, whatever has changed since.
    pub(crate) fn answer_stored(&mut self, ticket: Ticket, result: Result<GroupAnswer, GroupError>, write: u64) {
        self.answers.push(Answer { ticket, result, gate: Gate::Stored(write) });
    }

    /// What is under `key` is no longer what it was, or is gone. What is written is what it is when writes are taken,
    /// perhaps after further steps.
    pub(crate) fn changed(&mut self, key: GroupKey) {
        self.changes.insert(key, Change::Current);
    }

    /// Writes just this, whatever comes after: of a group that is stored only when it comes to rest.
    pub(crate) fn put(&mut self, key: GroupKey, value: Bytes) {
        self.changes.insert(key, Change::Put(value));
    }

    pub(crate) fn delete(&mut self, key: GroupKey) {
        self.changes.insert(key, Change::Delete);
    }
}
