//! Finding, listing, describing and deleting groups.

use tidemark_tests::clients::{eventually, unique};
use tidemark_tests::raw::groups::*;
use tidemark_tests::raw::{self, Connection, code};
use tidemark_tests::target::target;

/// All groups of all brokers, as admin clients gather them.
fn list(version: i16, states: &[&str], kinds: &[&str]) -> Vec<Listed> {
    let brokers = target().bootstrap.split(',');
    brokers.flat_map(|broker| list_groups(&mut Connection::open(broker), version, states, kinds)).collect()
}

fn find(listed: &[Listed], group: &str) -> Option<Listed> {
    let found: Vec<_> = listed.iter().filter(|listed| listed.group == group).collect();
    assert!(found.len() <= 1, "each group is of one broker: {found:?}");
    found.first().map(|listed| (*listed).clone())
}

#[test]
fn every_version_finds_the_same_coordinator() {
    let group = unique("found");
    drop(coordinator(&group));
    let mut connection = Connection::open(&target().bootstrap);
    let newest = find_coordinators(&mut connection, 6, 0, &[&group]).remove(0);
    for version in 0..6 {
        let found = find_coordinators(&mut connection, version, 0, &[&group]).remove(0);
        assert_eq!(found, newest, "version {version}");
    }
    let (second, third) = (unique("found"), unique("found"));
    let several = find_coordinators(&mut connection, 6, 0, &[&group, &second, &third]);
    let keys: Vec<&str> = several.iter().map(|found| found.key.as_str()).collect();
    assert_eq!(keys, [&group, &second, &third]);
    assert_eq!(find_coordinators(&mut connection, 6, 77, &[&group])[0].error, code::INVALID_REQUEST);
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let (classic, consumer, empty) = (unique("listed"), unique("listed"), unique("listed"));
    let mut member = vec![Classic::new(&classic)];
    stable(&mut member);
    let (name, topic) = raw::ready_topic("listed", 1);
    let topic = TopicRef { name, id: topic.id };
    let mut modern = Consumer::new(&consumer, &[&topic.name]);
    eventually("the consumer group to be stable", || {
        modern.beat_well();
        modern.count() == 1 && describe_consumers(&mut modern.connection, 1, &[&consumer])[0].state == "Stable"
    });
    let committed = Commit::alone(&empty).offset(&topic, 0, 1).call(&mut coordinator(&empty), COMMIT.1);
    assert_eq!(committed, [code::NONE]);

    for version in 0..=5 {
        let all = list(version, &[], &[]);
        let classic = find(&all, &classic).expect("the classic group is listed");
        let consumer = find(&all, &consumer).expect("the consumer group is listed");
        assert_eq!((classic.protocol_type.as_str(), consumer.protocol_type.as_str()), ("consumer", "consumer"));
        assert!(find(&all, &empty).is_some());
        if version >= 4 {
            assert_eq!((classic.state.as_str(), consumer.state.as_str()), ("Stable", "Stable"));
        }
        if version >= 5 {
            assert_eq!((classic.kind.as_str(), consumer.kind.as_str()), ("classic", "consumer"));
        }
    }
    let names = |listed: Vec<Listed>| [&classic, &consumer, &empty].map(|group| find(&listed, group).is_some());
    assert_eq!(names(list(5, &["Empty"], &[])), [false, false, true]);
    assert_eq!(names(list(5, &["stable", "EMPTY"], &[])), [true, true, true], "in any case");
    assert_eq!(names(list(5, &[], &["classic"])), [true, false, true]);
    assert_eq!(names(list(5, &[], &["Consumer"])), [false, true, false]);
    assert_eq!(names(list(5, &["Stable"], &["classic"])), [true, false, false]);
}

#[test]
fn a_group_is_described_in_every_version() {
    let group = unique("described");
    let mut member = vec![Classic::of_topic(&group, "anything")];
    stable(&mut member);
    let id = member[0].join.member.clone();
    for version in 0..=DESCRIBE.1 {
        let unknown = unique("unknown");
        let known = &describe_groups(&mut member[0].connection, version, &[&group])[0];
        let unknown = &describe_groups(&mut coordinator(&unknown), version, &[&unknown])[0];
        assert_eq!((known.error, known.state.as_str()), (code::NONE, "Stable"));
        assert_eq!((known.protocol_type.as_str(), known.protocol.as_str()), ("consumer", "range"));
        assert_eq!(known.members.len(), 1);
        let found = &known.members[0];
        assert_eq!((&found.member, found.client_id.as_str()), (&id, "tidemark-tests"));
        assert!(found.client_host.contains("127.0.0.1"), "{}", found.client_host);
        assert_eq!((&found.metadata, &found.assignment), (&subscription(&["anything"]), &vec![0]));
        let error = if version >= 6 { code::GROUP_ID_NOT_FOUND } else { code::NONE };
        assert_eq!((unknown.error, unknown.state.as_str()), (error, "Dead"), "version {version}");
    }
}

#[test]
fn a_group_without_members_is_deleted_with_its_offsets() {
    let (group, other) = (unique("deleted"), unique("deleted"));
    let (name, topic) = raw::ready_topic("deleted-group", 1);
    let topic = TopicRef { name, id: topic.id };
    let mut member = vec![Classic::new(&group)];
    stable(&mut member);
    let commit = member[0].commit().offset(&topic, 0, 3);
    assert_eq!(commit.call(&mut member[0].connection, COMMIT.1), [code::NONE]);
    for version in 0..=2 {
        let errors = delete_groups(&mut member[0].connection, version, &[&group]);
        assert_eq!(errors, [code::NON_EMPTY_GROUP], "version {version}");
    }
    assert_eq!(member[0].leave(), code::NONE);
    let connection = &mut member[0].connection;
    assert_eq!(delete_groups(connection, 2, &[&group]), [code::NONE]);
    assert_eq!(committed_offset(connection, &group, &topic, 0).offset, -1);
    assert_eq!(describe_group(connection, &group).state, "Dead");
    assert_eq!(find(&list(5, &[], &[]), &group), None);
    assert_eq!(delete_groups(connection, 2, &[&group]), [code::GROUP_ID_NOT_FOUND]);
    assert_eq!(delete_groups(&mut coordinator(&other), 0, &[&other]), [code::GROUP_ID_NOT_FOUND]);
    // And it begins anew.
    let mut member = vec![Classic::new(&group)];
    assert_eq!(stable(&mut member), 1);
}

#[test]
fn the_two_kinds_are_told_apart() {
    let (classic, consumer) = (unique("kinds"), unique("kinds"));
    let (name, _) = raw::ready_topic("kinds", 2);
    let mut member = vec![Classic::new(&classic)];
    stable(&mut member);
    let mut modern = Consumer::new(&consumer, &[&name]);
    eventually("the member to have its partitions", || {
        modern.beat_well();
        modern.count() == 2
    });
    modern.beat_well();
    for version in 0..=CONSUMER_DESCRIBE.1 {
        let described = describe_consumers(&mut modern.connection, version, &[&consumer]).remove(0);
        assert_eq!((described.error, described.state.as_str()), (code::NONE, "Stable"));
        assert_eq!((described.assignor.as_str(), described.epoch), ("uniform", described.assignment_epoch));
        let member = &described.members[0];
        assert_eq!((&member.member, member.epoch), (&modern.first.member, modern.epoch));
        assert_eq!(member.topics, std::slice::from_ref(&name));
        assert_eq!((&member.assignment, &member.target), (&vec![(name.clone(), vec![0, 1])], &member.assignment));
        assert_eq!(member.kind, if version >= 1 { 1 } else { -1 });
    }
    let wrong = describe_consumers(&mut member[0].connection, 1, &[&classic]).remove(0);
    assert_eq!(wrong.error, code::GROUP_ID_NOT_FOUND, "it is a classic group");
    let unknown = unique("kinds");
    assert_eq!(describe_consumers(&mut coordinator(&unknown), 1, &[&unknown])[0].error, code::GROUP_ID_NOT_FOUND);
    // The older request does not tell the newer group.
    assert_eq!(describe_group(&mut modern.connection, &consumer).error, code::GROUP_ID_NOT_FOUND);
}
