use std::time::Duration;

use tidemark_model::coordinator::TopicRef;
use tidemark_model::group::{GroupAnswer, GroupRequest};
use tidemark_model::{Coordinator, GroupCoordinator, GroupError, NodeId};
use tokio_util::sync::CancellationToken;

use super::super::harness::{Store, open, start_until, with_a_journal, within};
use super::*;
use crate::groups::kit::{commit_as, heartbeat, leave};

pub(super) async fn commits_of_one_caller_are_stored_in_their_order(store: Store) {
    let service = with_a_journal(&store).await;
    let at = topic(&service, "orders").await;
    ask(&service, "g", kit::commit(&[(at, 0)])).await.unwrap();
    let calls: Vec<_> = (1..=500).map(|n| service.call(to("g", kit::commit(&[(at, n)])))).collect();
    for answer in within(futures::future::join_all(calls)).await {
        assert_eq!(answer, Ok(GroupAnswer::CommitOffsets(vec![Ok(())])));
    }
    assert_eq!(committed(&service, "g", at).await, Some(500));
}

pub(super) async fn a_stable_group_carries_on_with_the_next_coordinator(store: Store) {
    let first_ends = CancellationToken::new();
    let first = start_until(&store, named("first"), first_ends.clone());
    within(first.ready()).await;
    open(&first, NodeId(1), 7).await.unwrap();
    let at = topic(&first, "orders").await;
    let joined = stable(&first, "g").await;
    let commit = GroupRequest::CommitOffsets(commit_as(&joined.member_id, joined.generation, &[(at, 41)]));
    call(&first, "g", commit).await.unwrap();

    let second = start_until(&store, named("second"), CancellationToken::new());
    first_ends.cancel();
    within(first.stopped()).await;
    assert_eq!(call(&first, "g", kit::fetch(None)).await, Err(GroupError::NotCoordinator));
    let beat = ask(&second, "g", heartbeat(&joined.member_id, joined.generation)).await;
    assert_eq!(beat, Ok(GroupAnswer::Heartbeat));
    assert_eq!(committed(&second, "g", at).await, Some(41));
    match call(&second, "g", sync(&joined.member_id, joined.generation, &[])).await {
        Ok(GroupAnswer::Sync(synced)) => assert_eq!(synced.assignment, "all"),
        other => panic!("{other:?}"),
    }
}

pub(super) async fn a_rebalance_in_flight_is_given_up_by_who_hands_over(store: Store) {
    let first_ends = CancellationToken::new();
    let first = start_until(&store, named("first"), first_ends.clone());
    let joined = stable(&first, "g").await;
    // Waits for the member, which does not come.
    let waiting = first.call(to("g", GroupRequest::Join(quick())));
    let described = call(&first, "g", GroupRequest::Describe).await.unwrap();
    assert!(matches!(described, GroupAnswer::Describe(described) if described.state == "PreparingRebalance"));
    let second = start_until(&store, named("second"), CancellationToken::new());
    first_ends.cancel();
    assert_eq!(within(waiting).await, Err(GroupError::NotCoordinator));
    within(first.stopped()).await;
    let waiting = ask(&second, "g", heartbeat(&joined.member_id, joined.generation)).await;
    assert_eq!(waiting, Ok(GroupAnswer::Heartbeat), "as it was stored");
}

pub(super) async fn offsets_of_a_deleted_topic_go_away(store: Store) {
    let first_ends = CancellationToken::new();
    let first = start_until(&store, named("first"), first_ends.clone());
    within(first.ready()).await;
    open(&first, NodeId(1), 7).await.unwrap();
    let (gone, kept) = (topic(&first, "gone").await, topic(&first, "kept").await);
    ask(&first, "g", kit::commit(&[(gone, 1), (kept, 2)])).await.unwrap();
    first.delete_topics(vec![TopicRef::Id(gone.topic)]).await.remove(0).unwrap();
    within(async {
        while committed(&first, "g", gone).await.is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(committed(&first, "g", kept).await, Some(2));

    // Committed when the topic was gone already, and found by the next owner.
    ask(&first, "g", kit::commit(&[(gone, 3)])).await.unwrap();
    let second = start_until(&store, named("second"), CancellationToken::new());
    first_ends.cancel();
    within(first.stopped()).await;
    within(async {
        while committed(&second, "g", gone).await.is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(committed(&second, "g", kept).await, Some(2));
}

pub(super) async fn every_group_is_listed_by_its_owner(store: Store) {
    let service = with_a_journal(&store).await;
    let at = topic(&service, "orders").await;
    let joined = stable(&service, "members").await;
    for group in ["offsets", "with a /", "ü"] {
        ask(&service, group, kit::commit(&[(at, 1)])).await.unwrap();
    }
    let listed = service.list().await.unwrap();
    let mut listed: Vec<_> = listed.iter().map(|group| (&*group.group, &*group.state, &*group.protocol_type)).collect();
    listed.sort_unstable();
    let expected =
        [("members", "Stable", "consumer"), ("offsets", "Empty", ""), ("with a /", "Empty", ""), ("ü", "Empty", "")];
    assert_eq!(listed, expected);
    call(&service, "members", leave(&joined.member_id)).await.unwrap();
    call(&service, "members", GroupRequest::Delete).await.unwrap();
    assert_eq!(service.list().await.unwrap().len(), 3);
    for (group, request) in [("", heartbeat("m", 1)), (&*"x".repeat(4_097), kit::fetch(None))] {
        assert_eq!(call(&service, group, request).await, Err(GroupError::InvalidGroupId));
    }
}
