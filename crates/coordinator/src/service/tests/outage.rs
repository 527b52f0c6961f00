//! etcd is away for a while.

use tidemark_model::{Coordinator, CoordinatorError, Role};

use super::harness::*;
use crate::store::contract::etcd::Etcd;

#[tokio::test]
async fn followers_stay_as_they_are_while_etcd_is_away_and_all_converges_after() {
    let Some(mut etcd) = Etcd::start("followers_over_outage").await else { return };
    let store = etcd.store().await;
    let service = with_a_journal(&store).await;
    let mut storage = Node::join(&service, registration(Role::Storage, "s", 1)).await;
    let mut observer = Node::observer(&service, "g").await;
    let before = create(&service, new("before")).await.unwrap();
    let id = storage.id;
    observer.until(|state| state.revision >= before.revision && state.node(Role::Storage, id).is_some()).await;
    let seen = observer.state.clone();

    etcd.kill();
    let refused = create(&service, new("meanwhile")).await;
    assert!(matches!(refused, Err(CoordinatorError::Unavailable(_))), "{refused:?}");
    assert!(matches!(service.allocate_producer_ids(1).await, Err(CoordinatorError::Unavailable(_))));
    // Nothing is declared dead, nothing is cut: only heartbeats come, for longer than a lease.
    let heartbeats = observer.empty_deltas;
    while observer.empty_deltas < heartbeats + 2 {
        observer.step().await.unwrap();
    }
    assert_eq!(observer.state, seen);

    etcd.resume().await;
    let after = loop {
        match create(&service, new("after")).await {
            Ok(created) => break created,
            Err(CoordinatorError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    };
    observer.until_revision(after.revision).await;
    storage.until_revision(after.revision).await;
    assert!(observer.state.topic_named("after").is_some());
    // Its lease was kept, or had again.
    observer.until(|state| state.node(Role::Storage, id).is_some()).await;
}

#[tokio::test]
async fn a_coordinator_that_starts_while_etcd_is_away_serves_once_it_is_there() {
    let Some(mut etcd) = Etcd::start("start_without_etcd").await else { return };
    let store = etcd.store().await;
    etcd.kill();
    let service = start(&store, settings());
    assert!(matches!(create(&service, new("t")).await, Err(CoordinatorError::Unavailable(_))));
    let early = Node::try_join(&service, registration(Role::Storage, "s", 1), None).await;
    assert!(matches!(early, Err(CoordinatorError::Unavailable(_))));
    etcd.resume().await;
    within(service.ready()).await;
    Node::join(&service, registration(Role::Storage, "s", 1)).await;
}
