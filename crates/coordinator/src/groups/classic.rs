//! Groups of the classic protocol: members join, a leader among them assigns, all sync.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidemark_model::GroupError;
use tidemark_model::group::{CommitOffsets, DescribedGroup, Protocol};
use tokio::time::Instant;

use super::offsets::Expiry;
use super::{CONSUMER, Out, Scope, Ticket};
use crate::records::{BadValue, GroupKey};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

#[derive(Debug)]
pub(crate) struct Classic {
    pub(crate) state: State,
    /// When the state became what it is, in milliseconds since the Unix epoch.
    pub(crate) since_ms: i64,
    pub(crate) generation: i32,
    /// None until someone joins: a group that has only offsets.
    pub(crate) protocol_type: Option<String>,
    /// The assignor that the members agreed on, in this generation.
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) members: BTreeMap<String, Member>,
    /// Member ids by instance id (KIP-345).
    pub(crate) static_members: BTreeMap<String, String>,
    /// Given out, and to come again by then (KIP-394).
    pub(crate) pending_members: BTreeMap<String, Instant>,
    /// Topics that the members of this generation read. None where that cannot be told.
    pub(crate) subscribed: Option<BTreeSet<String>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout: std::time::Duration,
    pub(crate) rebalance_timeout: std::time::Duration,
    /// By the member's preference.
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    pub(crate) awaiting_join: Option<Ticket>,
    pub(crate) awaiting_sync: Option<Ticket>,
    /// Removed from the group when nothing is heard until then.
    pub(crate) session_deadline: Instant,
}

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

impl Classic {
    /// An empty group, of no protocol yet.
    pub(crate) fn new(scope: &Scope<'_>) -> Self {
        Self {
            state: State::Empty,
            since_ms: scope.wall_ms,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_members: BTreeMap::new(),
            subscribed: None,
        }
    }

    pub(super) fn load(_records: Vec<(GroupKey, Bytes)>, scope: &Scope<'_>) -> Result<Self, BadValue> {
        Ok(Self::new(scope))
    }

    pub(super) fn record(&self, _key: &GroupKey) -> Option<Bytes> {
        None
    }

    pub(super) fn keys(&self) -> Vec<GroupKey> {
        let members = self.members.keys().map(|id| GroupKey::ClassicMember(id.clone()));
        std::iter::once(GroupKey::Classic).chain(members).collect()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let sessions = self.members.values().map(|member| member.session_deadline);
        sessions.chain(self.pending_members.values().copied()).min()
    }

    pub(super) fn deadline_passed(&mut self, _scope: &Scope<'_>, _out: &mut Out) {}

    pub(super) fn join(
        &mut self,
        caller: super::Caller,
        _r: tidemark_model::group::Join,
        _: &Scope<'_>,
        out: &mut Out,
    ) {
        out.answer(caller.ticket, Err(GroupError::Unavailable("not served yet".into())));
    }

    pub(super) fn sync(
        &mut self,
        caller: super::Caller,
        _r: tidemark_model::group::Sync,
        _: &Scope<'_>,
        out: &mut Out,
    ) {
        out.answer(caller.ticket, Err(GroupError::Unavailable("not served yet".into())));
    }

    pub(super) fn heartbeat(
        &mut self,
        caller: super::Caller,
        _r: tidemark_model::group::Member,
        _: &Scope<'_>,
        out: &mut Out,
    ) {
        out.answer(caller.ticket, Err(GroupError::Unavailable("not served yet".into())));
    }

    pub(super) fn leave(
        &mut self,
        caller: super::Caller,
        _r: Vec<tidemark_model::group::Leaving>,
        _: &Scope<'_>,
        out: &mut Out,
    ) {
        out.answer(caller.ticket, Err(GroupError::Unavailable("not served yet".into())));
    }

    /// Ends every wait of its members: the group goes on as one of the other protocol, which they meet when they come
    /// again.
    pub(super) fn abandon(&mut self, out: &mut Out) {
        for member in self.members.values_mut() {
            let waiting = member.awaiting_join.take().into_iter().chain(member.awaiting_sync.take());
            waiting.for_each(|ticket| out.answer(ticket, Err(GroupError::RebalanceInProgress)));
        }
    }

    pub(super) fn check_commit(&mut self, _request: &CommitOffsets, _scope: &Scope<'_>) -> Result<(), GroupError> {
        Ok(())
    }

    pub(super) fn check_delete_offsets(&self) -> Result<(), GroupError> {
        match (self.state, self.protocol_type()) {
            (State::Empty, _) | (_, Some(CONSUMER)) => Ok(()),
            _ => Err(GroupError::NonEmptyGroup),
        }
    }

    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscribed.as_ref().is_some_and(|topics| topics.contains(topic))
    }

    /// By Kafka's rules (KIP-211).
    pub(super) fn offset_expiry(&self) -> Expiry {
        match (self.protocol_type(), self.state) {
            (None, _) => Expiry::SinceCommit,
            (Some(_), State::Empty) => Expiry::Since(self.since_ms),
            (Some(CONSUMER), State::Stable) if self.subscribed.is_some() => Expiry::SinceCommit,
            (Some(_), _) => Expiry::Never,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// Whether nobody is in it, and nobody was told to come.
    pub(super) fn is_unused(&self) -> bool {
        self.is_empty() && self.pending_members.is_empty()
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    pub(super) fn describe(&self) -> DescribedGroup {
        let stable = self.state == State::Stable;
        let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone().filter(|_| stable));
        DescribedGroup {
            state: self.state.as_str().to_owned(),
            protocol_type: protocol_type.unwrap_or_default(),
            protocol: protocol.unwrap_or_default(),
            members: Vec::new(),
        }
    }
}
