//! Measures one hop over loopback, both ends in this process: `cargo run --release -p tidemark-rpc --example hop`.

#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{self, BoxFuture, FutureExt as _};
use futures::stream::{FuturesUnordered, StreamExt as _};
use tidemark_model::broker::{
    FetchPartition, FetchRequest, Fetched, Isolation, PartitionEpochQuery, PartitionOffsetQuery,
    PartitionRecordDeletion, ProducePartition, ProduceRequest,
};
use tidemark_model::storage::{Acks, Appended, EpochEnd, FoundOffset};
use tidemark_model::{Batch, Broker, BrokerError, Dial as _, Entropy, NodeId, TopicId, TopicPartition};
use tidemark_rpc::{RemoteBrokers, serve_broker};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How much each row moves, unless it takes too long.
const BYTES: usize = 4 << 30;
const PATIENCE: Duration = Duration::from_secs(4);

#[derive(Debug)]
struct Same;

impl Entropy for Same {
    fn next_u64(&self) -> u64 {
        7
    }
}

/// Answers at once.
struct Instantly(Bytes);

#[async_trait]
impl Broker for Instantly {
    fn produce(&self, request: ProduceRequest) -> BoxFuture<'static, Vec<Result<Appended, BrokerError>>> {
        let landed = Appended { base_offset: 1, log_append_time_ms: -1, log_start_offset: 0 };
        future::ready(vec![Ok(landed); request.partitions.len()]).boxed()
    }

    async fn fetch(&self, request: FetchRequest) -> Vec<Result<Fetched, BrokerError>> {
        let batch = Batch::from_body(0, 0, self.0.slice(..16 << 10)).expect("a body");
        let fetched = Fetched {
            leader_epoch: 0,
            log_start_offset: 0,
            high_watermark: 1,
            last_stable_offset: 1,
            aborted: vec![],
            diverging: None,
            batches: vec![batch; request.max_bytes >> 14],
        };
        vec![Ok(fetched)]
    }

    async fn list_offsets(&self, _queries: Vec<PartitionOffsetQuery>) -> Vec<Result<FoundOffset, BrokerError>> {
        vec![]
    }

    async fn epoch_ends(&self, _queries: Vec<PartitionEpochQuery>) -> Vec<Result<EpochEnd, BrokerError>> {
        vec![]
    }

    async fn delete_records(&self, _deletions: Vec<PartitionRecordDeletion>) -> Vec<Result<i64, BrokerError>> {
        vec![]
    }
}

fn produce(size: usize, payload: &Bytes) -> ProduceRequest {
    let partition = TopicPartition::new(TopicId(uuid::Uuid::from_u128(7)), 1);
    ProduceRequest {
        gateway: NodeId(1),
        revision: 1,
        acks: Acks::All,
        timeout: Duration::from_secs(30),
        partitions: vec![ProducePartition { partition, records: payload.slice(..size) }],
    }
}

fn fetch(size: usize) -> FetchRequest {
    let partition = TopicPartition::new(TopicId(uuid::Uuid::from_u128(7)), 1);
    let partition =
        FetchPartition { partition, offset: 1, max_bytes: size, current_leader_epoch: None, last_fetched_epoch: None };
    FetchRequest {
        revision: 1,
        max_wait: Duration::from_secs(1),
        min_bytes: 1,
        max_bytes: size,
        isolation: Isolation::ReadUncommitted,
        partitions: vec![partition],
    }
}

/// Keeps `window` calls under way, and prints what that cost. An argument such as `produce-65536` picks one row.
async fn row<F: Future<Output = bool>>(name: &str, size: usize, window: usize, call: impl Fn() -> F) {
    if std::env::args().nth(1).is_some_and(|wanted| wanted != format!("{name}-{size}")) {
        return;
    }
    let (started, cpu) = (Instant::now(), cpu_seconds());
    let mut running: FuturesUnordered<F> = (0..window).map(|_| call()).collect();
    let (mut done, mut bytes) = (0_u64, 0);
    while let Some(well) = running.next().await {
        assert!(well, "a call failed");
        done += 1;
        bytes += size;
        if bytes < BYTES && started.elapsed() < PATIENCE {
            running.push(call());
        }
    }
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let gigabytes = bytes as f64 / 1e9;
    println!(
        "{name:8} {size:>9} B x {window:<5} {:>8.2} GB/s {:>8.2} CPU-s/GB {:>9.0} calls/s {:>8.1} us each",
        gigabytes / seconds,
        cpu / gigabytes,
        done as f64 / seconds,
        seconds * 1e6 * window as f64 / done as f64,
    );
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 = rest.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    ticks / 100.0
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut payload = vec![7; 8 << 20];
    payload[0] = 2;
    let payload = Bytes::from(payload);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(serve_broker(listener, Arc::new(Instantly(payload.clone())), CancellationToken::new()));
    let broker = RemoteBrokers::new(Arc::new(Same)).dial(NodeId(1), &address);
    for (size, window) in
        [(100, 1), (100, 1_000), (1 << 10, 1_000), (16 << 10, 500), (64 << 10, 200), (1 << 20, 16), (4 << 20, 8)]
    {
        let call = || {
            let answer = broker.produce(produce(size, &payload));
            async move { answer.await.iter().all(Result::is_ok) }
        };
        row("produce", size, window, call).await;
    }
    for (size, window) in [(16 << 10, 1), (16 << 10, 100), (1 << 20, 8), (8 << 20, 4)] {
        let call = || async { broker.fetch(fetch(size)).await.iter().all(Result::is_ok) };
        row("fetch", size, window, call).await;
    }
    Ok(())
}
