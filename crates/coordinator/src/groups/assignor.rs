//! The assignors of the server (KIP-848): who of a consumer group is to have which partitions. Pure functions over a
//! specification; what they say is a target, which members reach step by step.
//!
//! As in Kafka 4.2 neither looks at racks.

mod range;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidemark_model::TopicId;

/// Partitions by topic. No topic is in it without a partition.
pub(crate) type Partitions = BTreeMap<TopicId, BTreeSet<i32>>;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Assignor {
    /// Evens out the number of partitions over the members, and moves as few as that takes.
    #[default]
    Uniform,
    /// Gives the members one range of each topic, so that topics with as many partitions are split alike.
    Range,
}

/// What an assignor decides by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spec<'a> {
    /// By member id, which is the order in which members are served.
    pub(crate) members: BTreeMap<&'a str, MemberSpec<'a>>,
    /// How many partitions each topic has: all topics that any member is subscribed to, and only topics that exist.
    pub(crate) topics: BTreeMap<TopicId, i32>,
}

#[derive(Debug, Clone)]
pub(crate) struct MemberSpec<'a> {
    pub(crate) instance_id: Option<&'a str>,
    /// Shared by members with the same subscription, where that is easily known. Only topics that exist.
    pub(crate) topics: Arc<BTreeSet<TopicId>>,
    /// Its last target. It may name what it has no right to any more.
    pub(crate) assigned: &'a Partitions,
}

impl Assignor {
    pub(crate) const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// Every member of the specification is in the answer; every partition of a topic with a subscriber is in exactly one
    /// member's.
    pub(crate) fn assign<'a>(self, spec: &Spec<'a>) -> BTreeMap<&'a str, Partitions> {
        match self {
            Self::Uniform => uniform::assign(spec),
            Self::Range => range::assign(spec),
        }
    }
}

impl Spec<'_> {
    /// Whether all members are subscribed to the same topics.
    fn is_homogeneous(&self) -> bool {
        let mut members = self.members.values();
        let Some(first) = members.next() else { return true };
        members.all(|member| Arc::ptr_eq(&member.topics, &first.topics) || member.topics == first.topics)
    }
}

impl MemberSpec<'_> {
    /// What it keeps a right to: partitions of its last target in topics that it is still subscribed to.
    fn kept<'s>(&'s self, spec: &'s Spec<'_>) -> impl Iterator<Item = (TopicId, i32)> + 's {
        let subscribed = self.assigned.iter().filter(|(topic, _)| self.topics.contains(topic));
        subscribed.flat_map(|(topic, partitions)| {
            let count = spec.topics.get(topic).copied().unwrap_or_default();
            partitions.range(0..count.max(0)).map(|partition| (*topic, *partition))
        })
    }
}

#[cfg(test)]
mod tests;
