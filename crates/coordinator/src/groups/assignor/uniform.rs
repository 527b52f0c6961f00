//! Kafka's `uniform`: balance first, then as few moves as possible.
//!
//! Where all members are subscribed to the same topics, a quota for each of them settles it. Where they are not, members
//! keep what they have, the least loaded subscriber takes what nobody has, and then partitions move, topic by topic,
//! from the most to the least loaded of its subscribers while that evens them out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use tidemark_model::TopicId;

use super::{Partitions, Spec};

/// Evening out one topic can unsettle another with other subscribers. So many rounds over all topics are made at most,
/// as in Kafka; nearly always two do.
const MAX_ROUNDS: usize = 16;

pub(super) fn assign<'a>(spec: &Spec<'a>) -> BTreeMap<&'a str, Partitions> {
    if spec.is_homogeneous() { by_quota(spec) } else { Balance::begin(spec).finish() }
}

fn by_quota<'a>(spec: &Spec<'a>) -> BTreeMap<&'a str, Partitions> {
    let topics = spec.members.values().next().map(|member| member.topics.clone()).unwrap_or_default();
    let counts = topics.iter().map(|topic| (*topic, spec.topics.get(topic).copied().unwrap_or_default()));
    let mut free: BTreeSet<(TopicId, i32)> =
        counts.flat_map(|(topic, count)| (0..count).map(move |partition| (topic, partition))).collect();
    let members = spec.members.len().max(1);
    let (least, mut larger) = (free.len() / members, free.len() % members);

    let had: BTreeMap<&str, usize> = spec.members.iter().map(|(id, member)| (*id, member.kept(spec).count())).collect();
    // The larger shares go to those that have more already, so that they need not give it away.
    let mut by_need: Vec<&str> = spec.members.keys().copied().collect();
    by_need.sort_by_key(|id| Reverse(had.get(id).is_some_and(|had| *had > least)));
    let mut quotas: BTreeMap<&str, usize> = BTreeMap::new();
    for id in by_need {
        let one_more = usize::from(larger > 0);
        larger -= one_more;
        quotas.insert(id, least + one_more);
    }

    let mut assigned: BTreeMap<&str, Partitions> = BTreeMap::new();
    for (id, member) in &spec.members {
        let partitions = assigned.entry(id).or_default();
        let Some(quota) = quotas.get_mut(id) else { continue };
        for (topic, partition) in member.kept(spec) {
            // Nobody else has it: two members with one partition is what a crash between two writes could leave.
            if *quota > 0 && free.remove(&(topic, partition)) {
                partitions.entry(topic).or_default().insert(partition);
                *quota -= 1;
            }
        }
    }
    let mut free = free.into_iter();
    for (id, partitions) in &mut assigned {
        let quota = quotas.get(id).copied().unwrap_or_default();
        for (topic, partition) in free.by_ref().take(quota) {
            partitions.entry(topic).or_default().insert(partition);
        }
    }
    assigned
}

/// The members by their index, in the order of their ids.
struct Balance<'s, 'a> {
    spec: &'s Spec<'a>,
    /// How many partitions each member has.
    sizes: Vec<usize>,
    topics: BTreeMap<TopicId, Topic>,
}

struct Topic {
    subscribers: Vec<usize>,
    owners: Vec<Option<usize>>,
}

impl<'s, 'a> Balance<'s, 'a> {
    fn begin(spec: &'s Spec<'a>) -> Self {
        let mut topics: BTreeMap<TopicId, Topic> = BTreeMap::new();
        for (index, member) in spec.members.values().enumerate() {
            for topic in member.topics.iter() {
                let count = usize::try_from(spec.topics.get(topic).copied().unwrap_or_default()).unwrap_or_default();
                let new = || Topic { subscribers: Vec::new(), owners: vec![None; count] };
                topics.entry(*topic).or_insert_with(new).subscribers.push(index);
            }
        }
        let mut sizes = vec![0; spec.members.len()];
        for (index, member) in spec.members.values().enumerate() {
            for (topic, partition) in member.kept(spec) {
                let owners = topics.get_mut(&topic).map(|topic| &mut topic.owners);
                let owner = usize::try_from(partition).ok().and_then(|at| owners?.get_mut(at));
                if let Some(owner @ None) = owner {
                    *owner = Some(index);
                    sizes[index] += 1;
                }
            }
        }
        Self { spec, sizes, topics }
    }

    fn finish(mut self) -> BTreeMap<&'a str, Partitions> {
        // Topics that fill their subscribers most go first: the others have more room to even out.
        let mut order: Vec<(TopicId, usize, usize)> =
            self.topics.iter().map(|(id, topic)| (*id, topic.owners.len(), topic.subscribers.len())).collect();
        order.sort_by(|(a, a_count, a_subscribers), (b, b_count, b_subscribers)| {
            let heavier_first = (b_count * a_subscribers).cmp(&(a_count * b_subscribers));
            heavier_first.then(a_subscribers.cmp(b_subscribers)).then(a.cmp(b))
        });
        for (id, _, _) in &order {
            self.give_away(*id);
        }
        for _ in 0..MAX_ROUNDS {
            let mut moved = false;
            for (id, _, _) in &order {
                moved |= self.even_out(*id);
            }
            if !moved {
                break;
            }
        }
        self.assignment()
    }

    /// Gives what nobody has to the least loaded subscribers.
    fn give_away(&mut self, id: TopicId) {
        let Some(topic) = self.topics.get_mut(&id) else { return };
        if topic.owners.iter().all(Option::is_some) {
            return;
        }
        let mut by_load: BTreeSet<(usize, usize)> =
            topic.subscribers.iter().map(|member| (self.sizes[*member], *member)).collect();
        for owner in topic.owners.iter_mut().filter(|owner| owner.is_none()) {
            let Some((size, least)) = by_load.pop_first() else { break };
            *owner = Some(least);
            self.sizes[least] = size + 1;
            by_load.insert((size + 1, least));
        }
    }

    /// Moves partitions of one topic from the most to the least loaded of its subscribers. Says whether any moved.
    fn even_out(&mut self, id: TopicId) -> bool {
        let Some(topic) = self.topics.get_mut(&id) else { return false };
        let sizes = &mut self.sizes;
        let loads = topic.subscribers.iter().map(|member| sizes[*member]);
        let (Some(least), Some(most)) = (loads.clone().min(), loads.max()) else { return false };
        if most - least <= 1 {
            return false;
        }
        let mut by_load: BTreeSet<(usize, usize)> =
            topic.subscribers.iter().map(|member| (sizes[*member], *member)).collect();
        let mut owned: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (partition, owner) in topic.owners.iter().enumerate() {
            if let Some(owner) = owner {
                owned.entry(*owner).or_default().push(partition);
            }
        }
        // Only who has a partition of this topic can give one.
        let mut givers: BTreeSet<(usize, usize)> = owned.keys().map(|owner| (sizes[*owner], *owner)).collect();
        let mut moved = false;
        while let (Some((most, giver)), Some((least, taker))) = (givers.last().copied(), by_load.first().copied()) {
            if most <= least + 1 {
                break;
            }
            givers.remove(&(most, giver));
            let Some(partition) = owned.get_mut(&giver).and_then(Vec::pop) else { continue };
            topic.owners[partition] = Some(taker);
            by_load.remove(&(most, giver));
            by_load.insert((most - 1, giver));
            by_load.remove(&(least, taker));
            by_load.insert((least + 1, taker));
            if givers.remove(&(least, taker)) {
                givers.insert((least + 1, taker));
            }
            givers.insert((most - 1, giver));
            sizes[giver] -= 1;
            sizes[taker] += 1;
            moved = true;
        }
        moved
    }

    fn assignment(self) -> BTreeMap<&'a str, Partitions> {
        let mut assigned: Vec<(&'a str, Partitions)> =
            self.spec.members.keys().map(|id| (*id, Partitions::new())).collect();
        for (id, topic) in self.topics {
            for (partition, owner) in (0..).zip(topic.owners) {
                let partitions = owner.and_then(|owner| assigned.get_mut(owner));
                if let Some((_, partitions)) = partitions {
                    partitions.entry(id).or_default().insert(partition);
                }
            }
        }
        assigned.into_iter().collect()
    }
}
