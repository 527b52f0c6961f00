//! Static members.

use super::*;

fn leaves_for_now(id: &str, instance: &str) -> ConsumerHeartbeat {
    ConsumerHeartbeat { instance_id: Some(instance.to_owned()), ..alive(id, -2) }
}

fn as_static(request: ConsumerHeartbeat, instance: &str) -> ConsumerHeartbeat {
    ConsumerHeartbeat { instance_id: Some(instance.to_owned()), ..request }
}

fn two_statics() -> Kit {
    let mut kit = kit();
    answer(&mut kit, static_join("a", "x"));
    answer(&mut kit, static_join("b", "y"));
    answer(&mut kit, as_static(owning("a", 1, &[(1, &[0, 1, 2])]), "x"));
    assert_eq!(answer(&mut kit, as_static(alive("b", 2), "y")), (2, given(&[(1, &[3, 4, 5])])));
    assert_eq!(answer(&mut kit, as_static(owning("b", 2, &[(1, &[3, 4, 5])]), "y")), (2, None));
    kit
}

#[test]
fn a_static_member_that_comes_back_has_what_it_had_and_disturbs_nobody() {
    let mut kit = two_statics();
    let left = heartbeat(&mut kit, leaves_for_now("a", "x")).unwrap();
    assert_eq!((left.member_id.as_str(), left.member_epoch), ("a", -2));
    assert_eq!(described(&mut kit, "a").member_epoch, -2);
    assert_eq!(answer(&mut kit, as_static(alive("b", 2), "y")), (2, None));
    assert_eq!(answer(&mut kit, static_join("c", "x")), (2, given(&[(1, &[0, 1, 2])])));
    assert_eq!(ids(&mut kit), ["b", "c"]);
    assert_eq!((describe(&mut kit).epoch, kit.state().as_str()), (2, "Stable"));
    // The old process is told.
    assert_eq!(heartbeat(&mut kit, as_static(alive("a", 2), "x")), Err(GroupError::FencedInstanceId));
    assert!(matches!(heartbeat(&mut kit, alive("a", 2)), Err(GroupError::UnknownMemberId(_))));
    assert_nothing_leaks(&kit);
}

#[test]
fn a_static_member_that_comes_back_finds_its_pattern_known() {
    let mut kit = kit();
    let by_pattern = |id: &str| ConsumerHeartbeat {
        subscribed_topics: None,
        subscribed_regex: Some("or.*".to_owned()),
        ..static_join(id, "x")
    };
    let all = given(&[(1, &[0, 1, 2, 3, 4, 5])]);
    assert_eq!(answer(&mut kit, by_pattern("a")), (1, all.clone()));
    heartbeat(&mut kit, leaves_for_now("a", "x")).unwrap();
    assert_eq!(answer(&mut kit, by_pattern("b")), (1, all));
    kit.topic(2, "orders.eu", 1);
    topics_changed(&mut kit);
    let more = given(&[(1, &[0, 1, 2, 3, 4, 5]), (2, &[0])]);
    assert_eq!(answer(&mut kit, as_static(alive("b", 1), "x")), (2, more));
}

#[test]
fn an_instance_that_has_not_left_is_not_given_to_another() {
    let mut kit = two_statics();
    assert!(matches!(heartbeat(&mut kit, static_join("c", "x")), Err(GroupError::UnreleasedInstanceId(_))));
    assert_eq!(heartbeat(&mut kit, as_static(alive("c", 2), "x")), Err(GroupError::FencedInstanceId));
    assert_eq!(heartbeat(&mut kit, leaves_for_now("c", "x")), Err(GroupError::FencedInstanceId));
    assert!(matches!(heartbeat(&mut kit, as_static(alive("c", 2), "z")), Err(GroupError::UnknownMemberId(_))));
    assert!(matches!(heartbeat(&mut kit, leaves_for_now("a", "z")), Err(GroupError::UnknownMemberId(_))));
    assert_eq!(ids(&mut kit), ["a", "b"]);
    // The same member may not know that it has joined.
    assert_eq!(answer(&mut kit, static_join("a", "x")), (2, given(&[(1, &[0, 1, 2])])));
}

#[test]
fn a_static_member_that_does_not_come_back_is_taken_out() {
    let mut kit = two_statics();
    heartbeat(&mut kit, leaves_for_now("a", "x")).unwrap();
    kit.advance(ms(44_000));
    answer(&mut kit, as_static(alive("b", 2), "y"));
    kit.advance(ms(1_000));
    assert_eq!(ids(&mut kit), ["b"]);
    assert_eq!(answer(&mut kit, as_static(alive("b", 2), "y")), (3, given(&[(1, &[0, 1, 2, 3, 4, 5])])));
    assert_eq!(answer(&mut kit, static_join("c", "x")), (4, given(&[])));
}

#[test]
fn a_static_member_that_left_while_giving_back_has_given_back() {
    let mut kit = two_statics();
    answer(&mut kit, join("c"));
    assert_eq!(answer(&mut kit, as_static(alive("a", 2), "x")), (2, given(&[(1, &[0, 1])])));
    heartbeat(&mut kit, leaves_for_now("a", "x")).unwrap();
    assert_eq!(answer(&mut kit, alive("c", 3)), (3, given(&[(1, &[2])])));
    assert_eq!(answer(&mut kit, static_join("d", "x")), (3, given(&[(1, &[0, 1])])));
    assert_nothing_leaks(&kit);
}

#[test]
fn a_static_member_may_leave_for_good() {
    let mut kit = two_statics();
    assert_eq!(answer(&mut kit, as_static(alive("a", -1), "x")), (-1, None));
    assert_eq!(ids(&mut kit), ["b"]);
    assert_nothing_leaks(&kit);
}

#[test]
fn an_instance_id_can_come_later_and_change() {
    let mut kit = kit();
    answer(&mut kit, join("a"));
    answer(&mut kit, static_join("a", "x"));
    assert_eq!(described(&mut kit, "a").instance_id.as_deref(), Some("x"));
    answer(&mut kit, static_join("a", "z"));
    assert_eq!(described(&mut kit, "a").instance_id.as_deref(), Some("z"));
    assert_nothing_leaks(&kit);
}

#[test]
fn an_id_that_another_member_has_is_taken_from_it() {
    let mut kit = two_statics();
    heartbeat(&mut kit, leaves_for_now("a", "x")).unwrap();
    // `b` says to be what `a` was.
    assert_eq!(answer(&mut kit, static_join("b", "x")), (2, given(&[(1, &[0, 1, 2])])));
    assert_eq!(ids(&mut kit), ["b"]);
    assert_nothing_leaks(&kit);
}
