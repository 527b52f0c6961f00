//! Answers to who waits for others, which are held for a moment.

use super::*;
use crate::groups::Ticket;

fn ask(kit: &mut Kit, request: ConsumerHeartbeat) -> Ticket {
    kit.call(GroupRequest::ConsumerHeartbeat(request))
}

fn told(kit: &mut Kit, ticket: Ticket) -> (i32, Option<Vec<TopicPartitions>>) {
    match kit.answer(ticket) {
        Some(Ok(GroupAnswer::ConsumerHeartbeat(answer))) => (answer.member_epoch, answer.assignment),
        other => panic!("{other:?}"),
    }
}

/// `b` has joined, and `a` is asked for half of what it has.
fn one_waits_for_another() -> Kit {
    let mut kit = kit();
    answer(&mut kit, join("a"));
    answer(&mut kit, join("b"));
    answer(&mut kit, alive("a", 1));
    kit
}

#[test]
fn who_waits_hears_of_it_when_another_gives_back() {
    let mut kit = one_waits_for_another();
    let waits = ask(&mut kit, alive("b", 2));
    kit.advance(LONGEST_HELD - ms(1));
    assert!(kit.answer(waits).is_none());
    kit.away = true;
    let gives = ask(&mut kit, owning("a", 1, &[(1, &[0, 1, 2])]));
    // What it is given is stored first, and as much as that another has given it back.
    assert!(kit.answer(gives).is_none() && kit.answer(waits).is_none());
    kit.store_all();
    assert_eq!(told(&mut kit, waits), (2, given(&[(1, &[3, 4, 5])])));
    assert_eq!(told(&mut kit, gives), (2, None));
    assert_eq!(answer(&mut kit, owning("b", 2, &[(1, &[3, 4, 5])])), (2, None));
    assert_eq!(kit.state(), "Stable");
}

#[test]
fn who_waits_hears_of_it_when_another_is_gone_or_more_is_wanted_of_it() {
    let mut kit = one_waits_for_another();
    let waits = ask(&mut kit, alive("b", 2));
    ask(&mut kit, alive("a", -1));
    assert_eq!(told(&mut kit, waits), (2, given(&[(1, &[3, 4, 5])])));
    // The heartbeat of another finds a new target.
    let mut kit = one_waits_for_another();
    let waits = ask(&mut kit, alive("b", 2));
    answer(&mut kit, join("c"));
    assert_eq!(told(&mut kit, waits), (3, None));
}

#[test]
fn nobody_is_held_for_long() {
    let mut kit = one_waits_for_another();
    let waits = ask(&mut kit, alive("b", 2));
    kit.advance(LONGEST_HELD);
    assert_eq!(told(&mut kit, waits), (2, None));
    // Who asks again on another connection is told what there is, and the question before is not.
    let before = ask(&mut kit, alive("b", 2));
    let again = ask(&mut kit, alive("b", 2));
    assert_eq!(told(&mut kit, before), (2, None));
    ask(&mut kit, owning("a", 1, &[(1, &[0, 1, 2])]));
    assert_eq!(told(&mut kit, again), (2, given(&[(1, &[3, 4, 5])])));
}

#[test]
fn who_says_something_new_or_leaves_is_not_held() {
    let mut kit = one_waits_for_another();
    kit.topic(2, "clicks", 1);
    let subscribes = ConsumerHeartbeat { subscribed_topics: Some(vec!["clicks".to_owned()]), ..alive("b", 2) };
    let waits = ask(&mut kit, alive("b", 2));
    let subscribes = ask(&mut kit, subscribes);
    assert!(kit.answer(waits).is_some() && kit.answer(subscribes).is_some());
    let mut kit = one_waits_for_another();
    let waits = ask(&mut kit, alive("b", 2));
    let leaves = ask(&mut kit, alive("b", -1));
    assert!(kit.answer(waits).is_some() && kit.answer(leaves).is_some());
    assert_eq!(kit.open(), 0);
}

#[test]
fn who_waits_hears_of_it_when_the_session_of_another_is_over() {
    let mut kit = one_waits_for_another();
    kit.advance(ms(44_980));
    let waits = ask(&mut kit, alive("b", 2));
    kit.advance(ms(19));
    assert!(kit.answer(waits).is_none());
    kit.advance(ms(1));
    assert_eq!(told(&mut kit, waits), (2, given(&[(1, &[3, 4, 5])])));
}
