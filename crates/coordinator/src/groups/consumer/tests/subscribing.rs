//! Subscriptions that change, patterns, and topics that come, grow and go.

use tidemark_model::RecordKey;

use super::*;

fn wants(id: &str, epoch: i32, topics: &[&str]) -> ConsumerHeartbeat {
    let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
    ConsumerHeartbeat { subscribed_topics: Some(topics), ..alive(id, epoch) }
}

fn joining(request: ConsumerHeartbeat) -> ConsumerHeartbeat {
    ConsumerHeartbeat { member_epoch: 0, rebalance_timeout: Some(ms(60_000)), owned: Some(vec![]), ..request }
}

fn by_pattern(id: &str, regex: &str) -> ConsumerHeartbeat {
    ConsumerHeartbeat { subscribed_topics: Some(vec![]), subscribed_regex: Some(regex.to_owned()), ..join(id) }
}

#[test]
fn new_partitions_reach_the_group_with_the_next_heartbeat() {
    let mut kit = two_members();
    kit.topic(1, "orders", 8);
    topics_changed(&mut kit);
    assert_eq!(kit.state(), "Stable");
    assert_eq!(answer(&mut kit, alive("a", 2)), (3, given(&[(1, &[0, 1, 2, 6])])));
    assert_eq!(answer(&mut kit, alive("b", 2)), (3, given(&[(1, &[3, 4, 5, 7])])));
    // What does not concern it does not disturb it.
    kit.topic(5, "clicks", 8);
    topics_changed(&mut kit);
    assert_eq!(answer(&mut kit, owning("a", 3, &[(1, &[0, 1, 2, 6])])), (3, None));
    assert_eq!(describe(&mut kit).epoch, 3);
}

#[test]
fn a_topic_may_come_after_its_subscribers_and_go_before_them() {
    let mut kit = kit();
    assert_eq!(answer(&mut kit, joining(wants("a", 0, &["later"]))), (1, given(&[])));
    let later = kit.topic(7, "later", 2);
    topics_changed(&mut kit);
    assert_eq!(answer(&mut kit, alive("a", 1)), (2, given(&[(7, &[0, 1])])));
    kit.cluster.remove(RecordKey::Topic(later));
    kit.step(Event::Topics { removed: [later].into() });
    assert_eq!(answer(&mut kit, alive("a", 2)), (2, given(&[])));
    assert_eq!(answer(&mut kit, owning("a", 2, &[])), (3, None));
    // Another topic with that name is another topic.
    kit.topic(8, "later", 1);
    topics_changed(&mut kit);
    assert_eq!(answer(&mut kit, alive("a", 3)), (4, given(&[(8, &[0])])));
    assert_nothing_leaks(&kit);
}

#[test]
fn a_subscription_that_shrinks_is_given_back_at_once() {
    let mut kit = kit();
    kit.topic(2, "clicks", 2);
    let both = joining(wants("a", 0, &["orders", "clicks"]));
    assert_eq!(answer(&mut kit, both), (1, given(&[(1, &[0, 1, 2, 3, 4, 5]), (2, &[0, 1])])));
    assert_eq!(answer(&mut kit, wants("a", 1, &["clicks"])), (1, given(&[(2, &[0, 1])])));
    assert_eq!(answer(&mut kit, owning("a", 1, &[(2, &[0, 1])])), (2, None));
    assert_eq!(answer(&mut kit, wants("a", 2, &[])), (2, given(&[])));
    assert_eq!(answer(&mut kit, owning("a", 2, &[])), (3, None));
    assert_nothing_leaks(&kit);
}

#[test]
fn the_same_subscription_again_changes_nothing() {
    let mut kit = two_members();
    assert_eq!(answer(&mut kit, wants("a", 2, &["orders"])), (2, None));
    assert_eq!(answer(&mut kit, ConsumerHeartbeat { rack: Some("r".to_owned()), ..alive("a", 2) }), (2, None));
    assert_eq!(described(&mut kit, "a").rack.as_deref(), Some("r"));
    assert_eq!(describe(&mut kit).epoch, 2);
}

#[test]
fn topics_are_found_by_a_pattern_also_those_that_come_later() {
    let mut kit = kit();
    kit.topic(2, "clicks.eu", 1);
    kit.topic(3, "old.clicks", 1);
    assert_eq!(answer(&mut kit, by_pattern("a", "clicks\\..*")), (1, given(&[(2, &[0])])));
    kit.topic(4, "clicks.us", 1);
    topics_changed(&mut kit);
    assert_eq!(answer(&mut kit, alive("a", 1)), (2, given(&[(2, &[0]), (4, &[0])])));
    // However fast they come, all topics are looked through once a second.
    kit.topic(5, "clicks.asia", 1);
    topics_changed(&mut kit);
    assert_eq!(answer(&mut kit, owning("a", 2, &[(2, &[0]), (4, &[0])])), (2, None));
    kit.advance(ms(1_000));
    assert_eq!(answer(&mut kit, alive("a", 2)), (3, given(&[(2, &[0]), (4, &[0]), (5, &[0])])));
    assert!(group(&kit).is_subscribed_to("clicks.any"));
    assert!(!group(&kit).is_subscribed_to("orders"));
    assert_eq!(described(&mut kit, "a").subscribed_regex.as_deref(), Some("clicks\\..*"));
}

#[test]
fn a_pattern_and_names_add_up_and_an_empty_pattern_is_none() {
    let mut kit = kit();
    kit.topic(2, "clicks", 1);
    let both = ConsumerHeartbeat { subscribed_regex: Some("cl.*".to_owned()), ..join("a") };
    assert_eq!(answer(&mut kit, both), (1, given(&[(1, &[0, 1, 2, 3, 4, 5]), (2, &[0])])));
    let without = ConsumerHeartbeat { subscribed_regex: Some(String::new()), ..alive("a", 1) };
    assert_eq!(answer(&mut kit, without), (1, given(&[(1, &[0, 1, 2, 3, 4, 5])])));
    assert_nothing_leaks(&kit);
}

#[test]
fn a_bad_pattern_leaves_the_member_as_it_was() {
    let mut kit = two_members();
    let before = kit.stored.clone();
    let bad = ConsumerHeartbeat { subscribed_regex: Some("[".to_owned()), ..alive("a", 2) };
    assert!(matches!(heartbeat(&mut kit, bad), Err(GroupError::InvalidRegularExpression(_))));
    assert_eq!(answer(&mut kit, alive("a", 2)), (2, None));
    assert_eq!(kit.stored, before);
}

#[test]
fn ten_thousand_subscriptions_are_served() {
    let mut kit = kit();
    let topics: Vec<String> = (0..10_000).map(|number| format!("topic-{number}")).collect();
    let many = ConsumerHeartbeat { subscribed_topics: Some(topics), ..join("a") };
    assert_eq!(answer(&mut kit, many), (1, given(&[])));
    let largest = kit.stored.values().map(bytes::Bytes::len).max();
    assert!(largest.is_some_and(|bytes| bytes < 1_000_000), "{largest:?}");
}
