//! The classic protocol, message by message.

use tidemark_tests::clients::{eventually, unique};
use tidemark_tests::raw::groups::*;
use tidemark_tests::raw::{Connection, code};

/// The least session timeout that a broker grants by default.
const SHORT_SESSION_MS: i32 = 6000;

/// A stable group of so many members, the first of which leads.
fn group_of(prefix: &str, count: usize) -> Vec<Classic> {
    let group = unique(prefix);
    let mut members: Vec<Classic> = (0..count).map(|_| Classic::new(&group)).collect();
    stable(&mut members);
    members
}

fn state(members: &mut [Classic]) -> String {
    let group = members[0].join.group.clone();
    describe_group(&mut members[0].connection, &group).state
}

#[test]
fn a_new_member_is_given_its_id_and_joins_with_it() {
    let group = unique("first");
    let mut connection = coordinator(&group);
    let told = Join::new(&group).call(&mut connection, JOIN.1);
    assert_eq!((told.error, told.generation), (code::MEMBER_ID_REQUIRED, -1));
    assert!(told.member.starts_with("tidemark-tests-"), "the client's id and something unique: {}", told.member);
    let joined = Join { member: told.member.clone(), ..Join::new(&group) }.call(&mut connection, JOIN.1);
    assert_eq!((joined.error, joined.generation), (code::NONE, 1));
    assert_eq!((&joined.member, &joined.leader), (&told.member, &told.member));
    assert_eq!(joined.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(joined.protocol.as_deref(), Some("range"));
    assert_eq!(joined.members, [(told.member, None, subscription(&[]))]);
}

#[test]
fn a_generation_in_every_version() {
    for version in 0..=JOIN.1 {
        let group = unique("versions");
        let mut connection = coordinator(&group);
        let mut join = Join::new(&group);
        let mut joined = join.call(&mut connection, version);
        if version >= 4 {
            assert_eq!(joined.error, code::MEMBER_ID_REQUIRED, "version {version}");
            join.member = joined.member;
            joined = join.call(&mut connection, version);
        }
        assert_eq!((joined.error, joined.generation), (code::NONE, 1), "version {version}");
        let who = Identity { group: group.clone(), member: joined.member.clone(), generation: 1, instance: None };

        let sync = version.min(SYNC.1);
        let assignments = [(joined.member.clone(), vec![7, 7])];
        let body = sync_body(sync, &who, (Some("consumer"), Some("range")), &assignments);
        let synced = synced(&connection.call(SYNC.0, sync, &body), sync);
        assert_eq!((synced.error, synced.assignment), (code::NONE, vec![7, 7]), "version {sync}");
        if sync >= 5 {
            assert_eq!(
                (synced.protocol_type.as_deref(), synced.protocol.as_deref()),
                (Some("consumer"), Some("range"))
            );
        }
        assert_eq!(heartbeat(&mut connection, version.min(HEARTBEAT.1), &who), code::NONE, "version {version}");
        let leaving = version.min(LEAVE.1);
        let (error, errors) = leave(&mut connection, leaving, &group, &[(&joined.member, None)]);
        assert_eq!(error, code::NONE, "version {leaving}");
        assert_eq!(errors, if leaving >= 3 { vec![code::NONE] } else { vec![] }, "version {leaving}");
        assert_eq!(describe_group(&mut connection, &group).state, "Empty");
    }
}

#[test]
fn a_second_member_makes_the_first_join_again() {
    let mut members = group_of("second", 1);
    let group = members[0].join.group.clone();
    let mut second = Classic::new(&group);
    let sent = second.send_join();
    eventually("the first member to hear of it", || members[0].heartbeat() == code::REBALANCE_IN_PROGRESS);
    assert_eq!(state(&mut members), "PreparingRebalance");

    let joined = members[0].join();
    assert_eq!((joined.error, joined.generation, joined.members.len()), (code::NONE, 2, 2));
    assert_eq!(joined.leader, members[0].join.member, "who led before leads again");
    assert_eq!(state(&mut members), "CompletingRebalance");
    let follows = second.joined(sent);
    assert_eq!((follows.error, follows.generation, follows.leader), (code::NONE, 2, joined.leader));
    assert_eq!(follows.members, [], "only the leader learns of the others");

    // The follower's sync waits for the leader's.
    let waiting = second.send_sync(&[]);
    assert!(second.connection.is_silent_for(std::time::Duration::from_millis(200)));
    let assignments = [(members[0].join.member.clone(), vec![1]), (second.join.member.clone(), vec![2])];
    assert_eq!(members[0].sync(&assignments).assignment, [1]);
    assert_eq!(second.synced(waiting).assignment, [2]);
    assert_eq!((members[0].heartbeat(), second.heartbeat()), (code::NONE, code::NONE));
    assert_eq!(state(&mut members), "Stable");
    // Asking again changes nothing.
    assert_eq!(second.sync(&[]).assignment, [2]);
}

#[test]
fn ten_members_and_what_each_is_assigned() {
    let mut members = group_of("ten", 10);
    let group = members[0].join.group.clone();
    let described = describe_group(&mut members[0].connection, &group);
    assert_eq!((described.state.as_str(), described.protocol.as_str()), ("Stable", "range"));
    for (number, member) in members.iter().enumerate() {
        let found = described.members.iter().find(|described| described.member == member.join.member);
        assert_eq!(found.map(|found| found.assignment.clone()), Some(vec![number as u8]));
    }
}

#[test]
fn a_member_that_leaves_makes_the_others_join_again() {
    let mut members = group_of("leaves", 3);
    assert_eq!(members.pop().expect("there are three").leave(), code::NONE);
    for member in &mut members {
        assert_eq!(member.heartbeat(), code::REBALANCE_IN_PROGRESS);
    }
    let sent: Vec<i32> = members.iter_mut().map(Classic::send_join).collect();
    for (member, sent) in members.iter_mut().zip(sent) {
        assert_eq!((member.joined(sent).error, member.generation), (code::NONE, 3));
    }
    sync_all(&mut members);
}

#[test]
fn when_the_leader_leaves_another_leads() {
    let mut members = group_of("leader", 2);
    assert_eq!(members.remove(0).leave(), code::NONE);
    assert_eq!(members[0].heartbeat(), code::REBALANCE_IN_PROGRESS);
    let joined = members[0].join();
    assert_eq!((joined.leader, joined.members.len()), (members[0].join.member.clone(), 1));
}

#[test]
fn a_member_that_is_not_heard_of_is_dropped_after_its_session_timeout() {
    let group = unique("silent");
    let mut members: Vec<Classic> = (0..2).map(|_| Classic::new(&group)).collect();
    members[1].join.session_ms = SHORT_SESSION_MS;
    stable(&mut members);
    let silent = members.pop().expect("there are two");
    eventually("the silent member to be dropped", || members[0].heartbeat() == code::REBALANCE_IN_PROGRESS);
    assert_eq!(members[0].join().members.len(), 1);
    let mut silent = silent;
    assert_eq!(silent.heartbeat(), code::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_member_that_does_not_join_again_is_dropped_after_the_rebalance_timeout() {
    let group = unique("absent");
    let mut members: Vec<Classic> = (0..2).map(|_| Classic::new(&group)).collect();
    for member in &mut members {
        member.join.rebalance_ms = 1000;
    }
    stable(&mut members);
    let mut third = Classic::new(&group);
    third.join.rebalance_ms = 1000;
    let third_sent = third.send_join();
    eventually("the leader to hear of it", || members[0].heartbeat() == code::REBALANCE_IN_PROGRESS);
    let joined = members[0].join();
    assert_eq!((joined.error, joined.members.len()), (code::NONE, 2), "the one that did not join is not waited for");
    assert_eq!(third.joined(third_sent).error, code::NONE);
    assert_eq!(members[1].heartbeat(), code::UNKNOWN_MEMBER_ID);
}

#[test]
fn the_protocol_is_one_that_all_know_by_their_votes() {
    let group = unique("votes");
    let mut members: Vec<Classic> = [&["a", "b", "c"], &["c", "b", "x"], &["b", "c", "y"]]
        .iter()
        .map(|names| Classic::with(Join::new(&group).protocols(*names)))
        .collect();
    let (leader, others) = members.split_first_mut().expect("there are three");
    assert_eq!(leader.join().protocol.as_deref(), Some("a"), "alone it has its first wish");
    let sent: Vec<i32> = others.iter_mut().map(Classic::send_join).collect();
    eventually("all to have joined", || describe_group(&mut leader.connection, &group).members.len() == 3);
    // `b` and `c` are known to all, and two of three prefer `b`.
    assert_eq!(leader.join().protocol.as_deref(), Some("b"));
    for (other, sent) in others.iter_mut().zip(sent) {
        assert_eq!(other.joined(sent).protocol.as_deref(), Some("b"));
    }
}

#[test]
fn a_member_without_a_common_protocol_is_refused() {
    let mut members = group_of("strangers", 1);
    let group = members[0].join.group.clone();
    let stranger = |join: Join| {
        let mut join = join;
        let mut connection = coordinator(&group);
        let told = join.call(&mut connection, JOIN.1);
        if told.error != code::MEMBER_ID_REQUIRED {
            return told.error;
        }
        join.member = told.member;
        join.call(&mut connection, JOIN.1).error
    };
    let join = Join::new(&group);
    assert_eq!(stranger(join.clone().protocols(&["other"])), code::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(stranger(join.clone().protocols(&[])), code::INCONSISTENT_GROUP_PROTOCOL);
    let connect = Join { protocol_type: "connect".to_owned(), ..join.clone() };
    assert_eq!(stranger(connect), code::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(stranger(Join { protocol_type: String::new(), ..join }), code::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(members[0].heartbeat(), code::NONE, "nobody else notices");
}

#[test]
fn who_is_not_a_member_is_told_so() {
    let mut members = group_of("foreign", 1);
    let member = members[0].identity();
    let connection = &mut members[0].connection;
    let unknown = Identity { member: "nobody".to_owned(), ..member.clone() };
    assert_eq!(heartbeat(connection, HEARTBEAT.1, &unknown), code::UNKNOWN_MEMBER_ID);
    let sync = |connection: &mut Connection, who: &Identity, protocol| {
        synced(&connection.call(SYNC.0, SYNC.1, &sync_body(SYNC.1, who, protocol, &[])), SYNC.1).error
    };
    let range = (Some("consumer"), Some("range"));
    assert_eq!(sync(connection, &unknown, range), code::UNKNOWN_MEMBER_ID);
    assert_eq!(leave(connection, LEAVE.1, &member.group, &[("nobody", None)]), (0, vec![code::UNKNOWN_MEMBER_ID]));
    let rejoin = Join { member: "nobody".to_owned(), ..Join::new(&member.group) };
    assert_eq!(rejoin.call(connection, JOIN.1).error, code::UNKNOWN_MEMBER_ID);

    let old = Identity { generation: 0, ..member.clone() };
    assert_eq!(heartbeat(connection, HEARTBEAT.1, &old), code::ILLEGAL_GENERATION);
    assert_eq!(sync(connection, &old, range), code::ILLEGAL_GENERATION);
    assert_eq!(sync(connection, &member, (Some("consumer"), Some("other"))), code::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(sync(connection, &member, (Some("connect"), Some("range"))), code::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(heartbeat(connection, HEARTBEAT.1, &member), code::NONE, "the member is one all the same");
}

#[test]
fn what_no_group_can_be_asked() {
    let group = unique("bad");
    let mut connection = coordinator(&group);
    assert_eq!(Join::new("").call(&mut connection, JOIN.1).error, code::INVALID_GROUP_ID);
    for session_ms in [SHORT_SESSION_MS - 1, 30 * 60 * 1000 + 1] {
        let join = Join { session_ms, ..Join::new(&group) };
        assert_eq!(join.call(&mut connection, JOIN.1).error, code::INVALID_SESSION_TIMEOUT, "{session_ms} ms");
    }
    let who = Identity { group: group.clone(), member: "somebody".to_owned(), generation: 1, instance: None };
    assert_eq!(heartbeat(&mut connection, HEARTBEAT.1, &who), code::UNKNOWN_MEMBER_ID);
    let empty = Identity { group: String::new(), ..who.clone() };
    assert_eq!(heartbeat(&mut connection, HEARTBEAT.1, &empty), code::INVALID_GROUP_ID);
    let body = sync_body(SYNC.1, &who, (Some("consumer"), Some("range")), &[]);
    assert_eq!(synced(&connection.call(SYNC.0, SYNC.1, &body), SYNC.1).error, code::UNKNOWN_MEMBER_ID);
    let described = describe_group(&mut connection, &group);
    assert_eq!((described.error, described.state.as_str()), (code::GROUP_ID_NOT_FOUND, "Dead"), "nothing came of it");
}

#[test]
fn an_assignment_of_megabytes_reaches_its_member() {
    let mut members = group_of("huge", 1);
    let assignments = [(members[0].join.member.clone(), vec![42; 900_000])];
    // A leader that joins again begins a rebalance.
    let joined = members[0].join();
    assert_eq!((joined.error, joined.generation), (code::NONE, 2));
    let synced = members[0].sync(&assignments);
    assert_eq!((synced.error, synced.assignment.len()), (code::NONE, 900_000));
    assert_eq!(members[0].sync(&[]).assignment.len(), 900_000);
}

#[test]
fn commits_are_fenced_by_generation_and_membership() {
    let (topic, id) = topic_of("fenced");
    let topic = TopicRef { name: topic, id };
    let mut members = group_of("fenced", 2);
    let commit = members[0].commit().offset(&topic, 0, 5);
    assert_eq!(commit.call(&mut members[0].connection, COMMIT.1), [code::NONE]);
    let group = members[0].join.group.clone();
    let alone = Commit::alone(&group).offset(&topic, 0, 1);
    assert_eq!(alone.call(&mut members[0].connection, COMMIT.1), [code::UNKNOWN_MEMBER_ID], "it has members");
    let mut stranger = commit.clone();
    stranger.who.member = "nobody".to_owned();
    assert_eq!(stranger.call(&mut members[0].connection, COMMIT.1), [code::UNKNOWN_MEMBER_ID]);
    let mut old = commit.clone();
    old.who.generation -= 1;
    assert_eq!(old.call(&mut members[0].connection, COMMIT.1), [code::ILLEGAL_GENERATION]);

    // While members come back, what they have read may still be committed; then not until they have their assignment.
    assert_eq!(members.pop().expect("there are two").leave(), code::NONE);
    let during = members[0].commit().offset(&topic, 0, 6);
    assert_eq!(during.call(&mut members[0].connection, COMMIT.1), [code::NONE]);
    assert_eq!(members[0].join().error, code::NONE);
    let early = members[0].commit().offset(&topic, 0, 7);
    assert_eq!(early.call(&mut members[0].connection, COMMIT.1), [code::REBALANCE_IN_PROGRESS]);
    sync_all(&mut members);
    assert_eq!(committed_offset(&mut members[0].connection, &group, &topic, 0).offset, 6);
    assert_eq!(members[0].commit().offset(&topic, 0, 8).call(&mut members[0].connection, COMMIT.1), [code::NONE]);
}

/// A topic of three partitions: name and id.
fn topic_of(prefix: &str) -> (String, [u8; 16]) {
    let (name, topic) = tidemark_tests::raw::ready_topic(prefix, 3);
    (name, topic.id)
}
