//! Sessions, commits, deletion, and what a group is when another coordinator loads it.

use tidemark_model::GroupError;
use tidemark_model::group::{GroupAnswer, GroupRequest};

use super::{again, answered, join, joins, kit, stable};
use crate::groups::Event;
use crate::groups::kit::{Kit, at, commit, commit_as, heartbeat, leave, ms, sync};
use crate::records::GroupKey;

#[test]
fn who_is_not_heard_for_its_session_is_removed() {
    let (mut kit, joined) = stable(2);
    kit.advance(ms(9_999));
    assert_eq!(kit.ask(heartbeat(&joined[0].member_id, 1)), Ok(GroupAnswer::Heartbeat));
    kit.advance(ms(1));
    assert!(matches!(kit.ask(heartbeat(&joined[1].member_id, 1)), Err(GroupError::UnknownMemberId(_))));
    assert_eq!(kit.ask(heartbeat(&joined[0].member_id, 1)), Err(GroupError::RebalanceInProgress));
    kit.advance(ms(10_000));
    assert_eq!(kit.state(), "Empty");
}

#[test]
fn a_commit_counts_as_a_heartbeat() {
    let (mut kit, joined) = stable(1);
    kit.topic(1, "orders", 1);
    for offset in 0..5 {
        kit.advance(ms(9_000));
        let commit = commit_as(&joined[0].member_id, 1, &[(at(1, 0), offset)]);
        assert_eq!(answered(kit.ask(GroupRequest::CommitOffsets(commit))), [Ok(())]);
    }
    assert_eq!((kit.state().as_str(), kit.committed(at(1, 0))), ("Stable", Some(4)));
}

#[test]
fn commits_are_fenced_by_member_and_generation() {
    let (mut kit, joined) = stable(1);
    let id = joined[0].member_id.as_str();
    let mut ask = |member: &str, generation: i32| {
        kit.ask(GroupRequest::CommitOffsets(commit_as(member, generation, &[(at(1, 0), 7)]))).err()
    };
    assert_eq!(ask(id, 1), None);
    assert_eq!(ask(id, 0), Some(GroupError::IllegalGeneration));
    assert_eq!(ask(id, -1), Some(GroupError::IllegalGeneration));
    assert!(matches!(ask("nobody", 1), Some(GroupError::UnknownMemberId(_))));
    assert!(matches!(ask("", -1), Some(GroupError::UnknownMemberId(_))), "the group has members");
    assert!(matches!(ask("", 1), Some(GroupError::UnknownMemberId(_))));

    // In a rebalance: while members come again they may still commit, not once they know of the next generation.
    let other = joins(&mut kit, join());
    let commit_now = |generation| GroupRequest::CommitOffsets(commit_as(id, generation, &[(at(1, 0), 8)]));
    assert!(kit.ask(commit_now(1)).is_ok());
    let ticket = joins(&mut kit, again(id));
    let joined = [ticket, other].map(|ticket| kit.joined(ticket).generation);
    assert_eq!(joined, [2, 2]);
    assert_eq!(kit.ask(commit_now(2)), Err(GroupError::RebalanceInProgress));
    assert_eq!(kit.ask(commit_now(1)), Err(GroupError::IllegalGeneration));
}

#[test]
fn an_empty_group_takes_commits_from_outside() {
    let (mut kit, joined) = stable(1);
    kit.ask(leave(&joined[0].member_id)).unwrap();
    assert_eq!(answered(kit.ask(commit(&[(at(1, 0), 7)]))), [Ok(())]);
    let from_a_member = GroupRequest::CommitOffsets(commit_as(&joined[0].member_id, 1, &[(at(1, 0), 8)]));
    assert!(matches!(kit.ask(from_a_member), Err(GroupError::UnknownMemberId(_))));
}

#[test]
fn a_stable_group_goes_on_where_another_loads_it() {
    let (mut kit, joined) = stable(3);
    kit.ask(heartbeat(&joined[1].member_id, 1)).unwrap();
    kit.advance(ms(6_000));
    kit.reload();
    assert_eq!(kit.state(), "Stable");
    kit.advance(ms(9_999));
    for (n, one) in joined.iter().enumerate() {
        assert_eq!(kit.ask(heartbeat(&one.member_id, 1)), Ok(GroupAnswer::Heartbeat), "sessions begin anew");
        let ticket = kit.call(sync(&one.member_id, 1, &[]));
        assert_eq!(kit.synced(ticket).assignment, n.to_string());
    }
    // It is the same group to who joins.
    let ticket = joins(&mut kit, join());
    let tickets: Vec<_> = joined.iter().map(|one| joins(&mut kit, again(&one.member_id))).collect();
    assert_eq!(kit.joined(ticket).generation, 2);
    assert_eq!(
        tickets.into_iter().map(|ticket| kit.joined(ticket).leader).collect::<Vec<_>>(),
        [&*joined[0].leader; 3]
    );
}

#[test]
fn a_rebalance_in_flight_is_begun_again_by_its_members() {
    let (mut kit, joined) = stable(1);
    let waiting = joins(&mut kit, again(&joined[0].member_id));
    let second = kit.joined(waiting);
    assert_eq!(second.generation, 2);
    kit.reload();
    assert_eq!(kit.state(), "Stable", "as it was stored");
    assert_eq!(kit.ask(sync(&second.member_id, 2, &[])), Err(GroupError::IllegalGeneration));
    let ticket = joins(&mut kit, again(&second.member_id));
    assert_eq!(kit.joined(ticket).generation, 2);
}

#[test]
fn a_write_that_was_cut_in_two_is_noticed() {
    let (mut kit, joined) = stable(2);
    let before = kit.stored.clone();
    let tickets: Vec<_> = joined.iter().map(|one| joins(&mut kit, again(&one.member_id))).collect();
    let second: Vec<_> = tickets.into_iter().map(|ticket| kit.joined(ticket)).collect();
    super::assign(&mut kit, &second);
    let after = kit.stored.clone();
    for key in after.keys() {
        // All but one record reached the store.
        kit.stored = after.clone();
        kit.stored.insert(key.clone(), before[key].clone());
        kit.reload();
        assert_eq!(kit.state(), "Empty", "{key:?}");
        let beat = kit.ask(heartbeat(&joined[0].member_id, 2));
        assert!(matches!(beat, Err(GroupError::UnknownMemberId(_))));
        let ticket = joins(&mut kit, join());
        kit.advance(ms(200));
        let third = kit.joined(ticket);
        assert_eq!(third.generation, 3, "no generation is used twice");
        kit.call(sync(&third.member_id, 3, &[]));
        assert_eq!(kit.stored.len(), 2, "nothing is left of the members before");
    }
}

#[test]
fn an_empty_group_is_loaded_with_its_generation() {
    let (mut kit, joined) = stable(1);
    kit.ask(leave(&joined[0].member_id)).unwrap();
    kit.reload();
    assert_eq!(kit.state(), "Empty");
    let ticket = joins(&mut kit, join());
    kit.advance(ms(200));
    assert_eq!(kit.joined(ticket).generation, 3);
}

#[test]
fn only_an_empty_group_can_be_deleted_and_nothing_is_left_of_it() {
    let mut kit = kit();
    assert!(matches!(kit.ask(GroupRequest::Delete), Err(GroupError::GroupIdNotFound(_))));
    let (mut kit, joined) = stable(1);
    let commit = commit_as(&joined[0].member_id, 1, &[(at(1, 0), 7)]);
    kit.ask(GroupRequest::CommitOffsets(commit)).unwrap();
    assert_eq!(kit.ask(GroupRequest::Delete), Err(GroupError::NonEmptyGroup));
    kit.ask(leave(&joined[0].member_id)).unwrap();
    assert_eq!(kit.ask(GroupRequest::Delete), Ok(GroupAnswer::Delete));
    assert_eq!((kit.state().as_str(), kit.stored.len()), ("Dead", 0));
    assert!(kit.group.is_gone());
    assert_eq!(kit.committed(at(1, 0)), None);
}

#[test]
fn a_group_that_nothing_is_left_of_is_swept_away() {
    let (mut kit, joined) = stable(1);
    kit.step(Event::Sweep);
    assert_eq!(kit.state(), "Stable");
    kit.ask(leave(&joined[0].member_id)).unwrap();
    kit.step(Event::Sweep);
    assert_eq!((kit.state().as_str(), kit.stored.len()), ("Dead", 0));

    // One who was told to come again is still expected.
    let mut kit = Kit::new();
    joins(&mut kit, tidemark_model::group::Join { requires_member_id: true, ..join() });
    kit.step(Event::Sweep);
    assert_eq!(kit.state(), "Empty");
    kit.advance(ms(10_000));
    kit.step(Event::Sweep);
    assert!(kit.group.is_gone());
}

#[test]
fn a_description_tells_of_members_and_while_stable_of_their_assignments() {
    let (mut kit, joined) = stable(2);
    let describe = |kit: &mut Kit| match kit.ask(GroupRequest::Describe) {
        Ok(GroupAnswer::Describe(described)) => described,
        other => panic!("{other:?}"),
    };
    let stable = describe(&mut kit);
    assert_eq!((&*stable.state, &*stable.protocol_type, &*stable.protocol), ("Stable", "consumer", "range"));
    let leader = stable.members.iter().find(|member| member.member_id == joined[0].member_id).unwrap();
    assert_eq!((&*leader.client_id, &*leader.client_host, &leader.assignment[..]), ("client", "/127.0.0.1", &b"0"[..]));
    assert_eq!(leader.metadata, crate::groups::kit::subscription(&["orders"]));

    joins(&mut kit, again(&joined[0].member_id));
    let preparing = describe(&mut kit);
    assert_eq!((&*preparing.state, &*preparing.protocol, preparing.members.len()), ("PreparingRebalance", "", 2));
    assert!(preparing.members.iter().all(|member| member.assignment.is_empty() && member.metadata.is_empty()));
    let mut none = Kit::new();
    assert!(matches!(none.ask(GroupRequest::Describe), Err(GroupError::GroupIdNotFound(_))));
}

#[test]
fn a_record_of_a_newer_version_is_left_alone() {
    let (kit, _) = stable(1);
    let mut records: Vec<_> = kit.stored.into_iter().collect();
    records[0].1 = bytes::Bytes::from_static(b"[9,{}]");
    let context = crate::groups::Context {
        now: kit.now,
        wall_ms: kit.wall_ms,
        cluster: &kit.cluster,
        settings: &kit.settings,
        entropy: &kit.entropy,
    };
    assert!(matches!(records[0].0, GroupKey::Classic));
    assert!(crate::groups::Group::load("g", records, &context).is_err());
}
