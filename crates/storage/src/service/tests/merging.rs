//! Merging in the background: what is read then, what it costs, and what is left behind.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tidemark_model::Partition;
use tidemark_segment::testing::{Fault as StoreFault, Faults, Request};

use super::tiered::segments;
use super::*;

/// Everything is this many times smaller than at its default: a gigabyte is 4 MiB.
const SCALE: u64 = 256;
const PARTITIONS: i32 = 250;
const GIGABYTE: u64 = (1 << 30) / SCALE;

/// Counts requests by kind.
#[derive(Debug, Default)]
struct Counting(Mutex<BTreeMap<&'static str, u64>>);

impl Faults for Counting {
    fn next(&self, request: Request, key: &str) -> StoreFault {
        let kind = match request {
            Request::Put if key.ends_with(".segment") => "segment",
            Request::Put => "checkpoint",
            // Listed to be deleted.
            Request::Delete if key.ends_with("checkpoints") => "list",
            Request::List => "list",
            _ => "unbilled as a PUT",
        };
        *self.0.lock().unwrap().entry(kind).or_default() += 1;
        StoreFault::None
    }
}

impl Counting {
    fn billed(&self) -> u64 {
        let counts = self.0.lock().unwrap();
        ["segment", "checkpoint", "list"].iter().map(|kind| counts.get(kind).copied().unwrap_or(0)).sum()
    }
}

fn scaled(world: &mut World) {
    let defaults = Config::default();
    world.config.segment_bytes = defaults.segment_bytes / SCALE;
    world.config.segment_ms = defaults.segment_ms;
    world.config.wal_max_bytes = defaults.wal_max_bytes / SCALE;
    world.config.wal_file_bytes = defaults.wal_file_bytes / SCALE;
    world.config.memory_bytes = defaults.memory_bytes / SCALE;
    world.config.delete_grace_ms = defaults.delete_grace_ms;
    world.change_view(|state| {
        let mut topic = topic_of(0);
        topic.partitions = vec![Partition { journal: JOURNAL, epoch_base: 100 }; PARTITIONS as usize];
        state.upsert(Record::Topic(topic));
    });
}

/// Fifty (scaled) megabytes a second over all partitions.
async fn ingest(service: &Service, bytes: u64) {
    let mut left = bytes as i64;
    let mut since = 0;
    while left > 0 {
        let answers: Vec<_> = (0..PARTITIONS).map(|n| append(service, at(0, n), plain(550))).collect();
        for answer in futures::future::join_all(answers).await {
            answer.unwrap();
            left -= 611;
            since += 611;
        }
        let pause = since * 1_000 / (50_000_000 / SCALE);
        since = 0;
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

fn short_runs(service: &Service, long: u64) -> (usize, usize) {
    let core = service.journal().lock();
    let runs = || core.state.partitions.values().flat_map(|partition| &partition.runs);
    (runs().filter(|run| run.length < long).count(), runs().count())
}

#[tokio::test(start_paused = true)]
async fn a_gigabyte_of_a_thousand_partitions_costs_at_most_twenty_billed_requests_and_is_read_in_long_runs() {
    let counting = Arc::new(Counting::default());
    let mut world = World::with_store_faults(1, counting.clone());
    scaled(&mut world);
    let service = world.start().await.unwrap();
    ingest(&service, GIGABYTE).await;
    let before = counting.billed();
    ingest(&service, 4 * GIGABYTE).await;
    let per_gigabyte = (counting.billed() - before) as f64 / 4.0;
    assert!(per_gigabyte <= 20.0, "{per_gigabyte} a GB: {:?}", counting.0.lock().unwrap());
    assert!(per_gigabyte >= 12.0, "{per_gigabyte} a GB: nothing is merged");

    // Within the hour all but what is too little for a long run is in such.
    tokio::time::sleep(Duration::from_secs(3_000)).await;
    let long = world.config.segment_bytes / 16;
    let (short, all) = short_runs(&service, long);
    assert!(all >= PARTITIONS as usize, "{all}");
    let most = service.journal().lock().state.partitions.values().all(|partition| {
        let behind: u64 = partition.runs.iter().filter(|run| run.length < long).map(|run| run.length).sum();
        behind < long
    });
    assert!(most, "{short} of {all} runs are short, and together long");
    until("what was merged is deleted", || service.journal().lock().state.garbage.is_empty()).await;
    let stored: u64 = world.bucket.list("").await.unwrap().iter().map(|object| object.size).sum();
    let live: u64 = service.journal().lock().state.segments.values().map(|segment| segment.live).sum();
    assert!(stored < live * 5 / 4, "{stored} bytes stored for {live}");

    for n in [0, 7, PARTITIONS - 1] {
        let batches = read_all(&world, &service, at(0, n)).await;
        let end = service.journal().lock().state.partitions[&at(0, n)].high_watermark;
        assert_eq!(bases(&batches), (0..end).collect::<Vec<_>>());
        assert!(batches.iter().all(Batch::crc_matches));
    }
    world.crash(service).await;
    let service = world.start().await.unwrap();
    assert!(read_all(&world, &service, at(0, 3)).await.len() > 100);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_mostly_dead_is_rewritten() {
    let mut world = World::new(1);
    world.config.segment_bytes = 128_000;
    world.config.segment_ms = 5_000;
    let service = world.start().await.unwrap();
    for n in 0..60 {
        append(&service, at(if n % 6 == 0 { 1 } else { 0 }, 0), plain(1_000)).await.unwrap();
    }
    until("all is tiered", || service.journal().lock().untiered_bytes() == 0).await;
    assert_eq!(segments(&world).await, 1);
    let before = service.journal().lock().state.segments.keys().copied().collect::<Vec<_>>();
    world.delete_topic(0);
    tokio::time::sleep(Duration::from_secs(3_000)).await;
    until("another object has the rest", || {
        let core = service.journal().lock();
        core.state.garbage.is_empty() && core.state.segments.keys().all(|name| !before.contains(name))
    })
    .await;
    let objects = world.bucket.list("").await.unwrap();
    let sizes: Vec<u64> =
        objects.iter().filter(|object| object.key.ends_with(".segment")).map(|object| object.size).collect();
    assert!(sizes.len() == 1 && sizes[0] < 13_000, "{sizes:?}");
    assert_eq!(read_all(&world, &service, at(1, 0)).await.len(), 10);
    // And it is left alone then.
    let after = service.journal().lock().state.segments.clone();
    tokio::time::sleep(Duration::from_secs(7_200)).await;
    assert_eq!(service.journal().lock().state.segments, after);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_cannot_be_read_is_left_alone_and_stops_nothing() {
    let mut world = World::new(1);
    world.config.segment_bytes = 64_000;
    world.config.segment_ms = 5_000;
    let service = world.start().await.unwrap();
    for _ in 0..2 {
        append(&service, at(0, 0), plain(1_000)).await.unwrap();
        append(&service, at(0, 1), plain(2_000)).await.unwrap();
        until("it is tiered", || service.journal().lock().untiered_bytes() == 0).await;
    }
    let object = world.bucket.list("").await.unwrap().remove(0).key;
    world.bucket.delete(&[object]).await.unwrap();
    for _ in 0..6 {
        append(&service, at(0, 1), plain(2_000)).await.unwrap();
        until("it is tiered", || service.journal().lock().untiered_bytes() == 0).await;
    }
    let runs = || service.journal().lock().state.partitions[&at(0, 1)].runs.len();
    let before = runs();
    assert_eq!(before, 8);
    tokio::time::sleep(Duration::from_secs(3_000)).await;
    until("the others are merged", || runs() <= 5).await;
    assert!(service.tier_health().borrow().is_ok());
}
