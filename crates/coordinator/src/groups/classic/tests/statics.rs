//! Static members (KIP-345, KIP-814).

use tidemark_model::GroupError;
use tidemark_model::group::{GroupAnswer, GroupRequest, Join, Member, Sync};

use super::{again, join, joins, kit, stable_of, static_join};
use crate::groups::kit::{Kit, commit_as, heartbeat, ms, protocol, sync};

/// A stable group of the static members `a` and `b`, who leads, and who follows.
fn two() -> (Kit, String, String) {
    let (kit, joined) = stable_of(kit(), vec![static_join("a"), static_join("b")]);
    (kit, joined[0].member_id.clone(), joined[1].member_id.clone())
}

fn instance(id: &str) -> &str {
    &id[..1]
}

#[test]
fn a_follower_that_is_back_goes_on_without_a_rebalance_and_fences_who_it_was() {
    let (mut kit, leader, follower) = two();
    let ticket = joins(&mut kit, static_join(instance(&follower)));
    let back = kit.joined(ticket);
    assert_eq!((back.generation, &back.leader, back.skip_assignment), (1, &leader, false));
    assert_ne!(back.member_id, follower);
    assert_eq!(kit.state(), "Stable");
    let ticket = kit.call(sync(&back.member_id, 1, &[]));
    assert_eq!(kit.synced(ticket).assignment, "1", "what it had");

    let old = Member { member_id: follower.clone(), instance_id: Some(instance(&follower).to_owned()), generation: 1 };
    let syncing = Sync { member: old.clone(), protocol_type: None, protocol_name: None, assignments: vec![] };
    let commit =
        tidemark_model::group::CommitOffsets { instance_id: old.instance_id.clone(), ..commit_as(&follower, 1, &[]) };
    let rejoin = Join { instance_id: old.instance_id.clone(), ..again(&follower) };
    for request in [
        GroupRequest::Heartbeat(old.clone()),
        GroupRequest::Sync(syncing),
        GroupRequest::CommitOffsets(commit),
        GroupRequest::Join(rejoin),
    ] {
        assert_eq!(kit.ask(request), Err(GroupError::FencedInstanceId));
    }
    assert_eq!(kit.ask(heartbeat(&back.member_id, 1)), Ok(GroupAnswer::Heartbeat));

    // It is the new one that is stored.
    kit.reload();
    assert_eq!(kit.ask(heartbeat(&back.member_id, 1)), Ok(GroupAnswer::Heartbeat));
    assert!(matches!(kit.ask(heartbeat(&follower, 1)), Err(GroupError::UnknownMemberId(_))));
}

#[test]
fn a_leader_that_is_back_is_told_to_skip_the_assignment_or_not_to_lead() {
    let (mut kit, leader, _) = two();
    let ticket = joins(&mut kit, Join { can_skip_assignment: true, ..static_join(instance(&leader)) });
    let back = kit.joined(ticket);
    assert_eq!((&back.leader, back.skip_assignment, back.members.len()), (&back.member_id, true, 2));

    let (mut kit, leader, _) = two();
    let ticket = joins(&mut kit, static_join(instance(&leader)));
    let back = kit.joined(ticket);
    assert_eq!((&back.leader, back.skip_assignment, back.members.len()), (&leader, false, 0));
    let ticket = kit.call(sync(&back.member_id, 1, &[]));
    assert_eq!(kit.synced(ticket).assignment, "0");
}

#[test]
fn a_static_member_that_is_back_with_another_protocol_makes_a_rebalance() {
    let both = |first: &str, then: &str, id: &str| Join {
        protocols: vec![protocol(first, &[]), protocol(then, &[])],
        ..static_join(id)
    };
    let (mut kit, joined) = stable_of(kit(), vec![both("x", "y", "a"), both("x", "y", "b"), both("y", "x", "c")]);
    assert_eq!(joined[0].protocol_name, "x");
    let ticket = joins(&mut kit, both("y", "x", "b"));
    assert_eq!((kit.answer(ticket), kit.state().as_str()), (None, "PreparingRebalance"));
}

#[test]
fn who_is_replaced_while_it_waits_is_fenced() {
    let (mut kit, leader, follower) = two();
    let instance_id = Some(instance(&leader).to_owned());
    let waiting = joins(&mut kit, Join { instance_id, ..again(&leader) });
    assert_eq!(kit.answer(waiting), None);
    let back = joins(&mut kit, static_join(instance(&leader)));
    assert_eq!(kit.refused(waiting), GroupError::FencedInstanceId);
    let instance_id = Some(instance(&follower).to_owned());
    joins(&mut kit, Join { instance_id, ..again(&follower) });
    let back = kit.joined(back);
    assert_eq!((back.generation, &back.leader), (2, &back.member_id), "the leader's place is its own");

    // While the leader assigns: the group begins again.
    let waiting = kit.call(sync(&follower, 2, &[]));
    let third = joins(&mut kit, static_join(instance(&follower)));
    assert_eq!(kit.refused(waiting), GroupError::FencedInstanceId);
    assert_eq!((kit.answer(third), kit.state().as_str()), (None, "PreparingRebalance"));
}

#[test]
fn a_static_member_that_is_away_keeps_its_place_for_its_session() {
    let (mut kit, leader, follower) = two();
    // The leader asks for a rebalance; the follower is away, and is not thrown out by it.
    let instance_id = Some(instance(&leader).to_owned());
    let ticket = joins(&mut kit, Join { instance_id, ..again(&leader) });
    kit.advance(ms(9_999));
    assert_eq!(kit.answer(ticket), None);
    kit.advance(ms(1));
    assert_eq!(kit.joined(ticket).members.len(), 1);
    assert!(matches!(kit.ask(heartbeat(&follower, 2)), Err(GroupError::UnknownMemberId(_))));

    // With a session as long as the rebalance it is in the next generation without having come.
    let long = |id: &str| Join { session_timeout: ms(90_000), ..static_join(id) };
    let (mut kit, joined) = stable_of(super::kit(), vec![long("a"), long("b")]);
    let leader = joined[0].member_id.clone();
    let instance_id = instance(&leader).to_owned();
    let ticket = joins(&mut kit, Join { member_id: leader, ..long(&instance_id) });
    kit.advance(ms(60_000));
    assert_eq!(kit.joined(ticket).members.len(), 2);
}

#[test]
fn two_with_one_instance_id_fence_each_other() {
    let mut kit = kit();
    kit.settings.initial_rebalance_delay = ms(3_000);
    let first = joins(&mut kit, static_join("a"));
    let second = joins(&mut kit, static_join("a"));
    assert_eq!(kit.refused(first), GroupError::FencedInstanceId);
    kit.advance(ms(6_000));
    assert_eq!(kit.joined(second).members.len(), 1);
    let other = joins(&mut kit, Join { instance_id: Some("b".into()), ..join() });
    assert_eq!(kit.answer(other), None);
}
