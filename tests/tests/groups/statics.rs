//! Static members of the classic protocol (KIP-345): a restart within the session timeout disturbs nobody.

use tidemark_tests::clients::{eventually, unique};
use tidemark_tests::raw::code;
use tidemark_tests::raw::groups::*;

fn static_member(group: &str, instance: &str) -> Classic {
    Classic::with(Join { instance: Some(instance.to_owned()), ..Join::new(group) })
}

/// A stable group of static members `one`, which leads, and `two`.
fn pair(prefix: &str) -> Vec<Classic> {
    let group = unique(prefix);
    let mut members = vec![static_member(&group, "one"), static_member(&group, "two")];
    stable(&mut members);
    members
}

#[test]
fn a_static_member_needs_no_id_first_and_is_known_by_its_instance() {
    let mut members = pair("static");
    let group = members[0].join.group.clone();
    let described = describe_group(&mut members[0].connection, &group);
    let mut instances: Vec<_> = described.members.iter().map(|member| member.instance.as_deref()).collect();
    instances.sort_unstable();
    assert_eq!(instances, [Some("one"), Some("two")]);
    assert!(members[1].join.member.starts_with("two-"), "{}", members[1].join.member);
}

#[test]
fn a_follower_that_comes_back_gets_its_assignment_without_a_rebalance() {
    let mut members = pair("back");
    let group = members[0].join.group.clone();
    let mut again = static_member(&group, "two");
    let joined = again.join();
    assert_eq!((joined.error, joined.generation), (code::NONE, members[0].generation));
    assert_ne!(joined.member, members[1].join.member, "it has another id");
    let synced = again.sync(&[]);
    assert_eq!((synced.error, synced.assignment), (code::NONE, vec![1]));
    assert_eq!(members[0].heartbeat(), code::NONE);
    assert_eq!(members[1].heartbeat(), code::FENCED_INSTANCE_ID, "and the one that was it is fenced");
    let sent = members[1].send_sync(&[]);
    assert_eq!(members[1].synced(sent).error, code::FENCED_INSTANCE_ID);
    assert_eq!(members[1].join().error, code::FENCED_INSTANCE_ID);
    assert_eq!(again.heartbeat(), code::NONE);
}

#[test]
fn a_leader_that_comes_back_skips_the_assignment() {
    let mut members = pair("leads");
    let group = members[0].join.group.clone();
    let mut again = static_member(&group, "one");
    let joined = again.join();
    assert_eq!((joined.error, joined.generation), (code::NONE, members[0].generation));
    assert!(joined.skip_assignment);
    assert_eq!((joined.leader, joined.members.len()), (joined.member, 2));
    assert_eq!(again.sync(&[]).assignment, [0]);
    assert_eq!(members[1].heartbeat(), code::NONE);
}

#[test]
fn another_subscription_disturbs_nobody_but_another_protocol_does() {
    let group = unique("changed");
    let both = |instance: &str| {
        let mut member = static_member(&group, instance);
        member.join.protocols.push(("roundrobin".to_owned(), subscription(&[])));
        member
    };
    let mut members = vec![both("one"), both("two")];
    stable(&mut members);

    let mut again = both("two");
    again.join.protocols[0].1 = subscription(&["another"]);
    assert_eq!((again.join().error, again.generation), (code::NONE, 2));
    assert_eq!(again.sync(&[]).assignment, [1]);
    assert_eq!(members[0].heartbeat(), code::NONE);

    let mut changed = static_member(&group, "two");
    changed.join.protocols = vec![("roundrobin".to_owned(), subscription(&[]))];
    let sent = changed.send_join();
    eventually("the leader to hear of it", || members[0].heartbeat() == code::REBALANCE_IN_PROGRESS);
    let joined = members[0].join();
    assert_eq!((joined.protocol.as_deref(), joined.members.len()), (Some("roundrobin"), 2));
    assert_eq!((changed.joined(sent).error, changed.generation), (code::NONE, 3));
}

#[test]
fn static_members_are_made_to_leave_by_their_instances() {
    let mut members = pair("leave");
    let group = members[0].join.group.clone();
    let connection = &mut members[0].connection;
    let wrong = leave(connection, LEAVE.1, &group, &[("not-its-id", Some("two")), ("", Some("three"))]);
    assert_eq!(wrong, (code::NONE, vec![code::FENCED_INSTANCE_ID, code::UNKNOWN_MEMBER_ID]));
    let left = leave(connection, LEAVE.1, &group, &[("", Some("two"))]);
    assert_eq!(left, (code::NONE, vec![code::NONE]));
    assert_eq!(members[0].heartbeat(), code::REBALANCE_IN_PROGRESS);
    assert_eq!(members[1].heartbeat(), code::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_commit_of_a_fenced_instance_is_refused() {
    let mut members = pair("commit");
    let (name, topic) = tidemark_tests::raw::ready_topic("static-commit", 1);
    let topic = TopicRef { name, id: topic.id };
    let group = members[0].join.group.clone();
    let mut again = static_member(&group, "two");
    assert_eq!(again.join().error, code::NONE);
    let fenced = members[1].commit().offset(&topic, 0, 1);
    assert_eq!(fenced.call(&mut members[1].connection, COMMIT.1), [code::FENCED_INSTANCE_ID]);
    let good = again.commit().offset(&topic, 0, 1);
    assert_eq!(good.call(&mut again.connection, COMMIT.1), [code::NONE]);
}
