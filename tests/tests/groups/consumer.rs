//! KIP-848, message by message.

use std::collections::BTreeSet;

use rdkafka::admin::NewPartitions;
use tidemark_tests::clients::{admin, admin_options, block_on, create, eventually, unique};
use tidemark_tests::raw::groups::*;
use tidemark_tests::raw::{self, Connection, code};

/// A topic with its id.
fn topic(prefix: &str, partitions: i32) -> TopicRef {
    let (name, topic) = raw::ready_topic(prefix, partitions);
    TopicRef { name, id: topic.id }
}

/// Lets the members go on until the condition holds of them. At no time do two of them own the same partition.
fn settle(members: &mut [Consumer], what: &str, condition: impl Fn(&[Consumer]) -> bool) {
    eventually(what, || {
        for at in 0..members.len() {
            members[at].beat_well();
            let mut all = BTreeSet::new();
            for (id, partition) in members.iter().flat_map(owned) {
                assert!(all.insert((id, partition)), "partition {partition} has two owners");
            }
        }
        condition(members)
    });
}

fn owned(member: &Consumer) -> impl Iterator<Item = ([u8; 16], i32)> {
    member.owned.iter().flat_map(|(id, partitions)| partitions.iter().map(|partition| (*id, *partition)))
}

fn counts(members: &[Consumer]) -> Vec<usize> {
    let mut counts: Vec<usize> = members.iter().map(Consumer::count).collect();
    counts.sort_unstable();
    counts
}

#[test]
fn members_that_come_share_and_those_that_leave_give_back() {
    let topic = topic("share", 12);
    let group = unique("share");
    let mut members = vec![Consumer::new(&group, &[&topic.name])];
    let first = members[0].beat();
    assert_eq!((first.error, first.epoch > 0, first.interval_ms), (code::NONE, true, 5000));
    assert_eq!(first.member.as_ref(), Some(&members[0].first.member), "the id is the one that the member made");
    settle(&mut members, "one member to have all", |members| counts(members) == [12]);
    for expected in [vec![6, 6], vec![4, 4, 4], vec![3, 3, 3, 3]] {
        members.push(Consumer::new(&group, &[&topic.name]));
        settle(&mut members, "all to have their shares", |members| counts(members) == expected);
    }
    let epochs: BTreeSet<i32> = members.iter().map(|member| member.epoch).collect();
    assert_eq!(epochs.len(), 1, "all are at the group's epoch: {epochs:?}");
    for expected in [vec![4, 4, 4], vec![6, 6], vec![12]] {
        let left = members.remove(0).leave(-1);
        assert_eq!((left.error, left.epoch), (code::NONE, -1));
        settle(&mut members, "the others to take over", |members| counts(members) == expected);
    }
    assert_eq!(members[0].leave(-1).error, code::NONE);
    assert_eq!(describe_consumers(&mut members[0].connection, 1, &[&group])[0].state, "Empty");
}

#[test]
fn a_partition_goes_to_its_new_owner_only_once_the_old_one_has_let_go() {
    let topic = topic("revoke", 2);
    let group = unique("revoke");
    let mut members = vec![Consumer::new(&group, &[&topic.name])];
    settle(&mut members, "one member to have both", |members| counts(members) == [2]);
    let mut second = Consumer::new(&group, &[&topic.name]);
    second.beat_well();
    let first = &mut members[0];
    eventually("the first to be asked for one of them", || {
        let answer = ConsumerHeartbeat { owned: None, ..first.quiet() }.call(&mut first.connection, 1);
        assert_eq!(answer.error, code::NONE);
        second.beat_well();
        assert_eq!(second.count(), 0, "the first has not said that it has let go");
        answer.assignment.is_some_and(|assignment| {
            first.owned = assignment;
            first.count() == 1
        })
    });
    second.beat_well();
    assert_eq!(second.count(), 0);
    assert_eq!(describe_consumers(&mut second.connection, 1, &[&group])[0].state, "Reconciling");
    let said = ConsumerHeartbeat { owned: Some(first.owned.clone()), ..first.quiet() };
    assert_eq!(said.call(&mut first.connection, 1).error, code::NONE);
    eventually("the second to get what was let go", || {
        second.beat_well();
        second.count() == 1
    });
    assert_ne!(first.owned, second.owned);
}

#[test]
fn who_does_not_let_go_in_time_is_fenced() {
    let topic = topic("clinging", 2);
    let group = unique("clinging");
    let mut first = Consumer::new(&group, &[&topic.name]);
    first.first.rebalance_ms = 1000;
    eventually("the first to have both", || {
        first.beat_well();
        first.count() == 2
    });
    first.beat_well();
    let mut second = Consumer::new(&group, &[&topic.name]);
    eventually("the second to have both", || {
        second.beat_well();
        let mut quiet = first.quiet();
        quiet.owned = None;
        quiet.call(&mut first.connection, 1);
        second.count() == 2
    });
    assert_eq!(first.beat().error, code::UNKNOWN_MEMBER_ID);
}

#[test]
fn the_server_assigns_by_the_assignor_that_is_asked_for() {
    let topics = [topic("assignor", 3), topic("assignor", 3)];
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    for (assignor, expected) in [("range", vec![2, 4]), ("uniform", vec![3, 3])] {
        let group = unique("assignor");
        let mut members: Vec<Consumer> = (0..2)
            .map(|_| {
                let mut member = Consumer::new(&group, &names);
                member.first.assignor = Some(assignor.to_owned());
                member
            })
            .collect();
        settle(&mut members, "both to have their shares", |members| counts(members) == expected);
        assert_eq!(describe_consumers(&mut members[0].connection, 1, &[&group])[0].assignor, assignor);
    }
    let mut strange = Consumer::new(&unique("assignor"), &names);
    strange.first.assignor = Some("astrology".to_owned());
    assert_eq!(strange.beat().error, code::UNSUPPORTED_ASSIGNOR);
}

#[test]
fn epochs_fence() {
    let topic = topic("epochs", 2);
    let group = unique("epochs");
    let mut members = vec![Consumer::new(&group, &[&topic.name])];
    settle(&mut members, "the member to have both", |members| counts(members) == [2]);
    let member = &mut members[0];
    member.beat_well();
    let future = ConsumerHeartbeat { epoch: member.epoch + 1, ..member.quiet() };
    assert_eq!(future.call(&mut member.connection, 1).error, code::FENCED_MEMBER_EPOCH);
    let unknown = ConsumerHeartbeat { member: unique("nobody"), ..member.quiet() };
    assert_eq!(unknown.call(&mut member.connection, 1).error, code::UNKNOWN_MEMBER_ID);

    let commit = member.commit().offset(&topic, 0, 5);
    assert_eq!(commit.call(&mut member.connection, COMMIT.1), [code::NONE]);
    let mut stale = commit.clone();
    stale.who.generation -= 1;
    assert_eq!(stale.call(&mut member.connection, COMMIT.1), [code::STALE_MEMBER_EPOCH]);
    assert_eq!(stale.call(&mut member.connection, 8), [code::UNSUPPORTED_VERSION], "before there was a code for it");
    let mut nobody = commit.clone();
    nobody.who.member = "nobody".to_owned();
    assert_eq!(nobody.call(&mut member.connection, COMMIT.1), [code::UNKNOWN_MEMBER_ID]);
    let alone = Commit::alone(&group).offset(&topic, 0, 5);
    assert_eq!(alone.call(&mut member.connection, COMMIT.1), [code::UNKNOWN_MEMBER_ID], "the group has members");

    let fetch = |member: &mut Consumer, id: &str, epoch: i32| {
        let of = FetchOf { member: Some((id.to_owned(), epoch)), ..FetchOf::partitions(&group, &topic, &[0]) };
        fetch_offsets(&mut member.connection, FETCH.1, &[of]).remove(0)
    };
    let (id, epoch) = (member.first.member.clone(), member.epoch);
    let good = fetch(member, &id, epoch);
    assert_eq!((good.error, good.offsets[0].offset), (code::NONE, 5));
    assert_eq!(fetch(member, &id, epoch - 1).error, code::STALE_MEMBER_EPOCH);
    assert_eq!(fetch(member, "nobody", epoch).error, code::UNKNOWN_MEMBER_ID);
    assert_eq!(committed_offset(&mut member.connection, &group, &topic, 0).offset, 5, "who is no member may ask");
}

#[test]
fn a_member_that_joins_again_begins_anew() {
    let topic = topic("again", 2);
    let group = unique("again");
    let mut members = vec![Consumer::new(&group, &[&topic.name])];
    settle(&mut members, "the member to have both", |members| counts(members) == [2]);
    let first = members[0].first.clone();
    let answer = first.call(&mut members[0].connection, 1);
    assert_eq!(answer.error, code::NONE);
    assert_eq!(answer.assignment.map(|assignment| assignment.values().map(BTreeSet::len).sum()), Some(2_usize));
    assert_eq!(describe_consumers(&mut members[0].connection, 1, &[&group])[0].members.len(), 1);
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let topic = topic("static848", 4);
    let group = unique("static848");
    let named = |instance: &str| {
        let mut member = Consumer::new(&group, &[&topic.name]);
        member.first.instance = Some(instance.to_owned());
        member
    };
    let mut members = vec![named("one"), named("two")];
    settle(&mut members, "both to have their shares", |members| counts(members) == [2, 2]);
    members[1].beat_well();
    let mut early = named("two");
    assert_eq!(early.beat().error, code::UNRELEASED_INSTANCE_ID, "the one that has the name is still there");

    let had = members[1].owned.clone();
    let epoch = members[0].epoch;
    let mut gone = members.pop().expect("there are two");
    let left = gone.leave(-2);
    assert_eq!((left.error, left.epoch), (code::NONE, -2));
    members[0].beat_well();
    assert_eq!(members[0].count(), 2, "nothing is taken over from one that comes back");
    members.push(named("two"));
    settle(&mut members, "it to have what it had", |members| members[1].owned == had);
    assert_eq!(members[0].epoch, epoch, "nobody was disturbed");
}

#[test]
fn new_partitions_and_new_topics_reach_the_group() {
    let topic = topic("grows", 2);
    let (group, later) = (unique("grows"), unique("later"));
    let mut members: Vec<Consumer> = (0..2).map(|_| Consumer::new(&group, &[&topic.name, &later])).collect();
    settle(&mut members, "both to have their shares", |members| counts(members) == [1, 1]);
    let new = NewPartitions::new(&topic.name, 6);
    block_on(admin().create_partitions([&new], &admin_options())).expect("the request is answered")[0]
        .as_ref()
        .expect("the topic grows");
    settle(&mut members, "the new partitions to be owned", |members| counts(members) == [3, 3]);
    create(&later, 4, &[]).expect("the topic is created");
    settle(&mut members, "the new topic to be owned", |members| counts(members) == [5, 5]);
    block_on(admin().delete_topics(&[&later], &admin_options())).expect("the request is answered")[0]
        .as_ref()
        .expect("the topic is deleted");
    settle(&mut members, "the deleted topic to be let go", |members| counts(members) == [3, 3]);
}

#[test]
fn a_regex_is_evaluated_by_the_server() {
    let prefix = unique("regex");
    for (name, partitions) in [("a1", 2), ("a2", 2), ("b1", 8)] {
        create(&format!("{prefix}-{name}"), partitions, &[]).expect("the topic is created");
    }
    let group = unique("regex");
    let pattern = format!("{prefix}-a[0-9]");
    let mut members = vec![Consumer::matching(&group, &pattern)];
    settle(&mut members, "what matches to be owned", |members| counts(members) == [4]);
    let described = describe_consumers(&mut members[0].connection, 1, &[&group]).remove(0);
    assert_eq!(described.members[0].regex.as_deref(), Some(pattern.as_str()));
    // The whole name has to match, and what comes later counts too.
    create(&format!("{prefix}-a12"), 8, &[]).expect("the topic is created");
    create(&format!("{prefix}-a3"), 1, &[]).expect("the topic is created");
    settle(&mut members, "the new topic to be owned", |members| counts(members) == [5]);

    let changed = ConsumerHeartbeat { regex: Some(format!("{prefix}-(b|x)1")), ..members[0].quiet() };
    assert_eq!(members[0].say(&changed).error, code::NONE);
    settle(&mut members, "the other topic to be owned", |members| counts(members) == [8]);
    let none = ConsumerHeartbeat { regex: Some(String::new()), ..members[0].quiet() };
    assert_eq!(members[0].say(&none).error, code::NONE);
    settle(&mut members, "nothing to be owned", |members| counts(members) == [0]);
}

#[test]
fn a_regex_that_is_none_is_refused_and_a_hostile_one_costs_little() {
    for bad in ["(", "a{2,1}", "[z-a]", r"(?=look)", r"(a)\1", "*"] {
        assert_eq!(Consumer::matching(&unique("bad"), bad).beat().error, code::INVALID_REGULAR_EXPRESSION, "{bad}");
    }
    // Exponential for engines that backtrack.
    let name = format!("{}-{}", unique("hostile"), "a".repeat(60));
    create(&name, 1, &[]).expect("the topic is created");
    let mut members = [Consumer::matching(&unique("hostile"), ".*hostile.*-(a|aa|a*)*b")];
    members[0].beat_well();
    let mut others = vec![Consumer::matching(&unique("hostile"), &format!("{name}|(a+)+"))];
    settle(&mut others, "another group to be served", |members| counts(members) == [1]);
    members[0].beat_well();
    assert_eq!(members[0].count(), 0);
}

#[test]
fn what_no_member_may_say() {
    let topic = topic("invalid", 1);
    let group = unique("invalid");
    let mut connection = coordinator(&group);
    let good = Consumer::new(&group, &[&topic.name]).first;
    let refused = |what: &str, change: &dyn Fn(&mut ConsumerHeartbeat)| {
        let mut request = good.clone();
        change(&mut request);
        // The group without a name may have another coordinator.
        let answer = request.call(&mut coordinator(&request.group), 1);
        assert_eq!(answer.error, code::INVALID_REQUEST, "{what}: {answer:?}");
    };
    refused("no group", &|request| request.group = String::new());
    refused("no member id", &|request| request.member = String::new());
    refused("an empty instance", &|request| request.instance = Some(String::new()));
    refused("an empty rack", &|request| request.rack = Some(String::new()));
    refused("no rebalance timeout", &|request| request.rebalance_ms = -1);
    refused("no partitions to start with", &|request| request.owned = None);
    refused("partitions to start with", &|request| {
        request.owned = Some([(topic.id, [0].into())].into());
    });
    refused("no subscription", &|request| request.topics = None);
    refused("an epoch below all", &|request| request.epoch = -3);
    refused("static without an instance", &|request| request.epoch = -2);
    assert_eq!(
        describe_consumers(&mut connection, 1, &[&group])[0].error,
        code::GROUP_ID_NOT_FOUND,
        "nothing came of it"
    );
    // In the first version the coordinator makes the id.
    let made = ConsumerHeartbeat { member: String::new(), ..good }.call(&mut connection, 0);
    assert_eq!(made.error, code::NONE);
    assert!(made.member.is_some_and(|member| !member.is_empty()));
}

#[test]
fn a_member_that_lies_harms_nobody() {
    let topic = topic("lies", 4);
    let group = unique("lies");
    let mut members: Vec<Consumer> = (0..2).map(|_| Consumer::new(&group, &[&topic.name])).collect();
    settle(&mut members, "both to have their shares", |members| counts(members) == [2, 2]);
    members[0].beat_well();
    // It says that it owns what the other one has, and what does not exist.
    let all = [(topic.id, (0..100).collect()), ([7; 16], [1].into())].into();
    let lie = ConsumerHeartbeat { owned: Some(all), ..members[0].quiet() };
    let answer = members[0].say(&lie);
    assert_eq!(answer.error, code::NONE, "{answer:?}");
    settle(&mut members, "both to have their shares", |members| counts(members) == [2, 2]);

    // Ten thousand subscriptions to nothing.
    let names: Vec<String> = (0..10_000).map(|number| format!("no-such-{number}")).collect();
    let many = ConsumerHeartbeat { topics: Some(names), ..members[0].quiet() };
    assert_eq!(members[0].say(&many).error, code::NONE);
    settle(&mut members, "the other to have all", |members| members[0].count() == 0 && members[1].count() == 4);
    let described = describe_consumers(&mut members[1].connection, 1, &[&group]).remove(0);
    assert!(described.members.iter().any(|member| member.topics.len() == 10_000));
}

#[test]
fn the_intervals_of_a_group_are_its_configs() {
    let topic = topic("intervals", 1);
    let group = unique("intervals");
    let mut member = Consumer::new(&group, &[&topic.name]);
    assert_eq!(member.beat().interval_ms, 5000);
    let mut connection = Connection::open(&tidemark_tests::target::target().bootstrap);
    let set =
        |connection: &mut Connection, name: &str, value| raw::alter_config(connection, raw::GROUP, &group, name, value);
    assert_eq!(set(&mut connection, "consumer.heartbeat.interval.ms", Some("6000")), code::NONE);
    eventually("the member to hear of it", || member.beat().interval_ms == 6000);
    let (value, _) = raw::config(&mut connection, raw::GROUP, &group, "consumer.heartbeat.interval.ms");
    assert_eq!(value.as_deref(), Some("6000"));
    assert_eq!(set(&mut connection, "consumer.heartbeat.interval.ms", Some("1")), code::INVALID_CONFIG);
    assert_eq!(set(&mut connection, "consumer.session.timeout.ms", Some("1000")), code::INVALID_CONFIG);
    assert_eq!(set(&mut connection, "consumer.favourite.colour", Some("blue")), code::INVALID_CONFIG);
    assert_eq!(set(&mut connection, "consumer.heartbeat.interval.ms", None), code::NONE);
    eventually("the member to hear of it", || member.beat().interval_ms == 5000);
}

#[test]
fn a_group_of_one_kind_takes_no_member_of_the_other_that_it_cannot_understand() {
    let topic = topic("mixed", 1);
    let group = unique("mixed");
    // Not a consumer's metadata, so that it cannot be one of a consumer group.
    let mut join = Join::new(&group);
    join.protocols[0].1 = vec![0xff];
    let mut classic = vec![Classic::with(join)];
    stable(&mut classic);
    let mut modern = Consumer::new(&group, &[&topic.name]);
    assert_eq!(modern.beat().error, code::GROUP_ID_NOT_FOUND);
    assert_eq!(classic[0].heartbeat(), code::NONE);

    let group = unique("mixed");
    let mut members = vec![Consumer::new(&group, &[&topic.name])];
    settle(&mut members, "the member to have it", |members| counts(members) == [1]);
    let mut join = Join::new(&group);
    join.protocols[0].1 = vec![0xff];
    let told = join.call(&mut members[0].connection, JOIN.1);
    join.member = told.member;
    let mut error = told.error;
    if error == code::MEMBER_ID_REQUIRED {
        error = join.call(&mut members[0].connection, JOIN.1).error;
    }
    // Apache Kafka has no code for it but that of its own mistakes.
    assert!(![code::NONE, code::MEMBER_ID_REQUIRED].contains(&error), "it was let in");
    members[0].beat_well();
}
