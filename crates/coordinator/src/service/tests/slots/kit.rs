//! Coordinators whose slots are watched, and stores that are slow, deaf or late.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tidemark_model::{ClusterState, SlotId, route};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::super::harness::{SEEDS, Seeded, Store, settings, within};
use crate::slots::{NotWritten, Owned, SlotUser, Urgency};
use crate::store::{Changes, Commit, Entry, LeaseId, MetadataStore, Operation, Snapshot, StoreError, Txn};
use crate::{Service, Settings};

pub(super) const HOUR: Duration = Duration::from_secs(3_600);

/// A coordinator, and what it holds.
pub(super) struct Member {
    pub(super) service: Service,
    pub(super) user: Arc<Recorder>,
    pub(super) shutdown: CancellationToken,
}

impl Member {
    pub(super) fn start(store: &Store) -> Self {
        Self::start_as(store, settings())
    }

    pub(super) fn start_as(store: &Store, settings: Settings) -> Self {
        let seed = SEEDS.fetch_add(1, Ordering::Relaxed);
        let name = if settings.name == Settings::default().name { format!("c{seed}") } else { settings.name.clone() };
        let settings = Settings { address: format!("{name}:1"), name, ..settings };
        let (user, shutdown) = (Arc::new(Recorder::default()), CancellationToken::new());
        let entropy = Arc::new(Seeded(AtomicU64::new(seed << 32)));
        let service =
            Service::start_with(Arc::clone(store), settings, entropy, shutdown.clone(), Arc::clone(&user) as _);
        Self { service, user, shutdown }
    }

    /// Waits until it holds so many slots.
    pub(super) async fn holds(&self, count: usize) {
        self.user.until(|held| held.len() == count).await;
    }

    pub(super) fn owned(&self, slot: u32) -> Option<Owned> {
        self.user.held.borrow().get(&SlotId(slot)).map(|(owned, _)| owned.clone())
    }

    /// Waits until it holds the slot, which had this in it then.
    pub(super) async fn acquired(&self, slot: u32) -> (Owned, Snapshot) {
        self.user.until(|held| held.contains_key(&SlotId(slot))).await;
        self.user.held.borrow()[&SlotId(slot)].clone()
    }

    pub(super) fn state(&self) -> ClusterState {
        self.service.shared.state.cluster()
    }

    /// Waits until each slot can be found at one of so many coordinators.
    pub(super) async fn finds_all_at(&self, coordinators: usize) {
        let mut revisions = self.service.shared.state.revisions();
        let found = revisions.wait_for(|_| {
            let state = self.state();
            let owners: Vec<_> =
                (0..route::SLOTS).filter_map(|id| route::coordinator_for(&state, SlotId(id))).collect();
            let distinct: std::collections::BTreeSet<_> = owners.iter().map(|node| node.id).collect();
            owners.len() == route::SLOTS as usize && distinct.len() == coordinators
        });
        within(found).await;
    }
}

/// Writes as one of the slot's groups.
pub(super) fn write(
    owned: &Owned,
    operations: Vec<Operation>,
) -> impl Future<Output = Result<(), NotWritten>> + Send + use<> {
    owned.write(&"g".into(), operations, Urgency::Patient)
}

/// Notes what it is told, and refuses what must not happen.
#[derive(Debug)]
pub(super) struct Recorder {
    pub(super) held: watch::Sender<BTreeMap<SlotId, (Owned, Snapshot)>>,
    told: Mutex<BTreeMap<SlotId, Told>>,
    /// Written to each slot when it is drained.
    pub(super) last_words: Mutex<Option<&'static str>>,
}

#[derive(Debug, PartialEq)]
enum Told {
    Loading,
    Acquired,
    Draining,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { held: watch::Sender::new(BTreeMap::new()), told: Mutex::default(), last_words: Mutex::default() }
    }
}

impl Recorder {
    pub(super) async fn until(&self, done: impl Fn(&BTreeMap<SlotId, (Owned, Snapshot)>) -> bool) {
        let _ = within(self.held.subscribe().wait_for(done)).await.unwrap();
    }
}

#[async_trait]
impl SlotUser for Recorder {
    fn loading(&self, slot: SlotId) {
        assert_eq!(self.told.lock().unwrap().insert(slot, Told::Loading), None);
    }

    fn acquired(&self, owned: Owned, stored: Snapshot) {
        assert_eq!(self.told.lock().unwrap().insert(owned.id(), Told::Acquired), Some(Told::Loading));
        self.held.send_modify(|held| drop(held.insert(owned.id(), (owned, stored))));
    }

    fn lost(&self, slot: SlotId) {
        assert!(self.told.lock().unwrap().remove(&slot).is_some());
        self.held.send_modify(|held| drop(held.remove(&slot)));
    }

    async fn drain(&self, slot: SlotId) {
        assert_eq!(self.told.lock().unwrap().insert(slot, Told::Draining), Some(Told::Acquired));
        let owned = self.held.borrow()[&slot].0.clone();
        let words = *self.last_words.lock().unwrap();
        if let Some(words) = words {
            drop(write(&owned, vec![put(&owned, "last-words", words)]));
        }
    }
}

/// A put under the slot's prefix.
pub(super) fn put(owned: &Owned, key: &str, value: &str) -> Operation {
    Operation::Put { key: owned.prefix() + key, value: Bytes::copy_from_slice(value.as_bytes()), lease: None }
}

/// What a slot has under a key.
pub(super) fn value(stored: &Snapshot, key: &str) -> Option<String> {
    let entry = stored.entries.iter().find(|entry| entry.key.ends_with(&format!("/{key}")))?;
    Some(String::from_utf8_lossy(&entry.value).into_owned())
}

/// What is stored of a slot now.
pub(super) async fn stored(store: &Store, slot: u32) -> Snapshot {
    store.range(&format!("/tidemark/main/groups/{slot}/")).await.unwrap()
}

/// A store as a process sees it that can be paused, and a network that can lose answers and delay requests.
#[derive(Debug)]
pub(super) struct Unsteady {
    store: Store,
    pub(super) paused: watch::Sender<bool>,
    pub(super) late: watch::Sender<Late>,
    pub(super) transactions: AtomicU64,
    held: Mutex<Vec<Txn>>,
}

/// What happens to transactions that write to groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    No,
    /// They seem to fail, and arrive when the test has them arrive.
    Held,
    /// They are committed, and seem to have failed.
    Unheard,
}

impl Unsteady {
    pub(super) fn new(store: &Store) -> Arc<Self> {
        let (paused, late) = (watch::Sender::new(false), watch::Sender::new(Late::No));
        Arc::new(Self {
            store: Arc::clone(store),
            paused,
            late,
            transactions: AtomicU64::new(0),
            held: Mutex::default(),
        })
    }

    /// What was held arrives now. How that ends.
    pub(super) async fn arrive(&self) -> Vec<Commit> {
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        let mut ends = Vec::new();
        for txn in held {
            ends.push(self.store.commit(txn).await.unwrap());
        }
        ends
    }

    /// Waits while the process is paused.
    async fn awake(&self) {
        let _ = self.paused.subscribe().wait_for(|paused| !paused).await;
    }
}

#[async_trait]
impl MetadataStore for Unsteady {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.awake().await;
        self.store.get(key).await
    }

    async fn range(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        self.awake().await;
        self.store.range(prefix).await
    }

    async fn commit(&self, txn: Txn) -> Result<Commit, StoreError> {
        self.awake().await;
        let of_groups = txn.operations.iter().any(|operation| operation.key().contains("/groups/"));
        if !of_groups {
            return self.store.commit(txn).await;
        }
        self.transactions.fetch_add(1, Ordering::Relaxed);
        let lost = || StoreError::Unavailable("the answer was lost".into());
        let late = *self.late.borrow();
        match late {
            Late::No => {}
            Late::Held => {
                self.held.lock().unwrap().push(txn);
                return Err(lost());
            }
            Late::Unheard => {
                let _ = self.store.commit(txn).await;
                return Err(lost());
            }
        }
        self.store.commit(txn).await
    }

    fn watch(&self, prefix: &str, after: u64) -> BoxStream<'static, Result<Changes, StoreError>> {
        use futures::StreamExt;
        let paused = self.paused.subscribe();
        let waiting = move |changes| {
            let mut paused = paused.clone();
            async move {
                let _ = paused.wait_for(|paused| !paused).await;
                changes
            }
        };
        self.store.watch(prefix, after).then(waiting).boxed()
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.awake().await;
        self.store.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.awake().await;
        self.store.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.awake().await;
        self.store.revoke(lease).await
    }

    async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        self.awake().await;
        self.store.compact(revision).await
    }
}
