//! The store is away for a while, or has forgotten what a coordinator missed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use tidemark_model::coordinator::TopicRef;
use tidemark_model::{Coordinator, CoordinatorError, Role};
use tokio::sync::watch;

use super::harness::*;
use crate::store::contract::etcd::Etcd;
use crate::store::{Changes, Commit, Embedded, Entry, LeaseId, MetadataStore, Snapshot, StoreError, Txn};

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

/// A store whose watches see nothing while it is blind, and then that they have missed too much.
#[derive(Debug)]
struct Blinding {
    store: Store,
    blind: watch::Receiver<bool>,
}

#[async_trait]
impl MetadataStore for Blinding {
    fn watch(&self, prefix: &str, after: u64) -> BoxStream<'static, Result<Changes, StoreError>> {
        let wait = |mut blind: watch::Receiver<bool>, wanted: bool| async move {
            let _ = blind.wait_for(|blind| *blind == wanted).await;
        };
        let blinded = Box::pin(wait(self.blind.clone(), true));
        let seeing = wait(self.blind.clone(), false);
        let missed = stream::once(async move {
            seeing.await;
            Err(StoreError::Compacted)
        });
        self.store.watch(prefix, after).take_until(blinded).chain(missed).boxed()
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.store.get(key).await
    }

    async fn range(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        self.store.range(prefix).await
    }

    async fn commit(&self, txn: Txn) -> Result<Commit, StoreError> {
        self.store.commit(txn).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.store.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.revoke(lease).await
    }

    async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        self.store.compact(revision).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_missed_too_much_reads_the_state_again_and_cuts_nobody_off() {
    let store: Store = Arc::new(Embedded::in_memory().unwrap());
    let (blindness, blind) = watch::channel(false);
    let half_blind: Store = Arc::new(Blinding { store: Arc::clone(&store), blind });
    let (behind, other) = (coordinator(&half_blind).await, with_a_journal(&store).await);
    let mut node = Node::observer(&behind, "g").await;
    let old = create(&other, new("old")).await.unwrap();
    node.until_revision(old.revision).await;

    blindness.send(true).unwrap();
    other.delete_topics(vec![TopicRef::Id(old.topic.id)]).await.remove(0).unwrap();
    let missed = create(&other, new("missed")).await.unwrap();
    let heartbeats = node.empty_deltas;
    while node.empty_deltas == heartbeats {
        node.step().await.unwrap();
    }
    assert!(node.state.topic_named("old").is_some(), "it sees nothing, or this test tests nothing");
    // What it writes does not depend on what it sees.
    let exists = create(&behind, new("missed")).await;
    assert!(matches!(exists, Err(CoordinatorError::TopicExists(_))), "{exists:?}");
    create(&behind, new("old")).await.unwrap();

    blindness.send(false).unwrap();
    node.until_revision(missed.revision).await;
    node.until(|state| state.topic_named("old").is_some_and(|topic| topic.id != old.topic.id)).await;
    assert!(node.state.topic_named("missed").is_some());
    assert_eq!(node.snapshots, 1, "its stream went on");
}
