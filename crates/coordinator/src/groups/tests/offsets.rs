//! Offsets of groups: commits, fetches, deletion, retention, and the records that they are stored in.

use std::sync::Arc;

use bytes::Bytes;
use tidemark_model::coordinator::ConfigChange;
use tidemark_model::group::{
    CommittedOffset, FetchedOffset, GroupAnswer, GroupRequest, OffsetToCommit, TopicPartitions,
};
use tidemark_model::{GroupError, RecordKey, TopicPartition};

use super::super::Event;
use super::super::kit::{Kit, at, commit, commit_as, fetch, heartbeat, join, leave, ms, sync};
use crate::records::{GroupKey, OFFSETS_PER_CHUNK};

const DAY: u64 = 86_400_000;

fn results(outcome: super::super::kit::Outcome) -> Vec<Result<(), GroupError>> {
    match outcome {
        Ok(GroupAnswer::CommitOffsets(results) | GroupAnswer::DeleteOffsets(results)) => results,
        other => panic!("{other:?}"),
    }
}

fn all(kit: &mut Kit) -> Vec<TopicPartition> {
    match kit.ask(fetch(None)) {
        Ok(GroupAnswer::FetchOffsets(fetched)) => fetched.into_iter().map(|fetched| fetched.partition).collect(),
        other => panic!("{other:?}"),
    }
}

/// A stable group of one consumer that reads `orders`, which is topic 1.
fn stable() -> (Kit, String) {
    let mut kit = Kit::new();
    kit.settings.initial_rebalance_delay = ms(0);
    kit.topic(1, "orders", 100);
    kit.topic(2, "other", 100);
    let ticket = kit.call(GroupRequest::Join(join()));
    kit.advance(ms(0));
    let id = kit.joined(ticket).member_id;
    kit.ask(sync(&id, 1, &[])).unwrap();
    (kit, id)
}

/// Time passes while the member beats.
fn beat(kit: &mut Kit, id: &str, total: u64) {
    // Beating through days takes long; the wall clock alone may jump.
    kit.wall_ms += total as i64;
    kit.ask(heartbeat(id, 1)).unwrap();
}

#[test]
fn a_consumer_that_is_no_member_commits_and_fetches() {
    let mut kit = Kit::new();
    assert_eq!(results(kit.ask(commit(&[(at(1, 0), 10), (at(2, 5), 20)]))), [Ok(()), Ok(())]);
    assert_eq!((kit.committed(at(1, 0)), kit.committed(at(2, 5)), kit.committed(at(1, 1))), (Some(10), Some(20), None));
    assert_eq!(all(&mut kit), [at(1, 0), at(2, 5)]);
    let listed = kit.group.listed().unwrap();
    assert_eq!((&*listed.state, &*listed.protocol_type), ("Empty", ""));
    // Back and forth, as an operator resets them.
    kit.ask(commit(&[(at(1, 0), 3)])).unwrap();
    assert_eq!(kit.committed(at(1, 0)), Some(3));
    kit.reload();
    assert_eq!((kit.committed(at(1, 0)), kit.committed(at(2, 5))), (Some(3), Some(20)));
    assert_eq!(kit.state(), "Empty");
}

#[test]
fn what_was_committed_comes_back_whole_and_in_the_order_asked() {
    let mut kit = Kit::new();
    let mut request = commit_as("", -1, &[]);
    request.offsets = vec![OffsetToCommit { partition: at(1, 3), offset: 5, leader_epoch: 7, metadata: "m".into() }];
    kit.ask(GroupRequest::CommitOffsets(request)).unwrap();
    kit.reload();
    let topics = vec![
        TopicPartitions { topic: at(9, 0).topic, partitions: vec![0] },
        TopicPartitions { topic: at(1, 0).topic, partitions: vec![4, 3] },
    ];
    let offset = CommittedOffset { offset: 5, leader_epoch: 7, metadata: "m".into() };
    let expected = vec![
        FetchedOffset { partition: at(9, 0), result: Ok(None) },
        FetchedOffset { partition: at(1, 4), result: Ok(None) },
        FetchedOffset { partition: at(1, 3), result: Ok(Some(offset)) },
    ];
    assert_eq!(kit.ask(fetch(Some(topics))), Ok(GroupAnswer::FetchOffsets(expected)));
}

#[test]
fn an_offset_can_be_fetched_once_it_is_stored_and_not_before() {
    let mut kit = Kit::new();
    kit.ask(commit(&[(at(1, 0), 1)])).unwrap();
    kit.away = true;
    let tickets = [2, 3].map(|offset| kit.call(commit(&[(at(1, 0), offset)])));
    assert!(tickets.iter().all(|ticket| kit.answer(*ticket).is_none()));
    let fetching = kit.call(fetch(None));
    assert_eq!(kit.answer(fetching), None, "it waits for the writes before it, which confirm the ownership too");
    kit.store_all();
    let Some(Ok(GroupAnswer::FetchOffsets(fetched))) = kit.answer(fetching) else { panic!() };
    assert_eq!(fetched[0].result.as_ref().unwrap().as_ref().unwrap().offset, 1, "what was stored when it was asked");
    assert!(tickets.iter().all(|ticket| kit.answer(*ticket).is_some()));
    kit.away = false;
    assert_eq!(kit.committed(at(1, 0)), Some(3));

    // The owner is lost before the store has it: nobody was told that it was committed.
    kit.away = true;
    let ticket = kit.call(commit(&[(at(1, 0), 4)]));
    kit.reload();
    kit.away = false;
    assert_eq!((kit.answer(ticket), kit.committed(at(1, 0))), (None, Some(3)));
}

#[test]
fn each_stored_commit_shows_also_while_later_ones_are_on_their_way() {
    let mut kit = Kit::new();
    kit.away = true;
    kit.call(commit(&[(at(1, 0), 1)]));
    kit.call(commit(&[(at(1, 0), 2)]));
    // The store has the first of the two.
    kit.step(Event::Stored(1));
    let fetching = kit.call(fetch(None));
    kit.store_all();
    let Some(Ok(GroupAnswer::FetchOffsets(fetched))) = kit.answer(fetching) else { panic!() };
    assert_eq!(fetched[0].result.as_ref().unwrap().as_ref().unwrap().offset, 1);
}

#[test]
fn a_commit_of_a_generation_needs_a_group() {
    for (understands_epochs, expected) in [(true, "Group g not found."), (false, "the group is at another generation")]
    {
        let mut kit = Kit::new();
        let request =
            tidemark_model::group::CommitOffsets { understands_epochs, ..commit_as("m", 1, &[(at(1, 0), 1)]) };
        let error = kit.ask(GroupRequest::CommitOffsets(request)).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(kit.state(), "Dead");
    }
}

#[test]
fn metadata_is_bounded_and_the_other_partitions_are_committed() {
    let mut kit = Kit::new();
    let mut request = commit_as("", -1, &[(at(1, 0), 1), (at(1, 1), 2), (at(1, 2), 3), (at(1, -1), 4)]);
    request.offsets[0].metadata = "x".repeat(4_097);
    request.offsets[1].metadata = "é".repeat(4_096);
    let expected = [Err(GroupError::OffsetMetadataTooLarge), Ok(()), Ok(()), Err(GroupError::UnknownTopicOrPartition)];
    assert_eq!(results(kit.ask(GroupRequest::CommitOffsets(request))), expected);
    assert_eq!(all(&mut kit), [at(1, 1), at(1, 2)]);
}

#[test]
fn a_commit_rewrites_only_its_chunk() {
    let mut kit = Kit::new();
    let per_chunk = i32::from(OFFSETS_PER_CHUNK);
    let offsets: Vec<_> = (0..3 * per_chunk).map(|partition| (at(1, partition), 1)).collect();
    kit.ask(commit(&offsets)).unwrap();
    assert_eq!(kit.stored.len(), 3);
    let before = kit.stored.clone();
    kit.ask(commit(&[(at(1, per_chunk), 2)])).unwrap();
    let changed: Vec<&GroupKey> = before.iter().filter(|(k, v)| kit.stored[*k] != **v).map(|(key, _)| key).collect();
    assert_eq!(changed, [&GroupKey::Offsets(at(1, 0).topic, 1)]);
    kit.reload();
    assert_eq!((all(&mut kit).len(), kit.committed(at(1, per_chunk))), (96, Some(2)));
    assert_eq!(kit.committed(at(1, i32::MAX)), None);
    kit.ask(commit(&[(at(1, i32::MAX), 9)])).unwrap();
    kit.reload();
    assert_eq!(kit.committed(at(1, i32::MAX)), Some(9));
}

#[test]
fn what_a_group_reads_cannot_be_deleted() {
    let (mut kit, id) = stable();
    let offsets = [(at(1, 0), 1), (at(2, 0), 2), (at(2, 1), 3)];
    kit.ask(GroupRequest::CommitOffsets(commit_as(&id, 1, &offsets))).unwrap();
    let partitions = vec![at(1, 0), at(2, 0), at(2, 7)];
    let expected = [Err(GroupError::GroupSubscribedToTopic), Ok(()), Ok(())];
    assert_eq!(results(kit.ask(GroupRequest::DeleteOffsets(partitions.clone()))), expected);
    assert_eq!(all(&mut kit), [at(1, 0), at(2, 1)]);
    kit.ask(leave(&id)).unwrap();
    assert_eq!(results(kit.ask(GroupRequest::DeleteOffsets(partitions))), [Ok(()), Ok(()), Ok(())]);
    kit.reload();
    assert_eq!(all(&mut kit), [at(2, 1)]);
    let mut none = Kit::new();
    assert!(matches!(none.ask(GroupRequest::DeleteOffsets(vec![])), Err(GroupError::GroupIdNotFound(_))));
}

#[test]
fn offsets_of_a_group_that_is_not_of_consumers_stay_while_it_lives() {
    let mut kit = Kit::new();
    kit.settings.initial_rebalance_delay = ms(0);
    let ticket =
        kit.call(GroupRequest::Join(tidemark_model::group::Join { protocol_type: "connect".into(), ..join() }));
    kit.advance(ms(0));
    let id = kit.joined(ticket).member_id;
    kit.ask(sync(&id, 1, &[])).unwrap();
    kit.ask(GroupRequest::CommitOffsets(commit_as(&id, 1, &[(at(1, 0), 1)]))).unwrap();
    assert_eq!(kit.ask(GroupRequest::DeleteOffsets(vec![at(1, 0)])), Err(GroupError::NonEmptyGroup));
    kit.wall_ms += 30 * DAY as i64;
    kit.step(Event::Sweep);
    assert_eq!(kit.committed(at(1, 0)), Some(1));
}

#[test]
fn a_consumer_whose_subscription_cannot_be_read_reads_everything() {
    let mut kit = Kit::new();
    kit.settings.initial_rebalance_delay = ms(0);
    kit.topic(1, "orders", 1);
    let garbage = tidemark_model::group::Protocol { name: "range".into(), metadata: Bytes::from_static(b"\0") };
    let request = tidemark_model::group::Join { protocols: vec![garbage], ..join() };
    let ticket = kit.call(GroupRequest::Join(request));
    kit.advance(ms(0));
    let id = kit.joined(ticket).member_id;
    kit.ask(sync(&id, 1, &[])).unwrap();
    let deleted = results(kit.ask(GroupRequest::DeleteOffsets(vec![at(1, 0)])));
    assert_eq!(deleted, [Err(GroupError::GroupSubscribedToTopic)]);
}

/// `offsets.retention.minutes` is a week. KIP-211.
#[test]
fn offsets_expire_by_kafkas_rules() {
    let sweep = |kit: &mut Kit| kit.step(Event::Sweep);
    // No member ever: by the time of the commit, each for itself; the group goes with the last.
    let mut kit = Kit::new();
    kit.ask(commit(&[(at(1, 0), 1)])).unwrap();
    kit.wall_ms += 4 * DAY as i64;
    kit.ask(commit(&[(at(1, 1), 1)])).unwrap();
    kit.wall_ms += 3 * DAY as i64 - 1;
    sweep(&mut kit);
    assert_eq!(all(&mut kit).len(), 2);
    kit.wall_ms += 1;
    kit.reload();
    sweep(&mut kit);
    assert_eq!(all(&mut kit), [at(1, 1)]);
    kit.wall_ms += 4 * DAY as i64;
    sweep(&mut kit);
    assert_eq!((kit.state().as_str(), kit.stored.len()), ("Dead", 0));

    // A stable group keeps what it reads for ever, the rest by the time of the commit.
    let (mut kit, id) = stable();
    let offsets = [(at(1, 0), 1), (at(2, 0), 2)];
    kit.ask(GroupRequest::CommitOffsets(commit_as(&id, 1, &offsets))).unwrap();
    beat(&mut kit, &id, 7 * DAY - 1);
    sweep(&mut kit);
    assert_eq!(all(&mut kit).len(), 2);
    beat(&mut kit, &id, 1);
    sweep(&mut kit);
    assert_eq!(all(&mut kit), [at(1, 0)]);
    // While it rebalances, nothing expires.
    kit.ask(GroupRequest::CommitOffsets(commit_as(&id, 1, &[(at(2, 0), 2)]))).unwrap();
    beat(&mut kit, &id, 8 * DAY);
    kit.call(GroupRequest::Join(join()));
    assert_eq!(kit.state(), "PreparingRebalance");
    sweep(&mut kit);
    assert_eq!(all(&mut kit).len(), 2);

    // Once it is empty, from then on, whenever they were committed; also where another loads it.
    let (mut kit, id) = stable();
    kit.ask(GroupRequest::CommitOffsets(commit_as(&id, 1, &offsets))).unwrap();
    beat(&mut kit, &id, 6 * DAY);
    kit.ask(leave(&id)).unwrap();
    kit.wall_ms += 7 * DAY as i64 - 1;
    kit.reload();
    sweep(&mut kit);
    assert_eq!(all(&mut kit).len(), 2);
    kit.wall_ms += 1;
    sweep(&mut kit);
    assert_eq!((kit.state().as_str(), kit.stored.len()), ("Dead", 0));
}

#[test]
fn a_client_of_old_says_itself_how_long() {
    let mut kit = Kit::new();
    let request =
        tidemark_model::group::CommitOffsets { retention: Some(ms(5_000)), ..commit_as("", -1, &[(at(1, 0), 1)]) };
    kit.ask(GroupRequest::CommitOffsets(request)).unwrap();
    kit.reload();
    kit.wall_ms += 4_999;
    kit.step(Event::Sweep);
    assert_eq!(kit.committed(at(1, 0)), Some(1));
    kit.wall_ms += 1;
    kit.step(Event::Sweep);
    assert_eq!(kit.committed(at(1, 0)), None);
}

#[test]
fn a_commit_on_its_way_keeps_an_offset_from_expiring() {
    let mut kit = Kit::new();
    kit.ask(commit(&[(at(1, 0), 1)])).unwrap();
    kit.wall_ms += 8 * DAY as i64;
    kit.away = true;
    kit.call(commit(&[(at(1, 0), 2)]));
    kit.step(Event::Sweep);
    kit.store_all();
    kit.away = false;
    assert_eq!(kit.committed(at(1, 0)), Some(2));
}

#[test]
fn offsets_of_a_deleted_topic_go_with_it() {
    let mut kit = Kit::new();
    let (gone, kept) = (kit.topic(1, "orders", 1), kit.topic(2, "orders2", 1));
    kit.ask(commit(&[(at(1, 0), 1), (at(1, 40), 1), (at(2, 0), 2)])).unwrap();
    kit.cluster.remove(RecordKey::Topic(gone));
    kit.step(Event::Topics { removed: Arc::new([gone]) });
    assert_eq!(all(&mut kit), [at(2, 0)]);
    assert_eq!(kit.stored.keys().collect::<Vec<_>>(), [&GroupKey::Offsets(kept, 0)]);
    kit.step(Event::Topics { removed: Arc::new([gone]) });
    assert_eq!(all(&mut kit), [at(2, 0)]);
}

#[test]
fn configs_are_checked_kept_and_outlive_the_group() {
    let mut kit = Kit::new();
    let set = |name: &str, value: &str| ConfigChange::Set { name: name.into(), value: value.into() };
    let alter = |changes: Vec<ConfigChange>, validate_only| GroupRequest::AlterConfigs { changes, validate_only };
    let (session, heartbeat) = ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms");
    for (changes, message) in [
        (vec![set("group.max.size", "5")], "Unknown group config name: group.max.size"),
        (
            vec![set(session, "soon")],
            "Invalid value soon for configuration consumer.session.timeout.ms: Not a number of type INT",
        ),
        (
            vec![set(session, "0")],
            "Invalid value 0 for configuration consumer.session.timeout.ms: Value must be at least 1",
        ),
        (
            vec![set(session, "44999")],
            "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms",
        ),
        (
            vec![set(session, "60001")],
            "consumer.session.timeout.ms must be less than or equal to group.consumer.max.session.timeout.ms",
        ),
        (
            vec![set(heartbeat, "4999")],
            "consumer.heartbeat.interval.ms must be greater than or equal to group.consumer.min.heartbeat.interval.ms",
        ),
        (
            vec![set(heartbeat, "15001")],
            "consumer.heartbeat.interval.ms must be less than or equal to group.consumer.max.heartbeat.interval.ms",
        ),
    ] {
        let both = [vec![set(session, "50000")], changes].concat();
        assert_eq!(kit.ask(alter(both, false)), Err(GroupError::InvalidConfig(message.into())));
    }
    assert_eq!(kit.stored.len(), 0, "all or nothing");
    assert_eq!(kit.ask(alter(vec![set(session, "50000")], true)), Ok(GroupAnswer::AlterConfigs));
    assert_eq!(kit.stored.len(), 0);
    kit.ask(alter(vec![set(session, "50000"), set(heartbeat, "6000")], false)).unwrap();
    kit.ask(alter(vec![ConfigChange::Delete { name: heartbeat.into() }], false)).unwrap();
    kit.ask(commit(&[(at(1, 0), 1)])).unwrap();
    assert_eq!(kit.ask(GroupRequest::Delete), Ok(GroupAnswer::Delete));
    kit.reload();
    assert_eq!((kit.state().as_str(), kit.group.is_gone()), ("Dead", false));
    let Ok(GroupAnswer::DescribeConfigs(configs)) = kit.ask(GroupRequest::DescribeConfigs) else { panic!() };
    assert_eq!(configs.into_iter().collect::<Vec<_>>(), [(session.to_owned(), "50000".to_owned())]);
    kit.settings.consumer_heartbeat_interval = ms(50_000);
    let error = kit.ask(alter(vec![set(session, "50000")], false)).unwrap_err();
    assert_eq!(error.to_string(), "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms");
}
