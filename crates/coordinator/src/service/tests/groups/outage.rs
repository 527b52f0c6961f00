//! The metadata store is away for a while, or holds what cannot be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use tidemark_model::group::{GroupAnswer, GroupRequest};
use tidemark_model::{GroupCoordinator, GroupError, TopicPartition, route};

use super::super::harness::{Store, start, with_a_journal};
use super::*;
use crate::groups::kit::{commit_as, heartbeat};
use crate::store::{Changes, Commit, Embedded, Entry, LeaseId, MetadataStore, Operation, Snapshot, StoreError, Txn};

/// A store that can be away for writes, or for everything.
#[derive(Debug)]
struct Away {
    store: Embedded,
    for_writes: AtomicBool,
    for_reads: AtomicBool,
}

impl Away {
    fn reads(&self) -> Result<(), StoreError> {
        if self.for_reads.load(Ordering::Relaxed) { Err(StoreError::Unavailable("away".into())) } else { Ok(()) }
    }

    fn set(&self, away: bool) {
        self.for_writes.store(away, Ordering::Relaxed);
        self.for_reads.store(away, Ordering::Relaxed);
    }
}

#[async_trait]
impl MetadataStore for Away {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.reads()?;
        self.store.get(key).await
    }

    async fn range(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        self.reads()?;
        self.store.range(prefix).await
    }

    async fn commit(&self, txn: Txn) -> Result<Commit, StoreError> {
        let of_groups = txn.operations.iter().any(|operation| match operation {
            Operation::Put { key, .. } | Operation::Delete { key } => key.contains("/groups/"),
        });
        if of_groups && self.for_writes.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("away".into()));
        }
        self.store.commit(txn).await
    }

    fn watch(&self, prefix: &str, after: u64) -> BoxStream<'static, Result<Changes, StoreError>> {
        self.store.watch(prefix, after)
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

async fn on_a_store_that_can_be_away() -> (Service, Arc<Away>, TopicPartition) {
    let store = Embedded::in_memory().unwrap();
    let away = Arc::new(Away { store, for_writes: AtomicBool::new(false), for_reads: AtomicBool::new(false) });
    let service = with_a_journal(&(Arc::clone(&away) as Store)).await;
    let at = topic(&service, "orders").await;
    (service, away, at)
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_heartbeats_go_on_and_commits_may_be_tried_again() {
    let (service, store, at) = on_a_store_that_can_be_away().await;
    let joined = stable(&service, "g").await;
    let commit = |offset| GroupRequest::CommitOffsets(commit_as(&joined.member_id, joined.generation, &[(at, offset)]));
    call(&service, "g", commit(1)).await.unwrap();
    store.set(true);
    let began = tokio::time::Instant::now();
    assert!(matches!(call(&service, "g", commit(2)).await, Err(GroupError::TimedOut(_))));
    assert_eq!(began.elapsed().as_secs(), 5, "offsets.commit.timeout.ms");
    assert!(matches!(call(&service, "g", kit::fetch(None)).await, Err(GroupError::TimedOut(_))));
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(6)).await;
        let beat = call(&service, "g", heartbeat(&joined.member_id, joined.generation)).await;
        assert_eq!(beat, Ok(GroupAnswer::Heartbeat));
    }
    store.set(false);
    call(&service, "g", commit(3)).await.unwrap();
    assert_eq!(committed(&service, "g", at).await, Some(3));
}

#[tokio::test(start_paused = true)]
async fn what_is_read_out_is_confirmed_first() {
    let (service, store, at) = on_a_store_that_can_be_away().await;
    ask(&service, "g", kit::commit(&[(at, 1)])).await.unwrap();
    store.for_reads.store(true, Ordering::Relaxed);
    assert!(matches!(call(&service, "g", kit::fetch(None)).await, Err(GroupError::Unavailable(_))));
    assert!(matches!(call(&service, "g", GroupRequest::Describe).await, Err(GroupError::Unavailable(_))));
    store.set(false);
    assert_eq!(committed(&service, "g", at).await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_not_heard_is_removed_in_time() {
    let (service, _, _) = on_a_store_that_can_be_away().await;
    let joined = stable(&service, "g").await;
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert!(call(&service, "g", heartbeat(&joined.member_id, joined.generation)).await.is_ok());
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert!(call(&service, "g", heartbeat(&joined.member_id, joined.generation)).await.is_ok());
    tokio::time::sleep(Duration::from_secs(31)).await;
    let listed = service.list().await.unwrap();
    assert_eq!(listed[0].state, "Empty");
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_slept_removes_nobody_who_could_not_be_heard() {
    let store: Store = Arc::new(Embedded::in_memory().unwrap());
    // Its slots stay its own all the while.
    let service = start(&store, Settings { coordinator_lease: Duration::from_secs(600), ..settings() });
    let joined = stable(&service, "g").await;
    // All deadlines are past at once, as after a stop of the process.
    tokio::time::advance(Duration::from_secs(40)).await;
    let beat = ask(&service, "g", heartbeat(&joined.member_id, joined.generation)).await;
    assert_eq!(beat, Ok(GroupAnswer::Heartbeat));
    // Who stays silent is removed all the same.
    tokio::time::advance(Duration::from_secs(40)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(service.list().await.unwrap()[0].state, "Empty");
}

#[tokio::test(start_paused = true)]
async fn a_group_that_cannot_be_read_is_left_alone_and_harms_no_other() {
    let store: Store = Arc::new(Embedded::in_memory().unwrap());
    let slot = route::slot_for("g").0;
    let key = format!("/tidemark/main/groups/{slot}/g/classic");
    let _ = store.commit(Txn::new().put(key.clone(), bytes::Bytes::from_static(b"[9,{}]"))).await.unwrap();
    let service = with_a_journal(&store).await;
    let refused = ask(&service, "g", GroupRequest::Join(quick())).await;
    assert!(matches!(refused, Err(GroupError::Unavailable(_))), "{refused:?}");
    let other = (0..).map(|n| format!("g{n}")).find(|name| route::slot_for(name).0 == slot).unwrap();
    stable(&service, &other).await;
    assert_eq!(&store.get(&key).await.unwrap().unwrap().value[..], b"[9,{}]");
}
