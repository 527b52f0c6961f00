//! Committed offsets, message by message.

use rdkafka::types::RDKafkaErrorCode as Code;
use tidemark_tests::clients::{admin, admin_options, block_on, eventually, unique};
use tidemark_tests::raw::groups::*;
use tidemark_tests::raw::{self, code};

fn topic(prefix: &str, partitions: i32) -> TopicRef {
    let (name, topic) = raw::ready_topic(prefix, partitions);
    TopicRef { name, id: topic.id }
}

fn delete_topic(name: &str) {
    let results = block_on(admin().delete_topics(&[name], &admin_options())).expect("the request is answered");
    assert_eq!(results[0].as_ref().map_err(|(_, error)| *error), Ok::<&String, Code>(&name.to_owned()));
    eventually("the topic to be gone", || raw::describe_topic(name).error == code::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn an_offset_is_committed_in_every_version_and_fetched_in_every_version() {
    let (group, topic) = (unique("versions"), topic("commit-versions", 2));
    let mut connection = coordinator(&group);
    for version in 2..=COMMIT.1 {
        let offset = 100 + i64::from(version);
        let commit = Commit::alone(&group).offset(&topic, 0, offset).offset(&topic, 1, offset + 1);
        assert_eq!(commit.call(&mut connection, version), [code::NONE; 2], "version {version}");
        assert_eq!(committed_offset(&mut connection, &group, &topic, 1).offset, offset + 1);
    }
    let newest = 100 + i64::from(COMMIT.1);
    for version in 1..=FETCH.1 {
        let of = FetchOf::partitions(&group, &topic, &[0, 1]);
        let answer = fetch_offsets(&mut connection, version, &[of]).remove(0);
        let offsets: Vec<_> = answer.offsets.iter().map(|offset| (offset.partition, offset.offset)).collect();
        assert_eq!((answer.error, offsets), (code::NONE, vec![(0, newest), (1, newest + 1)]), "version {version}");
        for offset in &answer.offsets {
            assert_eq!((offset.error, offset.leader_epoch, offset.metadata.as_deref()), (code::NONE, -1, Some("")));
        }
    }
}

#[test]
fn metadata_and_leader_epoch_come_back_as_they_were() {
    let (group, topic) = (unique("metadata"), topic("commit-metadata", 3));
    let mut connection = coordinator(&group);
    let commit = Commit::alone(&group)
        .entry(&topic, ToCommit { leader_epoch: 7, metadata: Some("made by hand".into()), ..ToCommit::new(0, 1) })
        .entry(&topic, ToCommit { metadata: None, ..ToCommit::new(1, 2) })
        .entry(&topic, ToCommit { metadata: Some("x".repeat(4096)), ..ToCommit::new(2, i64::MAX) });
    assert_eq!(commit.call(&mut connection, COMMIT.1), [code::NONE; 3]);
    let first = committed_offset(&mut connection, &group, &topic, 0);
    assert_eq!((first.offset, first.leader_epoch, first.metadata.as_deref()), (1, 7, Some("made by hand")));
    let second = committed_offset(&mut connection, &group, &topic, 1);
    assert_eq!((second.offset, second.metadata.as_deref()), (2, Some("")), "none is empty");
    let third = committed_offset(&mut connection, &group, &topic, 2);
    assert_eq!((third.offset, third.metadata.map(|text| text.len())), (i64::MAX, Some(4096)));
}

#[test]
fn metadata_that_is_too_long_is_refused_by_partition() {
    let (group, topic) = (unique("long"), topic("commit-long", 2));
    let mut connection = coordinator(&group);
    let commit = Commit::alone(&group)
        .entry(&topic, ToCommit { metadata: Some("x".repeat(4097)), ..ToCommit::new(0, 1) })
        .offset(&topic, 1, 1);
    assert_eq!(commit.call(&mut connection, COMMIT.1), [code::OFFSET_METADATA_TOO_LARGE, code::NONE]);
    assert_eq!(committed_offset(&mut connection, &group, &topic, 0).offset, -1);
    assert_eq!(committed_offset(&mut connection, &group, &topic, 1).offset, 1);
}

#[test]
fn what_was_never_committed_is_none_and_no_error() {
    let (group, topic) = (unique("nothing"), topic("commit-nothing", 1));
    let mut connection = coordinator(&group);
    for version in 1..=FETCH.1 {
        let of = FetchOf::partitions(&group, &topic, &[0, 1_000]);
        let answer = fetch_offsets(&mut connection, version, &[of]).remove(0);
        assert_eq!(answer.error, code::NONE, "version {version}");
        for offset in answer.offsets {
            assert_eq!((offset.offset, offset.error, offset.leader_epoch), (-1, code::NONE, -1), "version {version}");
            assert_eq!(offset.metadata.as_deref(), Some(""), "version {version}");
        }
    }
    let all = fetch_offsets(&mut connection, FETCH.1, &[FetchOf::all(&group)]);
    assert_eq!((all[0].error, all[0].offsets.len()), (code::NONE, 0));
}

#[test]
fn all_that_a_group_has_committed_and_several_groups_at_once() {
    let topics = [topic("several", 2), topic("several", 2)];
    let groups = [unique("several"), unique("several")];
    // Of one gateway, as clients ask: both groups have to have the same coordinator, or the second is refused.
    let mut connection = coordinator(&groups[0]);
    let second = find_coordinators(&mut connection, 6, 0, &[&groups[0], &groups[1]]);
    let same = second[0].node == second[1].node;
    for (number, group) in groups.iter().enumerate() {
        let commit = Commit::alone(group).offset(&topics[0], 1, 10).offset(&topics[number], 0, 20);
        assert_eq!(commit.call(&mut coordinator(group), COMMIT.1), [code::NONE; 2]);
    }
    for version in [8, 9, 10] {
        let of = [FetchOf::all(&groups[0]), FetchOf::partitions(&groups[1], &topics[1], &[0, 1])];
        let answers = fetch_offsets(&mut connection, version, &of);
        assert_eq!((answers.len(), answers[0].error), (2, code::NONE));
        let offsets: Vec<_> = answers[0].offsets.iter().map(|offset| (offset.partition, offset.offset)).collect();
        assert_eq!(sorted(offsets), [(0, 20), (1, 10)], "version {version}");
        if same {
            let offsets: Vec<_> = answers[1].offsets.iter().map(|offset| (offset.partition, offset.offset)).collect();
            assert_eq!(sorted(offsets), [(0, 20), (1, -1)], "version {version}");
        }
    }
    let oldest = fetch_offsets(&mut connection, 2, &[FetchOf::all(&groups[0])]);
    assert_eq!(oldest[0].offsets.len(), 2);
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort_unstable();
    items
}

#[test]
fn what_does_not_exist_cannot_be_committed() {
    let (group, topic) = (unique("unknown"), topic("commit-unknown", 1));
    let nowhere = TopicRef { name: unique("nowhere"), id: [9; 16] };
    let mut connection = coordinator(&group);
    let commit = Commit::alone(&group).offset(&topic, 0, 1).offset(&topic, 5, 1).offset(&nowhere, 0, 1);
    let unknown = code::UNKNOWN_TOPIC_OR_PARTITION;
    for version in 2..BY_ID {
        let errors = sorted(commit.call(&mut connection, version));
        assert_eq!(errors, [code::NONE, unknown, unknown], "version {version}");
    }
    let errors = sorted(commit.call(&mut connection, BY_ID));
    assert_eq!(errors, [code::NONE, unknown, code::UNKNOWN_TOPIC_ID]);
    let of = FetchOf::partitions(&group, &nowhere, &[0]);
    let by_name = fetch_offsets(&mut connection, 9, std::slice::from_ref(&of)).remove(0);
    assert_eq!((by_name.offsets[0].error, by_name.offsets[0].offset), (code::NONE, -1));
    let by_id = fetch_offsets(&mut connection, BY_ID, &[of]).remove(0);
    assert_eq!((by_id.offsets[0].error, by_id.offsets[0].offset), (code::UNKNOWN_TOPIC_ID, -1));
}

#[test]
fn commits_on_one_connection_end_as_the_last_of_them() {
    let (group, topic) = (unique("order"), topic("commit-order", 1));
    let mut connection = coordinator(&group);
    for round in 0..20 {
        let bodies: Vec<_> =
            (1..=5).map(|n| Commit::alone(&group).offset(&topic, 0, round * 10 + n).body(COMMIT.1)).collect();
        let sent: Vec<i32> = bodies.iter().map(|body| connection.send(COMMIT.0, COMMIT.1, body)).collect();
        for correlation in sent {
            assert_eq!(committed(&connection.answer(COMMIT.0, COMMIT.1, correlation), COMMIT.1), [code::NONE]);
        }
        assert_eq!(committed_offset(&mut connection, &group, &topic, 0).offset, round * 10 + 5);
    }
    // Back is as good as forth: the last commit counts, not the highest.
    assert_eq!(Commit::alone(&group).offset(&topic, 0, 3).call(&mut connection, COMMIT.1), [code::NONE]);
    assert_eq!(committed_offset(&mut connection, &group, &topic, 0).offset, 3);
}

#[test]
fn a_commit_makes_a_group_that_is_listed_and_empty() {
    let (group, topic) = (unique("alone"), topic("commit-alone", 1));
    let mut connection = coordinator(&group);
    assert_eq!(Commit::alone(&group).offset(&topic, 0, 1).call(&mut connection, COMMIT.1), [code::NONE]);
    let described = describe_group(&mut connection, &group);
    assert_eq!((described.error, described.state.as_str()), (code::NONE, "Empty"));
    assert_eq!(described.members, []);
    // A commit that names a generation needs a group that has it.
    let none = unique("no-group");
    let mut connection = coordinator(&none);
    let mut commit = Commit::alone(&none).offset(&topic, 0, 1);
    commit.who.generation = 5;
    commit.who.member = "somebody".to_owned();
    assert_eq!(commit.call(&mut connection, COMMIT.1), [code::GROUP_ID_NOT_FOUND]);
    assert_eq!(commit.call(&mut connection, 8), [code::ILLEGAL_GENERATION], "before there was a code for it");
    // The empty name is one for offsets, though not for members.
    let offset = i64::from(std::process::id());
    let mut connection = coordinator("");
    assert_eq!(Commit::alone("").offset(&topic, 0, offset).call(&mut connection, COMMIT.1), [code::NONE]);
    assert_eq!(committed_offset(&mut connection, "", &topic, 0).offset, offset);
}

#[test]
fn offsets_of_a_deleted_topic_go_and_a_new_one_of_the_name_has_none() {
    let (group, topic) = (unique("recreated"), topic("commit-recreated", 1));
    let kept = self::topic("commit-kept", 1);
    let mut connection = coordinator(&group);
    let commit = Commit::alone(&group).offset(&topic, 0, 5).offset(&kept, 0, 6);
    assert_eq!(commit.call(&mut connection, COMMIT.1), [code::NONE; 2]);
    delete_topic(&topic.name);
    eventually("its offsets to go", || {
        let all = fetch_offsets(&mut connection, 9, &[FetchOf::all(&group)]).remove(0);
        all.offsets.iter().all(|offset| offset.topic.name == kept.name)
    });
    eventually("the name to be free", || tidemark_tests::clients::create(&topic.name, 1, &[]).is_ok());
    let again = raw::await_leaders(&topic.name, 1);
    let again = TopicRef { name: topic.name.clone(), id: again.id };
    assert_eq!(committed_offset(&mut connection, &group, &again, 0).offset, -1);
    let old = fetch_offsets(&mut connection, BY_ID, &[FetchOf::partitions(&group, &topic, &[0])]).remove(0);
    assert_eq!(old.offsets[0].error, code::UNKNOWN_TOPIC_ID);
    assert_eq!(committed_offset(&mut connection, &group, &kept, 0).offset, 6);
}

#[test]
fn offsets_are_deleted_unless_the_group_reads_the_topic() {
    let (read, other) = (topic("delete-read", 1), topic("delete-other", 3));
    let group = unique("delete");
    let mut member = vec![Classic::of_topic(&group, &read.name)];
    stable(&mut member);
    let commit = member[0].commit().offset(&read, 0, 1).offset(&other, 0, 2).offset(&other, 1, 3);
    let connection = &mut member[0].connection;
    assert_eq!(commit.call(connection, COMMIT.1), [code::NONE; 3]);
    assert_eq!(
        delete_offsets(connection, &group, &read.name, &[0]),
        (code::NONE, vec![code::GROUP_SUBSCRIBED_TO_TOPIC])
    );
    assert_eq!(delete_offsets(connection, &group, &other.name, &[0, 2]), (code::NONE, vec![code::NONE; 2]));
    assert_eq!(committed_offset(connection, &group, &other, 0).offset, -1);
    assert_eq!(committed_offset(connection, &group, &other, 1).offset, 3);
    assert_eq!(committed_offset(connection, &group, &read, 0).offset, 1);
    let nowhere = delete_offsets(connection, &group, &unique("nowhere"), &[0]);
    assert_eq!(nowhere, (code::NONE, vec![code::UNKNOWN_TOPIC_OR_PARTITION]));
    let nobody = unique("nobody");
    let unknown = delete_offsets(&mut coordinator(&nobody), &nobody, &other.name, &[0]);
    assert_eq!(unknown.0, code::GROUP_ID_NOT_FOUND);

    assert_eq!(member[0].leave(), code::NONE);
    let connection = &mut member[0].connection;
    assert_eq!(delete_offsets(connection, &group, &read.name, &[0]), (code::NONE, vec![code::NONE]));
    assert_eq!(committed_offset(connection, &group, &read, 0).offset, -1);
}

#[test]
fn a_thousand_partitions_in_one_commit() {
    let (group, topic) = (unique("thousand"), topic("commit-thousand", 1000));
    let mut connection = coordinator(&group);
    let commit = (0..1000).fold(Commit::alone(&group), |commit, n| commit.offset(&topic, n, i64::from(n) * 7));
    assert_eq!(commit.call(&mut connection, COMMIT.1), [code::NONE; 1000]);
    let all = fetch_offsets(&mut connection, FETCH.1, &[FetchOf::all(&group)]).remove(0);
    let offsets: Vec<_> = sorted(all.offsets.iter().map(|offset| (offset.partition, offset.offset)).collect());
    assert_eq!(offsets, (0..1000).map(|n| (n, i64::from(n) * 7)).collect::<Vec<_>>());
}
