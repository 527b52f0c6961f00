use tidemark_model::GroupError;
use tidemark_model::group::{GroupAnswer, GroupRequest};

use super::{again, answered, join, joins, kit, stable, stable_of, static_join};
use crate::groups::kit::{heartbeat, leave, leaving, ms, sync};

#[test]
fn who_leaves_makes_the_others_rebalance() {
    let (mut kit, joined) = stable(3);
    assert_eq!(answered(kit.ask(leave(&joined[0].member_id))), [Ok(())]);
    assert!(matches!(kit.ask(heartbeat(&joined[0].member_id, 1)), Err(GroupError::UnknownMemberId(_))));
    assert_eq!(kit.ask(heartbeat(&joined[1].member_id, 1)), Err(GroupError::RebalanceInProgress));
    let rest: Vec<_> = joined[1..].iter().map(|one| joins(&mut kit, again(&one.member_id))).collect();
    let rest: Vec<_> = rest.into_iter().map(|ticket| kit.joined(ticket)).collect();
    assert!(rest.iter().all(|one| one.generation == 2 && one.leader == rest[0].leader));
}

#[test]
fn the_last_one_leaves_an_empty_group_behind() {
    let (mut kit, joined) = stable(1);
    assert_eq!(answered(kit.ask(leave(&joined[0].member_id))), [Ok(())]);
    assert_eq!((kit.state().as_str(), kit.stored.len()), ("Empty", 1));
    let ticket = joins(&mut kit, join());
    kit.advance(ms(100));
    assert_eq!(kit.joined(ticket).generation, 3, "being empty was a generation too");
}

#[test]
fn who_leaves_while_it_waits_is_answered() {
    let (mut kit, joined) = stable(2);
    let waiting = joins(&mut kit, again(&joined[0].member_id));
    kit.ask(leave(&joined[0].member_id)).unwrap();
    assert!(matches!(kit.refused(waiting), GroupError::UnknownMemberId(_)));

    let (mut kit, joined) = stable(2);
    let tickets: Vec<_> = joined.iter().map(|one| joins(&mut kit, again(&one.member_id))).collect();
    let generation = tickets.into_iter().map(|ticket| kit.joined(ticket).generation).max().unwrap();
    let waiting = kit.call(sync(&joined[1].member_id, generation, &[]));
    kit.ask(leave(&joined[1].member_id)).unwrap();
    assert!(matches!(kit.refused(waiting), GroupError::UnknownMemberId(_)));
}

#[test]
fn a_rebalance_goes_on_when_the_last_one_it_waits_for_leaves() {
    let (mut kit, joined) = stable(2);
    let leader = joins(&mut kit, again(&joined[0].member_id));
    assert_eq!(kit.answer(leader), None);
    kit.ask(leave(&joined[1].member_id)).unwrap();
    assert_eq!(kit.joined(leader).members.len(), 1);
}

#[test]
fn many_leave_at_once_each_answered_in_its_place() {
    let (mut kit, joined) = stable_of(kit(), vec![join(), static_join("s"), static_join("t"), join()]);
    let by_instance = |name: &str| joined.iter().find(|one| one.member_id.starts_with(name)).unwrap().member_id.clone();
    let (s, dynamic) = (by_instance("s-"), by_instance("client-"));
    let request = vec![
        leaving("nobody", None),
        leaving("", Some("s")),
        leaving("", Some("u")),
        leaving("", None),
        leaving(&s, Some("t")),
        leaving(&dynamic, None),
        leaving(&s, Some("s")),
    ];
    let results = answered(kit.ask(GroupRequest::Leave(request)));
    let unknown = |result: &Result<(), GroupError>| matches!(result, Err(GroupError::UnknownMemberId(_)));
    assert!([0, 2, 3, 6].iter().all(|at| unknown(&results[*at])), "{results:?}");
    assert_eq!(results[4], Err(GroupError::FencedInstanceId));
    assert_eq!([&results[1], &results[5]], [&Ok(()), &Ok(())]);
    assert_eq!(kit.state(), "PreparingRebalance");
    let mut empty = crate::groups::kit::Kit::new();
    assert!(matches!(empty.ask(leave("nobody")), Err(GroupError::UnknownMemberId(_))));
}

#[test]
fn who_was_told_to_come_again_may_leave_instead() {
    let mut kit = kit();
    let ticket = joins(&mut kit, tidemark_model::group::Join { requires_member_id: true, ..join() });
    let GroupError::MemberIdRequired(id) = kit.refused(ticket) else { panic!() };
    assert_eq!(answered(kit.ask(leave(&id))), [Ok(())]);
    let ticket = joins(&mut kit, again(&id));
    assert!(matches!(kit.refused(ticket), GroupError::UnknownMemberId(_)));
}

#[test]
fn nobody_is_disturbed_by_a_leave_that_does_nothing() {
    let (mut kit, joined) = stable(1);
    assert_eq!(kit.ask(leave("nobody")).map(|answer| matches!(answer, GroupAnswer::Leave(_))), Ok(true));
    assert_eq!(kit.ask(heartbeat(&joined[0].member_id, 1)), Ok(GroupAnswer::Heartbeat));
}
