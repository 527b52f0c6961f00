//! What is stored, when answers are given, and the group as another coordinator loads it.

use super::*;
use crate::groups::Ticket;
use crate::groups::consumer::member::Progress;
use crate::records::GroupKey;

fn ask(kit: &mut Kit, request: ConsumerHeartbeat) -> Ticket {
    kit.call(GroupRequest::ConsumerHeartbeat(request))
}

#[test]
fn members_of_a_stable_group_carry_on_with_the_next_owner() {
    let mut kit = two_members();
    let before = describe(&mut kit);
    kit.reload();
    assert_eq!(describe(&mut kit), before);
    assert_nothing_leaks(&kit);
    let stored = kit.stored.clone();
    // Told once more, since it may have been asked before, by who died with the answer.
    assert_eq!(answer(&mut kit, alive("a", 2)), (2, given(&[(1, &[0, 1, 2])])));
    assert_eq!(answer(&mut kit, alive("b", 2)), (2, given(&[(1, &[3, 4, 5])])));
    assert_eq!(answer(&mut kit, alive("a", 2)), (2, None));
    assert_eq!(kit.stored, stored);
    assert_eq!(kit.state(), "Stable");
    // Sessions begin anew.
    kit.reload();
    kit.advance(ms(44_999));
    assert_eq!(ids(&mut kit), ["a", "b"]);
    kit.advance(ms(1));
    assert_eq!(kit.state(), "Empty");
}

#[test]
fn every_step_of_a_rebalance_can_be_gone_on_with() {
    let mut kit = kit();
    answer(&mut kit, join("a"));
    kit.reload();
    assert_eq!(answer(&mut kit, join("b")), (2, given(&[])));
    kit.reload();
    assert_eq!(answer(&mut kit, alive("a", 1)), (1, given(&[(1, &[0, 1, 2])])));
    kit.reload();
    assert_eq!(answer(&mut kit, alive("b", 2)), (2, given(&[])));
    assert_eq!(answer(&mut kit, owning("a", 1, &[(1, &[0, 1, 2])])).0, 2);
    kit.reload();
    assert_eq!(answer(&mut kit, alive("b", 2)), (2, given(&[(1, &[3, 4, 5])])));
    // Who was giving back still has to, in time.
    answer(&mut kit, join("c"));
    answer(&mut kit, alive("a", 2));
    kit.reload();
    for _ in 0..6 {
        kit.advance(ms(10_000));
        for id in ["b", "c"] {
            let epoch = described(&mut kit, id).member_epoch;
            answer(&mut kit, alive(id, epoch));
        }
        let _ = heartbeat(&mut kit, alive("a", 2));
    }
    assert_eq!(ids(&mut kit), ["b", "c"]);
}

#[test]
fn topics_that_changed_while_nobody_owned_the_group_are_noticed() {
    let mut kit = two_members();
    kit.topic(1, "orders", 8);
    kit.reload();
    assert_eq!(answer(&mut kit, alive("a", 2)), (3, given(&[(1, &[0, 1, 2, 6])])));

    let mut kit = self::kit();
    let pattern = ConsumerHeartbeat { subscribed_regex: Some("cl.*".to_owned()), ..join("a") };
    answer(&mut kit, pattern);
    kit.topic(2, "clicks", 1);
    kit.reload();
    assert_eq!(answer(&mut kit, alive("a", 1)), (2, given(&[(1, &[0, 1, 2, 3, 4, 5]), (2, &[0])])));
}

#[test]
fn a_coordinator_that_is_behind_does_not_decide() {
    let mut kit = kit();
    let before = kit.cluster.clone();
    kit.topic(2, "clicks", 1);
    kit.cluster.revision = 7;
    let both = ConsumerHeartbeat { subscribed_regex: Some("clicks".to_owned()), ..join("a") };
    let all = given(&[(1, &[0, 1, 2, 3, 4, 5]), (2, &[0])]);
    assert_eq!(answer(&mut kit, both), (1, all.clone()));
    let now = std::mem::replace(&mut kit.cluster, before);
    kit.cluster.revision = 6;
    kit.reload();
    assert_eq!(heartbeat(&mut kit, alive("a", 1)), Err(GroupError::LoadInProgress));
    kit.cluster = now;
    topics_changed(&mut kit);
    assert_eq!(answer(&mut kit, alive("a", 1)), (1, all));
    assert_eq!(describe(&mut kit).epoch, 1);
}

#[test]
fn nothing_is_told_before_it_is_stored_but_what_is_known() {
    let mut kit = two_members();
    kit.away = true;
    // Nothing has changed: it is answered from memory.
    let known = ask(&mut kit, alive("a", 2));
    assert!(kit.answer(known).is_some());
    // An assignment is confirmed, even if it is an old one.
    let again = ask(&mut kit, join("a"));
    assert!(kit.answer(again).is_none());
    kit.store_all();
    assert!(kit.answer(again).is_some());
    kit.away = true;
    let joins = ask(&mut kit, join("c"));
    assert!(kit.answer(joins).is_none());
    // What it has had is stored, and to give some of it back nobody has to know.
    let news = ask(&mut kit, alive("a", 2));
    let told = kit.answer(news).unwrap().unwrap();
    assert!(
        matches!(told, GroupAnswer::ConsumerHeartbeat(answer) if answer.member_epoch == 2 && answer.assignment.is_some())
    );
    // That it has done so is to be stored, and so is what another gets of it.
    let epoch = ask(&mut kit, owning("a", 2, &[(1, &[0, 1])]));
    let gets = ask(&mut kit, alive("c", 3));
    assert!(kit.answer(epoch).is_none() && kit.answer(gets).is_none());
    kit.store_all();
    for ticket in [joins, epoch, gets] {
        assert!(kit.answer(ticket).is_some());
    }
    kit.away = true;
    let leaves = ask(&mut kit, alive("c", -1));
    assert!(kit.answer(leaves).is_none());
}

#[test]
fn what_is_not_stored_yet_is_not_asked_back_before_it_is() {
    let mut kit = kit();
    answer(&mut kit, join("a"));
    answer(&mut kit, join("b"));
    answer(&mut kit, alive("a", 1));
    kit.away = true;
    ask(&mut kit, owning("a", 1, &[(1, &[0, 1, 2])]));
    let gets = ask(&mut kit, alive("b", 2));
    ask(&mut kit, join("c"));
    // It comes again before it has heard what it got, and is to give some of that back.
    let news = ask(&mut kit, alive("b", 2));
    assert_eq!(group(&kit).members["b"].current.progress, Progress::UnrevokedPartitions);
    assert!(kit.answer(gets).is_none() && kit.answer(news).is_none());
    kit.store_all();
    assert!(kit.answer(gets).is_some() && kit.answer(news).is_some());
}

#[test]
fn a_target_that_was_stored_in_part_is_made_again() {
    let mut kit = two_members();
    let target = kit.stored.remove(&GroupKey::ConsumerTarget("b".to_owned()));
    assert!(target.is_some());
    kit.reload();
    assert_eq!(kit.state(), "Assigning");
    assert_eq!(answer(&mut kit, alive("a", 2)), (3, given(&[(1, &[0, 1, 2])])));
    assert_eq!(answer(&mut kit, alive("b", 2)), (3, given(&[(1, &[3, 4, 5])])));
    assert_eq!(kit.state(), "Stable");
}

#[test]
fn a_partition_that_two_have_is_whose_epoch_is_higher() {
    let mut kit = two_members();
    let early = kit.stored[&GroupKey::ConsumerMember("a".to_owned())].clone();
    answer(&mut kit, join("c"));
    answer(&mut kit, alive("a", 2));
    answer(&mut kit, owning("a", 2, &[(1, &[0, 1])]));
    assert_eq!(answer(&mut kit, alive("c", 3)), (3, given(&[(1, &[2])])));
    // That `a` gave it back was not stored.
    kit.stored.insert(GroupKey::ConsumerMember("a".to_owned()), early);
    kit.reload();
    assert_eq!(described(&mut kit, "a").assignment, list(&[(1, &[0, 1])]));
    assert_eq!(described(&mut kit, "c").assignment, list(&[(1, &[2])]));
    assert_nothing_leaks(&kit);
}

#[test]
fn a_group_that_was_emptied_is_stored_as_that() {
    let mut kit = two_members();
    answer(&mut kit, alive("a", -1));
    answer(&mut kit, alive("b", -1));
    assert_eq!(Vec::from_iter(kit.stored.keys()), [&GroupKey::Consumer]);
    kit.reload();
    assert_eq!((kit.state().as_str(), describe(&mut kit).epoch), ("Empty", 4));
}
