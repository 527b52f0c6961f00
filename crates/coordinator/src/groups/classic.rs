//! Groups of the classic protocol: members join, a leader among them assigns, all sync.
//!
//! What holds is what Kafka's group coordinator does, state by state. [`join`] brings members in, [`rebalance`] gathers
//! them into a generation, [`sync`] hands out what its leader assigned and listens to heartbeats, [`leave`] lets
//! members go. As in Kafka, a group is [`stored`] when it comes to rest, stable or empty: a rebalance in flight is not,
//! and its members begin it again with the next owner.

mod join;
mod leave;
mod rebalance;
mod stored;
mod sync;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tidemark_model::GroupError;
use tidemark_model::group::{CommitOffsets, DescribedGroup, DescribedMember, Joined, JoinedMember, Protocol};
use tidemark_wire::consumer_protocol::Subscription;
use tokio::time::Instant;

use self::rebalance::Gathering;
use super::offsets::Expiry;
use super::{CONSUMER, Out, Scope, Ticket};

/// How long a new member may take to join: while it does, it sends no heartbeats. Kafka's.
const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(300);

/// What the members of a group may tell each other in all. Kafka stores a group in one record, of a megabyte at most.
const MAX_GROUP_BYTES: usize = 32 << 20;

/// What a member may tell, and be told: it has to fit into a transaction of the metadata store, as text, with its names.
/// Kafka stops there too, at a megabyte for the whole group.
const MAX_MEMBER_BYTES: usize = 950_000;

/// Ids that were given out and did not come back yet. Kafka has no bound.
const MAX_PENDING_MEMBERS: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

#[derive(Debug)]
pub(crate) struct Classic {
    state: State,
    /// When the state became what it is, in milliseconds since the Unix epoch.
    since_ms: i64,
    generation: i32,
    /// None until someone joins: a group that has only offsets.
    protocol_type: Option<String>,
    /// The assignor that the members agreed on, in this generation.
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Member ids by instance id (KIP-345).
    static_members: BTreeMap<String, String>,
    /// Given out, and to come again by then (KIP-394).
    pending_members: BTreeMap<String, Instant>,
    /// While the state is [`State::PreparingRebalance`].
    gathering: Option<Gathering>,
    /// Members of this generation that have not asked for what they are assigned.
    pending_sync: BTreeSet<String>,
    /// Until when they have to.
    sync_deadline: Option<Instant>,
    /// Topics that the members of this generation read. None where that cannot be told.
    subscribed: Option<BTreeSet<String>>,
    /// The members that the store has.
    stored_members: BTreeSet<String>,
    /// Whether the store has the group.
    is_stored: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    /// By the member's preference.
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    awaiting_join: Option<Ticket>,
    awaiting_sync: Option<Ticket>,
    /// It has not been in a generation yet.
    is_new: bool,
    /// Removed from the group when nothing is heard until then. None while it is the group that is waited for.
    session_deadline: Option<Instant>,
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

impl Member {
    pub(crate) fn new(client_id: String, client_host: String, protocols: Vec<Protocol>) -> Self {
        Self {
            instance_id: None,
            client_id,
            client_host,
            session_timeout: Duration::ZERO,
            rebalance_timeout: Duration::ZERO,
            protocols,
            assignment: Bytes::new(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
            session_deadline: None,
        }
    }

    /// What it says of itself for the protocol.
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        let metadata = self.protocols.iter().find(|known| known.name == protocol).map(|known| known.metadata.clone());
        metadata.unwrap_or_default()
    }

    fn metadata_bytes(&self) -> usize {
        self.protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum()
    }

    fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|known| known.name == protocol)
    }

    /// It was heard.
    fn heard(&mut self, now: Instant) {
        self.session_deadline = Some(now + self.session_timeout);
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
            gathering: None,
            pending_sync: BTreeSet::new(),
            sync_deadline: None,
            subscribed: None,
            stored_members: BTreeSet::new(),
            is_stored: false,
        }
    }

    /// A stable group of consumers that have their assignments: what is left of a consumer group whose last member of
    /// that protocol has left (KIP-848).
    pub(crate) fn downgraded(generation: i32, members: BTreeMap<String, Member>, scope: &Scope<'_>) -> Self {
        let mut group = Self { generation, protocol_type: Some(CONSUMER.to_owned()), ..Self::new(scope) };
        group.state = if members.is_empty() { State::Empty } else { State::Stable };
        group.leader = members.keys().next().cloned();
        for (id, mut member) in members {
            member.heard(scope.now);
            group.static_members.extend(member.instance_id.clone().map(|instance_id| (instance_id, id.clone())));
            group.members.insert(id, member);
        }
        group.protocol = group.chosen_protocol();
        group.subscribed = group.subscribed_topics();
        group
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    pub(crate) fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    pub(crate) fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    pub(crate) fn members(&self) -> &BTreeMap<String, Member> {
        &self.members
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// Whether nobody is in it, and nobody was told to come.
    pub(super) fn is_unused(&self) -> bool {
        self.is_empty() && self.pending_members.is_empty()
    }

    /// When something of it is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let sessions = self.members.values().filter_map(|member| member.session_deadline);
        let gathering = self.gathering.as_ref().map(|gathering| gathering.until);
        sessions.chain(self.pending_members.values().copied()).chain(gathering).chain(self.sync_deadline).min()
    }

    /// Ends every wait of its members: the group goes on as one of the other protocol, which they meet when they come
    /// again.
    pub(super) fn abandon(&mut self, out: &mut Out) {
        for member in self.members.values_mut() {
            member.dismiss(&GroupError::RebalanceInProgress, out);
        }
    }

    /// Whether the offsets may be committed by who says to be this member.
    pub(super) fn check_commit(&mut self, request: &CommitOffsets, scope: &Scope<'_>) -> Result<(), GroupError> {
        let CommitOffsets { member_id, instance_id, generation_or_epoch: generation, .. } = request;
        if *generation < 0 && self.is_empty() {
            return Ok(());
        }
        self.check_member(member_id, instance_id.as_deref())?;
        if *generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        match self.state {
            // It has heard of the generation, and does not have its partitions yet.
            State::CompletingRebalance => return Err(GroupError::RebalanceInProgress),
            State::Stable | State::PreparingRebalance => {
                self.members.get_mut(member_id).into_iter().for_each(|member| member.heard(scope.now));
            }
            State::Empty => {}
        }
        Ok(())
    }

    pub(super) fn check_delete_offsets(&self) -> Result<(), GroupError> {
        match (self.state, self.protocol_type()) {
            (State::Empty, _) | (_, Some(CONSUMER)) => Ok(()),
            _ => Err(GroupError::NonEmptyGroup),
        }
    }

    /// A group of consumers whose subscriptions are not known reads everything.
    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.protocol_type() == Some(CONSUMER),
        }
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

    pub(super) fn describe(&self) -> DescribedGroup {
        // While the group rebalances, what members say and have is in flux.
        let protocol = self.protocol.clone().filter(|_| self.state == State::Stable);
        let members = self.members.iter().map(|(id, member)| DescribedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: protocol.as_ref().map(|protocol| member.metadata(protocol)).unwrap_or_default(),
            assignment: protocol.as_ref().map(|_| member.assignment.clone()).unwrap_or_default(),
        });
        DescribedGroup {
            state: self.state.as_str().to_owned(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            members: members.collect(),
            protocol: protocol.unwrap_or_default(),
        }
    }

    /// Whether there is such a member, and it is not another one that has the instance id now.
    fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(unknown(member_id)),
                Some(current) if current != member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(unknown(member_id)) }
    }

    /// The protocol that most members like best among those that all of them support. The first by name among equals.
    fn chosen_protocol(&self) -> Option<String> {
        let common = |name: &str| self.members.values().all(|member| member.supports(name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(vote) = member.protocols.iter().find(|protocol| common(&protocol.name)) {
                *votes.entry(&vote.name).or_default() += 1;
            }
        }
        let best = votes.into_iter().max_by_key(|(name, votes)| (*votes, std::cmp::Reverse(*name)))?;
        Some(best.0.to_owned())
    }

    /// Topics of all members, as far as they are consumers and can be understood.
    fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if self.protocol_type() != Some(CONSUMER) {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(Subscription::decode(member.metadata(protocol)).ok()?.topics);
        }
        Some(topics)
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// The answer to a member's join. The leader gets all members.
    fn joined(&self, member_id: &str) -> Joined {
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = match self.is_leader(member_id) {
            true => self.members.iter().map(|(id, member)| JoinedMember {
                member_id: id.clone(),
                instance_id: member.instance_id.clone(),
                metadata: member.metadata(&protocol),
            }),
            false => return self.joined_as_follower(member_id, self.leader.clone()),
        };
        Joined { members: members.collect(), ..self.joined_as_follower(member_id, self.leader.clone()) }
    }

    fn joined_as_follower(&self, member_id: &str, leader: Option<String>) -> Joined {
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_name: self.protocol.clone().unwrap_or_default(),
            leader: leader.unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }
}

fn unknown(member_id: &str) -> GroupError {
    GroupError::UnknownMemberId(format!("{member_id} is not a member of the group."))
}

#[cfg(test)]
mod tests;
