//! Members and consumers that say too much are refused by the code that Kafka gives them, and nobody else notices.

use tidemark_tests::clients::{eventually, unique};
use tidemark_tests::raw::groups::*;
use tidemark_tests::raw::{code, ready_topic};

/// Names that no topic has.
fn names(count: usize, length: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:0length$}")).collect()
}

#[test]
fn ten_thousand_subscriptions_of_a_consumer_are_taken_or_refused_and_harm_nobody() {
    let (topic, described) = ready_topic("limits", 3);
    let group = unique("limits");
    let mut quiet = Consumer::new(&group, &[&topic]);
    eventually("the first member to have all", || {
        quiet.beat_well();
        quiet.count() == 3
    });
    // As many as come to less than a record of Kafka's, and with the longest names that topics can have.
    for (length, expected) in [(20, code::NONE), (249, code::UNKNOWN_SERVER_ERROR)] {
        let greedy = ConsumerHeartbeat { topics: Some(names(10_000, length)), ..Consumer::joining(&group) };
        let answer = greedy.call(&mut coordinator(&group), CONSUMER_HEARTBEAT.1);
        assert_eq!(answer.error, expected, "names of {length}: {:?}", answer.message);
        quiet.beat_well();
        assert_eq!(quiet.count(), 3);
    }
    let topic = TopicRef { name: topic, id: described.id };
    assert_eq!(quiet.commit().offset(&topic, 0, 7).call(&mut quiet.connection, COMMIT.1), [code::NONE]);
}

#[test]
fn ten_thousand_subscriptions_of_a_classic_member_are_refused_at_the_latest_when_it_syncs() {
    let mut quiet = [Classic::new(&unique("limits-quiet"))];
    stable(&mut quiet);
    let names = names(10_000, 249);
    let metadata = subscription(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut greedy = Classic::new(&unique("limits"));
    greedy.join.protocols = vec![("range".to_owned(), metadata)];
    assert_eq!(refusal(&mut greedy), code::UNKNOWN_SERVER_ERROR);
    assert_eq!(quiet[0].heartbeat(), code::NONE);
}

/// Kafka keeps a join in memory, and finds that it cannot store it when the group becomes stable.
fn refusal(member: &mut Classic) -> i16 {
    let mut joined = member.join.call(&mut member.connection, JOIN.1);
    if joined.error == code::MEMBER_ID_REQUIRED {
        member.join.member.clone_from(&joined.member);
        joined = member.join.call(&mut member.connection, JOIN.1);
    }
    if joined.error != code::NONE {
        return joined.error;
    }
    member.generation = joined.generation;
    member.sync(&[(member.join.member.clone(), vec![0])]).error
}

#[test]
fn the_longest_metadata_that_a_request_takes_is_refused_for_its_partition_alone() {
    let (name, described) = ready_topic("limits", 2);
    let (group, topic) = (unique("limits"), TopicRef { name, id: described.id });
    let mut connection = coordinator(&group);
    let commit = Commit::alone(&group)
        .entry(&topic, ToCommit { metadata: Some("x".repeat(i16::MAX as usize)), ..ToCommit::new(0, 1) })
        .offset(&topic, 1, 1);
    for version in 2..=COMMIT.1 {
        assert_eq!(commit.call(&mut connection, version), [code::OFFSET_METADATA_TOO_LARGE, code::NONE]);
    }
    assert_eq!(committed_offset(&mut connection, &group, &topic, 0).offset, -1);
    assert_eq!(committed_offset(&mut connection, &group, &topic, 1).offset, 1);
}
