use std::time::Duration;

use tidemark_model::GroupError;
use tidemark_model::group::{GroupAnswer, GroupRequest, Join};

use super::{again, join, joins, kit, stable, static_join};
use crate::groups::kit::{Kit, heartbeat, ms, protocol};

#[test]
fn the_first_member_leads_alone() {
    let mut kit = kit();
    let ticket = joins(&mut kit, join());
    kit.advance(ms(0));
    let joined = kit.joined(ticket);
    assert_eq!((joined.generation, &*joined.protocol_name, &*joined.protocol_type), (1, "range", "consumer"));
    assert_eq!(joined.leader, joined.member_id);
    assert!(joined.member_id.starts_with("client-") && joined.member_id.len() == "client-".len() + 36);
    assert_eq!(joined.members.len(), 1);
    assert_eq!(kit.state(), "CompletingRebalance");
}

#[test]
fn a_session_timeout_out_of_bounds_is_refused() {
    for (timeout, refused) in [(5_999, true), (6_000, false), (1_800_000, false), (1_800_001, true)] {
        let mut kit = kit();
        let ticket = joins(&mut kit, Join { session_timeout: ms(timeout), ..join() });
        let error = kit.answer(ticket).and_then(Result::err);
        assert_eq!(error, refused.then_some(GroupError::InvalidSessionTimeout), "{timeout}");
    }
}

#[test]
fn an_id_that_nobody_gave_out_is_unknown() {
    let mut kit = kit();
    let ticket = joins(&mut kit, again("made-up"));
    assert!(matches!(kit.refused(ticket), GroupError::UnknownMemberId(_)));
    assert_eq!(kit.state(), "Dead");
    let (mut kit, _) = stable(1);
    let ticket = joins(&mut kit, again("made-up"));
    assert!(matches!(kit.refused(ticket), GroupError::UnknownMemberId(_)));
    assert_eq!(kit.state(), "Stable");
}

/// KIP-394.
#[test]
fn a_new_dynamic_member_comes_again_with_its_id_or_is_forgotten() {
    let mut kit = kit();
    let first = Join { requires_member_id: true, ..join() };
    let ticket = joins(&mut kit, first.clone());
    let GroupError::MemberIdRequired(id) = kit.refused(ticket) else { panic!() };
    assert_eq!(kit.state(), "Empty");
    let ticket = joins(&mut kit, Join { member_id: id.clone(), ..first.clone() });
    kit.advance(ms(0));
    assert_eq!(kit.joined(ticket).member_id, id);

    let ticket = joins(&mut kit, first.clone());
    let GroupError::MemberIdRequired(late) = kit.refused(ticket) else { panic!() };
    kit.advance(ms(10_000));
    let ticket = joins(&mut kit, Join { member_id: late, ..first });
    assert!(matches!(kit.refused(ticket), GroupError::UnknownMemberId(_)));
}

#[test]
fn a_rebalance_waits_for_who_was_told_to_come_again() {
    let (mut kit, joined) = stable(1);
    let newcomer = joins(&mut kit, Join { requires_member_id: true, ..join() });
    let GroupError::MemberIdRequired(id) = kit.refused(newcomer) else { panic!() };
    let leader = joins(&mut kit, again(&joined[0].member_id));
    assert_eq!((kit.answer(leader), kit.state()), (None, "PreparingRebalance".to_owned()));
    let newcomer = joins(&mut kit, again(&id));
    assert_eq!(kit.joined(leader).members.len(), 2);
    assert_eq!(kit.joined(newcomer).generation, 2);
}

#[test]
fn protocols_have_to_be_common_to_all() {
    let (mut kit, _) = stable(1);
    let other_type = Join { protocol_type: "connect".into(), ..join() };
    let nothing_common = Join { protocols: vec![protocol("sticky", &[])], ..join() };
    for request in [other_type, nothing_common] {
        let ticket = joins(&mut kit, request);
        assert_eq!(kit.refused(ticket), GroupError::InconsistentGroupProtocol);
    }
    for request in [Join { protocol_type: String::new(), ..join() }, Join { protocols: vec![], ..join() }] {
        let mut kit = super::kit();
        let ticket = joins(&mut kit, request);
        assert_eq!(kit.refused(ticket), GroupError::InconsistentGroupProtocol);
    }
}

#[test]
fn the_protocol_that_most_like_best_among_the_common_ones_is_chosen() {
    let likes = |names: &[&str]| Join { protocols: names.iter().map(|n| protocol(n, &["t"])).collect(), ..join() };
    for (votes, chosen) in [
        (vec![likes(&["a", "b"]), likes(&["b", "a"]), likes(&["b", "a"])], "b"),
        (vec![likes(&["a", "b"]), likes(&["a", "b"]), likes(&["b", "a"])], "a"),
        // Two like c best, but the third cannot.
        (vec![likes(&["c", "a"]), likes(&["c", "a"]), likes(&["b", "a"])], "a"),
    ] {
        let (_, joined) = super::stable_of(kit(), votes);
        assert!(joined.iter().all(|joined| joined.protocol_name == chosen));
    }
}

#[test]
fn the_first_rebalance_waits_for_more_as_long_as_more_come() {
    let mut kit = Kit::new();
    let request = Join { rebalance_timeout: ms(10_000), ..join() };
    let first = joins(&mut kit, request.clone());
    kit.advance(ms(2_900));
    let second = joins(&mut kit, request.clone());
    kit.advance(ms(3_000));
    assert_eq!(kit.answer(first), None, "a second delay, since one more came");
    kit.advance(ms(100));
    assert_eq!((kit.joined(first).members.len(), kit.joined(second).generation), (2, 1));

    // Ever more come: no longer than the rebalance timeout.
    let mut kit = Kit::new();
    let first = joins(&mut kit, request.clone());
    for _ in 0..9 {
        kit.advance(ms(1_000));
        assert_eq!(kit.answer(first), None);
        joins(&mut kit, request.clone());
    }
    kit.advance(ms(1_000));
    assert_eq!(kit.joined(first).members.len(), 10);
}

#[test]
fn a_rebalance_is_over_when_all_came_again_or_the_slowest_had_its_time() {
    let (mut kit, joined) = stable(2);
    let newcomer = joins(&mut kit, join());
    let leader = joins(&mut kit, again(&joined[0].member_id));
    let other = joins(&mut kit, again(&joined[1].member_id));
    let ids = [leader, other, newcomer].map(|ticket| kit.joined(ticket));
    assert!(ids.iter().all(|joined| joined.generation == 2 && joined.leader == ids[0].member_id));
    assert_eq!(ids.map(|joined| joined.members.len()), [3, 0, 0]);

    // The leader does not come again: another leads, and it is out.
    let (mut kit, joined) = stable(2);
    let other = joins(&mut kit, Join { protocols: vec![protocol("range", &["more"])], ..again(&joined[1].member_id) });
    for _ in 0..12 {
        assert_eq!(kit.answer(other), None);
        let beat = kit.ask(crate::groups::kit::heartbeat(&joined[0].member_id, 1));
        assert_eq!(beat, Err(GroupError::RebalanceInProgress));
        kit.advance(ms(5_000));
    }
    let other = kit.joined(other);
    assert_eq!((other.generation, &other.leader, other.members.len()), (2, &other.member_id, 1));
    let late = joins(&mut kit, again(&joined[0].member_id));
    assert!(matches!(kit.refused(late), GroupError::UnknownMemberId(_)));
}

#[test]
fn a_member_that_comes_again_unchanged_disturbs_nobody_unless_it_leads() {
    let (mut kit, joined) = stable(2);
    let follower = joins(&mut kit, again(&joined[1].member_id));
    let answer = kit.joined(follower);
    assert_eq!((answer.generation, answer.members.len(), kit.state().as_str()), (1, 0, "Stable"));
    let leader = joins(&mut kit, again(&joined[0].member_id));
    assert_eq!((kit.answer(leader), kit.state().as_str()), (None, "PreparingRebalance"));

    // While the group waits for its leader's assignment: the answer got lost, and is given again.
    let mut kit = super::kit();
    let ticket = joins(&mut kit, join());
    kit.advance(ms(0));
    let before = kit.joined(ticket);
    let ticket = joins(&mut kit, again(&before.member_id));
    assert_eq!(kit.joined(ticket), before);
}

#[test]
fn a_full_group_takes_nobody() {
    let mut kit = kit();
    kit.settings.max_size = 2;
    let (mut kit, joined) = super::stable_of(kit, vec![join(); 2]);
    let ticket = joins(&mut kit, join());
    assert_eq!(kit.refused(ticket), GroupError::GroupMaxSizeReached);
    assert_eq!(kit.state(), "Stable");
    // While members come again, a place is for who comes first.
    let first = joins(&mut kit, again(&joined[0].member_id));
    let newcomer = joins(&mut kit, join());
    assert_eq!(kit.answer(newcomer), None);
    let second = joins(&mut kit, again(&joined[1].member_id));
    assert_eq!(kit.refused(second), GroupError::GroupMaxSizeReached);
    assert_eq!((kit.joined(first).members.len(), kit.joined(newcomer).generation), (2, 2));
}

#[test]
fn a_group_that_is_loaded_with_too_many_members_keeps_those_who_come_first() {
    let (mut kit, joined) = stable(3);
    kit.settings.max_size = 2;
    kit.reload();
    assert_eq!(kit.state(), "PreparingRebalance");
    let told = kit.call(heartbeat(&joined[2].member_id, joined[2].generation));
    assert_eq!(kit.refused(told), GroupError::RebalanceInProgress);
    let tickets: Vec<_> = joined.iter().rev().map(|joined| joins(&mut kit, again(&joined.member_id))).collect();
    assert_eq!(kit.refused(tickets[2]), GroupError::GroupMaxSizeReached);
    kit.advance(ms(60_000));
    let generations = [tickets[0], tickets[1]].map(|ticket| kit.joined(ticket).generation);
    assert_eq!(generations, [2, 2]);
}

#[test]
fn who_asks_twice_is_answered_twice() {
    let (mut kit, joined) = stable(2);
    let first = joins(&mut kit, again(&joined[0].member_id));
    let second = joins(&mut kit, again(&joined[0].member_id));
    assert_eq!(kit.refused(first), GroupError::RebalanceInProgress);
    joins(&mut kit, again(&joined[1].member_id));
    assert_eq!(kit.joined(second).generation, 2);
}

#[test]
fn a_member_that_tells_too_much_is_refused() {
    let mut kit = kit();
    let mut huge = protocol("range", &[]);
    huge.metadata = vec![0; super::super::MAX_MEMBER_BYTES].into();
    let ticket = joins(&mut kit, Join { protocols: vec![huge], ..join() });
    assert!(matches!(kit.refused(ticket), GroupError::TooLarge(_)));
}

#[test]
fn ids_that_never_come_again_are_bounded() {
    let mut kit = kit();
    kit.settings.max_size = 5;
    let request = Join { requires_member_id: true, ..join() };
    let outcomes: Vec<GroupError> = (0..7)
        .map(|_| {
            let ticket = joins(&mut kit, request.clone());
            kit.refused(ticket)
        })
        .collect();
    assert!(outcomes[..5].iter().all(|outcome| matches!(outcome, GroupError::MemberIdRequired(_))));
    assert!(outcomes[5..].iter().all(|outcome| *outcome == GroupError::GroupMaxSizeReached));
    kit.advance(Duration::from_secs(10));
    let ticket = joins(&mut kit, request);
    assert!(matches!(kit.refused(ticket), GroupError::MemberIdRequired(_)));
}

#[test]
fn a_new_member_has_five_minutes_until_it_is_in_a_generation() {
    let (mut kit, joined) = stable(1);
    let slow = Join { rebalance_timeout: ms(900_000), ..again(&joined[0].member_id) };
    let leader = joins(&mut kit, Join { protocols: vec![protocol("range", &["x"])], ..slow });
    kit.joined(leader);
    let newcomer = joins(&mut kit, join());
    for _ in 0..59 {
        kit.advance(ms(5_000));
        let beat = kit.ask(crate::groups::kit::heartbeat(&joined[0].member_id, 2));
        assert_eq!(beat, Err(GroupError::RebalanceInProgress));
        assert_eq!(kit.answer(newcomer), None);
    }
    kit.advance(ms(5_000));
    assert!(matches!(kit.refused(newcomer), GroupError::UnknownMemberId(_)));
}

#[test]
fn a_static_member_is_not_told_to_come_again() {
    let mut kit = kit();
    let ticket = joins(&mut kit, Join { requires_member_id: true, ..static_join("one") });
    kit.advance(ms(0));
    assert!(kit.joined(ticket).member_id.starts_with("one-"));
    let described = kit.ask(GroupRequest::Describe);
    let Ok(GroupAnswer::Describe(described)) = described else { panic!() };
    assert_eq!(described.members[0].instance_id.as_deref(), Some("one"));
}
