//! Snapshots in a bucket: write the next one, find the newest good one, delete those behind it.

use super::{MAX_LEN, MetadataSnapshot};
use crate::checkpoint::Damaged;
use crate::names::MetadataKeys;
use crate::{Bucket, StoreError};

/// How often snapshots are listed again because one was deleted under the reader, or another was written.
const LISTINGS: usize = 5;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The newest snapshot that is good, and its number; none when there is none.
    pub snapshot: Option<(u64, MetadataSnapshot)>,
    /// Newer ones that are not, newest first: warn the operator.
    pub damaged: Vec<Damaged>,
}

impl MetadataSnapshot {
    /// Stores it as the newest, and says under which number. Numbers rise, also over rebuilds; each is of one snapshot.
    pub async fn write(&self, bucket: &Bucket, keys: &MetadataKeys) -> Result<u64, StoreError> {
        self.write_after(bucket, keys, 0).await
    }

    /// The same without a listing, which is billed as a PUT, when `last` is known to be the number of the newest one. 0: not
    /// known.
    pub async fn write_after(&self, bucket: &Bucket, keys: &MetadataKeys, last: u64) -> Result<u64, StoreError> {
        let mut known = Some(last).filter(|last| *last > 0);
        for _ in 0..LISTINGS {
            let last = match known.take() {
                Some(last) => last,
                None => list(bucket, keys).await?.pop().unwrap_or(0),
            };
            let Some(number) = last.checked_add(1) else { break };
            match bucket.put_new(&keys.snapshot(number), self.encode()).await {
                Ok(()) => return Ok(number),
                // Of another coordinator, or an attempt of ours that was thought to have failed.
                Err(StoreError::Exists(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Unavailable(format!("{}/{}: others write snapshots too", bucket.url(), keys.root())))
    }

    /// Finds the newest good one. Damaged ones are passed over and named.
    pub async fn newest(bucket: &Bucket, keys: &MetadataKeys) -> Result<Found, StoreError> {
        for _ in 0..LISTINGS {
            if let Some(found) = newest_listed(bucket, keys).await? {
                return Ok(found);
            }
        }
        let why = format!("{}/{}: snapshots are deleted while they are read", bucket.url(), keys.root());
        Err(StoreError::Unavailable(why))
    }

    /// Deletes those older than `keep`, damaged ones too, and says how many.
    pub async fn delete_older(bucket: &Bucket, keys: &MetadataKeys, keep: u64) -> Result<usize, StoreError> {
        let older = list(bucket, keys).await?.into_iter().filter(|number| *number < keep);
        let older: Vec<String> = older.map(|number| keys.snapshot(number)).collect();
        bucket.delete(&older).await?;
        Ok(older.len())
    }
}

/// Nothing when one was deleted before it was read: then there is a newer one.
async fn newest_listed(bucket: &Bucket, keys: &MetadataKeys) -> Result<Option<Found>, StoreError> {
    let mut damaged = Vec::new();
    let mut numbers = list(bucket, keys).await?;
    while let Some(number) = numbers.pop() {
        let key = keys.snapshot(number);
        let read = bucket
            .get(&key, MAX_LEN)
            .await
            .and_then(|object| MetadataSnapshot::parse(&object).map_err(|why| StoreError::unreadable(&key, &why)));
        match read {
            Ok(snapshot) => return Ok(Some(Found { snapshot: Some((number, snapshot)), damaged })),
            Err(StoreError::NotFound(_)) => return Ok(None),
            Err(StoreError::Corrupt { why, .. }) => damaged.push(Damaged { key, why }),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(Found { snapshot: None, damaged }))
}

/// The numbers of the snapshots, oldest first.
async fn list(bucket: &Bucket, keys: &MetadataKeys) -> Result<Vec<u64>, StoreError> {
    let objects = bucket.list(&keys.root()).await?;
    Ok(objects.iter().filter_map(|object| keys.parse(&object.key)).collect())
}
