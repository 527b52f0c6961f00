//! A consumer group as it is stored, and as it comes back from there.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_model::TopicPartition;

use super::member::{ClassicSide, Current, Member, Progress, Subscription, Timers};
use super::{ConsumerGroup, session_timeout};
use crate::groups::Scope;
use crate::groups::assignor::{Assignor, Partitions};
use crate::groups::regex::Pattern;
use crate::records::{
    BadValue, GroupKey, StoredClassicSide, StoredConsumerGroup, StoredConsumerMember, StoredProgress,
    decode_consumer_group, decode_consumer_member, decode_consumer_target, encode_consumer_group,
    encode_consumer_member, encode_consumer_target,
};

impl ConsumerGroup {
    /// What is to be stored under one of [`Self::keys`]; None for what there is not.
    pub(crate) fn record(&self, key: &GroupKey) -> Option<Bytes> {
        match key {
            GroupKey::Consumer => Some(encode_consumer_group(&StoredConsumerGroup {
                epoch: self.epoch,
                assignment_epoch: self.assignment_epoch,
                metadata_hash: self.subscriptions.metadata_hash,
                revision: self.subscriptions.revision,
                targets_hash: self.targets_hash(),
            })),
            GroupKey::ConsumerMember(id) => {
                self.members.get(&**id).map(|member| encode_consumer_member(&to_stored(member)))
            }
            GroupKey::ConsumerTarget(id) => {
                let target = self.members.get(&**id).map(|member| &member.target);
                target.filter(|target| !target.is_empty()).map(encode_consumer_target)
            }
            GroupKey::Configs | GroupKey::Classic | GroupKey::ClassicMember(_) | GroupKey::Offsets(..) => None,
        }
    }

    /// Every key under which something of it is stored.
    pub(crate) fn keys(&self) -> Vec<GroupKey> {
        let mut keys = vec![GroupKey::Consumer];
        keys.extend(self.orphans.iter().cloned());
        for id in self.members.keys() {
            keys.push(GroupKey::ConsumerMember(id.to_string()));
            keys.push(GroupKey::ConsumerTarget(id.to_string()));
        }
        keys
    }

    /// The group as it was stored, and whether that is all of it: its members have all of their time again.
    ///
    /// A write of many records may have been cut in two, and nobody was told of what it was about. Where targets are not all
    /// of one epoch, the group gets another one. Where two members have a partition, the one with the higher epoch was given
    /// it after the other gave it back.
    pub(crate) fn load(records: Vec<(GroupKey, Bytes)>, scope: &Scope<'_>) -> Result<(Self, bool), BadValue> {
        let mut group = Self::new(scope);
        let (mut head, mut targets) = (None, BTreeMap::new());
        for (key, value) in records {
            match key {
                GroupKey::Consumer => head = Some(decode_consumer_group(&value)?),
                GroupKey::ConsumerMember(id) => {
                    let member = from_stored(decode_consumer_member(&value)?, scope);
                    group.members.insert(id.into(), member);
                }
                GroupKey::ConsumerTarget(id) => drop(targets.insert(id, decode_consumer_target(&value)?)),
                GroupKey::Configs | GroupKey::Classic | GroupKey::ClassicMember(_) | GroupKey::Offsets(..) => {}
            }
        }
        for (id, member) in &mut group.members {
            member.target = targets.remove(&**id).unwrap_or_default();
        }
        group.orphans = targets.into_keys().map(GroupKey::ConsumerTarget).collect();
        group.know_members(scope);
        let head = head.unwrap_or(StoredConsumerGroup {
            epoch: 0,
            assignment_epoch: 0,
            metadata_hash: 0,
            revision: 0,
            targets_hash: 0,
        });
        // No member is ahead of its group, unless the group's own record is what was not written.
        let highest = group.members.values().map(|member| member.current.epoch).fold(head.epoch, i32::max);
        group.assignment_epoch = head.assignment_epoch;
        group.epoch = highest;
        (group.subscriptions.metadata_hash, group.subscriptions.revision) = (head.metadata_hash, head.revision);
        group.subscriptions.topics_changed();
        let whole = highest == head.epoch && group.orphans.is_empty() && group.targets_hash() == head.targets_hash;
        if !whole && head.epoch == head.assignment_epoch {
            tracing::warn!(
                group = scope.group,
                epoch = head.epoch,
                "a group was stored in part: it gets another target"
            );
            group.epoch += 1;
        }
        Ok((group, whole))
    }

    /// What follows from the members.
    fn know_members(&mut self, scope: &Scope<'_>) {
        let mut by_epoch: Vec<(i32, Arc<str>)> =
            self.members.iter().map(|(id, member)| (member.current.epoch, id.clone())).collect();
        by_epoch.sort_by(|(a, a_id), (b, b_id)| b.cmp(a).then(a_id.cmp(b_id)));
        for (_, id) in by_epoch {
            let Some(member) = self.members.get_mut(&id) else { continue };
            let instance = member.subscription.instance_id.as_ref();
            if instance.is_some_and(|instance| self.static_members.contains_key(instance)) {
                // One took the place of the other, or was about to.
                self.members.remove(&id);
                self.orphans
                    .extend([GroupKey::ConsumerMember(id.to_string()), GroupKey::ConsumerTarget(id.to_string())]);
                continue;
            }
            for partitions in [&mut member.current.assigned, &mut member.current.revoking] {
                for (topic, partitions) in partitions.iter_mut() {
                    partitions.retain(|partition| {
                        let owner = self.owners.entry(TopicPartition::new(*topic, *partition));
                        *owner.or_insert_with(|| id.clone()) == id
                    });
                }
                partitions.retain(|_, partitions| !partitions.is_empty());
            }
            let (subscription, first) = (member.subscription.clone(), member.timers.first());
            self.static_members.extend(subscription.instance_id.clone().map(|instance| (instance, id.clone())));
            self.subscriptions.add(&subscription);
            self.wake_by(first);
            if let Some(regex) = subscription.regex.filter(|regex| !self.subscriptions.knows(regex)) {
                match Pattern::compile(&regex) {
                    Ok(pattern) => self.subscriptions.know(&regex, pattern, scope),
                    Err(error) => tracing::warn!(group = scope.group, %error, "a stored pattern stands for nothing"),
                }
            }
        }
    }
}

fn to_stored(member: &Member) -> StoredConsumerMember {
    let Member { subscription, current, target: _, timers: _, is_told: _, is_unheard: _, written: _ } = member;
    let Subscription { instance_id, rack, client_id, client_host, rebalance_timeout, topics, regex, assignor, classic } =
        subscription.clone();
    let Current { epoch, previous_epoch, progress, assigned, revoking } = current.clone();
    StoredConsumerMember {
        instance_id,
        rack,
        client_id,
        client_host,
        rebalance_timeout,
        topics,
        regex,
        assignor: assignor.map(|assignor| assignor.name().to_owned()),
        classic: classic
            .map(|ClassicSide { session_timeout, protocols }| StoredClassicSide { session_timeout, protocols }),
        epoch,
        previous_epoch,
        progress: match progress {
            Progress::Stable => StoredProgress::Stable,
            Progress::UnrevokedPartitions => StoredProgress::UnrevokedPartitions,
            Progress::UnreleasedPartitions => StoredProgress::UnreleasedPartitions,
        },
        assigned,
        revoking,
    }
}

fn from_stored(stored: StoredConsumerMember, scope: &Scope<'_>) -> Member {
    let StoredConsumerMember {
        instance_id,
        rack,
        client_id,
        client_host,
        rebalance_timeout,
        topics,
        regex,
        assignor,
        classic,
        epoch,
        previous_epoch,
        progress,
        assigned,
        revoking,
    } = stored;
    let classic =
        classic.map(|StoredClassicSide { session_timeout, protocols }| ClassicSide { session_timeout, protocols });
    let session = classic.as_ref().map_or_else(|| session_timeout(scope), |classic| classic.session_timeout);
    let mut timers = Timers::new(scope.now + session);
    let progress = match progress {
        StoredProgress::Stable => Progress::Stable,
        StoredProgress::UnrevokedPartitions => Progress::UnrevokedPartitions,
        StoredProgress::UnreleasedPartitions => Progress::UnreleasedPartitions,
    };
    if progress == Progress::UnrevokedPartitions && classic.is_none() {
        timers.rebalance = Some(scope.now + rebalance_timeout);
    }
    let assignor = assignor.as_deref().and_then(Assignor::named);
    Member {
        subscription: Subscription {
            instance_id,
            rack,
            client_id,
            client_host,
            rebalance_timeout,
            topics,
            regex,
            assignor,
            classic,
        },
        current: Current { epoch, previous_epoch, progress, assigned, revoking },
        target: Partitions::new(),
        timers,
        is_told: false,
        is_unheard: false,
        written: 0,
    }
}
