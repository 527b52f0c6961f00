//! Members of the classic protocol in consumer groups, and groups from one protocol to the other and back.

use bytes::Bytes;
use tidemark_model::group::{Join, Joined, Leaving, Member as MemberId, Protocol, Sync, Synced};
use tidemark_wire::consumer_protocol as wire;

use super::*;
use crate::groups::kit::{at, commit_as};

fn subscription(owned: Owned<'_>) -> Bytes {
    let owned = owned.iter().map(|(topic, partitions)| {
        assert_eq!(*topic, 1);
        wire::TopicPartitions { topic: "orders".to_owned(), partitions: partitions.to_vec() }
    });
    let topics = vec!["orders".to_owned()];
    let subscription = wire::Subscription { topics, owned: owned.collect(), ..wire::Subscription::default() };
    subscription.encode(1).unwrap()
}

fn classic(id: &str, owned: Owned<'_>) -> Join {
    let protocols = vec![Protocol { name: "range".to_owned(), metadata: subscription(owned) }];
    Join { member_id: id.to_owned(), protocols, session_timeout: ms(10_000), ..crate::groups::kit::join() }
}

fn as_instance(join: Join, instance: &str) -> Join {
    Join { instance_id: Some(instance.to_owned()), ..join }
}

fn joins(kit: &mut Kit, request: Join) -> Result<Joined, GroupError> {
    match kit.ask(GroupRequest::Join(request)) {
        Ok(GroupAnswer::Join(joined)) => Ok(joined),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    }
}

fn member(id: &str, generation: i32) -> MemberId {
    MemberId { member_id: id.to_owned(), instance_id: None, generation }
}

fn sync(id: &str, generation: i32) -> Sync {
    Sync { member: member(id, generation), protocol_type: None, protocol_name: None, assignments: vec![] }
}

fn syncs(kit: &mut Kit, request: Sync) -> Result<Synced, GroupError> {
    match kit.ask(GroupRequest::Sync(request)) {
        Ok(GroupAnswer::Sync(synced)) => Ok(synced),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    }
}

/// The partitions of `orders` that a sync gives.
fn synced(kit: &mut Kit, id: &str, generation: i32) -> Vec<i32> {
    let assignment = syncs(kit, sync(id, generation)).unwrap().assignment;
    let mut topics = wire::Assignment::decode(assignment).unwrap().partitions;
    topics.pop().map(|topic| topic.partitions).unwrap_or_default()
}

fn beats(kit: &mut Kit, id: &str, generation: i32) -> Result<GroupAnswer, GroupError> {
    kit.ask(GroupRequest::Heartbeat(member(id, generation)))
}

const ALIVE: Result<GroupAnswer, GroupError> = Ok(GroupAnswer::Heartbeat);
const REBALANCES: Result<GroupAnswer, GroupError> = Err(GroupError::RebalanceInProgress);

/// A stable classic group of one member at generation 1, which has all of `orders`. Returns its id.
fn classic_group() -> (Kit, String) {
    let mut kit = kit();
    kit.settings.initial_rebalance_delay = ms(100);
    let ticket = kit.call(GroupRequest::Join(classic("", &[])));
    kit.advance(ms(200));
    let joined = kit.joined(ticket);
    let partitions = vec![wire::TopicPartitions { topic: "orders".to_owned(), partitions: (0..6).collect() }];
    let assignment = wire::Assignment { partitions, user_data: None }.encode(1).unwrap();
    let id = joined.member_id;
    let assignments = vec![(id.clone(), assignment)];
    let ticket = kit.call(GroupRequest::Sync(Sync { assignments, ..sync(&id, 1) }));
    kit.synced(ticket);
    assert_eq!(kit.state(), "Stable");
    (kit, id)
}

fn is_classic(kit: &Kit) -> bool {
    matches!(kit.group.kind, Some(Kind::Classic(_)))
}

#[test]
fn a_live_classic_group_is_upgraded_and_downgraded_again() {
    let (mut kit, old) = classic_group();
    // The first consumer finds everything taken.
    assert_eq!(answer(&mut kit, join("new")), (2, given(&[])));
    assert!(!is_classic(&kit));
    let described = described(&mut kit, &old);
    assert!(described.classic);
    assert_eq!((described.member_epoch, described.assignment), (1, list(&[(1, &[0, 1, 2, 3, 4, 5])])));
    assert!(kit.stored.keys().all(|key| format!("{key:?}").starts_with("Consumer")), "{:?}", kit.stored.keys());

    // The old member is told to join, gives back, and lives on as it was used to.
    assert_eq!(beats(&mut kit, &old, 1), REBALANCES);
    let joined = joins(&mut kit, classic(&old, &[(1, &[0, 1, 2, 3, 4, 5])])).unwrap();
    assert_eq!((joined.generation, joined.protocol_name.as_str(), joined.leader.as_str()), (1, "range", ""));
    assert_eq!(synced(&mut kit, &old, 1), [0, 1, 2]);
    assert_eq!(answer(&mut kit, alive("new", 2)), (2, None), "it has not given back yet");
    assert_eq!(beats(&mut kit, &old, 1), REBALANCES);
    assert_eq!(joins(&mut kit, classic(&old, &[(1, &[0, 1, 2])])).unwrap().generation, 2);
    assert_eq!(synced(&mut kit, &old, 2), [0, 1, 2]);
    assert_eq!(answer(&mut kit, alive("new", 2)), (2, given(&[(1, &[3, 4, 5])])));
    assert_eq!(beats(&mut kit, &old, 2), ALIVE);
    assert_eq!(kit.state(), "Stable");
    assert_nothing_leaks(&kit);

    // The last consumer leaves: a classic group that rebalances.
    assert_eq!(answer(&mut kit, alive("new", -1)), (-1, None));
    assert!(is_classic(&kit));
    assert_eq!(kit.state(), "PreparingRebalance");
    assert_eq!(beats(&mut kit, &old, 2), REBALANCES);
    let ticket = kit.call(GroupRequest::Join(classic(&old, &[(1, &[0, 1, 2])])));
    let joined = kit.joined(ticket);
    assert_eq!((joined.generation, &joined.leader), (3, &old));
    assert!(kit.stored.keys().all(|key| format!("{key:?}").starts_with("Classic")), "{:?}", kit.stored.keys());
}

#[test]
fn a_group_that_cannot_be_upgraded_stays_as_it_is() {
    let why = |kit: &mut Kit| match heartbeat(kit, join("new")) {
        Err(GroupError::GroupIdNotFound(why)) => why,
        other => panic!("{other:?}"),
    };
    let (mut kit, _) = classic_group();
    kit.settings.consumer_max_size = 1;
    assert!(why(&mut kit).contains("exceeds the consumer group maximum size"));
    assert!(is_classic(&kit));

    let of = |protocol_type: &str, metadata: &'static [u8]| {
        let mut kit = self::kit();
        kit.settings.initial_rebalance_delay = ms(100);
        let protocols = vec![Protocol { name: "range".to_owned(), metadata: Bytes::from_static(metadata) }];
        let request = Join { protocol_type: protocol_type.to_owned(), protocols, ..classic("", &[]) };
        let ticket = kit.call(GroupRequest::Join(request));
        kit.advance(ms(200));
        let id = kit.joined(ticket).member_id;
        let ticket = kit.call(GroupRequest::Sync(sync(&id, 1)));
        kit.synced(ticket);
        kit
    };
    assert!(why(&mut of("connect", b"anything")).contains("does not use the consumer embedded protocol"));
    assert!(why(&mut of("consumer", b"not this")).contains("is malformed"));
    // Who does not join cannot upgrade.
    let (mut kit, _) = classic_group();
    assert!(matches!(heartbeat(&mut kit, alive("new", 1)), Err(GroupError::GroupIdNotFound(_))));
    assert!(matches!(heartbeat(&mut kit, alive("new", -1)), Err(GroupError::GroupIdNotFound(_))));
}

#[test]
fn members_that_wait_for_a_classic_rebalance_come_again() {
    let mut kit = kit();
    let ticket = kit.call(GroupRequest::Join(classic("", &[])));
    assert_eq!(kit.answer(ticket), None);
    assert_eq!(answer(&mut kit, join("new")).0, 1);
    assert_eq!(kit.refused(ticket), GroupError::RebalanceInProgress);
}

/// A consumer `a` at epoch 2 with partitions 0 to 2, and a classic member with the others. Returns its id.
fn mixed_group() -> (Kit, String) {
    let mut kit = kit();
    assert_eq!(answer(&mut kit, join("a")).0, 1);
    let joined = joins(&mut kit, classic("", &[])).unwrap();
    assert_eq!(joined.generation, 2);
    let id = joined.member_id;
    assert_eq!(synced(&mut kit, &id, 2), [0; 0]);
    assert_eq!(answer(&mut kit, alive("a", 1)), (1, given(&[(1, &[0, 1, 2])])));
    assert_eq!(beats(&mut kit, &id, 2), ALIVE, "it waits for the other");
    assert_eq!(answer(&mut kit, owning("a", 1, &[(1, &[0, 1, 2])])), (2, None));
    assert_eq!(beats(&mut kit, &id, 2), REBALANCES, "there is something for it");
    assert_eq!(joins(&mut kit, classic(&id, &[])).unwrap().generation, 2);
    assert_eq!(synced(&mut kit, &id, 2), [3, 4, 5]);
    assert_eq!(kit.state(), "Stable");
    (kit, id)
}

#[test]
fn classic_members_are_fenced_in_their_own_words() {
    let (mut kit, id) = mixed_group();
    assert_eq!(beats(&mut kit, &id, 1), Err(GroupError::IllegalGeneration));
    assert!(matches!(beats(&mut kit, "nobody", 2), Err(GroupError::UnknownMemberId(_))));
    assert!(matches!(beats(&mut kit, "a", 2), Err(GroupError::UnknownMemberId(_))), "it is of the other protocol");
    assert_eq!(syncs(&mut kit, sync(&id, 1)), Err(GroupError::IllegalGeneration));
    let other = Sync { protocol_name: Some("roundrobin".to_owned()), ..sync(&id, 2) };
    assert_eq!(syncs(&mut kit, other), Err(GroupError::InconsistentGroupProtocol));
    let other = Sync { protocol_type: Some("connect".to_owned()), ..sync(&id, 2) };
    assert_eq!(syncs(&mut kit, other), Err(GroupError::InconsistentGroupProtocol));
    let commit = |id: &str, epoch: i32| GroupRequest::CommitOffsets(commit_as(id, epoch, &[(at(1, 3), 1)]));
    assert!(kit.ask(commit(&id, 2)).is_ok());
    assert_eq!(kit.ask(commit(&id, 1)), Err(GroupError::IllegalGeneration));
}

#[test]
fn a_classic_member_has_to_suit_the_others() {
    let (mut kit, _) = mixed_group();
    let other = |protocol_type: &str, name: &str| Join {
        protocol_type: protocol_type.to_owned(),
        protocols: vec![Protocol { name: name.to_owned(), metadata: subscription(&[]) }],
        ..classic("", &[])
    };
    assert_eq!(joins(&mut kit, other("connect", "range")), Err(GroupError::InconsistentGroupProtocol));
    assert_eq!(joins(&mut kit, other("consumer", "sticky")), Err(GroupError::InconsistentGroupProtocol));
    let none = Join { protocols: vec![], ..classic("", &[]) };
    assert_eq!(joins(&mut kit, none), Err(GroupError::InconsistentGroupProtocol));
    let garbled = vec![Protocol { name: "range".to_owned(), metadata: Bytes::from_static(b"\0") }];
    let garbled = Join { protocols: garbled, ..classic("", &[]) };
    assert_eq!(joins(&mut kit, garbled), Err(GroupError::InconsistentGroupProtocol));
    kit.settings.consumer_max_size = 2;
    assert_eq!(joins(&mut kit, classic("", &[])), Err(GroupError::GroupMaxSizeReached));
    kit.settings.consumer_max_size = 3;
    let asks = Join { requires_member_id: true, ..classic("", &[]) };
    assert!(matches!(joins(&mut kit, asks), Err(GroupError::MemberIdRequired(_))));
    assert_eq!(ids(&mut kit).len(), 2);
}

#[test]
fn classic_members_have_to_be_heard_to_join_and_to_sync() {
    // Its own session timeout counts.
    let (mut kit, id) = mixed_group();
    kit.advance(ms(9_999));
    assert_eq!(beats(&mut kit, &id, 2), ALIVE);
    kit.advance(ms(10_000));
    assert_eq!(ids(&mut kit), ["a"]);

    // It is told to join and does not.
    let (mut kit, id) = mixed_group();
    answer(&mut kit, join("c"));
    for _ in 0..12 {
        assert_eq!(beats(&mut kit, &id, 2), REBALANCES);
        for other in ["a", "c"] {
            let epoch = described(&mut kit, other).member_epoch;
            answer(&mut kit, alive(other, epoch));
        }
        assert_eq!(ids(&mut kit).len(), 3);
        kit.advance(ms(5_000));
    }
    assert!(!ids(&mut kit).contains(&id));

    // It joins and does not sync.
    let (mut kit, id) = mixed_group();
    joins(&mut kit, classic(&id, &[(1, &[3, 4, 5])])).unwrap();
    for _ in 0..12 {
        assert_eq!(beats(&mut kit, &id, 2), ALIVE);
        answer(&mut kit, alive("a", 2));
        kit.advance(ms(5_000));
    }
    assert_eq!(ids(&mut kit), ["a"]);
}

#[test]
fn leave_group_takes_out_members_of_either_protocol() {
    let (mut kit, id) = mixed_group();
    answer(&mut kit, static_join("s", "x"));
    let leaving = |id: &str, instance: Option<&str>| Leaving {
        member_id: id.to_owned(),
        instance_id: instance.map(str::to_owned),
        reason: None,
    };
    let request =
        vec![leaving("nobody", None), leaving("", Some("x")), leaving("", Some("y")), leaving("other", Some("x"))];
    let Ok(GroupAnswer::Leave(results)) = kit.ask(GroupRequest::Leave(request)) else { panic!() };
    assert!(matches!(results[0], Err(GroupError::UnknownMemberId(_))));
    assert_eq!(results[1], Ok(()));
    assert!(matches!(results[2], Err(GroupError::UnknownMemberId(_))));
    assert_eq!(results[3], Err(GroupError::FencedInstanceId));
    assert_eq!(ids(&mut kit).len(), 2);
    // With `a` the last consumer goes.
    kit.ask(GroupRequest::Leave(vec![leaving("a", None)])).unwrap();
    assert!(is_classic(&kit));
    kit.ask(GroupRequest::Leave(vec![leaving(&id, None)])).unwrap();
    assert_eq!(kit.state(), "Empty");
}

#[test]
fn a_consumer_whose_time_is_over_leaves_a_classic_group() {
    let (mut kit, id) = mixed_group();
    for _ in 0..9 {
        kit.advance(ms(5_000));
        let _ = beats(&mut kit, &id, 2);
    }
    assert!(is_classic(&kit));
    assert_eq!(beats(&mut kit, &id, 2), REBALANCES);
}

#[test]
fn a_static_member_comes_back_with_the_other_protocol() {
    // From consumer to classic, as the last consumer: the group is a classic one, and nothing moves.
    let mut kit = kit();
    assert_eq!(answer(&mut kit, static_join("a", "x")).0, 1);
    let left = ConsumerHeartbeat { instance_id: Some("x".to_owned()), ..alive("a", -2) };
    answer(&mut kit, left);
    let joined = joins(&mut kit, as_instance(classic("", &[]), "x")).unwrap();
    assert!(is_classic(&kit));
    assert_eq!((joined.generation, kit.state().as_str()), (1, "Stable"));
    let request =
        Sync { member: MemberId { instance_id: Some("x".to_owned()), ..member(&joined.member_id, 1) }, ..sync("", 1) };
    let assignment = syncs(&mut kit, request).unwrap().assignment;
    assert_eq!(wire::Assignment::decode(assignment).unwrap().partitions[0].partitions, [0, 1, 2, 3, 4, 5]);

    // And back again.
    assert_eq!(answer(&mut kit, static_join("b", "x")), (1, given(&[(1, &[0, 1, 2, 3, 4, 5])])));
    assert!(!is_classic(&kit));
    assert_eq!(ids(&mut kit), ["b"]);
    assert!(!described(&mut kit, "b").classic);
    let fenced = MemberId { instance_id: Some("x".to_owned()), ..member(&joined.member_id, 1) };
    assert_eq!(kit.ask(GroupRequest::Heartbeat(fenced)), Err(GroupError::FencedInstanceId));
    assert_nothing_leaks(&kit);
}

#[test]
fn a_group_that_a_static_member_makes_classic_has_what_came_meanwhile() {
    let mut kit = kit();
    assert_eq!(answer(&mut kit, static_join("a", "x")).0, 1);
    answer(&mut kit, ConsumerHeartbeat { instance_id: Some("x".to_owned()), ..alive("a", -2) });
    kit.topic(1, "orders", 8);
    topics_changed(&mut kit);
    let joined = joins(&mut kit, as_instance(classic("", &[]), "x")).unwrap();
    assert!(is_classic(&kit));
    assert_eq!((joined.generation, kit.state().as_str()), (2, "Stable"));
    let request =
        Sync { member: MemberId { instance_id: Some("x".to_owned()), ..member(&joined.member_id, 2) }, ..sync("", 2) };
    let assignment = syncs(&mut kit, request).unwrap().assignment;
    assert_eq!(wire::Assignment::decode(assignment).unwrap().partitions[0].partitions, [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_static_member_that_comes_with_the_other_protocol_into_a_rebalance_gets_its_share() {
    let mut kit = kit();
    kit.settings.initial_rebalance_delay = ms(100);
    let ticket = kit.call(GroupRequest::Join(as_instance(classic("", &[]), "x")));
    kit.advance(ms(200));
    // It has not assigned anything to itself yet.
    assert_eq!((kit.joined(ticket).generation, kit.state().as_str()), (1, "CompletingRebalance"));
    assert_eq!(answer(&mut kit, static_join("a", "x")), (2, given(&[(1, &[0, 1, 2, 3, 4, 5])])));
    assert_nothing_leaks(&kit);

    // So does one that comes to a group whose leader has not seen that the topic has grown.
    answer(&mut kit, ConsumerHeartbeat { instance_id: Some("x".to_owned()), ..alive("a", -2) });
    let joined = joins(&mut kit, as_instance(classic("", &[]), "x")).unwrap();
    assert!(is_classic(&kit));
    assert_eq!((joined.generation, kit.state().as_str()), (2, "Stable"));
    kit.topic(1, "orders", 8);
    topics_changed(&mut kit);
    assert_eq!(answer(&mut kit, static_join("b", "x")), (3, given(&[(1, &[0, 1, 2, 3, 4, 5, 6, 7])])));
}

#[test]
fn a_group_that_goes_to_and_fro_knows_what_members_still_read() {
    let (mut kit, id) = mixed_group();
    // It is to give back 5, and does not know it yet.
    answer(&mut kit, join("c"));
    assert_eq!(joins(&mut kit, classic(&id, &[(1, &[3, 4, 5])])).unwrap().generation, 2);
    let before = described(&mut kit, &id);
    assert_eq!((before.assignment, before.target), (list(&[(1, &[3, 4])]), list(&[(1, &[3, 4])])));
    for leaving in ["a", "c"] {
        answer(&mut kit, alive(leaving, -1));
    }
    assert!(is_classic(&kit));
    assert_eq!(answer(&mut kit, join("d")).1, given(&[(1, &[0, 1, 2])]));
    assert_eq!(described(&mut kit, &id).assignment, list(&[(1, &[3, 4, 5])]));
}

#[test]
fn an_instance_that_another_classic_member_has_is_fenced() {
    let (mut kit, _) = mixed_group();
    let first = joins(&mut kit, as_instance(classic("", &[]), "x")).unwrap();
    let again = joins(&mut kit, as_instance(classic(&first.member_id, &[]), "x")).unwrap();
    assert_eq!(again.member_id, first.member_id);
    let second = joins(&mut kit, as_instance(classic("", &[]), "x")).unwrap();
    assert_ne!(second.member_id, first.member_id);
    let old = as_instance(classic(&first.member_id, &[]), "x");
    assert_eq!(joins(&mut kit, old), Err(GroupError::FencedInstanceId));
    let unknown = as_instance(classic("nobody", &[]), "y");
    assert!(matches!(joins(&mut kit, unknown), Err(GroupError::UnknownMemberId(_))));
    assert_nothing_leaks(&kit);
}

#[test]
fn a_mixed_group_goes_on_with_the_next_owner() {
    let (mut kit, id) = mixed_group();
    let before = describe(&mut kit);
    kit.reload();
    assert_eq!(describe(&mut kit), before);
    assert_eq!(beats(&mut kit, &id, 2), ALIVE);
    assert_eq!(synced(&mut kit, &id, 2), [3, 4, 5]);
    assert_eq!(answer(&mut kit, alive("a", 2)).0, 2);
    assert_nothing_leaks(&kit);
}

#[test]
fn an_upgrade_that_was_stored_in_part_has_not_happened() {
    let (mut kit, old) = classic_group();
    let before = kit.stored.clone();
    answer(&mut kit, join("new"));
    let after = std::mem::replace(&mut kit.stored, before.clone());
    // The records of the new group are not all there, or the old ones are not all gone.
    for (key, value) in after.iter().take(1) {
        kit.stored.insert(key.clone(), value.clone());
    }
    kit.reload();
    assert!(is_classic(&kit));
    assert_eq!(beats(&mut kit, &old, 1), ALIVE);
    kit.stored.extend(after.clone());
    kit.reload();
    assert!(!is_classic(&kit));
    assert_eq!(beats(&mut kit, &old, 1), REBALANCES);
    assert!(kit.stored.keys().all(|key| after.contains_key(key)), "{:?}", kit.stored.keys());
}
