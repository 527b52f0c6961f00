//! Requests and epochs that are refused, commits and fetches by epoch, sessions.

use super::*;
use crate::groups::kit::{at, commit, commit_as};

#[test]
fn requests_that_make_no_sense_are_refused_before_there_is_a_group() {
    let blank = || Some(" ".to_owned());
    let cases = [
        (join(""), "MemberId can't be empty."),
        (ConsumerHeartbeat { client_makes_id: false, ..alive("", 3) }, "MemberId can't be empty."),
        (ConsumerHeartbeat { client_makes_id: false, ..alive("", -1) }, "MemberId can't be empty."),
        (ConsumerHeartbeat { instance_id: blank(), ..join("a") }, "InstanceId can't be empty."),
        (ConsumerHeartbeat { rack: blank(), ..join("a") }, "RackId can't be empty."),
        (
            ConsumerHeartbeat { rebalance_timeout: None, ..join("a") },
            "RebalanceTimeoutMs must be provided in first request.",
        ),
        (ConsumerHeartbeat { owned: None, ..join("a") }, "TopicPartitions must be empty when (re-)joining."),
        (
            ConsumerHeartbeat { owned: Some(list(&[(1, &[0])])), ..join("a") },
            "TopicPartitions must be empty when (re-)joining.",
        ),
        (
            ConsumerHeartbeat { subscribed_topics: None, ..join("a") },
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        ),
        (alive("a", -2), "InstanceId can't be null."),
        (alive("a", -3), "MemberEpoch is invalid."),
    ];
    let mut kit = kit();
    for (request, why) in cases {
        assert_eq!(heartbeat(&mut kit, request), Err(GroupError::InvalidRequest(why.to_owned())));
    }
    let refused = heartbeat(&mut kit, many_topics("a", 249));
    assert!(matches!(refused, Err(GroupError::TooLarge(_))), "{refused:?}");
    let unknown = ConsumerHeartbeat { server_assignor: Some("best".to_owned()), ..join("a") };
    let why = "ServerAssignor best is not supported. Supported assignors: uniform, range.".to_owned();
    assert_eq!(heartbeat(&mut kit, unknown), Err(GroupError::UnsupportedAssignor(why)));
    let regex = ConsumerHeartbeat { subscribed_regex: Some("(".to_owned()), ..join("a") };
    assert!(matches!(heartbeat(&mut kit, regex), Err(GroupError::InvalidRegularExpression(_))));
    assert!(matches!(heartbeat(&mut kit, alive("a", 1)), Err(GroupError::GroupIdNotFound(_))));
    assert!(matches!(heartbeat(&mut kit, alive("a", -1)), Err(GroupError::GroupIdNotFound(_))));
    assert_eq!(kit.state(), "Dead");
    assert!(kit.stored.is_empty());
}

#[test]
fn ten_thousand_topics_are_not_too_many_where_their_names_are_not_long() {
    let mut kit = kit();
    let answer = heartbeat(&mut kit, many_topics("a", 60)).unwrap();
    assert_eq!(answer.member_epoch, 1);
}

fn many_topics(member: &str, name: usize) -> ConsumerHeartbeat {
    let topics = (0..10_000).map(|number| format!("{number:0name$}")).collect();
    ConsumerHeartbeat { subscribed_topics: Some(topics), ..join(member) }
}

#[test]
fn the_first_version_leaves_the_id_to_the_server() {
    let mut kit = kit();
    let answer = heartbeat(&mut kit, ConsumerHeartbeat { client_makes_id: false, ..join("") }).unwrap();
    assert!(!answer.member_id.is_empty());
    assert_eq!(ids(&mut kit), [answer.member_id]);
    assert_eq!(answer.heartbeat_interval, ms(5_000));
}

#[test]
fn epochs_are_fenced_but_for_the_previous_one_of_a_member_that_may_have_missed_an_answer() {
    let mut kit = two_members();
    let fenced = |answer: Answered| matches!(answer, Err(GroupError::FencedMemberEpoch(_)));
    assert!(fenced(heartbeat(&mut kit, alive("a", 3))), "greater");
    assert!(fenced(heartbeat(&mut kit, alive("a", 1))), "it does not say what it has");
    assert!(fenced(heartbeat(&mut kit, owning("a", 1, &[(1, &[0, 3])]))), "it has more than it was given");
    assert!(fenced(heartbeat(&mut kit, owning("a", 1, &[(2, &[])]))), "it has a topic that it was not given");
    assert_eq!(answer(&mut kit, owning("a", 1, &[(1, &[0, 1])])), (2, given(&[(1, &[0, 1, 2])])));
    assert!(matches!(heartbeat(&mut kit, alive("c", 2)), Err(GroupError::UnknownMemberId(_))));
    assert!(matches!(heartbeat(&mut kit, alive("c", -1)), Err(GroupError::UnknownMemberId(_))));
    // Who joins again with its id has what it had.
    assert_eq!(answer(&mut kit, join("a")), (2, given(&[(1, &[0, 1, 2])])));
    assert_eq!(kit.state(), "Stable");
}

#[test]
fn a_full_group_takes_nobody_else() {
    let mut kit = two_members();
    kit.settings.consumer_max_size = 2;
    assert_eq!(heartbeat(&mut kit, join("c")), Err(GroupError::GroupMaxSizeReached));
    assert_eq!(answer(&mut kit, alive("a", 2)), (2, None));
    assert_eq!(answer(&mut kit, join("b")).0, 2);
}

#[test]
fn a_member_that_is_not_heard_is_taken_out_and_the_others_get_what_it_had() {
    let mut kit = two_members();
    kit.advance(ms(30_000));
    assert_eq!(answer(&mut kit, alive("a", 2)), (2, None));
    kit.advance(ms(14_999));
    assert_eq!(ids(&mut kit), ["a", "b"]);
    kit.advance(ms(1));
    assert_eq!(ids(&mut kit), ["a"]);
    assert_eq!(kit.state(), "Assigning");
    assert_eq!(answer(&mut kit, alive("a", 2)), (3, given(&[(1, &[0, 1, 2, 3, 4, 5])])));
    assert!(matches!(heartbeat(&mut kit, alive("b", 2)), Err(GroupError::UnknownMemberId(_))));
    kit.advance(ms(45_000));
    assert_eq!(kit.state(), "Empty");
    assert_eq!(describe(&mut kit).epoch, 4);
    assert_nothing_leaks(&kit);
}

#[test]
fn the_groups_own_configs_say_how_long_and_how_often() {
    let mut kit = two_members();
    let set = |name: &str, value: &str| tidemark_model::coordinator::ConfigChange::Set {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let changes = vec![set("consumer.session.timeout.ms", "50000"), set("consumer.heartbeat.interval.ms", "7000")];
    kit.ask(GroupRequest::AlterConfigs { changes, validate_only: false }).unwrap();
    assert_eq!(heartbeat(&mut kit, alive("a", 2)).unwrap().heartbeat_interval, ms(7_000));
    kit.advance(ms(49_999));
    assert_eq!(ids(&mut kit), ["a"]);
    kit.advance(ms(1));
    assert_eq!(kit.state(), "Empty");
}

#[test]
fn a_member_that_does_not_give_back_in_time_is_taken_out() {
    let mut kit = kit();
    let hasty = ConsumerHeartbeat { rebalance_timeout: Some(ms(10_000)), ..join("a") };
    assert_eq!(answer(&mut kit, hasty).0, 1);
    assert_eq!(answer(&mut kit, join("b")), (2, given(&[])));
    assert_eq!(answer(&mut kit, alive("a", 1)), (1, given(&[(1, &[0, 1, 2])])));
    for _ in 0..9 {
        kit.advance(ms(1_000));
        assert_eq!(answer(&mut kit, owning("a", 1, &[(1, &[0, 1, 2, 3, 4, 5])])), (1, given(&[(1, &[0, 1, 2])])));
        assert_eq!(answer(&mut kit, alive("b", 2)), (2, None));
    }
    kit.advance(ms(1_000));
    assert!(matches!(heartbeat(&mut kit, alive("a", 1)), Err(GroupError::UnknownMemberId(_))));
    assert_eq!(answer(&mut kit, alive("b", 2)), (3, given(&[(1, &[0, 1, 2, 3, 4, 5])])));
    assert_nothing_leaks(&kit);
}

#[test]
fn commits_are_fenced_by_the_members_epoch() {
    let mut kit = two_members();
    let offsets = [(at(1, 0), 7)];
    let mut committed = |id: &str, epoch: i32, new: bool| {
        let request = commit_as(id, epoch, &offsets);
        let request = tidemark_model::group::CommitOffsets { understands_epochs: new, ..request };
        kit.ask(GroupRequest::CommitOffsets(request))
    };
    assert!(committed("a", 2, true).is_ok());
    assert!(matches!(committed("a", 1, true), Err(GroupError::StaleMemberEpoch(_))));
    assert!(matches!(committed("a", 3, true), Err(GroupError::StaleMemberEpoch(_))));
    assert!(matches!(committed("c", 2, true), Err(GroupError::UnknownMemberId(_))));
    assert!(matches!(committed("", -1, true), Err(GroupError::UnknownMemberId(_))));
    assert!(matches!(committed("a", 2, false), Err(GroupError::UnsupportedVersion(_))));
    assert_eq!(kit.committed(at(1, 0)), Some(7));

    let fetched = |kit: &mut Kit, id: &str, epoch: i32| {
        kit.ask(GroupRequest::FetchOffsets(tidemark_model::group::FetchOffsets {
            member_id: Some(id.to_owned()),
            member_epoch: epoch,
            topics: None,
            require_stable: false,
        }))
    };
    assert!(fetched(&mut kit, "a", 2).is_ok());
    assert!(matches!(fetched(&mut kit, "a", 1), Err(GroupError::StaleMemberEpoch(_))));
    assert!(matches!(fetched(&mut kit, "c", 1), Err(GroupError::UnknownMemberId(_))));
}

#[test]
fn an_empty_group_takes_commits_of_anyone_and_can_be_deleted() {
    let mut kit = two_members();
    assert_eq!(kit.ask(GroupRequest::Delete), Err(GroupError::NonEmptyGroup));
    assert_eq!(answer(&mut kit, alive("a", -1)), (-1, None));
    assert_eq!(answer(&mut kit, alive("b", -1)), (-1, None));
    assert_eq!(kit.state(), "Empty");
    kit.ask(commit(&[(at(1, 0), 9)])).unwrap();
    assert_eq!(kit.ask(GroupRequest::Delete), Ok(GroupAnswer::Delete));
    assert!(kit.stored.is_empty(), "{:?}", kit.stored);
}
