//! librdkafka in groups: the classic protocol, eager and cooperative, and KIP-848.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::admin::NewPartitions;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};
use tidemark_tests::clients::*;
use tidemark_tests::raw;
use tidemark_tests::raw::groups::{coordinator, describe_consumers, describe_group};

const CLASSIC: &[(&str, &str)] = &[("partition.assignment.strategy", "range")];
const COOPERATIVE: &[(&str, &str)] = &[("partition.assignment.strategy", "cooperative-sticky")];
const CONSUMER: &[(&str, &str)] = &[("group.protocol", "consumer")];

const PROTOCOLS: [&[(&str, &str)]; 3] = [CLASSIC, COOPERATIVE, CONSUMER];

/// A member that begins at the start of what it has no offset for, and commits only when told to.
fn member(group: &str, settings: &[(&str, &str)]) -> BaseConsumer {
    let base = [("group.id", group), ("auto.offset.reset", "earliest"), ("topic.metadata.refresh.interval.ms", "1000")];
    consumer(&[&base, settings].concat())
}

/// Polls members until a condition holds of what they own, and keeps what they read.
fn poll_until(
    members: &[&BaseConsumer],
    what: &str,
    mut condition: impl FnMut(&[usize], &[(i32, i64)]) -> bool,
) -> Vec<(i32, i64)> {
    let mut read = Vec::new();
    eventually(what, || {
        for member in members {
            match member.poll(Duration::from_millis(20)) {
                Some(Ok(message)) => read.push((message.partition(), message.offset())),
                Some(Err(error)) => assert!(is_passing(&error), "{error}"),
                None => {}
            }
        }
        condition(&shares(members), &read)
    });
    read
}

/// What librdkafka tells of while it mends itself.
fn is_passing(error: &KafkaError) -> bool {
    let KafkaError::MessageConsumption(code) = error else { return false };
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::CoordinatorNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::NotCoordinator
            | Code::OperationTimedOut
            | Code::UnknownTopicOrPartition
    )
}

fn owned(member: &BaseConsumer) -> Vec<(String, i32)> {
    let list = member.assignment().expect("a consumer knows what it owns");
    let mut owned: Vec<_> =
        list.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect();
    owned.sort_unstable();
    owned
}

fn shares(members: &[&BaseConsumer]) -> Vec<usize> {
    let mut shares: Vec<usize> = members.iter().map(|member| owned(member).len()).collect();
    shares.sort_unstable();
    shares
}

/// A topic with so many records in each of its partitions.
fn filled(prefix: &str, partitions: i32, each: i32) -> String {
    let topic = topic(prefix, partitions);
    let records: Vec<_> = (0..partitions * each).map(|n| Record::new(n.to_string()).to(n % partitions)).collect();
    produce(&producer(&[]), &topic, &records);
    topic
}

fn list(topic: &str, offsets: &[(i32, i64)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset)).expect("a valid offset");
    }
    list
}

/// Committed offsets of some partitions; none is -1.
fn committed(consumer: &BaseConsumer, topic: &str, partitions: i32) -> Vec<i64> {
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, partitions - 1);
    let list = consumer.committed_offsets(list, PATIENCE).expect("the offsets are told");
    let offset = |offset| if let Offset::Offset(offset) = offset { offset } else { -1 };
    list.elements().iter().map(|element| offset(element.offset())).collect()
}

#[test]
fn a_group_of_one_reads_all_and_goes_on_where_it_was_after_a_restart() {
    for protocol in PROTOCOLS {
        let topic = filled("resume", 3, 10);
        let group = unique("resume");
        let first = member(&group, protocol);
        first.subscribe(&[&topic]).expect("the subscription is taken");
        let read = poll_until(&[&first], "all to be read", |_, read| read.len() >= 30);
        assert_eq!(read.iter().collect::<BTreeSet<_>>().len(), 30, "each once");
        first.commit(&list(&topic, &[(0, 10), (1, 4), (2, 0)]), CommitMode::Sync).expect("a good commit");
        assert_eq!(committed(&first, &topic, 3), [10, 4, 0]);
        drop(first);

        let second = member(&group, protocol);
        second.subscribe(&[&topic]).expect("the subscription is taken");
        let read = poll_until(&[&second], "the rest to be read", |_, read| read.len() >= 16);
        let mut firsts: BTreeMap<i32, i64> = BTreeMap::new();
        for (partition, offset) in read {
            firsts.entry(partition).or_insert(offset);
        }
        assert_eq!(firsts, [(1, 4), (2, 0)].into(), "{protocol:?}");
    }
}

#[test]
fn members_share_as_they_come_and_go() {
    for protocol in PROTOCOLS {
        let topic = filled("members", 12, 1);
        let group = unique("members");
        let mut members = Vec::new();
        for expected in [vec![12], vec![6, 6], vec![4, 4, 4]] {
            let next = member(&group, protocol);
            next.subscribe(&[&topic]).expect("the subscription is taken");
            members.push(next);
            let all: Vec<&BaseConsumer> = members.iter().collect();
            poll_until(&all, "all to have their shares", |shares, _| *shares == expected);
            let owned: BTreeSet<_> = members.iter().flat_map(owned).collect();
            assert_eq!(owned.len(), 12, "{protocol:?}");
        }
        // Closing one that others wait for takes a poll of those others.
        let leaving = members.remove(0);
        let closing = std::thread::spawn(move || drop(leaving));
        let all: Vec<&BaseConsumer> = members.iter().collect();
        poll_until(&all, "the others to take over", |shares, _| *shares == [6, 6]);
        closing.join().expect("it leaves");
    }
}

#[test]
fn commits_without_waiting_arrive_too_and_automatic_ones() {
    for protocol in PROTOCOLS {
        let topic = filled("async", 2, 10);
        let group = unique("async");
        let first = member(&group, protocol);
        first.subscribe(&[&topic]).expect("the subscription is taken");
        poll_until(&[&first], "all to be read", |_, read| read.len() >= 20);
        for offset in 1..=7 {
            first.commit(&list(&topic, &[(0, offset)]), CommitMode::Async).expect("the commit is sent");
        }
        poll_until(&[&first], "the last to count", |_, _| committed(&first, &topic, 2) == [7, -1]);
        drop(first);

        let settings = [protocol, &[("enable.auto.commit", "true"), ("auto.commit.interval.ms", "100")]].concat();
        let second = member(&group, &settings);
        second.subscribe(&[&topic]).expect("the subscription is taken");
        poll_until(&[&second], "all to be committed", |_, _| committed(&second, &topic, 2) == [10, 10]);
    }
}

#[test]
fn what_it_has_read_is_committed_when_it_leaves() {
    for protocol in PROTOCOLS {
        let topic = filled("close", 1, 10);
        let group = unique("close");
        // Long enough that only its end commits.
        let settings = [protocol, &[("enable.auto.commit", "true"), ("auto.commit.interval.ms", "600000")]].concat();
        let first = member(&group, &settings);
        first.subscribe(&[&topic]).expect("the subscription is taken");
        poll_until(&[&first], "all to be read", |_, read| read.len() >= 10);
        drop(first);
        assert_eq!(committed(&member(&group, protocol), &topic, 1), [10], "{protocol:?}");
    }
}

#[test]
fn a_stand_alone_consumer_commits_without_being_a_member() {
    let topic = filled("alone", 2, 10);
    let group = unique("alone");
    let alone = member(&group, &[]);
    alone.assign(&list(&topic, &[(0, 3), (1, 5)])).expect("the assignment is taken");
    let read = poll_until(&[&alone], "the rest to be read", |_, read| read.len() >= 12);
    assert_eq!(read.iter().filter(|(partition, _)| *partition == 0).map(|(_, offset)| *offset).min(), Some(3));
    alone.commit(&list(&topic, &[(0, 10), (1, 9)]), CommitMode::Sync).expect("a good commit");
    assert_eq!(committed(&alone, &topic, 2), [10, 9]);
    assert_eq!(describe_group(&mut coordinator(&group), &group).state, "Empty");
    // Somebody who is nobody in a group that has members is refused.
    let first = member(&group, CLASSIC);
    first.subscribe(&[&topic]).expect("the subscription is taken");
    poll_until(&[&first], "the member to have all", |shares, _| *shares == [2]);
    let refused = alone.commit(&list(&topic, &[(0, 1)]), CommitMode::Sync);
    assert_eq!(refused, Err(KafkaError::ConsumerCommit(Code::UnknownMemberId)));
    assert_eq!(committed(&alone, &topic, 2), [10, 9]);
}

#[test]
fn new_partitions_reach_the_group() {
    for protocol in PROTOCOLS {
        let topic = filled("wider", 2, 1);
        let group = unique("wider");
        let members = [member(&group, protocol), member(&group, protocol)];
        let all: Vec<&BaseConsumer> = members.iter().collect();
        for member in &members {
            member.subscribe(&[&topic]).expect("the subscription is taken");
        }
        poll_until(&all, "both to have one", |shares, _| *shares == [1, 1]);
        let new = NewPartitions::new(&topic, 6);
        let grown = block_on(admin().create_partitions([&new], &admin_options())).expect("the request is answered");
        assert_eq!(grown.len(), 1);
        assert!(grown[0].is_ok(), "{grown:?}");
        raw::await_leaders(&topic, 6);
        poll_until(&all, "both to have three", |shares, _| *shares == [3, 3]);
        produce(&producer(&[]), &topic, &[Record::new("new").to(5)]);
        poll_until(&all, "a record of a new partition", |_, read| read.contains(&(5, 0)));
    }
}

#[test]
fn a_pattern_finds_topics_that_come_later() {
    for protocol in PROTOCOLS {
        let prefix = unique("pattern");
        let named = |name: &str| format!("{prefix}-{name}");
        create(&named("a"), 2, &[]).expect("the topic is created");
        let reader = member(&unique("pattern"), protocol);
        reader.subscribe(&[&format!("^{prefix}-.*")]).expect("the subscription is taken");
        poll_until(&[&reader], "the first topic", |shares, _| *shares == [2]);
        create(&named("b"), 3, &[]).expect("the topic is created");
        poll_until(&[&reader], "the second topic", |shares, _| *shares == [5]);
    }
}

#[test]
fn a_static_member_that_restarts_disturbs_nobody() {
    for protocol in PROTOCOLS {
        let topic = filled("restart", 4, 1);
        let group = unique("restart");
        let named = |instance: &str| {
            let settings = [protocol, &[("group.instance.id", instance)]].concat();
            let member = member(&group, &settings);
            member.subscribe(&[&topic]).expect("the subscription is taken");
            member
        };
        let (one, two) = (named("one"), named("two"));
        poll_until(&[&one, &two], "both to have two", |shares, _| *shares == [2, 2]);
        let (kept, had) = (owned(&one), owned(&two));
        drop(two);
        let two = named("two");
        poll_until(&[&one, &two], "it to have what it had", |_, _| owned(&two) == had);
        assert_eq!(owned(&one), kept);
    }
}

#[test]
fn a_live_group_goes_over_to_the_newer_protocol_and_back() {
    let topic = filled("upgrade", 4, 5);
    let group = unique("upgrade");
    let subscribed = |settings: &[(&str, &str)]| {
        let member = member(&group, settings);
        member.subscribe(&[&topic]).expect("the subscription is taken");
        member
    };
    let kind = || {
        let mut connection = coordinator(&group);
        let described = describe_consumers(&mut connection, 1, &[&group]).remove(0);
        if described.error == 0 { "consumer" } else { "classic" }
    };
    // With the cooperative assignor librdkafka's members say more than the newer protocol could keep, and are refused.
    let (a, b) = (subscribed(CLASSIC), subscribed(CLASSIC));
    let first = poll_until(&[&a, &b], "all to be read", |shares, read| *shares == [2, 2] && read.len() >= 20);
    a.commit(&list(&topic, &[(0, 5), (1, 5), (2, 5), (3, 5)]), CommitMode::Sync).expect("a good commit");
    assert!(first.len() >= 20);
    assert_eq!(kind(), "classic");

    // One after the other is replaced by one of the newer protocol.
    let c = subscribed(CONSUMER);
    poll_until(&[&a, &b, &c], "three to share", |shares, _| *shares == [1, 1, 2]);
    assert_eq!(kind(), "consumer");
    let described = describe_consumers(&mut coordinator(&group), 1, &[&group]).remove(0);
    let mut kinds: Vec<i8> = described.members.iter().map(|member| member.kind).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [0, 0, 1], "two members speak the older one");
    let leaving = std::thread::spawn(move || drop((a, b)));
    poll_until(&[&c], "the newer one to have all", |shares, _| *shares == [4]);
    leaving.join().expect("they leave");

    produce(&producer(&[]), &topic, &[Record::new("more").to(2)]);
    let read = poll_until(&[&c], "what is new", |_, read| !read.is_empty());
    assert_eq!(read, [(2, 5)], "nothing is read twice");
    c.commit(&list(&topic, &[(2, 6)]), CommitMode::Sync).expect("a good commit");

    // And back.
    let d = subscribed(CLASSIC);
    poll_until(&[&c, &d], "both to share", |shares, _| *shares == [2, 2]);
    assert_eq!(kind(), "consumer");
    let leaving = std::thread::spawn(move || drop(c));
    poll_until(&[&d], "the older one to have all", |shares, _| *shares == [4]);
    leaving.join().expect("it leaves");
    eventually("the group to be of the older kind", || {
        let _ = d.poll(Duration::from_millis(20));
        kind() == "classic"
    });
    assert_eq!(committed(&d, &topic, 4), [5, 5, 6, 5]);
}
