//! Snapshots of the metadata in the bucket, and whose the bucket is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tidemark_model::{Claim, Clock, Coordinator as _, NodeId, Role};
use tidemark_segment::testing::{Fault, Faults, Memory, Request, Seeded as SeededBucket};
use tidemark_segment::{Bucket, Holder, MetadataKeys, MetadataSnapshot};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::harness::*;
use crate::backup::{Backup, Look};
use crate::store::{Commit, Embedded, Txn};
use crate::{Error, Service, Settings, rebuild};

const SHORT: Duration = Duration::from_millis(50);

/// A clock that goes with tokio's.
#[derive(Debug)]
struct Paused(Instant);

impl Clock for Paused {
    fn now_ms(&self) -> i64 {
        self.0.elapsed().as_millis() as i64
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(Paused(Instant::now()))
}

fn embedded() -> Store {
    Arc::new(Embedded::in_memory().unwrap())
}

/// A clock that a test turns.
#[derive(Debug, Default)]
struct Turned(AtomicI64);

impl Turned {
    fn forward(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as i64, Ordering::Relaxed);
    }
}

impl Clock for Turned {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Refuses everything while it is closed.
#[derive(Debug, Default)]
struct Gate(AtomicBool);

impl Faults for Gate {
    fn next(&self, _: Request, _: &str) -> Fault {
        if self.0.load(Ordering::Relaxed) { Fault::SlowDown } else { Fault::None }
    }
}

fn bucket(memory: &Memory) -> Bucket {
    memory.bucket(Arc::new(SeededBucket::new(1)))
}

async fn on_bucket(store: &Store, bucket: Bucket, clock: Arc<dyn Clock>) -> Service {
    let seed = SEEDS.fetch_add(1, Ordering::Relaxed);
    let (entropy, name) = (Arc::new(Seeded(AtomicU64::new(seed << 32))), format!("c{seed}"));
    let settings = Settings { name, ..settings() };
    Service::start(Arc::clone(store), Some(bucket), settings, clock, entropy, CancellationToken::new())
}

async fn newest(memory: &Memory, service: &Service) -> Option<(u64, MetadataSnapshot)> {
    let keys = MetadataKeys::new(&cluster_id(service)).unwrap();
    MetadataSnapshot::newest(&bucket(memory), &keys).await.unwrap().snapshot
}

fn cluster_id(service: &Service) -> String {
    service.shared.state.identity().0
}

fn keys_of(snapshot: &MetadataSnapshot) -> Vec<&str> {
    snapshot.entries.iter().map(|(key, _)| key.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_changes_is_in_the_bucket_within_the_interval_and_topics_sooner() {
    let (store, memory) = (embedded(), Memory::default());
    let service = on_bucket(&store, bucket(&memory), clock()).await;
    within(service.ready()).await;
    open(&service, NodeId(1), 7).await.unwrap();
    let topic = create(&service, new("orders")).await.unwrap().topic;
    let began = Instant::now();
    let key = format!("state/topics/{}", topic.id);
    let snapshot = loop {
        match newest(&memory, &service).await {
            Some((_, snapshot)) if keys_of(&snapshot).contains(&key.as_str()) => break snapshot,
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let keys = keys_of(&snapshot);
    assert!(keys.contains(&"cluster-id") && keys.contains(&"topic-names/orders"), "{keys:?}");
    assert!(keys.contains(&"state/journals/1") && keys.contains(&"counters/journal-id"), "{keys:?}");
    assert!(!keys.iter().any(|key| key.starts_with("state/nodes/")), "what has a lease is a process's: {keys:?}");
    assert!(!keys.contains(&"claim") && !keys.contains(&"backup"), "{keys:?}");
}

#[tokio::test(start_paused = true)]
async fn of_two_coordinators_one_writes_and_nobody_when_nothing_has_changed() {
    let (store, memory, clock) = (embedded(), Memory::default(), Arc::new(Turned::default()));
    // Without buckets, so that only what this test asks for is written.
    let (a, b) = (coordinator_with(&store, clock.clone()).await, coordinator_with(&store, clock.clone()).await);
    // Until their registrations and slots are written.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let (bucket, keys) = (bucket(&memory), MetadataKeys::new(&cluster_id(&a)).unwrap());
    let mut one = Backup::new(&a.shared, bucket.clone(), keys.clone());
    let mut other = Backup::new(&b.shared, bucket.clone(), keys.clone());
    clock.forward(Duration::from_secs(100));
    assert_eq!(one.look().await.unwrap(), Look::Written);
    assert_eq!(other.look().await.unwrap(), Look::Covered);

    let put = |n: u8| Txn::new().put("/tidemark/main/groups/1/g/classic", vec![n].into());
    assert!(matches!(store.commit(put(1)).await, Ok(Commit::Done(_))));
    assert_eq!(other.look().await.unwrap(), Look::Waiting, "the last one is young");
    clock.forward(Duration::from_secs(31));
    assert_eq!(other.look().await.unwrap(), Look::Written);
    assert_eq!(one.look().await.unwrap(), Look::Covered);
    let (number, snapshot) = newest(&memory, &a).await.unwrap();
    assert_eq!(number, 2);
    assert!(keys_of(&snapshot).contains(&"groups/1/g/classic"));
    assert_eq!(bucket.list(&keys.root()).await.unwrap().len(), 1, "the older one is gone");
    for n in 3..6 {
        clock.forward(Duration::from_secs(31));
        assert!(matches!(store.commit(put(n)).await, Ok(Commit::Done(_))));
        assert_eq!(one.look().await.unwrap(), Look::Written);
        assert_eq!(bucket.list(&keys.root()).await.unwrap().len(), 1);
    }
    clock.forward(Duration::from_secs(3_600));
    assert_eq!(other.look().await.unwrap(), Look::Covered);
}

#[tokio::test(start_paused = true)]
async fn a_second_cluster_on_the_bucket_is_refused_with_both_ids() {
    let (one, two, memory) = (embedded(), embedded(), Memory::default());
    let first = on_bucket(&one, bucket(&memory), clock()).await;
    within(first.ready()).await;
    within(async {
        while Holder::of(&bucket(&memory)).await.unwrap().is_none() {
            tokio::time::sleep(SHORT).await;
        }
    })
    .await;
    let second = on_bucket(&two, bucket(&memory), clock()).await;
    let Error::Bucket(why) = within(second.failed()).await else { panic!("another error") };
    assert!(why.contains(&cluster_id(&first)) && why.contains(&cluster_id(&second)), "{why}");
    assert!(why.contains("prefix of its own"), "{why}");
    // The same cluster, at its next start and by another coordinator, is let in.
    let again = on_bucket(&one, bucket(&memory), clock()).await;
    within(again.ready()).await;
    let mut health = again.backup_health();
    within(async { health.wait_for(Result::is_ok).await.map(drop) }).await.unwrap();
    let node = Node::join(&first, registration(Role::Broker, "b", 1)).await;
    assert_eq!(node.claim.map(|claim| claim.generation), Some(1), "and all nodes know by what it holds it");
}

#[tokio::test(start_paused = true)]
async fn what_is_left_from_before_a_rebuild_stops() {
    let (store, memory) = (embedded(), Memory::default());
    let service = on_bucket(&store, bucket(&memory), clock()).await;
    within(service.ready()).await;
    open(&service, NodeId(1), 7).await.unwrap();
    within(async {
        while newest(&memory, &service).await.is_none() {
            tokio::time::sleep(SHORT).await;
        }
    })
    .await;
    let cluster = cluster_id(&service);
    let rebuilt = Holder { cluster, claim: Claim { generation: 2, id: 5 } };
    rebuilt.take(&bucket(&memory)).await.unwrap();
    // Also when nothing changes any more.
    let Error::Bucket(why) = within(service.failed()).await else { panic!("another error") };
    assert!(why.contains("was rebuilt from it") && why.contains("generation 2"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_is_away_is_told_and_caught_up_with() {
    let (store, memory, gate) = (embedded(), Memory::default(), Arc::new(Gate::default()));
    gate.0.store(true, Ordering::Relaxed);
    let faulty = memory.faulty(gate.clone(), Arc::new(SeededBucket::new(2)));
    let service = on_bucket(&store, faulty, clock()).await;
    within(service.ready()).await;
    let mut health = service.backup_health();
    let said = within(async { health.wait_for(Result::is_err).await.map(|said| said.clone()) }).await.unwrap();
    assert!(said.unwrap_err().contains("unavailable"));
    open(&service, NodeId(1), 7).await.unwrap();
    create(&service, new("meanwhile")).await.unwrap();
    gate.0.store(false, Ordering::Relaxed);
    within(async { health.wait_for(Result::is_ok).await.map(drop) }).await.unwrap();
    within(async {
        while newest(&memory, &service).await.is_none_or(|(_, it)| !keys_of(&it).contains(&"topic-names/meanwhile")) {
            tokio::time::sleep(SHORT).await;
        }
    })
    .await;
}

async fn coordinator_with(store: &Store, clock: Arc<dyn Clock>) -> Service {
    let seed = SEEDS.fetch_add(1, Ordering::Relaxed);
    let (entropy, name) = (Arc::new(Seeded(AtomicU64::new(seed << 32))), format!("c{seed}"));
    let shutdown = CancellationToken::new();
    let service = Service::start(Arc::clone(store), None, Settings { name, ..settings() }, clock, entropy, shutdown);
    within(service.ready()).await;
    service
}

/// From a snapshot to a running cluster: what a client of the coordinators sees.
#[tokio::test(start_paused = true)]
async fn a_rebuilt_store_goes_on_where_the_lost_one_was() {
    let (store, memory) = (embedded(), Memory::default());
    let service = on_bucket(&store, bucket(&memory), clock()).await;
    within(service.ready()).await;
    let before =
        [open(&service, NodeId(1), 7).await.unwrap(), open_of(&service, NodeId(1), 8, &[7, 8], None).await.unwrap()];
    let orders = create(&service, sized("orders", 4)).await.unwrap();
    let ids = service.allocate_producer_ids(10).await.unwrap();
    let snapshot = within(async {
        loop {
            match newest(&memory, &service).await {
                Some((_, snapshot)) if keys_of(&snapshot).contains(&"counters/producer-id") => break snapshot,
                _ => tokio::time::sleep(SHORT).await,
            }
        }
    })
    .await;
    drop((service, store));

    let store = embedded();
    let saved = rebuild::Saved::read(&snapshot).unwrap();
    let kept = rebuild::JournalFound { log: rebuild::Log::Kept, ..rebuild::JournalFound::default() };
    let journals = [(before[0].id, kept), (before[1].id, rebuild::JournalFound::default())].into();
    let found = rebuild::Journals { journals, producer_id: None, revision: 50_000 };
    let plan = rebuild::Plan::of(&saved, &found);
    let holder = Holder::of(&bucket(&memory)).await.unwrap().unwrap();
    let claim = Claim { generation: 2, id: 77 };
    let rebuilt = Holder { claim, ..holder.clone() };
    rebuilt.take(&bucket(&memory)).await.unwrap();
    rebuild::write(&*store, "main", &holder.cluster, claim, &plan).await.unwrap();

    let service = on_bucket(&store, bucket(&memory), clock()).await;
    within(service.ready()).await;
    assert_eq!(cluster_id(&service), holder.cluster);
    let mut node = Node::observer(&service, "g").await;
    node.until(|state| state.topics().count() == 1).await;
    assert!(node.state.revision > 50_000 && node.state.revision > orders.revision, "it never goes back");
    let again = node.state.topics().next().unwrap();
    assert_eq!(**again, orders.topic);
    let kept = open(&service, NodeId(1), 7).await.unwrap();
    assert_eq!(kept.id, before[0].id, "the log that is there has its journal");
    let new = open_of(&service, NodeId(9), 99, &[99], None).await.unwrap();
    assert_eq!(new.id, before[1].id, "a new log has the journal that waits");
    assert!(new.epoch > before[1].epoch + 1 && kept.epoch > before[0].epoch + 1);
    assert_eq!(open_of(&service, NodeId(9), 99, &[99], None).await.unwrap().id, new.id, "and keeps it");
    assert!(open(&service, NodeId(10), 100).await.unwrap().id > new.id, "the next has one of its own");
    assert!(service.allocate_producer_ids(10).await.unwrap().start > ids.end);
    assert!(create(&service, super::harness::new("orders")).await.is_err(), "its name is taken");
    create(&service, super::harness::new("more")).await.unwrap();
    node.until(|state| state.topics().count() == 2).await;
    let mut health = service.backup_health();
    within(async { health.wait_for(Result::is_ok).await.map(drop) }).await.unwrap();
}
