//! Rule by rule, what Kafka's coordinator does; then many members in random order.

mod fencing;
mod holding;
mod migrating;
mod reconciling;
mod seeds;
mod statics;
mod storing;
mod subscribing;

use std::collections::BTreeMap;

use tidemark_model::group::{
    ConsumerHeartbeat, ConsumerHeartbeatAnswer, DescribedConsumer, DescribedConsumerGroup, GroupAnswer, GroupRequest,
    TopicPartitions,
};
use tidemark_model::{GroupError, TopicId};
use uuid::Uuid;

use super::ConsumerGroup;
use super::held::LONGEST_HELD;
use crate::groups::kit::{Kit, ms};
use crate::groups::{Event, Kind};

type Answered = Result<ConsumerHeartbeatAnswer, GroupError>;
/// Topics by their number, with partitions.
type Owned<'a> = &'a [(u128, &'a [i32])];

/// A cluster with `orders`, topic 1, of six partitions.
fn kit() -> Kit {
    let mut kit = Kit::new();
    kit.topic(1, "orders", 6);
    kit
}

/// The first heartbeat of a member that is subscribed to `orders`.
fn join(id: &str) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        member_id: id.to_owned(),
        member_epoch: 0,
        instance_id: None,
        rack: None,
        rebalance_timeout: Some(ms(60_000)),
        subscribed_topics: Some(vec!["orders".to_owned()]),
        subscribed_regex: None,
        server_assignor: None,
        owned: Some(Vec::new()),
        client_makes_id: true,
    }
}

/// A heartbeat in which nothing has changed.
fn alive(id: &str, epoch: i32) -> ConsumerHeartbeat {
    ConsumerHeartbeat { member_epoch: epoch, rebalance_timeout: None, subscribed_topics: None, owned: None, ..join(id) }
}

fn owning(id: &str, epoch: i32, owned: Owned<'_>) -> ConsumerHeartbeat {
    ConsumerHeartbeat { owned: Some(list(owned)), ..alive(id, epoch) }
}

fn static_join(id: &str, instance: &str) -> ConsumerHeartbeat {
    ConsumerHeartbeat { instance_id: Some(instance.to_owned()), ..join(id) }
}

fn list(owned: Owned<'_>) -> Vec<TopicPartitions> {
    let list = owned.iter().map(|(topic, partitions)| TopicPartitions {
        topic: TopicId(Uuid::from_u128(*topic)),
        partitions: partitions.to_vec(),
    });
    list.collect()
}

fn heartbeat(kit: &mut Kit, request: ConsumerHeartbeat) -> Answered {
    let ticket = kit.call(GroupRequest::ConsumerHeartbeat(request));
    if kit.is_held(ticket) {
        kit.advance(LONGEST_HELD);
    }
    match kit.answer(ticket).expect("it is not held for longer") {
        Ok(GroupAnswer::ConsumerHeartbeat(answer)) => Ok(answer),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    }
}

/// The epoch and the assignment that a heartbeat is answered with.
fn answer(kit: &mut Kit, request: ConsumerHeartbeat) -> (i32, Option<Vec<TopicPartitions>>) {
    let answer = heartbeat(kit, request).unwrap();
    (answer.member_epoch, answer.assignment)
}

fn given(owned: Owned<'_>) -> Option<Vec<TopicPartitions>> {
    Some(list(owned))
}

fn describe(kit: &mut Kit) -> DescribedConsumerGroup {
    match kit.ask(GroupRequest::DescribeConsumer) {
        Ok(GroupAnswer::DescribeConsumer(described)) => described,
        other => panic!("{other:?}"),
    }
}

fn described(kit: &mut Kit, id: &str) -> DescribedConsumer {
    describe(kit).members.into_iter().find(|member| member.member_id == id).unwrap()
}

fn ids(kit: &mut Kit) -> Vec<String> {
    describe(kit).members.into_iter().map(|member| member.member_id).collect()
}

fn group(kit: &Kit) -> &ConsumerGroup {
    match &kit.group.kind {
        Some(Kind::Consumer(group)) => group,
        other => panic!("{other:?}"),
    }
}

/// The cluster's topics have changed.
fn topics_changed(kit: &mut Kit) {
    kit.step(Event::Topics { removed: [].into() });
}

/// `a` has partitions 0 to 2 and `b` 3 to 5, both at epoch 2.
fn two_members() -> Kit {
    let mut kit = kit();
    assert_eq!(answer(&mut kit, join("a")), (1, given(&[(1, &[0, 1, 2, 3, 4, 5])])));
    assert_eq!(answer(&mut kit, join("b")), (2, given(&[])));
    assert_eq!(answer(&mut kit, owning("a", 1, &[(1, &[0, 1, 2, 3, 4, 5])])), (1, given(&[(1, &[0, 1, 2])])));
    assert_eq!(answer(&mut kit, owning("a", 1, &[(1, &[0, 1, 2])])), (2, None));
    assert_eq!(answer(&mut kit, alive("b", 2)), (2, given(&[(1, &[3, 4, 5])])));
    assert_eq!(answer(&mut kit, owning("b", 2, &[(1, &[3, 4, 5])])), (2, None));
    assert_eq!(kit.state(), "Stable");
    kit
}

/// Whoever looks at the group sees what its members and topics are, and nothing is left of others.
fn assert_nothing_leaks(kit: &Kit) {
    assert_nothing_leaks_in(group(kit));
}

fn assert_nothing_leaks_in(group: &ConsumerGroup) {
    let statics: BTreeMap<_, _> = group
        .members
        .iter()
        .filter_map(|(id, member)| Some((member.subscription.instance_id.clone()?, id.clone())))
        .collect();
    assert_eq!(group.static_members, statics);
    let mut held = BTreeMap::new();
    for (id, member) in &group.members {
        for (topic, partition) in member.current.held() {
            let twice = held.insert(tidemark_model::TopicPartition::new(topic, partition), id.clone());
            assert_eq!(twice, None, "{topic}-{partition} is held by {id} too");
        }
    }
    assert_eq!(group.owners, held);
    assert!(group.subscriptions.is_just_of(group.members.values().map(|member| &member.subscription)));
    let first = group.members.values().map(|member| member.timers.first()).min();
    assert!(first.is_none_or(|first| group.wake.is_some_and(|wake| wake <= first)), "nobody is woken");
}
