//! Groups of the protocol of KIP-848: the server assigns, and members get there one by one.
//!
//! A member heartbeats with what changed of its subscription and what it owns. A change, or another set of topics, raises the
//! group's epoch; the next heartbeat finds a target for that epoch ([`target`]); and each member is taken towards its share
//! of it ([`reconcile`]), which it has to give back from before it gets anything, and nothing that another member still has.
//! So no partition has two owners at any moment, and members that a change does not concern do not notice it.
//!
//! As a heartbeat goes through: `heartbeat`, `subscriptions`, `target`, `reconcile`, `told`,
//! `held`; then who leaves, `leave`. Members of
//! the classic protocol in such a group are `classic`'s, and `migrate` makes one kind of group of the other. Rules and their
//! order are Apache Kafka 4.2's; where this differs, the place says so.

mod classic;
mod describe;
mod heartbeat;
mod held;
mod leave;
mod member;
mod migrate;
mod reconcile;
mod stored;
mod subscriptions;
mod target;
mod told;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemark_model::group::{CommitOffsets, FetchOffsets};
use tidemark_model::{GroupError, TopicId, TopicPartition};
use tokio::time::Instant;

use self::held::Held;
use self::member::{Current, Member, Subscription, Timers};
use self::subscriptions::Subscriptions;
use super::configs::{CONSUMER_HEARTBEAT_INTERVAL, CONSUMER_SESSION_TIMEOUT, milliseconds};
use super::{Classic, Out, Scope};
use crate::records::GroupKey;

/// A consumer group. Members of the classic protocol can be in it too, while it is being upgraded or downgraded.
///
/// What ends the last membership of this protocol returns the classic group that it leaves behind.
#[derive(Debug)]
pub(crate) struct ConsumerGroup {
    /// Raised by whatever asks for another target.
    epoch: i32,
    /// The epoch that the targets were made for.
    assignment_epoch: i32,
    members: BTreeMap<Arc<str>, Member>,
    static_members: BTreeMap<String, Arc<str>>,
    subscriptions: Subscriptions,
    /// Who has a partition, or has yet to give it back.
    owners: BTreeMap<TopicPartition, Arc<str>>,
    /// What is stored of members that are gone: a write was cut in two.
    orphans: Vec<GroupKey>,
    /// Answers to members that wait for others.
    held: BTreeMap<Arc<str>, Held>,
    /// Partitions may be free, or the target another, since held answers were looked at.
    moved: bool,
    /// When to look at the timers. Never later than the first of them.
    wake: Option<Instant>,
}

impl ConsumerGroup {
    /// An empty group.
    pub(crate) fn new(_scope: &Scope<'_>) -> Self {
        Self {
            epoch: 0,
            assignment_epoch: 0,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            subscriptions: Subscriptions::default(),
            owners: BTreeMap::new(),
            orphans: Vec::new(),
            held: BTreeMap::new(),
            moved: false,
            wake: None,
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.wake
    }

    /// The cluster's topics are others, or have more partitions. The next heartbeat sees whether that concerns the group.
    pub(crate) fn topics_changed(&mut self, _scope: &Scope<'_>, _out: &mut Out) -> Option<Classic> {
        self.subscriptions.topics_changed();
        None
    }

    /// Whether the offsets may be committed by who says to be this member.
    pub(crate) fn check_commit(&self, request: &CommitOffsets) -> Result<(), GroupError> {
        if request.generation_or_epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.member(&request.member_id)?;
        if !member.uses_classic() && !request.understands_epochs {
            return Err(GroupError::UnsupportedVersion(
                "OffsetCommit version 9 or above must be used by members using the modern group protocol".to_owned(),
            ));
        }
        check_epoch(member, request.generation_or_epoch)
    }

    pub(crate) fn check_fetch(&self, request: &FetchOffsets) -> Result<(), GroupError> {
        match &request.member_id {
            None if request.member_epoch < 0 => Ok(()),
            id => check_epoch(self.member(id.as_deref().unwrap_or_default())?, request.member_epoch),
        }
    }

    /// By name, or by a pattern.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscriptions.include(topic)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn member(&self, id: &str) -> Result<&Member, GroupError> {
        self.members.get(id).ok_or_else(|| unknown_member(id))
    }

    /// Adds a member, in the place of whoever had its id.
    fn put(&mut self, id: &Arc<str>, mut member: Member, out: &mut Out) {
        self.remove(id, out);
        member.written = out.write;
        self.subscriptions.add(&member.subscription);
        if let Some(instance) = &member.subscription.instance_id {
            self.static_members.insert(instance.clone(), id.clone());
        }
        self.own(id, &member.current);
        self.wake_by(member.timers.first());
        self.members.insert(id.clone(), member);
        self.member_changed(id, out);
    }

    fn remove(&mut self, id: &str, out: &mut Out) -> Option<Member> {
        let (id, member) = self.members.remove_entry(id)?;
        self.subscriptions.remove(&member.subscription);
        if let Some(instance) = &member.subscription.instance_id {
            self.static_members.remove(instance);
        }
        self.disown(&id, &member.current);
        self.member_changed(&id, out);
        Some(member)
    }

    fn member_changed(&self, id: &str, out: &mut Out) {
        out.changed(GroupKey::Consumer);
        out.changed(GroupKey::ConsumerMember(id.to_owned()));
        out.changed(GroupKey::ConsumerTarget(id.to_owned()));
    }

    fn set_subscription(&mut self, id: &Arc<str>, subscription: Subscription, out: &mut Out) {
        let Some(member) = self.members.get_mut(id) else { return };
        // First the new one, so that a pattern that stays is not forgotten.
        self.subscriptions.add(&subscription);
        let before = std::mem::replace(&mut member.subscription, subscription);
        self.subscriptions.remove(&before);
        if before.instance_id != member.subscription.instance_id {
            before.instance_id.iter().for_each(|instance| drop(self.static_members.remove(instance)));
            let instance = member.subscription.instance_id.clone();
            self.static_members.extend(instance.map(|instance| (instance, id.clone())));
        }
        out.changed(GroupKey::ConsumerMember(id.to_string()));
    }

    fn set_current(&mut self, id: &Arc<str>, current: Current, out: &mut Out) {
        let Some(member) = self.members.get_mut(id) else { return };
        let before = std::mem::replace(&mut member.current, current.clone());
        member.written = out.write;
        member.is_unheard |= before.assigned != current.assigned;
        self.disown(id, &before);
        self.own(id, &current);
        out.changed(GroupKey::ConsumerMember(id.to_string()));
    }

    fn own(&mut self, id: &Arc<str>, current: &Current) {
        for (topic, partition) in current.held() {
            self.owners.insert(TopicPartition::new(topic, partition), id.clone());
        }
    }

    fn disown(&mut self, id: &Arc<str>, current: &Current) {
        self.moved = true;
        for (topic, partition) in current.held() {
            let at = TopicPartition::new(topic, partition);
            if self.owners.get(&at) == Some(id) {
                self.owners.remove(&at);
            }
        }
    }

    /// Whether nobody else has the partition.
    fn is_free(&self, member: &str, topic: TopicId, partition: i32) -> bool {
        self.owners.get(&TopicPartition::new(topic, partition)).is_none_or(|owner| **owner == *member)
    }

    fn set_timers(&mut self, id: &str, set: impl FnOnce(&mut Timers)) {
        let Some(member) = self.members.get_mut(id) else { return };
        set(&mut member.timers);
        let first = member.timers.first();
        self.wake_by(first);
    }

    fn wake_by(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    fn raise_epoch(&mut self, out: &mut Out) {
        self.epoch = self.epoch.saturating_add(1);
        self.orphans.drain(..).for_each(|key| out.changed(key));
        out.changed(GroupKey::Consumer);
    }
}

/// An epoch that is not the member's is fenced, in the words of the member's protocol.
fn check_epoch(member: &Member, received: i32) -> Result<(), GroupError> {
    let known = member.current.epoch;
    if received == known {
        return Ok(());
    }
    Err(match member.uses_classic() {
        true => GroupError::IllegalGeneration,
        false => GroupError::StaleMemberEpoch(format!(
            "The received member epoch {received} does not match the expected member epoch {known}."
        )),
    })
}

fn unknown_member(id: &str) -> GroupError {
    GroupError::UnknownMemberId(format!("Member {id} is not a member of the group."))
}

fn session_timeout(scope: &Scope<'_>) -> Duration {
    milliseconds(scope.configs, CONSUMER_SESSION_TIMEOUT).unwrap_or(scope.settings.consumer_session_timeout)
}

fn heartbeat_interval(scope: &Scope<'_>) -> Duration {
    milliseconds(scope.configs, CONSUMER_HEARTBEAT_INTERVAL).unwrap_or(scope.settings.consumer_heartbeat_interval)
}

#[cfg(test)]
mod tests;
