use bytes::Bytes;
use tidemark_model::GroupError;
use tidemark_model::group::{GroupAnswer, GroupRequest, Sync};

use super::{again, join, joins, kit, stable};
use crate::groups::kit::{heartbeat, member, ms, protocol, sync};

fn completing(count: usize) -> (crate::groups::kit::Kit, Vec<tidemark_model::group::Joined>) {
    let (mut kit, joined) = stable(count);
    let tickets: Vec<_> = joined
        .iter()
        .map(|one| {
            let request =
                tidemark_model::group::Join { protocols: vec![protocol("range", &["other"])], ..again(&one.member_id) };
            joins(&mut kit, request)
        })
        .collect();
    let joined = tickets.into_iter().map(|ticket| kit.joined(ticket)).collect();
    assert_eq!(kit.state(), "CompletingRebalance");
    (kit, joined)
}

#[test]
fn members_wait_for_the_leader_and_get_what_it_assigns() {
    let (mut kit, joined) = completing(3);
    let early = kit.call(sync(&joined[1].member_id, 2, &[]));
    assert_eq!(kit.answer(early), None);
    let assignments = [(&*joined[0].member_id, "a"), (&*joined[1].member_id, "b")];
    let leader = kit.call(sync(&joined[0].member_id, 2, &assignments));
    assert_eq!(kit.synced(leader).assignment, "a");
    assert_eq!(kit.synced(early).assignment, "b");
    let late = kit.call(sync(&joined[2].member_id, 2, &[]));
    assert_eq!(kit.synced(late).assignment, "", "the leader forgot it");
}

#[test]
fn an_assignment_is_given_out_only_when_it_is_stored() {
    let (mut kit, joined) = completing(1);
    kit.away = true;
    let ticket = kit.call(sync(&joined[0].member_id, 2, &[(&joined[0].member_id, "a")]));
    assert_eq!(kit.answer(ticket), None);
    kit.store_all();
    assert_eq!(kit.synced(ticket).assignment, "a");
}

#[test]
fn sync_and_heartbeat_know_their_members() {
    let (mut kit, joined) = stable(1);
    let id = &joined[0].member_id;
    for generation in [0, 2] {
        assert_eq!(kit.ask(sync(id, generation, &[])), Err(GroupError::IllegalGeneration));
        assert_eq!(kit.ask(heartbeat(id, generation)), Err(GroupError::IllegalGeneration));
    }
    for request in [sync("nobody", 1, &[]), heartbeat("nobody", 1)] {
        assert!(matches!(kit.ask(request), Err(GroupError::UnknownMemberId(_))));
    }
    let other = |protocol_type: Option<&str>, protocol_name: Option<&str>| {
        GroupRequest::Sync(Sync {
            member: member(id, 1),
            protocol_type: protocol_type.map(str::to_owned),
            protocol_name: protocol_name.map(str::to_owned),
            assignments: vec![],
        })
    };
    assert!(kit.ask(other(Some("consumer"), Some("range"))).is_ok());
    assert_eq!(kit.ask(other(Some("connect"), None)), Err(GroupError::InconsistentGroupProtocol));
    assert_eq!(kit.ask(other(None, Some("sticky"))), Err(GroupError::InconsistentGroupProtocol));
    assert_eq!(kit.ask(heartbeat(id, 1)), Ok(GroupAnswer::Heartbeat));
    let mut empty = crate::groups::kit::Kit::new();
    for request in [sync("nobody", 1, &[]), heartbeat("nobody", 1)] {
        assert!(matches!(empty.ask(request), Err(GroupError::UnknownMemberId(_))));
    }
}

#[test]
fn a_rebalance_is_told_to_who_waits_and_who_beats() {
    let (mut kit, joined) = completing(2);
    let waiting = kit.call(sync(&joined[1].member_id, 2, &[]));
    joins(&mut kit, join());
    assert_eq!(kit.refused(waiting), GroupError::RebalanceInProgress);
    assert_eq!(kit.ask(heartbeat(&joined[0].member_id, 2)), Err(GroupError::RebalanceInProgress));
    assert_eq!(kit.ask(sync(&joined[0].member_id, 2, &[])), Err(GroupError::RebalanceInProgress));
}

#[test]
fn heartbeats_are_taken_while_the_leader_assigns() {
    let (mut kit, joined) = completing(2);
    for _ in 0..3 {
        kit.advance(ms(9_000));
        for one in &joined {
            assert_eq!(kit.ask(heartbeat(&one.member_id, 2)), Ok(GroupAnswer::Heartbeat));
        }
    }
    assert_eq!(kit.state(), "CompletingRebalance");
}

#[test]
fn who_does_not_sync_within_the_rebalance_timeout_is_removed() {
    // The leader does not: nobody can go on.
    let (mut kit, joined) = completing(2);
    let follower = kit.call(sync(&joined[1].member_id, 2, &[]));
    for _ in 0..12 {
        assert_eq!(kit.ask(heartbeat(&joined[0].member_id, 2)), Ok(GroupAnswer::Heartbeat));
        kit.advance(ms(5_000));
    }
    assert_eq!(kit.refused(follower), GroupError::RebalanceInProgress);
    assert!(matches!(kit.ask(heartbeat(&joined[0].member_id, 2)), Err(GroupError::UnknownMemberId(_))));
    let again = joins(&mut kit, again(&joined[1].member_id));
    assert_eq!(kit.joined(again).leader, joined[1].member_id);

    // A follower does not, though it beats: the group is stable, and rebalances without it.
    let (mut kit, joined) = completing(2);
    kit.call(sync(&joined[0].member_id, 2, &[]));
    for _ in 0..12 {
        for one in &joined {
            assert_eq!(kit.ask(heartbeat(&one.member_id, 2)), Ok(GroupAnswer::Heartbeat));
        }
        kit.advance(ms(5_000));
    }
    assert_eq!(kit.state(), "PreparingRebalance");
    assert!(matches!(kit.ask(heartbeat(&joined[1].member_id, 2)), Err(GroupError::UnknownMemberId(_))));
}

#[test]
fn an_assignment_that_cannot_be_stored_is_refused_and_the_group_begins_again() {
    let (mut kit, joined) = completing(2);
    let follower = kit.call(sync(&joined[1].member_id, 2, &[]));
    let huge = Bytes::from(vec![0; super::super::MAX_MEMBER_BYTES]);
    let leader = kit.call(GroupRequest::Sync(Sync {
        member: member(&joined[0].member_id, 2),
        protocol_type: None,
        protocol_name: None,
        assignments: vec![(joined[1].member_id.clone(), huge)],
    }));
    for ticket in [leader, follower] {
        assert!(matches!(kit.refused(ticket), GroupError::TooLarge(_)));
    }
    assert_eq!(kit.state(), "PreparingRebalance");
}

#[test]
fn assignments_for_who_is_not_there_are_ignored() {
    let mut kit = kit();
    let ticket = joins(&mut kit, join());
    kit.advance(ms(0));
    let joined = kit.joined(ticket);
    let ticket = kit.call(sync(&joined.member_id, 1, &[("nobody", "x"), (&joined.member_id, "a")]));
    assert_eq!(kit.synced(ticket).assignment, "a");
    assert_eq!(kit.stored.len(), 2, "the group and one member");
}
