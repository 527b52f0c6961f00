//! The coordinator's contract, and going on to another coordinator.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::stream::StreamExt as _;
use tidemark_model::coordinator::*;
use tidemark_model::{
    Claim, ClusterUpdate, Coordinator, CoordinatorError, Node, NodeId, Record, Registration, Role, TopicId,
};
use uuid::Uuid;

use crate::fakes::Fake;
use crate::hop::{Proxy, coordinator_at, coordinator_server, nobody, until, within};

async fn either_way<F, Fut>(test: F)
where
    F: Fn(Arc<dyn Coordinator>, Arc<Fake>) -> Fut,
    Fut: Future<Output = ()>,
{
    let fake = Fake::new();
    test(fake.clone(), fake).await;
    let fake = Fake::new();
    let served = coordinator_server(fake.clone()).await;
    test(Arc::new(coordinator_at(&[served.address])), fake).await;
}

fn registration() -> Registration {
    Registration {
        role: Role::Storage,
        name: "disk-1".into(),
        incarnation: u64::MAX,
        address: "localhost:1".into(),
        rack: Some("a".into()),
    }
}

fn topic(name: &str, partitions: i32) -> NewTopic {
    let configs = BTreeMap::from([("retention.ms".to_owned(), "1".to_owned())]);
    NewTopic { name: name.into(), partitions, replication_factor: -1, configs }
}

#[tokio::test]
async fn calls_are_answered() {
    either_way(|coordinator, fake| async move {
        coordinator.leave(Role::Gateway, NodeId(4), 5).await.unwrap();
        assert_eq!(fake.calls.lock().unwrap().pop().unwrap(), "leave Gateway 4 5");
        let fenced = coordinator.leave(Role::Gateway, NodeId(4), 0).await.unwrap_err();
        assert_eq!(fenced, CoordinatorError::Fenced("older".into()));

        let open = |wal_incarnation| {
            let (logs, succeeds) = (vec![9, u64::MAX], Some(u64::MAX));
            coordinator.open_journal(OpenJournal { node: NodeId(3), wal_incarnation, logs, succeeds })
        };
        let journal = open(9).await.unwrap();
        assert_eq!((journal.leader, journal.isr[0].incarnation), (NodeId(3), 9));
        assert_eq!(
            fake.calls.lock().unwrap().pop().unwrap(),
            "open [9, 18446744073709551615] Some(18446744073709551615)"
        );
        assert!(matches!(open(0).await, Err(CoordinatorError::Fenced(_))));

        let created = coordinator.create_topics(vec![topic("a", 3), topic("b", 0)], true).await;
        assert_eq!(created[1], Err(CoordinatorError::InvalidPartitions("0".into())));
        let created = created[0].as_ref().unwrap();
        assert_eq!((created.revision, created.topic.partitions.len()), (77, 3));
        assert_eq!(created.topic.configs["retention.ms"], "1");

        let gone = TopicRef::Id(TopicId(Uuid::from_u128(1)));
        let deleted = coordinator.delete_topics(vec![TopicRef::Name("a".into()), gone.clone()]).await;
        assert!(matches!(&deleted[..], [Ok(_), Err(CoordinatorError::UnknownTopic(_))]), "{deleted:?}");
        assert_eq!(coordinator.create_partitions(gone.clone(), 12, true).await.unwrap().topic.partitions.len(), 12);
        let change = ConfigChange::Delete { name: "x".into() };
        let invalid = coordinator.alter_topic_configs(gone, vec![change], false).await.unwrap_err();
        assert!(matches!(invalid, CoordinatorError::InvalidConfig(text) if text.contains("Delete")));
        assert_eq!(coordinator.allocate_producer_ids(500).await.unwrap(), 1_000..1_500);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_follows_until_it_lets_go() {
    either_way(|coordinator, fake| async move {
        let mut updates = coordinator.join(registration(), Some(12));
        let first = tokio::spawn(async move { (updates.next().await, updates) });
        until("joined", || fake.updates.lock().unwrap().is_some()).await;
        assert_eq!(fake.joins.lock().unwrap()[0], (registration(), Some(12)));
        let sender = fake.updates.lock().unwrap().take().unwrap();
        let joined = ClusterUpdate::Joined {
            cluster_id: "c".into(),
            claim: Some(Claim { generation: 1, id: 7 }),
            node: NodeId(8),
            settings: BTreeMap::from([("num.partitions".into(), "3".into())]),
        };
        let node = Node { role: Role::Broker, id: NodeId(1), incarnation: 2, address: "x:1".into(), rack: None };
        let records = vec![Record::Node(node)];
        let delta = ClusterUpdate::Delta { revision: 13, upserts: records.clone(), removals: vec![records[0].key()] };
        sender.send(Ok(joined.clone())).unwrap();
        sender.send(Ok(delta.clone())).unwrap();
        let (first, mut updates) = within("first", first).await.unwrap();
        assert_eq!(first.unwrap().unwrap(), joined);
        assert_eq!(within("delta", updates.next()).await.unwrap().unwrap(), delta);
        drop(updates);
        until("left", || fake.polling.load(Ordering::SeqCst) == 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_coordinator_is_passed_over_and_a_dying_one_left() {
    let nobody = nobody();
    let (first, second) = (Fake::new(), Fake::new());
    let (one, two) = (coordinator_server(first.clone()).await, coordinator_server(second.clone()).await);
    let proxy = Proxy::to(one.address).await;
    let coordinator = coordinator_at(&[nobody, proxy.address, two.address]);
    // Never sent to the dead one, so that a creation too may go to the next.
    assert!(coordinator.create_topics(vec![topic("a", 1)], false).await[0].is_ok());
    assert_eq!(first.calls.lock().unwrap().len(), 1);

    let mut updates = coordinator.join(registration(), None);
    let next = tokio::spawn(async move { (updates.next().await, updates) });
    until("joined", || first.updates.lock().unwrap().is_some()).await;
    // The coordinator goes, and its streams end: the next stream and call are the other's.
    one.shutdown.cancel();
    proxy.cut();
    let (ended, _) = within("the stream ends", next).await.unwrap();
    assert!(matches!(ended, None | Some(Err(CoordinatorError::Unavailable(_)))), "{ended:?}");
    assert_eq!(coordinator.allocate_producer_ids(1).await.unwrap(), 1_000..1_001);
    let mut updates = coordinator.join(registration(), None);
    let _next = tokio::spawn(async move { updates.next().await.is_some() });
    until("joined the other", || second.updates.lock().unwrap().is_some()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_falls_silent_is_left() {
    let (first, second) = (Fake::new(), Fake::new());
    let (one, two) = (coordinator_server(first.clone()).await, coordinator_server(second.clone()).await);
    let coordinator = coordinator_at(&[one.address, two.address]);
    let mut updates = coordinator.join(registration(), None);
    let silent = tokio::spawn(async move {
        let heard = [updates.next().await, updates.next().await, updates.next().await];
        (heard, tokio::time::Instant::now(), updates.next().await)
    });
    until("joined", || first.updates.lock().unwrap().is_some()).await;
    let sender = first.updates.lock().unwrap().take().unwrap();
    let nothing = |revision| ClusterUpdate::Delta { revision, upserts: Vec::new(), removals: Vec::new() };
    sender.send(Ok(nothing(1))).unwrap();
    // As often as is promised is often enough.
    tokio::time::sleep(FEED_INTERVAL).await;
    sender.send(Ok(nothing(2))).unwrap();
    let spoke = tokio::time::Instant::now();
    let (heard, gave_up, end) = within("the stream ends", silent).await.unwrap();
    assert!(matches!(&heard, [Some(Ok(_)), Some(Ok(_)), Some(Err(CoordinatorError::Unavailable(_)))]), "{heard:?}");
    assert!(gave_up - spoke > 2 * FEED_INTERVAL && end.is_none(), "{:?}", gave_up - spoke);
    let mut updates = coordinator.join(registration(), None);
    let _next = tokio::spawn(async move { updates.next().await.is_some() });
    until("joined the other", || second.updates.lock().unwrap().is_some()).await;
    assert_eq!(first.joins.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn without_any_coordinator_calls_fail_and_say_where_they_tried() {
    let nobody = nobody();
    let coordinator = coordinator_at(&[nobody]);
    match within("failure", coordinator.allocate_producer_ids(1)).await {
        Err(CoordinatorError::Unavailable(text)) => assert!(text.contains(&nobody.to_string()), "{text}"),
        other => panic!("{other:?}"),
    }
    let mut updates = coordinator.join(registration(), None);
    assert!(matches!(within("failure", updates.next()).await, Some(Err(CoordinatorError::Unavailable(_)))));
    assert!(within("end", updates.next()).await.is_none());
}
