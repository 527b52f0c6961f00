//! ConsumerGroupHeartbeat, from a member that stays.

use std::sync::Arc;
use std::time::Duration;

use tidemark_model::GroupError;
use tidemark_model::group::{ConsumerHeartbeat, ConsumerHeartbeatAnswer, GroupAnswer, TopicPartitions};

use super::member::{Current, LEFT, LEFT_FOR_NOW, Member, Progress, Subscription, Timers};
use super::reconcile::{Step, is_all_of, is_within};
use super::{Classic, ConsumerGroup, session_timeout, unknown_member};
use crate::groups::assignor::Assignor;
use crate::groups::regex::Pattern;
use crate::groups::{Caller, Out, Scope};

/// What a member says of itself, as it is stored: half of what a record of the metadata store may be. The other half is for
/// what the member is assigned, some 11,000 topics. Kafka stops at a megabyte for all that a heartbeat changes.
pub(super) const MAX_SUBSCRIPTION_BYTES: usize = 700_000;

/// What a heartbeat brings that could be refused whatever the group is.
#[derive(Debug)]
pub(crate) struct Checked {
    /// A pattern that the group has not compiled yet.
    pattern: Option<Pattern>,
}

/// Whose heartbeat it is.
enum Found {
    Member(Arc<str>),
    New,
    /// A static member comes back.
    InPlaceOf(Arc<str>),
}

impl ConsumerGroup {
    /// Refuses what no group could do, before there is a group.
    pub(crate) fn check(
        group: Option<&Self>,
        request: &ConsumerHeartbeat,
        scope: &Scope<'_>,
    ) -> Result<Checked, GroupError> {
        check_request(request, scope.group)?;
        let unknown =
            |regex: &&String| !regex.is_empty() && !group.is_some_and(|group| group.subscriptions.knows(regex));
        let new = request.subscribed_regex.as_ref().filter(unknown);
        Ok(Checked { pattern: new.map(|regex| Pattern::compile(regex)).transpose()? })
    }

    pub(crate) fn heartbeat(
        &mut self,
        caller: Caller,
        request: ConsumerHeartbeat,
        checked: Checked,
        scope: &Scope<'_>,
        out: &mut Out,
    ) -> Option<Classic> {
        self.asks_again(&request.member_id, scope, out);
        if request.member_epoch < 0 {
            return self.leave(caller.ticket, &request, scope, out);
        }
        let told = self.told(&request);
        match self.stay(&caller, &request, checked, scope, out) {
            Ok(answer) => {
                // What a member is given, or is not yet known to know, has to be stored and still be ours.
                let news = answer.assignment.is_some() || answer.member_epoch != request.member_epoch;
                let told = told.filter(|told| self.only_asks_back(told, &request.member_id));
                // What is held is answered later.
                let answer = if news { answer } else { self.hold(caller.ticket, answer, scope, out)? };
                let answer = Ok(GroupAnswer::ConsumerHeartbeat(answer));
                match told {
                    Some(told) => out.answer_stored(caller.ticket, answer, told.written),
                    None if news => out.answer_settled(caller.ticket, answer),
                    None => out.answer_when_stored(caller.ticket, answer),
                }
            }
            Err(error) => out.answer(caller.ticket, Err(error)),
        }
        None
    }

    fn stay(
        &mut self,
        caller: &Caller,
        request: &ConsumerHeartbeat,
        checked: Checked,
        scope: &Scope<'_>,
        out: &mut Out,
    ) -> Result<ConsumerHeartbeatAnswer, GroupError> {
        self.subscriptions.check_state(scope)?;
        self.check_room(&request.member_id, scope)?;
        let found = self.find(request)?;
        let id = match found {
            Found::Member(id) => id,
            Found::New => self.add(&request.member_id, scope, out),
            Found::InPlaceOf(old) => self.replace(&old, &request.member_id, scope, out),
        };

        let member = self.member(&id)?;
        // A request that was served by a coordinator which then died may have been sent again by the gateway, and the client
        // know nothing of that. So who is behind, or new to this coordinator, is told more than Kafka would.
        let may_have_missed = !member.is_told || member.current.epoch != request.member_epoch;
        let subscription = member.subscription.updated(request, caller);
        let subscription_changed =
            subscription.is_some_and(|new| self.subscribe(&id, new, checked.pattern, scope, out));
        self.catch_up(subscription_changed, scope, out);
        let owned = request.owned.as_deref();
        let assigned_others = self.reconcile(&id, owned, subscription_changed, scope, out);
        let session = scope.now + session_timeout(scope);
        self.set_timers(&id, |timers| timers.session = session);

        if let Some(member) = self.members.get_mut(&id)
            && is_all_of(owned, &member.current.assigned)
        {
            member.is_unheard = false;
        }
        // The answer with it may not have come: a client that was stopped, or whose request took too long, asks once more
        // without saying all that it has. Kafka would tell it nothing until its assignment is another one.
        let is_unheard = self.member(&id)?.is_unheard;

        let is_full = request.rebalance_timeout.is_some()
            && (request.subscribed_topics.is_some() || request.subscribed_regex.is_some())
            && request.owned.is_some();
        let tells = request.member_epoch == 0 || is_full || assigned_others || may_have_missed || is_unheard;
        self.tell(&id, tells, scope).ok_or_else(|| unknown_member(&id))
    }

    /// Kafka counts a static member that comes back with another id as one more.
    pub(super) fn check_room(&self, member_id: &str, scope: &Scope<'_>) -> Result<(), GroupError> {
        let is_full = self.members.len() >= scope.settings.consumer_max_size;
        if is_full && (member_id.is_empty() || !self.members.contains_key(member_id)) {
            return Err(GroupError::GroupMaxSizeReached);
        }
        Ok(())
    }

    fn find(&self, request: &ConsumerHeartbeat) -> Result<Found, GroupError> {
        let joins = request.member_epoch == 0;
        let by_id = self.members.get_key_value(&*request.member_id);
        let Some(instance) = &request.instance_id else {
            return match by_id {
                Some((id, member)) => {
                    check_epoch(&member.current, request)?;
                    Ok(Found::Member(id.clone()))
                }
                None if joins => Ok(Found::New),
                None => Err(unknown_member(&request.member_id)),
            };
        };
        let known = self.static_members.get(instance).and_then(|id| self.members.get_key_value(&**id));
        match (known, by_id) {
            (None, Some((id, _))) if joins => Ok(Found::Member(id.clone())),
            (None, None) if joins => Ok(Found::New),
            (None, _) => Err(unknown_instance(instance)),
            (Some((id, member)), _) if joins => {
                // Kafka refuses a member that joins once more with the id that it has, until its session is over. Here
                // its first join may have been answered by a coordinator that died, or not at all.
                let is_another = **id != *request.member_id;
                if is_another && !member.uses_classic() && member.current.epoch != LEFT_FOR_NOW {
                    return Err(GroupError::UnreleasedInstanceId(format!(
                        "Static member {} with instance id {instance} cannot join the group because the instance id is \
                         owned by {id} member.",
                        request.member_id
                    )));
                }
                Ok(Found::InPlaceOf(id.clone()))
            }
            (Some((id, _)), _) if **id != *request.member_id => Err(GroupError::FencedInstanceId),
            (Some((id, member)), _) => {
                check_epoch(&member.current, request)?;
                Ok(Found::Member(id.clone()))
            }
        }
    }

    /// A new member that is not subscribed to anything yet.
    pub(super) fn add(&mut self, id: &str, scope: &Scope<'_>, out: &mut Out) -> Arc<str> {
        let id = new_id(id, scope);
        let timers = Timers::new(scope.now + session_timeout(scope));
        let (subscription, current) = (Subscription::default(), Current::default());
        self.put(
            &id,
            Member {
                subscription,
                current,
                target: Default::default(),
                timers,
                is_told: false,
                is_unheard: false,
                written: 0,
            },
            out,
        );
        id
    }

    /// A static member comes back with what it had, under another id.
    pub(super) fn replace(&mut self, old: &str, id: &str, scope: &Scope<'_>, out: &mut Out) -> Arc<str> {
        let id = new_id(id, scope);
        let Some(mut member) = self.members.get(old).cloned() else { return id };
        (member.current.epoch, member.current.previous_epoch) = (0, 0);
        member.timers = Timers::new(scope.now + session_timeout(scope));
        // Its pattern is not forgotten between the one and the other.
        let subscription = member.subscription.clone();
        self.subscriptions.add(&subscription);
        self.remove(old, out);
        self.put(&id, member, out);
        self.subscriptions.remove(&subscription);
        id
    }

    /// Says whether the member wants other topics than before.
    pub(super) fn subscribe(
        &mut self,
        id: &Arc<str>,
        new: Subscription,
        pattern: Option<Pattern>,
        scope: &Scope<'_>,
        out: &mut Out,
    ) -> bool {
        let before = self.members.get(id).map(|member| &member.subscription);
        let changed = before.is_some_and(|before| (&before.topics, &before.regex) != (&new.topics, &new.regex));
        let regex = new.regex.clone();
        self.set_subscription(id, new, out);
        if let (Some(regex), Some(pattern)) = (regex, pattern) {
            self.subscriptions.know(&regex, pattern, scope);
        }
        changed
    }

    /// Raises the group's epoch where it has to be, and finds the target for it.
    pub(super) fn catch_up(&mut self, subscription_changed: bool, scope: &Scope<'_>, out: &mut Out) {
        let topics_changed = self.subscriptions.refresh(scope);
        if subscription_changed || topics_changed || self.epoch == 0 {
            self.subscriptions.rehash(scope);
            self.raise_epoch(out);
        }
        self.find_target(scope, out);
    }

    /// Takes a member towards its target. Says whether it is now assigned something else.
    pub(super) fn reconcile(
        &mut self,
        id: &Arc<str>,
        owned: Option<&[TopicPartitions]>,
        subscription_changed: bool,
        scope: &Scope<'_>,
        out: &mut Out,
    ) -> bool {
        let Some(member) = self.members.get(id) else { return false };
        if !subscription_changed && member.current.is_reconciled_to(self.assignment_epoch) {
            return false;
        }
        let step = Step {
            target_epoch: self.assignment_epoch,
            target: &member.target,
            subscribed: &self.subscriptions.topics_of(&member.subscription, scope),
            subscription_changed,
            owned,
            is_free: &|topic, partition| self.is_free(id, topic, partition),
        };
        let mut next = step.take(&member.current);
        if next.epoch == member.current.epoch {
            // Still the one before this one. Kafka writes each member once more here, with nothing else new.
            next.previous_epoch = member.current.previous_epoch;
        }
        if next == member.current {
            return false;
        }
        let assigned_others = next.assigned != member.current.assigned;
        // Members of the classic protocol are only waited for to join and to sync.
        let waits = next.progress == Progress::UnrevokedPartitions && !member.uses_classic();
        let deadline = waits.then(|| scope.now + member.subscription.rebalance_timeout);
        self.set_current(id, next, out);
        self.set_timers(id, |timers| timers.rebalance = deadline);
        assigned_others
    }
}

fn new_id(id: &str, scope: &Scope<'_>) -> Arc<str> {
    if id.is_empty() { scope.random_uuid().to_string().into() } else { id.into() }
}

pub(super) fn unknown_instance(instance: &str) -> GroupError {
    GroupError::UnknownMemberId(format!("Instance id {instance} is unknown."))
}

/// A member may be one epoch behind: the answer that told it was lost. Then it has at most what it was given.
fn check_epoch(current: &Current, request: &ConsumerHeartbeat) -> Result<(), GroupError> {
    let (received, known) = (request.member_epoch, current.epoch);
    let fenced = |relation: &str| {
        Err(GroupError::FencedMemberEpoch(format!(
            "The consumer group member has a {relation} member epoch ({received}) than the one known by the group \
             coordinator ({known}). The member must abandon all its partitions and rejoin."
        )))
    };
    if received == 0 || received == known {
        return Ok(());
    }
    if received > known {
        return fenced("greater");
    }
    let may_have_missed = received == current.previous_epoch && is_within(request.owned.as_deref(), &current.assigned);
    if may_have_missed { Ok(()) } else { fenced("smaller") }
}

fn check_request(request: &ConsumerHeartbeat, group: &str) -> Result<(), GroupError> {
    let refuse = |why: &str| Err(GroupError::InvalidRequest(why.to_owned()));
    let is_blank = |text: &Option<String>| text.as_deref().is_some_and(|text| text.trim().is_empty());
    let epoch = request.member_epoch;
    if (request.client_makes_id || epoch > 0 || epoch == LEFT) && request.member_id.trim().is_empty() {
        return refuse("MemberId can't be empty.");
    }
    if group.trim().is_empty() {
        return refuse("GroupId can't be empty.");
    }
    if is_blank(&request.instance_id) {
        return refuse("InstanceId can't be empty.");
    }
    if is_blank(&request.rack) {
        return refuse("RackId can't be empty.");
    }
    if epoch == 0 {
        if request.rebalance_timeout.is_none() {
            return refuse("RebalanceTimeoutMs must be provided in first request.");
        }
        if !request.owned.as_ref().is_some_and(Vec::is_empty) {
            return refuse("TopicPartitions must be empty when (re-)joining.");
        }
        if request.subscribed_topics.is_none() && request.subscribed_regex.is_none() {
            return refuse("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.");
        }
    } else if epoch == LEFT_FOR_NOW && request.instance_id.is_none() {
        return refuse("InstanceId can't be null.");
    } else if epoch < LEFT_FOR_NOW {
        return refuse("MemberEpoch is invalid.");
    }
    if let Some(name) = request.server_assignor.as_ref().filter(|name| Assignor::named(name).is_none()) {
        let known = Assignor::ALL.map(Assignor::name).join(", ");
        return Err(GroupError::UnsupportedAssignor(format!(
            "ServerAssignor {name} is not supported. Supported assignors: {known}."
        )));
    }
    check_size(request)
}

/// Kafka has no bound but that of its records.
fn check_size(request: &ConsumerHeartbeat) -> Result<(), GroupError> {
    let names = [Some(&request.member_id), request.instance_id.as_ref(), request.rack.as_ref()];
    let names = names.into_iter().flatten().chain(request.subscribed_topics.iter().flatten());
    check_bytes(names.map(|name| stored_bytes(name)).sum())
}

/// Of a string in JSON, with its quotes and a comma.
fn stored_bytes(text: &str) -> usize {
    let of = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        // As `\u0007` at worst.
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(of).sum::<usize>() + 3
}

/// Kafka's answer to what its log does not take is UNKNOWN_SERVER_ERROR.
pub(super) fn check_bytes(bytes: usize) -> Result<(), GroupError> {
    if bytes > MAX_SUBSCRIPTION_BYTES {
        return Err(GroupError::TooLarge(format!(
            "The subscription takes {bytes} bytes, more than {MAX_SUBSCRIPTION_BYTES}."
        )));
    }
    Ok(())
}

/// The answer to a member that leaves.
pub(super) fn farewell(member_id: String, member_epoch: i32) -> GroupAnswer {
    let heartbeat_interval = Duration::ZERO;
    GroupAnswer::ConsumerHeartbeat(ConsumerHeartbeatAnswer {
        member_id,
        member_epoch,
        heartbeat_interval,
        assignment: None,
    })
}
