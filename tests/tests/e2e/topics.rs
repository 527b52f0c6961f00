//! Topics are created, described, widened and deleted as Kafka does it.

use rdkafka::admin::{NewPartitions, NewTopic, TopicReplication};
use rdkafka::consumer::Consumer as _;
use rdkafka::types::RDKafkaErrorCode as Code;
use tidemark_tests::clients::*;
use tidemark_tests::raw::{self, code};

fn delete(topic: &str) -> Result<(), Code> {
    let results = block_on(admin().delete_topics(&[topic], &admin_options())).expect("the request is answered");
    results.into_iter().next().expect("one result").map(drop).map_err(|(_, code)| code)
}

fn widen(topic: &str, to: usize) -> Result<(), Code> {
    let new = NewPartitions::new(topic, to);
    let results = block_on(admin().create_partitions([&new], &admin_options())).expect("the request is answered");
    results.into_iter().next().expect("one result").map(drop).map_err(|(_, code)| code)
}

#[test]
fn a_topic_with_six_partitions_is_in_the_metadata() {
    let name = topic("six", 6);
    raw::await_leaders(&name, 6);
    let metadata = consumer(&[]).fetch_metadata(Some(&name), PATIENCE).expect("metadata");
    let partitions = metadata.topics()[0].partitions();
    let mut ids: Vec<i32> = partitions.iter().map(|partition| partition.id()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [0, 1, 2, 3, 4, 5]);
    let brokers: Vec<i32> = metadata.brokers().iter().map(|broker| broker.id()).collect();
    for partition in partitions {
        assert_eq!(partition.error(), None);
        assert!(brokers.contains(&partition.leader()), "the leader is a broker that can be connected to");
        assert_eq!(partition.replicas(), [partition.leader()], "one replica was asked for");
        assert_eq!(partition.isr(), [partition.leader()]);
    }
}

#[test]
fn the_list_of_all_topics_holds_a_new_one() {
    let name = topic("listed", 1);
    eventually("the topic to be listed", || {
        let metadata = consumer(&[]).fetch_metadata(None, PATIENCE).expect("metadata");
        metadata.topics().iter().any(|topic| topic.name() == name)
    });
}

#[test]
fn a_topic_exists_once() {
    let name = topic("once", 1);
    assert_eq!(create(&name, 1, &[]), Err(Code::TopicAlreadyExists));
}

#[test]
fn what_cannot_be_created_is_refused_by_kind() {
    assert_eq!(create("no spaces", 1, &[]), Err(Code::InvalidTopic));
    assert_eq!(create(&"x".repeat(250), 1, &[]), Err(Code::InvalidTopic));
    assert_eq!(create("..", 1, &[]), Err(Code::InvalidTopic));
    assert_eq!(create(&unique("bad-config"), 1, &[("retention.ms", "soon")]), Err(Code::InvalidConfig));
    assert_eq!(create(&unique("no-config"), 1, &[("retention.parsecs", "1")]), Err(Code::InvalidConfig));
    let name = unique("replicas");
    let result =
        block_on(admin().create_topics([&NewTopic::new(&name, 1, TopicReplication::Fixed(77))], &admin_options()));
    assert_eq!(result.expect("an answer")[0].as_ref().map_err(|(_, code)| *code), Err(Code::InvalidReplicationFactor));
    assert_eq!(raw::describe_topic(&name).error, code::UNKNOWN_TOPIC_OR_PARTITION, "nothing of it was created");
}

#[test]
fn validate_only_creates_nothing() {
    let name = unique("dry-run");
    let new = NewTopic::new(&name, 3, TopicReplication::Fixed(1));
    let results = block_on(admin().create_topics([&new], &admin_options().validate_only(true))).expect("an answer");
    assert_eq!(results[0].as_ref().map(String::as_str), Ok(name.as_str()));
    assert_eq!(raw::describe_topic(&name).error, code::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn a_topic_is_created_by_its_first_record() {
    let name = unique("auto");
    let sent = produce(&producer(&[]), &name, &[Record::new("first")]);
    assert_eq!(sent[0].offset, 0);
    let all = read(&[(&name, sent[0].partition, rdkafka::Offset::Beginning)]);
    assert_eq!(all.values().next().expect("one partition")[0].value, "first");
}

#[test]
fn asking_for_an_unknown_topic_does_not_create_it_unless_the_client_allows() {
    let name = unique("unknown");
    assert_eq!(raw::describe_topic(&name).error, code::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(raw::describe_topic(&name).error, code::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(raw::describe_topic("not a name").error, code::INVALID_TOPIC);
}

#[test]
fn a_deleted_topic_is_gone_and_its_name_begins_anew() {
    let name = topic("deleted", 2);
    let before = raw::await_leaders(&name, 2);
    produce(&producer(&[]), &name, &[Record::new("old").to(0), Record::new("old").to(1)]);
    assert_eq!(delete(&name), Ok(()));
    eventually("the topic to be gone", || raw::describe_topic(&name).error == code::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(delete(&name), Err(Code::UnknownTopicOrPartition));

    eventually("the name to be free", || create(&name, 1, &[]) == Ok(()));
    let after = raw::await_leaders(&name, 1);
    assert_ne!(before.id, after.id, "the new topic is another one");
    let sent = produce(&producer(&[]), &name, &[Record::new("new").to(0)]);
    assert_eq!(sent[0].offset, 0);
    let values: Vec<_> = read_topic(&name, 1).remove(0).into_iter().map(|record| record.value).collect();
    assert_eq!(values, ["new"]);
}

#[test]
fn partitions_are_added_and_never_taken_away() {
    let name = topic("widened", 2);
    produce(&producer(&[]), &name, &[Record::new("kept").to(1)]);
    assert_eq!(widen(&name, 5), Ok(()));
    raw::await_leaders(&name, 5);
    let sent = produce(&producer(&[]), &name, &[Record::new("in the new one").to(4)]);
    assert_eq!((sent[0].partition, sent[0].offset), (4, 0));
    let all = read_topic(&name, 5);
    let values: Vec<Vec<&str>> =
        all.iter().map(|records| records.iter().map(|record| record.value.as_str()).collect()).collect();
    assert_eq!(values, [vec![], vec!["kept"], vec![], vec![], vec!["in the new one"]]);

    assert_eq!(widen(&name, 5), Err(Code::InvalidPartitions));
    assert_eq!(widen(&name, 3), Err(Code::InvalidPartitions));
    assert_eq!(widen(&unique("nowhere"), 3), Err(Code::UnknownTopicOrPartition));
}
