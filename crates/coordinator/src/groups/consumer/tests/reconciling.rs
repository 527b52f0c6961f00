//! How partitions go from one member to another.

use super::*;

#[test]
fn a_partition_is_given_when_its_owner_has_given_it_back() {
    let mut kit = kit();
    assert_eq!(answer(&mut kit, join("a")), (1, given(&[(1, &[0, 1, 2, 3, 4, 5])])));
    assert_eq!(kit.state(), "Stable");
    // `b` is at the new epoch at once, and has nothing until `a` gives something back.
    assert_eq!(answer(&mut kit, join("b")), (2, given(&[])));
    assert_eq!(kit.state(), "Reconciling");
    assert_eq!(answer(&mut kit, alive("b", 2)), (2, None));
    assert_eq!(answer(&mut kit, alive("a", 1)), (1, given(&[(1, &[0, 1, 2])])));
    // It does not say, or it says that it is still at it, or the answer has not come: it is told until it says so.
    assert_eq!(answer(&mut kit, alive("a", 1)), (1, given(&[(1, &[0, 1, 2])])));
    assert_eq!(answer(&mut kit, owning("a", 1, &[(1, &[0, 1, 2, 5])])), (1, given(&[(1, &[0, 1, 2])])));
    assert_eq!(answer(&mut kit, alive("b", 2)), (2, None));
    let b = described(&mut kit, "b");
    assert_eq!((b.assignment, b.target), (list(&[]), list(&[(1, &[3, 4, 5])])));
    assert_eq!(answer(&mut kit, owning("a", 1, &[(1, &[0, 1, 2])])), (2, None));
    assert_eq!(answer(&mut kit, alive("b", 2)), (2, given(&[(1, &[3, 4, 5])])));
    assert_eq!(kit.state(), "Stable");
    // Perhaps that answer was lost, and `b` asked again as it had asked before.
    assert_eq!(answer(&mut kit, alive("b", 2)), (2, given(&[(1, &[3, 4, 5])])));
    assert_eq!(answer(&mut kit, owning("b", 2, &[(1, &[5, 4, 3])])), (2, None));
    assert_eq!(answer(&mut kit, alive("b", 2)), (2, None));
}

#[test]
fn a_member_that_waits_for_others_asks_again_soon() {
    let mut kit = two_members();
    let waits = heartbeat(&mut kit, join("c")).unwrap();
    assert_eq!((waits.assignment, waits.heartbeat_interval), (given(&[]), ms(100)));
    assert_eq!(heartbeat(&mut kit, alive("a", 2)).unwrap().heartbeat_interval, ms(5_000));
    answer(&mut kit, owning("a", 2, &[(1, &[0, 1])]));
    answer(&mut kit, alive("b", 2));
    answer(&mut kit, owning("b", 2, &[(1, &[3, 4])]));
    assert_eq!(heartbeat(&mut kit, alive("c", 3)).unwrap().heartbeat_interval, ms(5_000));
    assert_eq!(kit.state(), "Stable");
}

#[test]
fn an_answer_that_was_lost_is_given_again() {
    let mut kit = two_members();
    assert_eq!(answer(&mut kit, join("c")), (3, given(&[])));
    let lost = answer(&mut kit, owning("a", 2, &[(1, &[0, 1, 2])]));
    assert_eq!(lost, (2, given(&[(1, &[0, 1])])));
    // A full request, since it does not know what became of the last one.
    let full = ConsumerHeartbeat {
        rebalance_timeout: Some(ms(60_000)),
        subscribed_topics: Some(vec!["orders".to_owned()]),
        ..owning("a", 2, &[(1, &[0, 1, 2])])
    };
    assert_eq!(answer(&mut kit, full), lost);
    // The answer that takes it to the new epoch is lost as well.
    assert_eq!(answer(&mut kit, owning("a", 2, &[(1, &[0, 1])])), (3, None));
    assert_eq!(answer(&mut kit, owning("a", 2, &[(1, &[0, 1])])), (3, given(&[(1, &[0, 1])])));
}

#[test]
fn a_member_that_leaves_gives_everything_back_at_once() {
    let mut kit = two_members();
    let left = heartbeat(&mut kit, alive("a", -1)).unwrap();
    assert_eq!((left.member_epoch, left.heartbeat_interval), (-1, ms(0)));
    assert_eq!(answer(&mut kit, alive("b", 2)), (3, given(&[(1, &[0, 1, 2, 3, 4, 5])])));
    assert_nothing_leaks(&kit);
}

#[test]
fn members_that_are_not_concerned_are_not_disturbed() {
    let mut kit = kit();
    kit.topic(2, "clicks", 2);
    assert_eq!(answer(&mut kit, join("a")).0, 1);
    assert_eq!(answer(&mut kit, owning("a", 1, &[(1, &[0, 1, 2, 3, 4, 5])])), (1, None));
    let other = ConsumerHeartbeat { subscribed_topics: Some(vec!["clicks".to_owned()]), ..join("b") };
    assert_eq!(answer(&mut kit, other), (2, given(&[(2, &[0, 1])])));
    // The epoch is new to it, the assignment is not.
    assert_eq!(answer(&mut kit, alive("a", 1)), (2, None));
}

#[test]
fn a_target_that_changes_meanwhile_is_followed() {
    let mut kit = kit();
    answer(&mut kit, join("a"));
    answer(&mut kit, join("b"));
    assert_eq!(answer(&mut kit, alive("a", 1)), (1, given(&[(1, &[0, 1, 2])])));
    // `b` is gone before `a` has given anything back: all of it stays `a`'s.
    answer(&mut kit, alive("b", -1));
    assert_eq!(answer(&mut kit, owning("a", 1, &[(1, &[0, 1, 2, 3, 4, 5])])), (1, given(&[(1, &[0, 1, 2])])));
    assert_eq!(
        answer(&mut kit, owning("a", 1, &[(1, &[0, 1, 2])])),
        (3, given(&[(1, &[0, 1, 2, 3, 4, 5])])),
        "what it gave back is given again"
    );
    assert_nothing_leaks(&kit);
}

#[test]
fn the_assignor_is_what_most_members_ask_for() {
    let mut kit = kit();
    kit.topic(2, "clicks", 3);
    let topics = Some(vec!["orders".to_owned(), "clicks".to_owned()]);
    let asks = |id: &str, assignor: &str| ConsumerHeartbeat {
        server_assignor: Some(assignor.to_owned()),
        subscribed_topics: topics.clone(),
        ..join(id)
    };
    answer(&mut kit, asks("a", "range"));
    assert_eq!(describe(&mut kit).assignor, "range");
    answer(&mut kit, asks("b", "uniform"));
    assert_eq!(describe(&mut kit).assignor, "uniform");
    answer(&mut kit, asks("c", "range"));
    assert_eq!(describe(&mut kit).assignor, "range");
    assert_eq!(described(&mut kit, "b").target, list(&[(1, &[2, 3]), (2, &[1])]));
}

#[test]
fn a_lying_member_gets_nothing_by_it() {
    let mut kit = two_members();
    // It claims everything, and partitions that do not exist.
    assert_eq!(answer(&mut kit, owning("a", 2, &[(1, &[0, 1, 2, 3, 4, 5, 6, -1]), (9, &[0])])), (2, None));
    assert_eq!(answer(&mut kit, alive("b", 2)), (2, None));
    assert_eq!(described(&mut kit, "a").assignment, list(&[(1, &[0, 1, 2])]));
    assert_nothing_leaks(&kit);
}
