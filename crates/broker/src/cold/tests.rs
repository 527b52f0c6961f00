//! Cold reads of a bucket whose requests are counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut as _, BytesMut};
use tidemark_model::{JournalId, TopicId, TopicPartition};
use tidemark_segment::testing::{Fault, Faults, Memory, Request, Seeded};
use tidemark_segment::{SegmentName, SegmentWriter};
use uuid::Uuid;

use super::*;

const MIB: usize = 1 << 20;

/// Counts GETs, by object.
#[derive(Debug, Default)]
struct Gets {
    by_object: Mutex<BTreeMap<String, usize>>,
    all: AtomicUsize,
}

impl Faults for Gets {
    fn next(&self, request: Request, key: &str) -> Fault {
        if request == Request::Get {
            *self.by_object.lock().unwrap().entry(key.to_owned()).or_default() += 1;
            self.all.fetch_add(1, Ordering::Relaxed);
        }
        Fault::None
    }
}

impl Gets {
    fn count(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new(TopicId(Uuid::from_u128(1)), partition)
}

/// A batch of one record of `size` bytes on the wire.
fn batch(offset: i64, size: usize) -> Batch {
    let mut wire = BytesMut::new();
    wire.put_i64(offset);
    wire.put_i32(size as i32 - 12);
    wire.put_i32(1);
    wire.put_u8(2);
    wire.resize(size, offset as u8);
    wire[23..27].copy_from_slice(&0i32.to_be_bytes());
    Batch::split_from(&mut wire.freeze()).unwrap()
}

struct World {
    cold: Cold,
    gets: Arc<Gets>,
    runs: Vec<TieredRun>,
}

/// One partition, in objects of `each` batches of 256 KiB.
async fn world(objects: i64, each: i64) -> World {
    let (memory, gets) = (Memory::default(), Arc::new(Gets::default()));
    let plain = memory.bucket(Arc::new(Seeded::new(1)));
    let mut runs = Vec::new();
    for object in 0..objects {
        let name = SegmentName { epoch: 1, first_index: object as u64 + 1, last_index: object as u64 + 1, attempt: 0 };
        let mut writer = SegmentWriter::new(JournalId(1), name);
        let batches: Vec<Batch> = (object * each..(object + 1) * each).map(|offset| batch(offset, MIB / 4)).collect();
        writer.run(at(0), batches, vec![]).unwrap();
        let segment = writer.finish().unwrap();
        let key = format!("segment-{object}");
        plain.put_new(&key, segment.chunks.clone()).await.unwrap();
        runs.extend(segment.tiered_runs(&key));
    }
    let bucket = memory.faulty(gets.clone(), Arc::new(Seeded::new(2)));
    let cold = Cold::open(bucket, &Config::default()).await.unwrap();
    World { cold, gets, runs }
}

impl World {
    async fn read(&self, offset: i64, max_bytes: usize) -> Vec<i64> {
        let batches = self.cold.read(&self.runs, offset, max_bytes).await.unwrap();
        for one in &batches {
            assert_eq!(*one, batch(one.base_offset, MIB / 4));
        }
        batches.iter().map(|batch| batch.base_offset).collect()
    }

    /// Waits until what was begun is done.
    async fn quiet(&self) -> usize {
        let mut before = usize::MAX;
        while before != self.gets.count() {
            before = self.gets.count();
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
        }
        before
    }
}

#[test]
fn blocks_cover_a_range_and_no_more() {
    assert_eq!(blocks_of(&(0..1)), 0..1);
    assert_eq!(blocks_of(&(BLOCK - 1..BLOCK)), 0..1);
    assert_eq!(blocks_of(&(BLOCK - 1..BLOCK + 1)), 0..2);
    assert_eq!(blocks_of(&(BLOCK..3 * BLOCK)), 1..3);
}

#[tokio::test]
async fn sixteen_readers_of_one_range_cost_one_get_of_each_block() {
    let world = Arc::new(world(1, 32).await);
    let readers: Vec<_> = (0..16)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move { world.read(4, 4 * MIB).await })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), (4..20).collect::<Vec<_>>());
    }
    // Four MiB that begin within a block lie in five, and the index is one more.
    assert_eq!(world.gets.count(), 6);
}

#[tokio::test]
async fn a_reader_that_reads_on_finds_the_next_blocks_there_also_of_the_next_object() {
    let world = world(3, 32).await;
    let mut offset = 0;
    let mut waited_for = Vec::new();
    while offset < 96 {
        let before = world.quiet().await;
        let read = world.cold.read(&world.runs, offset, MIB);
        let batches = read.await.unwrap();
        assert_eq!(batches[0].base_offset, offset);
        offset = batches.last().unwrap().next_offset();
        waited_for.push(before);
    }
    let all = world.quiet().await;
    // Three objects of 8 MiB and a little, each with an index: nothing was read twice, and nothing beside it.
    assert_eq!(all, 3 * (9 + 1), "{waited_for:?}");
    assert_eq!(waited_for[9], all, "sixteen MiB are read ahead of who has come to the ninth");
}

#[tokio::test]
async fn a_reader_that_jumps_costs_what_it_reads() {
    let world = world(1, 64).await;
    for offset in [40, 3, 55, 21, 3] {
        assert_eq!(world.read(offset, 1).await, [offset]);
    }
    assert!(world.quiet().await <= 1 + 2 * 4, "{}", world.gets.count());
}

#[tokio::test]
async fn a_damaged_entry_of_the_cache_is_read_again() {
    let world = world(1, 8).await;
    assert_eq!(world.read(0, 2 * MIB).await, (0..8).collect::<Vec<_>>());
    let before = world.quiet().await;
    world.cold.blocks.damage("segment-0", 1);
    assert_eq!(world.read(0, 2 * MIB).await, (0..8).collect::<Vec<_>>());
    assert_eq!(world.gets.count(), before + 2, "that block, and the one before, in which its first batch begins");
    assert_eq!(world.read(0, 2 * MIB).await.len(), 8);
    assert_eq!(world.gets.count(), before + 2, "and it is whole again");
}
