//! Blocks of objects, in memory and on disk, through foyer. Objects never change, so a block is never stale.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use foyer::{
    BlockEngineConfig, Cache, CacheBuilder, DeviceBuilder as _, FsDeviceBuilder, HybridCache, HybridCacheBuilder,
    HybridCachePolicy, HybridCacheProperties, Location,
};
use rustix::fs::OFlags;
use tidemark_model::BrokerError;
use tidemark_segment::{Bucket, StoreError};
use tokio::time::Instant;

use crate::config::Config;
use crate::error::StartError;
use crate::metrics;

/// Bytes of a block: what one GET reads. Large enough that a request's fixed cost is small beside it, small enough
/// that a reader of one batch does not wait for much else.
pub(super) const BLOCK: u64 = 1 << 20;

/// foyer's own unit on disk; a block with its header has to fit.
const DISK_BLOCK: usize = 16 << 20;

/// Blocks whose last read is remembered, so that the second one is known for what it is: those of some 64 GiB.
const REMEMBERED: usize = 1 << 16;

pub(super) struct Blocks {
    bucket: Bucket,
    cache: HybridCache<String, Bytes>,
    /// What was read from the object store lately. Only a block that is read from there again goes to disk: a consumer
    /// that reads a history once would otherwise cost a write of all of it.
    seen: Cache<String, ()>,
}

/// Carries a store's error through foyer's.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
struct Failed(String);

impl Blocks {
    pub(super) async fn open(bucket: Bucket, config: &Config) -> Result<Self, StartError> {
        let memory = HybridCacheBuilder::new()
            .with_name("cold")
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .memory(config.cache_memory_bytes)
            // Of several shards each would hold a few blocks, and one by chance more than its share of what was read ahead:
            // half of that was evicted before it was read, and read from the object store twice.
            .with_shards(1)
            .with_weighter(|key: &String, block: &Bytes| key.len() + block.len());
        let failed = |reason: String| StartError::Cache { dir: config.cache_dir.clone(), reason };
        let storage = memory.storage();
        let storage = if config.cache_dir.as_os_str().is_empty() {
            storage
        } else {
            let direct = takes_direct_io(&config.cache_dir).map_err(|error| failed(error.to_string()))?;
            let device = FsDeviceBuilder::new(&config.cache_dir)
                .with_capacity(config.cache_disk_bytes)
                .with_direct(direct)
                .build()
                .map_err(|error| failed(error.to_string()))?;
            storage.with_engine_config(BlockEngineConfig::new(device).with_block_size(DISK_BLOCK))
        };
        let cache = storage.build().await.map_err(|error| failed(error.to_string()))?;
        let seen = CacheBuilder::new(REMEMBERED).with_name("cold-seen").build();
        Ok(Self { bucket, cache, seen })
    }

    /// Has a block read, unless it is here, for whoever will want it.
    pub(super) fn have(self: &Arc<Self>, object: &str, size: u64, index: u64) {
        let key = block_key(object, index);
        if self.cache.memory().contains(&key) {
            return;
        }
        let (blocks, object) = (self.clone(), object.to_owned());
        // What fails is read again by who wants it, and told there.
        tokio::spawn(async move { drop(blocks.get(&object, size, index).await) });
    }

    /// The block at `index` of an object of `size` bytes. Concurrent callers of one block share one GET.
    pub(super) async fn get(&self, object: &str, size: u64, index: u64) -> Result<Bytes, BrokerError> {
        let range = index * BLOCK..((index + 1) * BLOCK).min(size);
        let key = block_key(object, index);
        let bucket = self.bucket.clone();
        let object: Arc<str> = object.into();
        let seen = self.seen.clone();
        let fetch_key = key.clone();
        let fetch = || async move {
            let again = seen.get(&fetch_key).is_some();
            seen.insert(fetch_key, ());
            let location = if again { Location::Default } else { Location::InMem };
            let begun = Instant::now();
            match bucket.get_range(&object, range).await {
                Ok(bytes) => {
                    metrics::cold_block_fetched(bytes.len(), begun.elapsed().as_secs_f64());
                    Ok((bytes, HybridCacheProperties::default().with_location(location)))
                }
                Err(StoreError::NotFound(_)) => Err(Failed(format!("object {object} is gone"))),
                Err(error) => Err(Failed(error.to_string())),
            }
        };
        let entry = self.cache.get_or_fetch(&key, fetch).await;
        entry.map(|entry| entry.value().clone()).map_err(|error| BrokerError::ObjectStore(error.to_string()))
    }

    /// Forgets blocks whose bytes turned out to be damaged, so that they are read again.
    pub(super) fn forget(&self, object: &str, indexes: impl Iterator<Item = u64>) {
        metrics::cold_block_corrupt();
        for index in indexes {
            self.cache.remove(&block_key(object, index));
        }
    }
}

/// Whether files in a directory can be written past the page cache. Through it each block costs a copy, and memory for what
/// this cache keeps itself.
fn takes_direct_io(dir: &Path) -> io::Result<bool> {
    fs::create_dir_all(dir)?;
    let probe = dir.join("direct-io-probe");
    let flags = OFlags::DIRECT.bits().cast_signed();
    let opened = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(&probe);
    match fs::remove_file(&probe) {
        // It may be created, and refused then, or refused before.
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match opened {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(false),
        opened => opened.map(|_| true),
    }
}

#[cfg(test)]
impl Blocks {
    /// Puts other bytes in the place of a block that is here.
    pub(super) fn damage(&self, object: &str, index: u64) {
        let key = block_key(object, index);
        let mut bytes = self.cache.memory().get(&key).expect("the block is here").value().to_vec();
        bytes.iter_mut().for_each(|byte| *byte ^= 1);
        self.cache.insert(key, bytes.into());
    }
}

fn block_key(object: &str, index: u64) -> String {
    format!("{object}#{index}")
}
