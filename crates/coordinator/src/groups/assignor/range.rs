//! Kafka's `range`: each topic is cut into as many ranges as it has subscribers, the first ones larger by one where it
//! does not divide evenly. Members with the same place in the order get the same range of every topic with as many partitions
//! and subscribers, which is what a join of such topics needs. Static members come first, by their instance id, so that a
//! restart under another member id changes nothing.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use tidemark_model::TopicId;

use super::{MemberSpec, Partitions, Spec};

/// What is left of a topic to give away.
struct Topic {
    partitions: i32,
    subscribers: i32,
    next: i32,
    /// How many members still get one more than the others.
    larger: i32,
}

pub(super) fn assign<'a>(spec: &Spec<'a>) -> BTreeMap<&'a str, Partitions> {
    let mut topics: BTreeMap<TopicId, Topic> = BTreeMap::new();
    for topic in spec.members.values().flat_map(|member| member.topics.iter()) {
        let partitions = spec.topics.get(topic).copied().unwrap_or_default();
        topics.entry(*topic).or_insert(Topic { partitions, subscribers: 0, next: 0, larger: 0 }).subscribers += 1;
    }
    for topic in topics.values_mut() {
        topic.larger = topic.partitions % topic.subscribers;
    }
    let mut members: Vec<_> = spec.members.iter().collect();
    members.sort_by(|a, b| in_order(a, b));
    members.into_iter().map(|(id, member)| (*id, ranges(member, &mut topics))).collect()
}

fn ranges(member: &MemberSpec<'_>, topics: &mut BTreeMap<TopicId, Topic>) -> Partitions {
    let mut partitions = Partitions::new();
    for id in member.topics.iter() {
        let Some(topic) = topics.get_mut(id) else { continue };
        let one_more = i32::from(topic.larger > 0);
        topic.larger -= one_more;
        let from = topic.next;
        topic.next += topic.partitions / topic.subscribers + one_more;
        if topic.next > from {
            partitions.insert(*id, BTreeSet::from_iter(from..topic.next));
        }
    }
    partitions
}

fn in_order((id, member): &(&&str, &MemberSpec<'_>), (other_id, other): &(&&str, &MemberSpec<'_>)) -> Ordering {
    match (member.instance_id, other.instance_id) {
        (Some(instance), Some(other)) => instance.cmp(other),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => id.cmp(other_id),
    }
}
