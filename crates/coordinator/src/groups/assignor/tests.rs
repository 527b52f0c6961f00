use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use tokio::time::Instant;
use uuid::Uuid;

use super::*;

/// A group as the tests build it, owned.
#[derive(Debug, Clone, Default)]
struct Group {
    topics: BTreeMap<TopicId, i32>,
    members: BTreeMap<String, Member>,
}

#[derive(Debug, Clone, Default)]
struct Member {
    instance_id: Option<String>,
    topics: BTreeSet<TopicId>,
    assigned: Partitions,
}

impl Group {
    fn assign(&self, assignor: Assignor) -> BTreeMap<String, Partitions> {
        let members = self.members.iter().map(|(id, member)| {
            let topics = member.topics.iter().filter(|topic| self.topics.contains_key(topic)).copied().collect();
            let topics = Arc::new(topics);
            (id.as_str(), MemberSpec { instance_id: member.instance_id.as_deref(), topics, assigned: &member.assigned })
        });
        let spec = Spec { members: members.collect(), topics: self.topics.clone() };
        assignor.assign(&spec).into_iter().map(|(id, partitions)| (id.to_owned(), partitions)).collect()
    }

    /// Assigns and remembers it. Returns how many partitions moved from one member to another.
    fn reassign(&mut self, assignor: Assignor) -> usize {
        let before = self.owners();
        for (id, partitions) in self.assign(assignor) {
            self.members.get_mut(&id).unwrap().assigned = partitions;
        }
        let after = self.owners();
        before.iter().filter(|(at, owner)| after.get(at).is_some_and(|new| new != *owner)).count()
    }

    fn owners(&self) -> BTreeMap<(TopicId, i32), String> {
        let mut owners = BTreeMap::new();
        for (id, member) in &self.members {
            for (topic, partitions) in &member.assigned {
                for partition in partitions {
                    let before = owners.insert((*topic, *partition), id.clone());
                    assert_eq!(before, None, "{topic}-{partition} has two owners");
                }
            }
        }
        owners
    }

    fn size(&self, member: &str) -> usize {
        self.members[member].assigned.values().map(BTreeSet::len).sum()
    }

    /// Everything that has a subscriber is assigned, to a subscriber, once.
    fn assert_complete(&self) {
        let owners = self.owners();
        for (topic, count) in &self.topics {
            let subscribers = self.members.values().filter(|member| member.topics.contains(topic)).count();
            for partition in 0..*count {
                let owner = owners.get(&(*topic, partition));
                assert_eq!(owner.is_some(), subscribers > 0, "{topic}-{partition}");
                assert!(owner.is_none_or(|owner| self.members[owner].topics.contains(topic)));
            }
        }
        assert!(owners.keys().all(|(topic, partition)| self.topics.get(topic).is_some_and(|count| partition < count)));
        assert!(self.members.values().all(|member| member.assigned.values().all(|partitions| !partitions.is_empty())));
    }

    fn is_homogeneous(&self) -> bool {
        let mut subscriptions: Vec<BTreeSet<TopicId>> = Vec::new();
        for member in self.members.values() {
            subscriptions.push(member.topics.iter().filter(|id| self.topics.contains_key(id)).copied().collect());
        }
        subscriptions.windows(2).all(|pair| pair[0] == pair[1])
    }
}

fn topic(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(number))
}

fn partitions(of: &[(u128, &[i32])]) -> Partitions {
    of.iter().map(|(number, partitions)| (topic(*number), partitions.iter().copied().collect())).collect()
}

fn group(topics: &[(u128, i32)], members: &[(&str, &[u128])]) -> Group {
    let topics = topics.iter().map(|(number, count)| (topic(*number), *count)).collect();
    let members = members.iter().map(|(id, subscribed)| {
        let topics = subscribed.iter().copied().map(topic).collect();
        ((*id).to_owned(), Member { topics, ..Member::default() })
    });
    Group { topics, members: members.collect() }
}

prop_compose! {
    fn any_member()(
        instance in proptest::option::weighted(0.3, 0..1000_u32),
        topics in btree_set(0..6_u128, 0..5),
        assigned in btree_map(0..7_u128, btree_set(0..12_i32, 1..5), 0..4),
    ) -> Member {
        Member {
            instance_id: instance.map(|instance| format!("i{instance}")),
            topics: topics.into_iter().map(topic).collect(),
            assigned: assigned.into_iter().map(|(number, partitions)| (topic(number), partitions)).collect(),
        }
    }
}

prop_compose! {
    /// Members may claim what they have no right to, and the same as each other.
    fn any_group()(
        counts in btree_map(0..6_u128, 0..12_i32, 0..6),
        members in vec(any_member(), 1..9),
    ) -> Group {
        let topics = counts.into_iter().map(|(number, count)| (topic(number), count)).collect();
        let members = members.into_iter().enumerate().map(|(index, member)| (format!("m{index}"), member)).collect();
        Group { topics, members }
    }
}

#[derive(Debug, Clone)]
enum Change {
    Join(Member),
    Leave(prop::sample::Index),
    Subscribe(prop::sample::Index, BTreeSet<u128>),
    Grow(u128, i32),
    Delete(u128),
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any_member().prop_map(Change::Join),
        any::<prop::sample::Index>().prop_map(Change::Leave),
        (any::<prop::sample::Index>(), btree_set(0..6_u128, 0..5)).prop_map(|(who, what)| Change::Subscribe(who, what)),
        (0..6_u128, 1..6_i32).prop_map(|(number, by)| Change::Grow(number, by)),
        (0..6_u128).prop_map(Change::Delete),
    ]
}

fn apply(group: &mut Group, change: Change, serial: usize) {
    let nth = |group: &Group, index: &prop::sample::Index| {
        (!group.members.is_empty()).then(|| group.members.keys().nth(index.index(group.members.len())).unwrap().clone())
    };
    match change {
        Change::Join(member) => {
            group.members.insert(format!("n{serial}"), Member { assigned: Partitions::new(), ..member });
        }
        Change::Leave(index) => {
            if let Some(id) = nth(group, &index).filter(|_| group.members.len() > 1) {
                group.members.remove(&id);
            }
        }
        Change::Subscribe(index, topics) => {
            if let Some(id) = nth(group, &index) {
                group.members.get_mut(&id).unwrap().topics = topics.into_iter().map(topic).collect();
            }
        }
        Change::Grow(number, by) => *group.topics.entry(topic(number)).or_default() += by,
        Change::Delete(number) => {
            group.topics.remove(&topic(number));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn all_of_it_is_assigned_once_whatever_members_claim(mut group in any_group()) {
        let claims = group.clone();
        for assignor in Assignor::ALL {
            group.clone_from(&claims);
            for (id, partitions) in claims.assign(assignor) {
                group.members.get_mut(&id).unwrap().assigned = partitions;
            }
            group.assert_complete();
            prop_assert_eq!(claims.assign(assignor), claims.assign(assignor));
        }
    }

    #[test]
    fn uniform_is_balanced_and_moves_little(group in any_group(), changes in vec(any_change(), 0..6)) {
        let mut group = group;
        group.members.values_mut().for_each(|member| member.assigned.clear());
        group.reassign(Assignor::Uniform);
        for (serial, change) in changes.into_iter().enumerate() {
            let members_before = group.members.len();
            let grew = matches!(change, Change::Grow(..));
            apply(&mut group, change, serial);
            let moved = group.reassign(Assignor::Uniform);
            group.assert_complete();
            let sizes: Vec<usize> = group.members.keys().map(|id| group.size(id)).collect();
            if group.is_homogeneous() {
                prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{:?}", sizes);
                // Between members that stay, partitions move only to make room for who came.
                if members_before == group.members.len() && grew {
                    prop_assert_eq!(moved, 0);
                }
            }
            // No partition could go to a subscriber that has two fewer.
            for ((topic, partition), owner) in group.owners() {
                for (id, _) in group.members.iter().filter(|(_, member)| member.topics.contains(&topic)) {
                    prop_assert!(
                        group.size(&owner) <= group.size(id) + 1,
                        "{topic}-{partition} of {owner} should be {id}'s"
                    );
                }
            }
            prop_assert_eq!(group.reassign(Assignor::Uniform), 0, "it is not stable");
        }
    }

    #[test]
    fn range_is_ranges_in_the_order_of_members(group in any_group()) {
        let assigned = group.assign(Assignor::Range);
        for (topic, count) in &group.topics {
            let mut subscribers: Vec<(&String, &Member)> =
                group.members.iter().filter(|(_, member)| member.topics.contains(topic)).collect();
            subscribers.sort_by_key(|(id, member)| (member.instance_id.is_none(), member.instance_id.clone(), *id));
            let mut next = 0;
            for (place, (id, _)) in (0..).zip(&subscribers) {
                let subscribers = subscribers.len() as i32;
                let size = count / subscribers + i32::from(place < count % subscribers);
                let expected: BTreeSet<i32> = (next..next + size).collect();
                next += size;
                prop_assert_eq!(assigned[*id].get(topic).cloned().unwrap_or_default(), expected);
            }
        }
    }
}

#[test]
fn uniform_gives_the_larger_shares_to_those_who_have_them() {
    let mut group = group(&[(1, 3)], &[("a", &[1]), ("b", &[1])]);
    group.members.get_mut("a").unwrap().assigned = partitions(&[(1, &[2])]);
    group.members.get_mut("b").unwrap().assigned = partitions(&[(1, &[0, 1])]);
    assert_eq!(group.reassign(Assignor::Uniform), 0);
}

#[test]
fn uniform_takes_just_what_a_new_member_needs() {
    let mut group = group(&[(1, 900)], &[]);
    for number in 0..10 {
        let member = Member { topics: BTreeSet::from([topic(1)]), ..Member::default() };
        group.members.insert(format!("m{number}"), member);
        let moved = group.reassign(Assignor::Uniform);
        assert_eq!(moved, if number == 0 { 0 } else { 900 / (number + 1) }, "as member {number} joins");
    }
    group.members.remove("m3");
    assert_eq!(group.reassign(Assignor::Uniform), 0);
    group.assert_complete();
}

#[test]
fn uniform_evens_out_different_subscriptions() {
    // Only `a` can have topic 1; `b` and `c` then have to take the rest.
    let mut group = group(&[(1, 4), (2, 4), (3, 4)], &[("a", &[1, 2, 3]), ("b", &[2, 3]), ("c", &[3])]);
    group.members.get_mut("a").unwrap().assigned = partitions(&[(1, &[0, 1, 2, 3]), (2, &[0, 1, 2, 3])]);
    group.members.get_mut("c").unwrap().assigned = partitions(&[(3, &[0, 1, 2, 3])]);
    group.reassign(Assignor::Uniform);
    assert_eq!(["a", "b", "c"].map(|id| group.size(id)), [4, 4, 4]);
}

#[test]
fn range_splits_topics_with_as_many_partitions_alike() {
    let group = group(&[(1, 7), (2, 7)], &[("a", &[1, 2]), ("b", &[1, 2]), ("c", &[1, 2])]);
    let assigned = group.assign(Assignor::Range);
    for topics in assigned.values() {
        assert_eq!(topics[&topic(1)], topics[&topic(2)]);
    }
    assert_eq!(assigned["a"], partitions(&[(1, &[0, 1, 2]), (2, &[0, 1, 2])]));
    assert_eq!(assigned["c"], partitions(&[(1, &[5, 6]), (2, &[5, 6])]));
}

#[test]
fn range_knows_a_static_member_by_its_instance_id() {
    let mut group = group(&[(1, 4)], &[("zz", &[1]), ("b", &[1]), ("a", &[1])]);
    group.members.get_mut("zz").unwrap().instance_id = Some("x".to_owned());
    let before = group.assign(Assignor::Range)["zz"].clone();
    let again = group.members.remove("zz").unwrap();
    group.members.insert("0".to_owned(), again);
    assert_eq!(group.assign(Assignor::Range)["0"], before);
    assert_eq!(before, partitions(&[(1, &[0, 1])]));
}

#[test]
fn they_have_names() {
    assert_eq!(Assignor::named("uniform"), Some(Assignor::Uniform));
    assert_eq!(Assignor::named("range"), Some(Assignor::Range));
    assert_eq!(Assignor::named("Range"), None);
    assert_eq!(Assignor::default().name(), "uniform");
}

/// Generous, because it runs unoptimized and beside other tests: alone it takes a tenth of this, optimized far less.
#[test]
fn large_groups_take_no_time() {
    const SOON: Duration = Duration::from_secs(60);
    let everyone: Vec<u128> = (0..100).collect();
    let topics: Vec<(u128, i32)> = everyone.iter().map(|number| (*number, 100)).collect();
    let mut group = group(&topics, &[]);
    for number in 0..1000_u128 {
        let topics = everyone.iter().copied().map(topic).collect();
        group.members.insert(format!("m{number:04}"), Member { topics, ..Member::default() });
    }
    let begun = Instant::now();
    group.reassign(Assignor::Uniform);
    group.members.remove("m0500");
    group.reassign(Assignor::Uniform);
    group.assign(Assignor::Range);
    for (number, member) in (0..).zip(group.members.values_mut()) {
        member.topics.remove(&topic(number % 100));
    }
    group.reassign(Assignor::Uniform);
    group.assign(Assignor::Range);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    group.assert_complete();
}
