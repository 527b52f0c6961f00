//! The target: what each member is to have.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidemark_model::TopicId;

use super::ConsumerGroup;
use super::member::Subscription;
use super::subscriptions::Hash;
use crate::groups::assignor::{Assignor, MemberSpec, Partitions, Spec};
use crate::groups::{Out, Scope};
use crate::records::GroupKey;

/// Names, and a pattern.
type Wanted<'a> = (&'a BTreeSet<String>, Option<&'a str>);

impl ConsumerGroup {
    /// Makes a target for the group's epoch, where it has none yet.
    pub(super) fn find_target(&mut self, scope: &Scope<'_>, out: &mut Out) {
        if self.epoch == self.assignment_epoch {
            return;
        }
        for (id, target) in self.new_targets(scope) {
            if let Some(member) = self.members.get_mut(&id) {
                member.target = target;
                out.changed(GroupKey::ConsumerTarget(id.to_string()));
            }
        }
        self.assignment_epoch = self.epoch;
        self.moved = true;
        out.changed(GroupKey::Consumer);
    }

    /// The assignor that most members ask for.
    pub(super) fn assignor(&self) -> Assignor {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for assignor in self.members.values().filter_map(|member| member.subscription.assignor) {
            *votes.entry(assignor).or_default() += 1;
        }
        let most = votes.into_iter().max_by_key(|(assignor, votes)| (*votes, Reverse(*assignor)));
        most.map(|(assignor, _)| assignor).unwrap_or_default()
    }

    pub(super) fn targets_hash(&self) -> u64 {
        let mut hash = Hash::default();
        for (id, member) in &self.members {
            hash.add(id.as_bytes());
            for (topic, partitions) in &member.target {
                hash.add(topic.0.as_bytes());
                partitions.iter().for_each(|partition| hash.add(&partition.to_be_bytes()));
            }
        }
        hash.0
    }

    /// Of those whose target is another one than before.
    fn new_targets(&self, scope: &Scope<'_>) -> Vec<(Arc<str>, Partitions)> {
        // Most members have the subscription of others.
        let mut known: BTreeMap<Wanted<'_>, Arc<BTreeSet<TopicId>>> = BTreeMap::new();
        let topics_of = |subscription: &Subscription| self.subscriptions.topics_of(subscription, scope);
        let mut spec = Spec::default();
        for (id, member) in &self.members {
            let subscription = &member.subscription;
            let key = (&subscription.topics, subscription.regex.as_deref());
            let topics = known.entry(key).or_insert_with(|| Arc::new(topics_of(subscription))).clone();
            let instance_id = subscription.instance_id.as_deref();
            spec.members.insert(id, MemberSpec { instance_id, topics, assigned: &member.target });
        }
        for topic in known.values().flat_map(|topics| topics.iter()) {
            let count = scope.cluster.topic(*topic).map_or(0, |topic| topic.partitions.len());
            spec.topics.insert(*topic, i32::try_from(count).unwrap_or(i32::MAX));
        }
        let assigned = self.assignor().assign(&spec);
        let changed = self.members.iter().filter_map(|(id, member)| {
            let target = assigned.get(&**id)?;
            (*target != member.target).then(|| (id.clone(), target.clone()))
        });
        changed.collect()
    }
}
