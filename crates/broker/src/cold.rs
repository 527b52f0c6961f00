//! Cold reads: byte ranges of segments, straight from the object store, through a memory and disk cache.
//!
//! Who reads on where it stopped ([`ahead`]) finds in the cache what it reads next: it is asked for while the answer before
//! is on its way. Whoever wants a block that is being read waits for that one read.

mod ahead;
mod cache;

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use foyer::{Cache, CacheBuilder};
use futures::future::try_join_all;
use tidemark_model::{Batch, BrokerError, StorageError, TieredRun};
use tidemark_segment::{Bucket, SegmentIndex};
use tokio::time::Instant;

use self::ahead::Readers;
use self::cache::{BLOCK, Blocks};
use crate::config::Config;
use crate::error::StartError;
use crate::metrics;

/// Bytes of memory for the indexes of segments: those of some thousand 64 MiB segments.
const INDEX_CACHE: usize = 32 << 20;

/// The largest piece that one read takes of a run, whatever the fetch allows: what is decoded is held in memory.
const MAX_PIECE: usize = 8 << 20;

/// The part of the cache's memory that may be taken by what nobody has read yet.
const AHEAD: u64 = 2;

/// Reads tiered batches.
#[derive(Clone)]
pub(crate) struct Cold {
    bucket: Bucket,
    blocks: Arc<Blocks>,
    indexes: Cache<String, Arc<SegmentIndex>>,
    readers: Arc<Mutex<Readers>>,
    /// Bytes that may be read ahead of all readers together.
    ahead_bytes: u64,
}

impl Cold {
    pub(crate) async fn open(bucket: Bucket, config: &Config) -> Result<Self, StartError> {
        let indexes = CacheBuilder::new(INDEX_CACHE)
            .with_name("segment-indexes")
            .with_weighter(|key: &String, index: &Arc<SegmentIndex>| key.len() + index.weight())
            .build();
        let blocks = Arc::new(Blocks::open(bucket.clone(), config).await?);
        let ahead_bytes = config.cache_memory_bytes as u64 / AHEAD;
        Ok(Self { bucket, blocks, indexes, readers: Arc::default(), ahead_bytes })
    }

    /// Batches from the one that holds `offset` (or follows it, in a hole) on: about `max_bytes`, at least one.
    pub(crate) async fn read(
        &self,
        runs: &[TieredRun],
        offset: i64,
        max_bytes: usize,
    ) -> Result<Vec<Batch>, BrokerError> {
        let mut batches = Vec::new();
        let mut bytes = 0;
        let from = runs.partition_point(|run| run.last_offset < offset);
        let mut end = (from, 0);
        for (place, run) in runs.iter().enumerate().skip(from) {
            let (more, position) = self.read_run(run, offset, max_bytes.saturating_sub(bytes).min(MAX_PIECE)).await?;
            bytes += more.iter().map(Batch::wire_len).sum::<usize>();
            let complete = more.last().is_some_and(|batch| batch.last_offset() >= run.last_offset);
            batches.extend(more);
            end = (place, position);
            if bytes >= max_bytes || !complete {
                break;
            }
        }
        metrics::served("object_store", bytes);
        if let (Some(run), Some(last)) = (runs.get(end.0), batches.last()) {
            let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
            let ahead = readers.read(run.partition, offset, last.next_offset(), self.ahead_bytes, Instant::now());
            drop(readers);
            self.read_ahead(&runs[end.0..], end.1, ahead);
        }
        Ok(batches)
    }

    /// Has the blocks read that hold the next `bytes`, from `position` in the first of the runs on. Whether that succeeds
    /// shows when they are wanted.
    fn read_ahead(&self, runs: &[TieredRun], position: u64, mut bytes: u64) {
        for (place, run) in runs.iter().enumerate() {
            let end = run.position + run.length;
            let start = if place == 0 { position } else { run.position }.min(end);
            let range = start..end.min(start + bytes);
            if range.is_empty() {
                if bytes == 0 {
                    return;
                }
                continue;
            }
            bytes -= range.end - range.start;
            if place > 0 {
                let (cold, run) = (self.clone(), run.clone());
                tokio::spawn(async move { drop(cold.index(&run).await) });
            }
            for index in blocks_of(&range) {
                self.blocks.have(&run.object, run.object_size, index);
            }
        }
    }

    /// Batches of one run, and where in the object the last of them ends.
    async fn read_run(
        &self,
        tiered: &TieredRun,
        offset: i64,
        max_bytes: usize,
    ) -> Result<(Vec<Batch>, u64), BrokerError> {
        let index = self.index(tiered).await?;
        let object = &tiered.object;
        let run = index.run(tiered.partition).ok_or_else(|| corrupt(object, "it has no run of the partition"))?;
        let span = run
            .block_at_offset(offset)
            .and_then(|first| run.span(first, max_bytes as u64))
            .ok_or_else(|| corrupt(object, "its index ends before the run does"))?;
        let mut blocks = self.cached(tiered, &span.bytes).await?;
        let mut batches = Vec::new();
        for at in span.blocks.clone() {
            let one = run.blocks_span(at..at + 1).ok_or_else(|| corrupt(object, "a block is not in its index"))?;
            let mut decoded = run.decode(&one, &blocks.bytes(&one.bytes));
            if decoded.is_err() {
                // Perhaps the cache, not the object: read the object itself once.
                self.blocks.forget(object, blocks_of(&one.bytes));
                blocks = self.cached(tiered, &span.bytes).await?;
                decoded = run.decode(&one, &blocks.bytes(&one.bytes));
            }
            batches.extend(decoded.map_err(|error| corrupt(object, &error.to_string()))?);
        }
        let before = batches.partition_point(|batch| batch.last_offset() < offset);
        batches.drain(..before);
        Ok((batches, span.bytes.end))
    }

    async fn index(&self, tiered: &TieredRun) -> Result<Arc<SegmentIndex>, BrokerError> {
        let (bucket, key, size) = (self.bucket.clone(), tiered.object.clone(), tiered.object_size);
        let fetch = || async move { SegmentIndex::read(&bucket, &key, size).await.map(Arc::new) };
        match self.indexes.get_or_fetch(&tiered.object, fetch).await {
            Ok(entry) => Ok(entry.value().clone()),
            Err(error) => Err(BrokerError::ObjectStore(error.to_string())),
        }
    }

    /// The cache's blocks that hold a range of an object.
    async fn cached(&self, tiered: &TieredRun, range: &Range<u64>) -> Result<Cached, BrokerError> {
        let indexes = blocks_of(range);
        let first = indexes.start;
        let blocks =
            try_join_all(indexes.map(|index| self.blocks.get(&tiered.object, tiered.object_size, index))).await?;
        Ok(Cached { first, blocks })
    }
}

/// Blocks of the cache that follow each other.
struct Cached {
    first: u64,
    blocks: Vec<Bytes>,
}

impl Cached {
    /// A range that they hold. Within one of them it shares its memory; over several it is put together.
    fn bytes(&self, range: &Range<u64>) -> Bytes {
        let pieces = blocks_of(range).filter_map(|index| {
            let block = self.blocks.get((index - self.first) as usize)?;
            let begins = index * BLOCK;
            let from = range.start.saturating_sub(begins).min(block.len() as u64) as usize;
            let to = (range.end - begins).min(block.len() as u64) as usize;
            Some(block.slice(from..to.max(from)))
        });
        let pieces: Vec<Bytes> = pieces.collect();
        if let [piece] = &pieces[..] {
            return piece.clone();
        }
        let mut whole = BytesMut::with_capacity((range.end - range.start) as usize);
        for piece in pieces {
            whole.extend_from_slice(&piece);
        }
        whole.freeze()
    }
}

/// The indexes of the cache's blocks that hold a byte range, which is not empty.
fn blocks_of(range: &Range<u64>) -> Range<u64> {
    range.start / BLOCK..(range.end - 1) / BLOCK + 1
}

fn corrupt(object: &str, why: &str) -> BrokerError {
    StorageError::Corrupt(format!("segment {object}: {why}")).into()
}

#[cfg(test)]
mod tests;
