//! Measures what partitions cost a node: memory when idle, and the time of a start with records that are not tiered.
//!
//! `cargo run --release -p tidemark-storage --example many_partitions -- DIRECTORY [PARTITIONS [MEGABYTES [JOURNALS]]]`
#![allow(clippy::print_stdout)]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tidemark_model::route::Route;
use tidemark_model::storage::{Acks, Append, AppendRequest};
use tidemark_model::{ClusterState, JournalId, NodeId, Storage as _, TopicPartition};
use tidemark_runtime::{OsEntropy, SystemClock};
use tidemark_segment::Bucket;
use tidemark_storage::disk::RealDisk;
use tidemark_storage::{Config, DataDir, Dependencies, Service};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use support::{OneNode, TOPIC, batch, cluster, cpu_seconds, journal_of, rss_mb};

/// Batches of one request.
const AT_ONCE: usize = 256;
/// A producer's batch, as 10,000 partitions get them.
const BATCH_BYTES: usize = 16 << 10;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().context("give a directory on the disk to measure")?;
    let dir = Path::new(&dir).join("many-partitions");
    let partitions: u32 = args.next().map_or(Ok(10_000), |text| text.parse())?;
    let megabytes: usize = args.next().map_or(Ok(1_024), |text| text.parse())?;
    let journals: u32 = args.next().map_or(Ok(2), |text| text.parse())?;
    let coordinator = Arc::new(OneNode::default());
    let view = Arc::new(cluster(partitions, journals));

    let service = start(&dir, &coordinator, &view, journals).await?;
    let before = rss_mb()?;
    // One small batch makes each a partition of its journal; it goes to the object store, as when it is idle.
    fill(&service, partitions, journals, partitions as usize, 200).await?;
    println!("with a small batch each: {:6.0} bytes a partition", (rss_mb()? - before) * 1e6 / f64::from(partitions));
    let cpu = cpu_seconds()?;
    let idle = Instant::now();
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!("idle: {:.4} CPUs", (cpu_seconds()? - cpu) / idle.elapsed().as_secs_f64());

    fill(&service, partitions, journals, megabytes * (1 << 20) / BATCH_BYTES, BATCH_BYTES).await?;
    service.shutdown().await;
    drop(service);
    for again in ["first", "second", "third"] {
        let plain = plain_read(&dir.join("data"))?;
        let (cpu, started) = (cpu_seconds()?, Instant::now());
        let service = start(&dir, &coordinator, &view, journals).await?;
        let (took, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
        let rss = rss_mb()?;
        println!("{again} start with {megabytes} MiB: {took:.2} s, {cpu:.2} CPU-s, {rss:.0} MB RSS");
        println!("  {:.2} times as long as to read the files and nothing else, {plain:.2} s", took / plain);
        service.shutdown().await;
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

async fn start(
    dir: &Path,
    coordinator: &Arc<OneNode>,
    view: &Arc<ClusterState>,
    journals: u32,
) -> anyhow::Result<Arc<Service>> {
    let config = Config {
        data_dir: dir.join("data"),
        journals: journals as usize,
        segment_bytes: 1 << 50,
        segment_ms: 1 << 40,
        wal_max_bytes: 64 << 30,
        // What is of interest is what a partition costs, not its records.
        memory_bytes: 1 << 20,
        ..Config::default()
    };
    let entropy = Arc::new(OsEntropy);
    let deps = Dependencies {
        node: NodeId(1),
        data_dir: DataDir::open(Arc::new(RealDisk), &config.data_dir, &*entropy)?,
        bucket: Bucket::in_directory(&dir.join("objects"), entropy.clone())?,
        coordinator: coordinator.clone(),
        view: watch::channel(view.clone()).1,
        clock: Arc::new(SystemClock),
        entropy,
        shutdown: CancellationToken::new(),
    };
    Ok(Service::start(&config, deps).await?)
}

/// Reads the log's files past the page cache, one after the other, and says how long that took.
fn plain_read(dir: &Path) -> anyhow::Result<f64> {
    const BLOCK: usize = 4096;
    let mut memory = vec![0_u8; (16 << 20) + BLOCK];
    let begin = memory.as_ptr().align_offset(BLOCK);
    let mut dirs = vec![dir.to_owned()];
    let started = Instant::now();
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "wal") {
                let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
                let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(&path)?;
                let mut position = 0;
                while let read @ 1.. = rustix::io::pread(&file, &mut memory[begin..begin + (16 << 20)], position)? {
                    position += read as u64;
                }
            }
        }
    }
    Ok(started.elapsed().as_secs_f64())
}

/// Appends `count` batches, to one partition after another.
async fn fill(service: &Service, partitions: u32, journals: u32, count: usize, len: usize) -> anyhow::Result<()> {
    let batch = batch(len, 7);
    for first in (0..count).step_by(AT_ONCE) {
        let mut requests: BTreeMap<JournalId, Vec<Append>> = BTreeMap::new();
        for n in first..(first + AT_ONCE).min(count) {
            let partition = n as u32 % partitions;
            let append = Append { partition: TopicPartition::new(TOPIC, partition as i32), batch: batch.clone() };
            requests.entry(journal_of(partition, journals)).or_default().push(append);
        }
        let answers = requests.into_iter().map(|(journal, appends)| {
            let route = Route { generation: 1, gateway: NodeId(1), broker: NodeId(1) };
            let timeout = Duration::from_secs(30);
            service.append(AppendRequest { journal, route, acks: Acks::All, timeout, appends })
        });
        for results in futures::future::join_all(answers).await {
            anyhow::ensure!(results.iter().all(Result::is_ok), "{:?}", results.iter().find(|result| result.is_err()));
        }
    }
    Ok(())
}
