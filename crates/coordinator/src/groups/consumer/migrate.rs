//! Live groups between the protocols: a classic group of consumers becomes a consumer group when the first member of that
//! protocol joins, and a classic one again when the last has left. Kafka's `group.consumer.migration.policy`, which is
//! `bidirectional` where nobody has set it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_model::{GroupError, TopicPartition};
use tidemark_wire::consumer_protocol as wire;

use super::classic::{assignment_bytes, current_of};
use super::member::{ClassicSide, Member, Subscription, Timers};
use super::{Classic, ConsumerGroup};
use crate::groups::assignor::Partitions;
use crate::groups::classic;
use crate::groups::{CONSUMER, Out, Scope};

impl ConsumerGroup {
    /// The group that goes on with the members of a classic one. Refused where it cannot be upgraded.
    ///
    /// `write` is the number of the write that will have it.
    pub(crate) fn from_classic(classic: &Classic, write: u64, scope: &Scope<'_>) -> Result<Self, GroupError> {
        let refuse = |why: &str| {
            let name = scope.group;
            Err(GroupError::GroupIdNotFound(format!(
                "Cannot upgrade classic group {name} to consumer group because {why}."
            )))
        };
        if classic.protocol_type() != Some(CONSUMER) {
            return refuse("the group does not use the consumer embedded protocol");
        }
        // There has to be room for the one who joins.
        if classic.members().len() >= scope.settings.consumer_max_size {
            return refuse("the group size exceeds the consumer group maximum size");
        }
        let mut group = Self::new(scope);
        (group.epoch, group.assignment_epoch) = (classic.generation(), classic.generation());
        let mut out = Out::new(write);
        for (id, member) in classic.members() {
            let protocol = classic.protocol().or_else(|| member.protocols.first().map(|first| &*first.name));
            let metadata = member.metadata(protocol.unwrap_or_default());
            let assignment = match member.assignment.is_empty() {
                true => Ok(wire::Assignment::default()),
                false => wire::Assignment::decode(member.assignment.clone()),
            };
            let (Ok(subscription), Ok(assignment)) = (wire::Subscription::decode(metadata), assignment) else {
                return refuse("the embedded consumer protocol is malformed");
            };
            if assignment.user_data.as_ref().is_some_and(|data| !data.is_empty()) {
                return refuse(
                    "an unsupported custom assignor is in use. Please refer to the documentation or switch to a default \
                     assignor before re-attempting the upgrade",
                );
            }
            let assigned = group.assigned_by(&assignment, scope);
            let member = upgraded(member, subscription, classic.generation(), assigned, scope);
            group.put(&Arc::from(id.as_str()), member, &mut out);
        }
        if group.leaves_something_out(scope) {
            // It was rebalancing, or its leader has not seen a topic grow. Kafka's group would go on so, when a static member
            // joins with the id of one that is there, until somebody else comes.
            group.subscriptions.topics_changed();
        } else {
            group.subscriptions.rehash(scope);
        }
        Ok(group)
    }

    /// Whether there are partitions to assign that nobody has.
    fn leaves_something_out(&self, scope: &Scope<'_>) -> bool {
        let topics = self.members.values().flat_map(|member| self.subscriptions.topics_of(&member.subscription, scope));
        let topics = topics.filter_map(|topic| scope.cluster.topic(topic));
        let mut partitions =
            topics.flat_map(|topic| (0..).zip(&topic.partitions).map(|(number, _)| (topic.id, number)));
        partitions.any(|(topic, partition)| self.is_free("", topic, partition))
    }

    /// Whether the group would be a classic one if this member were not of the other protocol.
    pub(super) fn would_be_classic_without(&self, id: &str, scope: &Scope<'_>) -> bool {
        let mut others = self.members.iter().filter(|(other, _)| ***other != *id);
        let is_classic = self.members.get(id).is_some_and(Member::uses_classic);
        !is_classic && others.all(|(_, member)| member.uses_classic()) && self.members.len() <= scope.settings.max_size
    }

    /// The classic group that is left when these members leave. None where it goes on as it is.
    pub(super) fn left_to_classic(&self, leaving: &[Arc<str>], scope: &Scope<'_>, out: &mut Out) -> Option<Classic> {
        let mut left = self.members.iter().filter(|(id, _)| !leaving.contains(id)).map(|(_, member)| member).peekable();
        left.peek()?;
        left.all(Member::uses_classic).then(|| self.to_classic(leaving, true, scope, out)).flatten()
    }

    /// The classic group of all but the leaving, who are all of that protocol. None where it cannot be.
    pub(super) fn to_classic(
        &self,
        leaving: &[Arc<str>],
        rebalances: bool,
        scope: &Scope<'_>,
        out: &mut Out,
    ) -> Option<Classic> {
        let left = self.members.iter().filter(|(id, _)| !leaving.contains(id));
        // Members of a stable classic group have what they are to have. Kafka makes that true by saying so.
        let settled = left.clone().all(|(_, member)| member.current.is_reconciled_to(self.epoch));
        let members: Option<BTreeMap<_, _>> =
            left.map(|(id, member)| Some((id.to_string(), downgraded(member, scope)?))).collect();
        let members = members.filter(|members| members.len() <= scope.settings.max_size)?;
        let mut classic = Classic::downgraded(self.epoch, members, scope);
        tracing::info!(group = scope.group, generation = self.epoch, "a consumer group goes on as a classic one");
        if rebalances || !settled {
            classic.prepare_rebalance(scope, out);
        }
        Some(classic)
    }

    /// What a leader assigned and nobody else has: it may have assigned anything.
    fn assigned_by(&self, assignment: &wire::Assignment, scope: &Scope<'_>) -> Partitions {
        let mut assigned = Partitions::new();
        for named in &assignment.partitions {
            let Some(topic) = scope.cluster.topic_named(&named.topic) else { continue };
            let exists = |partition: &i32| scope.cluster.partition(TopicPartition::new(topic.id, *partition)).is_some();
            let is_free = |partition: &i32| self.is_free("", topic.id, *partition);
            for partition in named.partitions.iter().copied().filter(exists).filter(is_free) {
                assigned.entry(topic.id).or_default().insert(partition);
            }
        }
        assigned
    }
}

fn upgraded(
    member: &classic::Member,
    subscription: wire::Subscription,
    generation: i32,
    assigned: Partitions,
    scope: &Scope<'_>,
) -> Member {
    let side = ClassicSide { session_timeout: member.session_timeout, protocols: member.protocols.clone() };
    Member {
        is_told: false,
        is_unheard: false,
        written: 0,
        target: assigned.clone(),
        current: current_of(generation, assigned),
        timers: Timers::new(scope.now + member.session_timeout),
        subscription: Subscription {
            instance_id: member.instance_id.clone(),
            rack: subscription.rack,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout: member.rebalance_timeout,
            topics: subscription.topics.into_iter().collect(),
            regex: None,
            assignor: None,
            classic: Some(side),
        },
    }
}

/// None for a member that does not speak the classic protocol.
fn downgraded(member: &Member, scope: &Scope<'_>) -> Option<classic::Member> {
    let Subscription { client_id, client_host, instance_id, rebalance_timeout, classic, .. } =
        member.subscription.clone();
    let ClassicSide { session_timeout, protocols } = classic?;
    let version = protocols.first().and_then(|protocol| wire::version_of(&protocol.metadata)).unwrap_or_default();
    // What it has, where Kafka puts its target: that is the same where no rebalance follows, and where one does the group may
    // be upgraded again before it is over.
    let mut held = member.current.assigned.clone();
    for (topic, partitions) in &member.current.revoking {
        held.entry(*topic).or_default().extend(partitions);
    }
    let assignment: Bytes = assignment_bytes(&held, version, scope).ok()?;
    let mut member = classic::Member::new(client_id, client_host, protocols);
    (member.instance_id, member.assignment) = (instance_id, assignment);
    (member.session_timeout, member.rebalance_timeout) = (session_timeout, rebalance_timeout);
    Some(member)
}
