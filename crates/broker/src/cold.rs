//! Cold reads: byte ranges of segments, straight from the object store, through a memory and disk cache.

mod cache;

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use foyer::{Cache, CacheBuilder};
use futures::future::try_join_all;
use tidemark_model::{Batch, BrokerError, StorageError, TieredRun};
use tidemark_segment::{Bucket, SegmentIndex};

use self::cache::{BLOCK, Blocks};
use crate::config::Config;
use crate::error::StartError;
use crate::metrics;

/// Bytes of memory for the indexes of segments: those of some thousand 64 MiB segments.
const INDEX_CACHE: usize = 32 << 20;

/// The largest piece that one read takes of a run, whatever the fetch allows: what is decoded is held in memory.
const MAX_PIECE: usize = 8 << 20;

/// Reads tiered batches.
#[derive(Clone)]
pub(crate) struct Cold {
    bucket: Bucket,
    blocks: Arc<Blocks>,
    indexes: Cache<String, Arc<SegmentIndex>>,
}

impl Cold {
    pub(crate) async fn open(bucket: Bucket, config: &Config) -> Result<Self, StartError> {
        let indexes = CacheBuilder::new(INDEX_CACHE)
            .with_name("segment-indexes")
            .with_weighter(|key: &String, index: &Arc<SegmentIndex>| key.len() + index.weight())
            .build();
        let blocks = Arc::new(Blocks::open(bucket.clone(), config).await?);
        Ok(Self { bucket, blocks, indexes })
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
        for run in runs.iter().filter(|run| run.last_offset >= offset) {
            let more = self.read_run(run, offset, max_bytes.saturating_sub(bytes).min(MAX_PIECE)).await?;
            bytes += more.iter().map(Batch::wire_len).sum::<usize>();
            let complete = more.last().is_some_and(|batch| batch.last_offset() >= run.last_offset);
            batches.extend(more);
            if bytes >= max_bytes || !complete {
                break;
            }
        }
        metrics::served("object_store", bytes);
        Ok(batches)
    }

    async fn read_run(&self, tiered: &TieredRun, offset: i64, max_bytes: usize) -> Result<Vec<Batch>, BrokerError> {
        let index = self.index(tiered).await?;
        let object = &tiered.object;
        let run = index.run(tiered.partition).ok_or_else(|| corrupt(object, "it has no run of the partition"))?;
        let span = run
            .block_at_offset(offset)
            .and_then(|first| run.span(first, max_bytes as u64))
            .ok_or_else(|| corrupt(object, "its index ends before the run does"))?;
        let mut decoded = run.decode(&span, &self.bytes(tiered, span.bytes.clone()).await?);
        if decoded.is_err() {
            // Perhaps the cache's disk, not the object: read the object itself once.
            self.blocks.forget(object, blocks_of(&span.bytes));
            decoded = run.decode(&span, &self.bytes(tiered, span.bytes.clone()).await?);
        }
        let mut batches = decoded.map_err(|error| corrupt(object, &error.to_string()))?;
        let before = batches.partition_point(|batch| batch.last_offset() < offset);
        batches.drain(..before);
        Ok(batches)
    }

    async fn index(&self, tiered: &TieredRun) -> Result<Arc<SegmentIndex>, BrokerError> {
        let (bucket, key, size) = (self.bucket.clone(), tiered.object.clone(), tiered.object_size);
        let fetch = || async move { SegmentIndex::read(&bucket, &key, size).await.map(Arc::new) };
        match self.indexes.get_or_fetch(&tiered.object, fetch).await {
            Ok(entry) => Ok(entry.value().clone()),
            Err(error) => Err(BrokerError::ObjectStore(error.to_string())),
        }
    }

    /// A byte range of an object. Within one block it shares the block's memory; over several it is put together.
    async fn bytes(&self, tiered: &TieredRun, range: Range<u64>) -> Result<Bytes, BrokerError> {
        let indexes = blocks_of(&range);
        let blocks =
            try_join_all(indexes.clone().map(|index| self.blocks.get(&tiered.object, tiered.object_size, index)))
                .await?;
        let pieces = indexes.zip(blocks).map(|(index, block)| {
            let begins = index * BLOCK;
            let from = range.start.saturating_sub(begins).min(block.len() as u64) as usize;
            let to = (range.end - begins).min(block.len() as u64) as usize;
            block.slice(from..to)
        });
        let pieces: Vec<Bytes> = pieces.collect();
        if let [piece] = &pieces[..] {
            return Ok(piece.clone());
        }
        let mut whole = BytesMut::with_capacity((range.end - range.start) as usize);
        for piece in pieces {
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
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
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_a_range_and_no_more() {
        assert_eq!(blocks_of(&(0..1)), 0..1);
        assert_eq!(blocks_of(&(BLOCK - 1..BLOCK)), 0..1);
        assert_eq!(blocks_of(&(BLOCK - 1..BLOCK + 1)), 0..2);
        assert_eq!(blocks_of(&(BLOCK..3 * BLOCK)), 1..3);
    }
}
