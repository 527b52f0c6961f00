//! How a member gets from what it has to what it is to have: it gives back first, then it moves to the new epoch, and is
//! given what nobody has any more.

use std::collections::BTreeSet;

use tidemark_model::TopicId;
use tidemark_model::group::TopicPartitions;

use super::member::{Current, Progress};
use crate::groups::assignor::Partitions;

/// What decides a step.
pub(super) struct Step<'a> {
    pub(super) target_epoch: i32,
    pub(super) target: &'a Partitions,
    /// Topics that the member is subscribed to now. The target may be older.
    pub(super) subscribed: &'a BTreeSet<TopicId>,
    pub(super) subscription_changed: bool,
    /// What the member says it has. None: it has not said.
    pub(super) owned: Option<&'a [TopicPartitions]>,
    /// Whether no other member has the partition.
    pub(super) is_free: &'a dyn Fn(TopicId, i32) -> bool,
}

impl Step<'_> {
    /// What the member has next. The same as before where nothing can be done.
    pub(super) fn take(&self, current: &Current) -> Current {
        if !self.subscription_changed && current.is_reconciled_to(self.target_epoch) {
            return current.clone();
        }
        match current.progress {
            Progress::Stable if current.epoch == self.target_epoch => self.without_unsubscribed(current),
            Progress::UnrevokedPartitions if self.still_owns(&current.revoking) => {
                if self.subscription_changed {
                    self.without_unsubscribed(current)
                } else {
                    current.clone()
                }
            }
            Progress::Stable | Progress::UnrevokedPartitions | Progress::UnreleasedPartitions => self.next(current),
        }
    }

    fn next(&self, current: &Current) -> Current {
        let (mut assigned, mut revoking, mut adding) = (Partitions::new(), Partitions::new(), Partitions::new());
        let mut unreleased = false;
        let topics: BTreeSet<&TopicId> = self.target.keys().chain(current.assigned.keys()).collect();
        for topic in topics {
            let none = BTreeSet::new();
            let has = current.assigned.get(topic).unwrap_or(&none);
            let target = self.target.get(topic).filter(|_| self.subscribed.contains(topic)).unwrap_or(&none);
            put(&mut assigned, *topic, has.intersection(target).copied().collect());
            put(&mut revoking, *topic, has.difference(target).copied().collect());
            let (free, taken): (BTreeSet<i32>, BTreeSet<i32>) =
                target.difference(has).copied().partition(|partition| (self.is_free)(*topic, *partition));
            unreleased |= !taken.is_empty();
            put(&mut adding, *topic, free);
        }
        if !revoking.is_empty() && self.still_owns(&revoking) {
            let progress = Progress::UnrevokedPartitions;
            return Current { epoch: current.epoch, previous_epoch: current.epoch, progress, assigned, revoking };
        }
        for (topic, partitions) in adding {
            assigned.entry(topic).or_default().extend(partitions);
        }
        let progress = if unreleased { Progress::UnreleasedPartitions } else { Progress::Stable };
        let revoking = Partitions::new();
        Current { epoch: self.target_epoch, previous_epoch: current.epoch, progress, assigned, revoking }
    }

    /// A member that no longer wants a topic is not left with it until there is a target that knows.
    fn without_unsubscribed(&self, current: &Current) -> Current {
        let (assigned, unsubscribed): (Partitions, Partitions) =
            current.assigned.clone().into_iter().partition(|(topic, _)| self.subscribed.contains(topic));
        if unsubscribed.is_empty() {
            return current.clone();
        }
        let mut revoking = current.revoking.clone();
        for (topic, partitions) in unsubscribed {
            revoking.entry(topic).or_default().extend(partitions);
        }
        if self.still_owns(&revoking) {
            return Current { assigned, revoking, progress: Progress::UnrevokedPartitions, ..current.clone() };
        }
        Current { assigned, ..current.clone() }
    }

    /// A member that does not say what it has may have everything.
    fn still_owns(&self, revoking: &Partitions) -> bool {
        let Some(owned) = self.owned else { return true };
        owned.iter().any(|owned| {
            let revoking = revoking.get(&owned.topic);
            revoking.is_some_and(|revoking| owned.partitions.iter().any(|partition| revoking.contains(partition)))
        })
    }
}

fn put(into: &mut Partitions, topic: TopicId, partitions: BTreeSet<i32>) {
    if !partitions.is_empty() {
        into.insert(topic, partitions);
    }
}

/// Whether the member says that it has nothing but what it was given.
pub(super) fn is_within(owned: Option<&[TopicPartitions]>, assigned: &Partitions) -> bool {
    owned.is_some_and(|owned| {
        owned.iter().all(|owned| {
            let assigned = assigned.get(&owned.topic);
            assigned.is_some_and(|assigned| owned.partitions.iter().all(|partition| assigned.contains(partition)))
        })
    })
}

/// Whether the member says that it has all that it was given, and nothing else.
pub(super) fn is_all_of(owned: Option<&[TopicPartitions]>, assigned: &Partitions) -> bool {
    owned.is_some_and(|owned| {
        let of_topic = |owned: &TopicPartitions| (owned.topic, owned.partitions.iter().copied().collect());
        let owned: Partitions = owned.iter().filter(|owned| !owned.partitions.is_empty()).map(of_topic).collect();
        owned == *assigned
    })
}

/// As answers and descriptions have them.
pub(super) fn to_list(partitions: &Partitions) -> Vec<TopicPartitions> {
    let topics = partitions
        .iter()
        .map(|(topic, partitions)| TopicPartitions { topic: *topic, partitions: partitions.iter().copied().collect() });
    topics.collect()
}
