//! Measures the append path on a real disk: throughput, CPU, latency.
//!
//! `cargo run --release -p tidemark-storage --example append_bench -- DIRECTORY [GIGABYTES [JOURNALS]]`
#![allow(clippy::print_stdout)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::stream::{self, StreamExt as _};
use support::{OneNode, TOPIC, batch, cluster, cpu_seconds, journal_of, rss_mb};
use tidemark_model::route::Route;
use tidemark_model::storage::{Acks, Append, AppendRequest};
use tidemark_model::{Batch, JournalId, NodeId, Storage as _, TopicPartition};
use tidemark_runtime::{OsEntropy, SystemClock};
use tidemark_segment::Bucket;
use tidemark_storage::disk::{Disk as _, RealDisk, write_all};
use tidemark_storage::wal::format::BLOCK;
use tidemark_storage::{Config, DataDir, Dependencies, Service};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const PARTITIONS: usize = 1_000;
/// Distinct buffers, so that what is written does not all come from the CPU's cache.
const BUFFERS: usize = 64;

/// What is appended.
struct Load {
    name: &'static str,
    batch_bytes: usize,
    batches: usize,
    partitions: usize,
    /// Requests under way at once.
    in_flight: usize,
    share: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().context("give a directory on the disk to measure")?;
    let gigabytes: f64 = args.next().map_or(Ok(2.0), |text| text.parse())?;
    let journals: u32 = args.next().map_or(Ok(1), |text| text.parse())?;
    let loads = [
        Load { name: "1 MB x 6 batches", batch_bytes: 170_000, batches: 6, partitions: 6, in_flight: 32, share: 1.0 },
        Load {
            name: "16 KiB x 1,000",
            batch_bytes: 16 << 10,
            batches: 64,
            partitions: 1_000,
            in_flight: 32,
            share: 1.0,
        },
        Load { name: "4 KiB x 1,000", batch_bytes: 4 << 10, batches: 64, partitions: 1_000, in_flight: 64, share: 0.5 },
        Load { name: "1 KiB, one each", batch_bytes: 1 << 10, batches: 1, partitions: 6, in_flight: 64, share: 0.02 },
        Load {
            name: "1 KiB, one at a time",
            batch_bytes: 1 << 10,
            batches: 1,
            partitions: 6,
            in_flight: 1,
            share: 0.001,
        },
    ];
    for again in [false, true] {
        raw(Path::new(&dir), gigabytes, again)?;
    }
    for tiered in [false, true] {
        let tiering = if tiered { "tiering to a local directory" } else { "without tiering" };
        println!("{journals} journals, {tiering}");
        for load in &loads {
            run(Path::new(&dir), load, gigabytes * load.share, tiered, journals).await?;
        }
    }
    Ok(())
}

/// What the disk gives to one who only writes 16 MiB at a time with an fdatasync each, to new files or to the same again.
fn raw(dir: &Path, gigabytes: f64, again: bool) -> anyhow::Result<()> {
    const WRITE: usize = 16 << 20;
    const FILE: usize = 64 << 20;
    let memory = vec![7; WRITE + BLOCK];
    let aligned = memory.as_ptr().align_offset(BLOCK);
    let bytes = &memory[aligned..aligned + WRITE];
    let path = |n: usize| dir.join(format!("raw-{n}"));
    let files = (gigabytes * 1e9) as usize / FILE;
    let first = if again { Some(RealDisk.create(&path(0), FILE as u64)?) } else { None };
    if let Some(file) = &first {
        write_all(&**file, &vec![1; FILE], 0)?;
        file.sync_data()?;
    }
    let cpu = cpu_seconds()?;
    let started = Instant::now();
    for n in 0..files {
        let file = match &first {
            Some(file) => file.clone(),
            None => RealDisk.create(&path(n), FILE as u64)?,
        };
        for at in (0..FILE).step_by(WRITE) {
            write_all(&*file, bytes, at as u64)?;
            file.sync_data()?;
        }
    }
    let (took, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    let gigabytes = (files * FILE) as f64 / 1e9;
    let what = if again { "raw, same file again" } else { "raw, new files" };
    println!("  {what:22} {:7.1} MB/s {:6.2} CPU-s/GB", gigabytes * 1e3 / took, cpu / gigabytes);
    for n in 0..files {
        match RealDisk.remove(&path(n)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

async fn run(dir: &Path, load: &Load, gigabytes: f64, tiered: bool, journals: u32) -> anyhow::Result<()> {
    let dir = dir.join("append-bench");
    let config = Config {
        data_dir: dir.join("data"),
        journals: journals as usize,
        segment_bytes: if tiered { 64 << 20 } else { 1 << 50 },
        segment_ms: 1 << 40,
        wal_max_bytes: 64 << 30,
        ..Config::default()
    };
    let entropy = Arc::new(OsEntropy);
    let view = watch::channel(Arc::new(cluster(PARTITIONS as u32, journals))).1;
    let deps = Dependencies {
        node: NodeId(1),
        data_dir: DataDir::open(Arc::new(RealDisk), &config.data_dir, &*entropy)?,
        bucket: Bucket::in_directory(&dir.join("objects"), entropy.clone())?,
        coordinator: Arc::new(OneNode::default()),
        view,
        clock: Arc::new(SystemClock),
        entropy,
        shutdown: CancellationToken::new(),
    };
    let service = Service::start(&config, deps).await?;
    let batches: Vec<Batch> = (0..BUFFERS * load.batches).map(|n| batch(load.batch_bytes, n as u8)).collect();
    let bytes_each = (load.batch_bytes * load.batches) as f64;
    let count = (gigabytes * 1e9 / bytes_each) as usize;

    let cpu = cpu_seconds()?;
    let started = Instant::now();
    let requests = stream::iter(0..count).map(|n| {
        // As a broker does: what is of one journal goes in one request.
        let sent = Instant::now();
        let answers: Vec<_> =
            requests(load, &batches, n, journals).into_iter().map(|request| service.append(request)).collect();
        async move {
            for results in futures::future::join_all(answers).await {
                anyhow::ensure!(results.iter().all(Result::is_ok), "{:?}", results.iter().find(|r| r.is_err()));
            }
            Ok(sent.elapsed())
        }
    });
    let answers: Vec<anyhow::Result<Duration>> = requests.buffered(load.in_flight).collect().await;
    let mut latencies = answers.into_iter().collect::<anyhow::Result<Vec<Duration>>>()?;
    let (took, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    latencies.sort();
    let gigabytes = bytes_each * count as f64 / 1e9;
    let at = |q: f64| latencies[((latencies.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    println!(
        "  {:22} {:7.1} MB/s {:6.2} CPU-s/GB   p50 {:7.2} ms  p99 {:7.2} ms  ({:.0} requests/s, {:.1} s, {:.0} MB RSS)",
        load.name,
        gigabytes * 1e3 / took,
        cpu / gigabytes,
        at(0.5),
        at(0.99),
        count as f64 / took,
        took,
        rss_mb()?,
    );
    service.shutdown().await;
    drop(service);
    // A segment that was being written may appear meanwhile.
    while std::fs::remove_dir_all(&dir).is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

fn requests(load: &Load, batches: &[Batch], n: usize, journals: u32) -> Vec<AppendRequest> {
    let append = |k: usize| {
        let partition = (n * load.batches + k) % load.partitions;
        let batch = batches[(n % BUFFERS) * load.batches + k].clone();
        Append { partition: TopicPartition::new(TOPIC, partition as i32), batch }
    };
    let mut by_journal: BTreeMap<JournalId, Vec<Append>> = BTreeMap::new();
    for append in (0..load.batches).map(append) {
        by_journal.entry(journal_of(append.partition.partition as u32, journals)).or_default().push(append);
    }
    let request = |(journal, appends)| AppendRequest {
        journal,
        route: Route { generation: 1, gateway: NodeId(1), broker: NodeId(1) },
        acks: Acks::All,
        timeout: Duration::from_secs(30),
        appends,
    };
    by_journal.into_iter().map(request).collect()
}
