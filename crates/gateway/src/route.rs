//! Which broker serves a partition, and whether this gateway may ask it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemark_model::{Broker, ClusterState, Dial, Node, NodeId, Topic, TopicId, TopicPartition, route};
use tidemark_wire::error::ErrorCode;
use tidemark_wire::{LeaderIdAndEpoch, NodeEndpoint, TopicRef};

use crate::metadata;

/// The view of the cluster by which one request is routed.
#[derive(Debug, Clone)]
pub(crate) struct Router {
    pub(crate) state: Arc<ClusterState>,
    pub(crate) me: NodeId,
}

/// Why a partition cannot be asked for here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misrouted {
    UnknownTopic,
    UnknownTopicId,
    UnknownPartition,
    /// Clients are told that another gateway leads it.
    NotLeader(TopicPartition),
    /// Its journal has no live broker.
    NoBroker,
}

/// What one broker is asked, with the places that its answers take among all that was asked for.
pub(crate) struct Share<T> {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) items: Vec<T>,
    pub(crate) slots: Vec<usize>,
}

/// What each broker is asked, by the broker's id.
pub(crate) struct Shares<'a, T> {
    brokers: &'a dyn Dial<dyn Broker>,
    shares: BTreeMap<NodeId, Share<T>>,
}

impl Router {
    pub(crate) fn topic(&self, topic: &TopicRef) -> Result<&Arc<Topic>, Misrouted> {
        match topic {
            TopicRef::Name(name) => self.state.topic_named(name).ok_or(Misrouted::UnknownTopic),
            TopicRef::Id(id) => self.state.topic(TopicId(*id)).ok_or(Misrouted::UnknownTopicId),
        }
    }

    /// The broker of a partition that this gateway leads.
    pub(crate) fn broker(&self, topic: &Topic, index: i32) -> Result<(TopicPartition, &Arc<Node>), Misrouted> {
        let at = TopicPartition::new(topic.id, index);
        let partition = self.state.partition(at).ok_or(Misrouted::UnknownPartition)?;
        if route::gateway_for(&self.state, at).is_none_or(|leader| leader.id != self.me) {
            return Err(Misrouted::NotLeader(at));
        }
        let broker = route::broker_for(&self.state, partition.journal).ok_or(Misrouted::NoBroker)?;
        Ok((at, broker))
    }

    /// Who leads a partition and where it listens, to be sent with NOT_LEADER_OR_FOLLOWER.
    pub(crate) fn leader(&self, at: TopicPartition) -> Option<(LeaderIdAndEpoch, NodeEndpoint)> {
        let leader = route::gateway_for(&self.state, at)?;
        let leader_epoch = self.state.leader_epoch(at)?;
        Some((LeaderIdAndEpoch { leader_id: leader.id.0, leader_epoch }, metadata::endpoint(leader)))
    }
}

impl Misrouted {
    pub(crate) fn code(self) -> ErrorCode {
        match self {
            Self::UnknownTopic | Self::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
            Self::UnknownTopicId => ErrorCode::UnknownTopicId,
            Self::NotLeader(_) | Self::NoBroker => ErrorCode::NotLeaderOrFollower,
        }
    }

    pub(crate) fn message(self) -> Option<String> {
        match self {
            Self::NoBroker => Some("no broker is alive to serve the partition".to_owned()),
            Self::UnknownTopic | Self::UnknownTopicId | Self::UnknownPartition | Self::NotLeader(_) => None,
        }
    }
}

impl<'a, T> Shares<'a, T> {
    pub(crate) fn new(brokers: &'a dyn Dial<dyn Broker>) -> Self {
        Self { brokers, shares: BTreeMap::new() }
    }

    pub(crate) fn push(&mut self, broker: &Node, slot: usize, item: T) {
        let new =
            || Share { broker: self.brokers.dial(broker.id, &broker.address), items: Vec::new(), slots: Vec::new() };
        let share = self.shares.entry(broker.id).or_insert_with(new);
        share.items.push(item);
        share.slots.push(slot);
    }

    pub(crate) fn into_vec(self) -> Vec<Share<T>> {
        self.shares.into_values().collect()
    }
}

/// Adds an endpoint that is not there yet.
pub(crate) fn add_endpoint(endpoints: &mut Vec<NodeEndpoint>, endpoint: NodeEndpoint) {
    if !endpoints.iter().any(|known| known.node_id == endpoint.node_id) {
        endpoints.push(endpoint);
    }
}
