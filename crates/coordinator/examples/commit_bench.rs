//! Measures offset commits against a real etcd: how many transactions they become, how long they take beside one put of
//! the same etcd at the same time, and what they make of its file. Then what a put for each commit costs at the same rate:
//! what etcd would have to do if nothing were collected.
//!
//! `cargo run --release -p tidemark-coordinator --example commit_bench -- ETCD_HOST:PORT [COMMITS_A_SECOND] [SECONDS]`
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tidemark_coordinator::store::{
    Changes, Commit, Entry, Etcd, EtcdOptions, LeaseId, MetadataStore, Snapshot, StoreError, Txn, Usage,
};
use tidemark_coordinator::{Service, Settings};
use tidemark_model::coordinator::{NewTopic, OpenJournal};
use tidemark_model::group::{CommitOffsets, GroupAnswer, GroupCall, GroupRequest, OffsetToCommit};
use tidemark_model::{Coordinator as _, GroupCoordinator as _, NodeId, TopicPartition};
use tidemark_runtime::{OsEntropy, SystemClock};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const GROUPS: u64 = 1_000;
const PARTITIONS: i32 = 100;
/// What is left out at the start, while connections and caches are cold.
const WARM_UP: Duration = Duration::from_secs(3);
/// How often a put is made for comparison.
const PROBE_INTERVAL: Duration = Duration::from_millis(20);
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let endpoint = args.next().context("give an etcd's host:port")?;
    let rate: u64 = args.next().map_or(Ok(10_000), |text| text.parse())?;
    let seconds: u64 = args.next().map_or(Ok(30), |text| text.parse())?;
    let connect = async || Etcd::connect(EtcdOptions { endpoints: vec![endpoint.clone()], user: None }).await;
    let store = Arc::new(Counted { store: connect().await?, transactions: AtomicU64::new(0), took: Mutex::default() });
    let shutdown = CancellationToken::new();
    let settings = Settings { cluster: "bench".into(), address: "bench:1".into(), ..Settings::default() };
    let service =
        Service::start(store.clone(), None, settings, Arc::new(SystemClock), Arc::new(OsEntropy), shutdown.clone());
    service.ready().await;
    let topic = topic(&service).await?;
    ready(&service, topic).await;

    let (latencies, mut measured) = mpsc::unbounded_channel();
    let begun = Instant::now() + WARM_UP;
    let end = begun + Duration::from_secs(seconds);
    let probe = tokio::spawn(probe(connect().await?, begun, end));
    let watched = tokio::spawn(watch_file(store.clone(), end));
    let (service, counted, runtime) = (Arc::new(service), Arc::clone(&store), Handle::current());
    let called = Arc::clone(&service);
    // A thread of its own: the runtime's timers count milliseconds, so that commits would come ten at a time, and together
    // with the timer by which they leave.
    let caller = tokio::task::spawn_blocking(move || {
        let (mut before, mut lateness) = (0, Vec::new());
        at_rate(rate, end, |n, due| {
            if due >= begun {
                if before == 0 {
                    before = counted.transactions.load(Ordering::Relaxed);
                    counted.took.lock().expect("no holder panics").clear();
                }
                lateness.push(due.elapsed());
            }
            let (call, latencies) = (called.call(commit(topic, n)), latencies.clone());
            runtime.spawn(async move {
                let ok = matches!(call.await, Ok(GroupAnswer::CommitOffsets(each)) if each.iter().all(Result::is_ok));
                // Measured from when it should have been made.
                if due >= begun {
                    let _ = latencies.send((ok, due.elapsed()));
                }
            });
        });
        (before, lateness)
    });
    let (before, lateness) = caller.await?;
    let transactions = store.transactions.load(Ordering::Relaxed) - before;
    let (mut failed, mut commits) = (0, Vec::new());
    while let Some((ok, latency)) = measured.recv().await {
        failed += usize::from(!ok);
        commits.push(latency);
    }
    println!("{} commits, {failed} failed, {} a second", commits.len(), commits.len() as u64 / seconds);
    println!("{} transactions a second", transactions / seconds);
    tell("a transaction", std::mem::take(&mut *store.took.lock().expect("no holder panics")));
    tell("a commit, called later than it was due by", lateness);
    tell("a commit", commits);
    tell("one put", probe.await??);
    println!("the file had at most {} MiB", watched.await? >> 20);
    shutdown.cancel();
    service.stopped().await;
    tell("one of as many puts", puts(connect().await?, rate, seconds).await?);
    Ok(())
}

/// Makes calls at a rate until then, each with its number and when it is due. Blocks.
fn at_rate(rate: u64, until: Instant, mut call: impl FnMut(u64, Instant)) {
    let mut due = Instant::now();
    for n in 0.. {
        if due >= until {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        call(n, due);
        due += Duration::from_secs(1) / rate as u32;
    }
}

/// A put for each commit, measured like a commit from when it should have been made.
async fn puts(store: Etcd, rate: u64, seconds: u64) -> anyhow::Result<Vec<Duration>> {
    let (store, runtime) = (Arc::new(store), Handle::current());
    let (latencies, mut measured) = mpsc::unbounded_channel();
    let caller = tokio::task::spawn_blocking(move || {
        at_rate(rate, Instant::now() + Duration::from_secs(seconds), |n, due| {
            let (store, latencies) = (Arc::clone(&store), latencies.clone());
            runtime.spawn(async move {
                let put = Txn::new().put(format!("/bench-puts/{}", n % GROUPS), Bytes::from(vec![7; 256]));
                let _ = latencies.send(store.commit(put).await.map(|_| due.elapsed()));
            });
        });
    });
    caller.await?;
    let mut puts = Vec::new();
    while let Some(latency) = measured.recv().await {
        puts.push(latency?);
    }
    Ok(puts)
}

async fn topic(service: &Service) -> anyhow::Result<tidemark_model::TopicId> {
    service.open_journal(OpenJournal { node: NodeId(1), wal_incarnation: 1, logs: vec![1], succeeds: None }).await?;
    let name = format!("bench-{}", std::process::id());
    let new = NewTopic { name, partitions: PARTITIONS, replication_factor: 1, configs: BTreeMap::new() };
    let created = service.create_topics(vec![new], false).await;
    Ok(created.into_iter().next().context("no answer")??.topic.id)
}

/// Waits until every group is served.
async fn ready(service: &Service, topic: tidemark_model::TopicId) {
    for n in 0..GROUPS {
        while service.call(commit(topic, n)).await.is_err() {
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }
}

fn commit(topic: tidemark_model::TopicId, n: u64) -> GroupCall {
    let partition = TopicPartition::new(topic, (n / GROUPS % PARTITIONS as u64) as i32);
    let offset = OffsetToCommit { partition, offset: n as i64, leader_epoch: 0, metadata: String::new() };
    GroupCall {
        group: format!("group-{}", n % GROUPS),
        client_id: "bench".into(),
        client_host: "/127.0.0.1".into(),
        request: GroupRequest::CommitOffsets(CommitOffsets {
            member_id: String::new(),
            instance_id: None,
            generation_or_epoch: -1,
            understands_epochs: true,
            retention: None,
            offsets: vec![offset],
        }),
    }
}

async fn probe(store: Etcd, begun: Instant, end: Instant) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let sent = Instant::now();
        let txn = Txn::new().put("/bench-probe", Bytes::from(vec![7; 256]));
        if store.commit(txn).await? == Commit::Conflict {
            bail!("a put without conditions is refused");
        }
        if sent >= begun {
            latencies.push(sent.elapsed());
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
    Ok(latencies)
}

async fn watch_file(store: Arc<Counted>, end: Instant) -> u64 {
    let (mut most, mut told) = (0, Instant::now());
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let Ok(Usage { file, used }) = store.usage().await else { continue };
        most = most.max(file);
        if told.elapsed() >= REPORT_INTERVAL {
            println!("file {} MiB, used {} MiB", file >> 20, used >> 20);
            told = Instant::now();
        }
    }
    most
}

fn tell(what: &str, mut latencies: Vec<Duration>) {
    latencies.sort();
    let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or_default();
    println!("{what}: p50 {:?}, p90 {:?}, p99 {:?}, most {:?}", at(0.5), at(0.9), at(0.99), at(0.9999));
}

/// Counts transactions.
#[derive(Debug)]
struct Counted {
    store: Etcd,
    transactions: AtomicU64,
    took: Mutex<Vec<Duration>>,
}

#[async_trait]
impl MetadataStore for Counted {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.store.get(key).await
    }

    async fn range(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        self.store.range(prefix).await
    }

    async fn commit(&self, txn: Txn) -> Result<Commit, StoreError> {
        self.transactions.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let outcome = self.store.commit(txn).await;
        self.took.lock().expect("no holder panics").push(begun.elapsed());
        outcome
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

    async fn usage(&self) -> Result<Usage, StoreError> {
        self.store.usage().await
    }

    async fn defragment(&self, least: u64) -> Result<u64, StoreError> {
        self.store.defragment(least).await
    }
}
