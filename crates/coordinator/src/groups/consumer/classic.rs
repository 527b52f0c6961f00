//! Members of the classic protocol in a consumer group, while it is being upgraded or downgraded. To them it is a classic
//! group that nobody leads: the server assigns. Their generation is their member epoch, a heartbeat tells them to join
//! again when there is something to give back or to get, and a sync tells what they have now.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_model::GroupError;
use tidemark_model::group::{GroupAnswer, Join, Joined, Leaving, Member as MemberId, Sync, Synced, TopicPartitions};
use tidemark_wire::consumer_protocol as wire;

use super::heartbeat::{check_bytes, unknown_instance};
use super::member::{ClassicSide, Current, Member, Progress, Subscription};
use super::{ConsumerGroup, unknown_member};
use crate::groups::assignor::Partitions;
use crate::groups::{CONSUMER, Caller, Classic, Out, Scope};

impl ConsumerGroup {
    /// A member of the classic protocol joins, into a group that is not empty.
    pub(crate) fn classic_join(
        &mut self,
        caller: Caller,
        request: Join,
        scope: &Scope<'_>,
        out: &mut Out,
    ) -> Option<Classic> {
        match self.join(&caller, request, scope, out) {
            Ok((joined, downgraded)) => {
                out.answer_settled(caller.ticket, Ok(GroupAnswer::Join(joined)));
                downgraded
            }
            Err(error) => {
                out.answer(caller.ticket, Err(error));
                None
            }
        }
    }

    pub(crate) fn classic_sync(&mut self, caller: Caller, request: Sync, scope: &Scope<'_>, out: &mut Out) {
        let synced = self.sync(&request, scope);
        out.answer_settled(caller.ticket, synced.map(GroupAnswer::Sync));
    }

    pub(crate) fn classic_heartbeat(&mut self, caller: Caller, request: MemberId, scope: &Scope<'_>, out: &mut Out) {
        let result = self.classic_alive(&request, scope, out).map(|()| GroupAnswer::Heartbeat);
        out.answer_when_stored(caller.ticket, result);
    }

    /// LeaveGroup, also by an operator for members of either protocol.
    pub(crate) fn classic_leave(
        &mut self,
        caller: Caller,
        request: Vec<Leaving>,
        scope: &Scope<'_>,
        out: &mut Out,
    ) -> Option<Classic> {
        let found: Vec<_> = request.iter().map(|leaving| self.leaving_classic(leaving)).collect();
        let ids: BTreeSet<Arc<str>> = found.iter().flatten().cloned().collect();
        let left_to = self.fence(&Vec::from_iter(ids), scope, out);
        let results = found.into_iter().map(|found| found.map(|_| ())).collect();
        out.answer_settled(caller.ticket, Ok(GroupAnswer::Leave(results)));
        left_to
    }

    fn join(
        &mut self,
        caller: &Caller,
        request: Join,
        scope: &Scope<'_>,
        out: &mut Out,
    ) -> Result<(Joined, Option<Classic>), GroupError> {
        let is_new = request.member_id.is_empty();
        self.subscriptions.check_state(scope)?;
        self.check_room(&request.member_id, scope)?;
        self.check_protocols(&request)?;
        if is_new && request.instance_id.is_none() && request.requires_member_id {
            return Err(GroupError::MemberIdRequired(scope.random_uuid().to_string()));
        }
        let subscription = subscription_of(&request)?;
        let instance = request.instance_id.as_deref();
        let known = instance.and_then(|instance| self.static_members.get(instance)).cloned();
        if let Some(instance) = instance.filter(|_| !is_new) {
            let known = known.as_ref().ok_or_else(|| unknown_instance(instance))?;
            if **known != *request.member_id {
                return Err(GroupError::FencedInstanceId);
            }
        }

        // The last member of the other protocol comes back with this one.
        let downgrades = known.as_ref().is_some_and(|known| self.would_be_classic_without(known, scope));
        let id = match &known {
            Some(old) if is_new => self.replace(old, "", scope, out),
            Some(id) => id.clone(),
            None => match self.members.get_key_value(&*request.member_id) {
                Some((id, _)) => id.clone(),
                None => self.add(&request.member_id, scope, out),
            },
        };
        let before = self.member(&id)?.subscription.clone();
        let protocol_name = request.protocols.first().map(|protocol| protocol.name.clone()).unwrap_or_default();
        let (session_timeout, rebalance_timeout) = (request.session_timeout, request.rebalance_timeout);
        let owned = owned_by(&subscription, scope);
        let new = Subscription {
            instance_id: request.instance_id.or_else(|| before.instance_id.clone()),
            rack: subscription.rack.or_else(|| before.rack.clone()),
            client_id: caller.client_id.clone(),
            client_host: caller.client_host.clone(),
            rebalance_timeout,
            topics: subscription.topics.into_iter().collect(),
            regex: None,
            assignor: before.assignor,
            classic: Some(ClassicSide { session_timeout, protocols: request.protocols }),
        };
        let changed = before != new && self.subscribe(&id, new, None, scope, out);
        // Topics may have changed since a member was last heard, also for who has the group become a classic one: none of the
        // members would look for that afterwards.
        self.catch_up(changed, scope, out);
        self.reconcile(&id, Some(&owned), changed, scope, out);
        if downgrades {
            let generation = self.member(&id)?.current.epoch;
            if let Some(classic) = self.to_classic(&[], false, scope, out) {
                return Ok((joined(&id, generation, protocol_name), Some(classic)));
            }
        }
        self.set_timers(&id, |timers| {
            timers.join = None;
            timers.rebalance = None;
            timers.session = scope.now + session_timeout;
            timers.sync = Some(scope.now + rebalance_timeout);
        });
        Ok((joined(&id, self.member(&id)?.current.epoch, protocol_name), None))
    }

    /// The members of this protocol have to have one of their assignors in common, although none of them assigns.
    fn check_protocols(&self, request: &Join) -> Result<(), GroupError> {
        let sides = || self.members.values().filter_map(|member| member.subscription.classic.as_ref());
        let all_have = |name: &str| sides().all(|side| side.protocols.iter().any(|protocol| protocol.name == name));
        let supported = request.protocols.iter().any(|protocol| all_have(&protocol.name));
        if request.protocol_type != CONSUMER || !supported {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        let bytes: usize = request.protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum();
        // Beside the names there is the metadata, as Base64.
        check_bytes(bytes * 2)
    }

    fn sync(&mut self, request: &Sync, scope: &Scope<'_>) -> Result<Synced, GroupError> {
        self.subscriptions.check_state(scope)?;
        let (id, side) = self.classic_member(&request.member)?;
        let (session_timeout, first) = (side.session_timeout, side.protocols.first());
        let protocol_name = first.map(|protocol| protocol.name.clone()).unwrap_or_default();
        let version = first.and_then(|protocol| wire::version_of(&protocol.metadata)).unwrap_or_default();
        let another_type = request.protocol_type.as_ref().is_some_and(|given| given != CONSUMER);
        let another_protocol = request.protocol_name.as_ref().is_some_and(|given| *given != protocol_name);
        if another_type || another_protocol {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        let member = self.member(&id)?;
        if self.epoch > member.current.epoch && member.current.progress != Progress::UnrevokedPartitions {
            self.expect_join(&id, scope);
            return Err(GroupError::RebalanceInProgress);
        }
        let assignment = assignment_bytes(&member.current.assigned, version, scope)?;
        self.set_timers(&id, |timers| {
            timers.sync = None;
            timers.session = scope.now + session_timeout;
        });
        Ok(Synced { protocol_type: CONSUMER.to_owned(), protocol_name, assignment })
    }

    fn classic_alive(&mut self, request: &MemberId, scope: &Scope<'_>, out: &mut Out) -> Result<(), GroupError> {
        self.subscriptions.check_state(scope)?;
        let (id, side) = self.classic_member(request)?;
        let session = scope.now + side.session_timeout;
        self.set_timers(&id, |timers| timers.session = session);
        // Kafka leaves this to the members of the other protocol.
        self.catch_up(false, scope, out);
        let member = self.member(&id)?;
        let has_news = member.current.epoch < self.epoch
            || match member.current.progress {
                Progress::Stable => false,
                Progress::UnrevokedPartitions => true,
                Progress::UnreleasedPartitions => !self.waits_for_others(&id, member),
            };
        if has_news {
            self.expect_join(&id, scope);
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    fn waits_for_others(&self, id: &str, member: &Member) -> bool {
        let missing = member.target.iter().flat_map(|(topic, partitions)| {
            let assigned = member.current.assigned.get(topic);
            let missing =
                partitions.iter().filter(move |partition| !assigned.is_some_and(|has| has.contains(partition)));
            missing.map(|partition| (*topic, *partition))
        });
        missing.into_iter().any(|(topic, partition)| !self.is_free(id, topic, partition))
    }

    /// It has been told to join, and has to within its rebalance timeout from the first time.
    fn expect_join(&mut self, id: &str, scope: &Scope<'_>) {
        let Some(member) = self.members.get(id) else { return };
        let by = scope.now + member.subscription.rebalance_timeout;
        self.set_timers(id, |timers| timers.join = Some(timers.join.unwrap_or(by)));
    }

    fn classic_member(&self, request: &MemberId) -> Result<(Arc<str>, &ClassicSide), GroupError> {
        let id = self.known(&request.member_id, request.instance_id.as_deref())?;
        let member = self.member(&id)?;
        let side =
            member.subscription.classic.as_ref().ok_or_else(|| {
                GroupError::UnknownMemberId(format!("Member {id} does not use the classic protocol."))
            })?;
        if member.current.epoch != request.generation {
            return Err(GroupError::IllegalGeneration);
        }
        Ok((id, side))
    }

    fn leaving_classic(&self, leaving: &Leaving) -> Result<Arc<str>, GroupError> {
        match &leaving.instance_id {
            // An operator knows the instance only.
            Some(instance) if leaving.member_id.is_empty() => {
                self.static_members.get(instance).cloned().ok_or_else(|| unknown_instance(instance))
            }
            instance => self.known(&leaving.member_id, instance.as_deref()),
        }
    }
}

impl ConsumerGroup {
    /// The member who asks, if it is one.
    pub(super) fn known(&self, member_id: &str, instance_id: Option<&str>) -> Result<Arc<str>, GroupError> {
        let Some(instance) = instance_id else {
            let (id, _) = self.members.get_key_value(member_id).ok_or_else(|| unknown_member(member_id))?;
            return Ok(id.clone());
        };
        let id = self.static_members.get(instance).ok_or_else(|| unknown_instance(instance))?;
        if **id != *member_id {
            return Err(GroupError::FencedInstanceId);
        }
        Ok(id.clone())
    }
}

fn subscription_of(request: &Join) -> Result<wire::Subscription, GroupError> {
    let metadata = request.protocols.first().map(|protocol| protocol.metadata.clone()).unwrap_or_default();
    wire::Subscription::decode(metadata).map_err(|_| GroupError::InconsistentGroupProtocol)
}

/// This protocol calls topics by their names.
fn owned_by(subscription: &wire::Subscription, scope: &Scope<'_>) -> Vec<TopicPartitions> {
    let owned = subscription.owned.iter().filter_map(|owned| {
        let topic = scope.cluster.topic_named(&owned.topic)?.id;
        Some(TopicPartitions { topic, partitions: owned.partitions.clone() })
    });
    owned.collect()
}

/// What a member is told to have, in the version that it speaks.
pub(super) fn assignment_bytes(assigned: &Partitions, version: i16, scope: &Scope<'_>) -> Result<Bytes, GroupError> {
    let partitions = assigned.iter().filter_map(|(topic, partitions)| {
        let topic = scope.cluster.topic(*topic)?.name.clone();
        Some(wire::TopicPartitions { topic, partitions: partitions.iter().copied().collect() })
    });
    let assignment = wire::Assignment { partitions: partitions.collect(), user_data: None };
    assignment.encode(version).map_err(|error| GroupError::InvalidRequest(error.to_string()))
}

fn joined(id: &str, generation: i32, protocol_name: String) -> Joined {
    Joined {
        generation,
        protocol_type: CONSUMER.to_owned(),
        protocol_name,
        leader: String::new(),
        skip_assignment: false,
        member_id: id.to_owned(),
        members: Vec::new(),
    }
}

/// What a member of a classic group had, for the group that it becomes.
pub(super) fn current_of(generation: i32, assigned: Partitions) -> Current {
    Current {
        epoch: generation,
        previous_epoch: generation,
        progress: Progress::Stable,
        assigned,
        revoking: Partitions::new(),
    }
}
