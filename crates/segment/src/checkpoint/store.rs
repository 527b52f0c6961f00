//! Checkpoints in a bucket: write one, find the newest good one with its bases, delete those behind it.

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tracing::Instrument;

use super::{Checkpoint, MAX_LEN};
use crate::bucket::Object;
use crate::names::{CheckpointName, JournalKeys, Key};
use crate::{Bucket, StoreError};

/// How often checkpoints are listed again because one was deleted under the reader.
const LISTINGS: usize = 5;

/// Bases that are read at once.
const READS_AT_ONCE: usize = 4;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    /// The newest checkpoint that is good, behind its bases, oldest first; none when the journal has none.
    pub checkpoints: Vec<Checkpoint>,
    /// Newer ones that are not, newest first: warn the operator. Starting from an older one needs more of the log.
    pub damaged: Vec<Damaged>,
}

/// A checkpoint that could not be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    pub key: String,
    pub why: String,
}

impl Checkpoint {
    /// Stores it. A checkpoint of this name that says the same counts as this one.
    pub async fn write(&self, bucket: &Bucket, keys: &JournalKeys) -> Result<(), StoreError> {
        let key = keys.checkpoint(self.name);
        match bucket.put_new(&key, self.encode()).await {
            Err(StoreError::Exists(_)) if self.same_as(bucket, &key).await? => Ok(()),
            result => result,
        }
    }

    /// Finds the newest good one. Damaged ones are passed over and named.
    pub async fn newest(bucket: &Bucket, keys: &JournalKeys) -> Result<Newest, StoreError> {
        let span = tracing::debug_span!("checkpoint.newest", journal = %keys.journal());
        async {
            let mut missed = None;
            for _ in 0..LISTINGS {
                if let Some(newest) = newest_listed(bucket, keys, &mut missed).await? {
                    return Ok(newest);
                }
            }
            let why = format!("{}/{}: checkpoints are deleted while they are read", bucket.url(), keys.checkpoints());
            Err(StoreError::Unavailable(why))
        }
        .instrument(span)
        .await
    }

    /// Deletes those older than the last of `keep`, which is in order, but for these; damaged ones too. Says how many.
    pub async fn delete_older(
        bucket: &Bucket,
        keys: &JournalKeys,
        keep: &[CheckpointName],
    ) -> Result<usize, StoreError> {
        let Some(newest) = keep.last() else { return Ok(0) };
        let older = list(bucket, keys)
            .await?
            .into_iter()
            .filter(|(name, _)| name < newest && keep.binary_search(name).is_err());
        let older: Vec<String> = older.map(|(_, object)| object.key).collect();
        bucket.delete(&older).await?;
        Ok(older.len())
    }

    async fn same_as(&self, bucket: &Bucket, key: &str) -> Result<bool, StoreError> {
        match read(bucket, key).await {
            Ok(found) => Ok(found == *self),
            Err(StoreError::Corrupt { .. } | StoreError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The newest good one of those listed now; nothing when one of them was deleted before it was read: then there is a
/// newer one, and a journal that starts from an older state, or none, would lose what it had. `missed` is one that lacked a
/// base when it was last looked at: when it still does, that was not because of a newer one.
async fn newest_listed(
    bucket: &Bucket,
    keys: &JournalKeys,
    missed: &mut Option<CheckpointName>,
) -> Result<Option<Newest>, StoreError> {
    let mut damaged = Vec::new();
    let mut names = list(bucket, keys).await?;
    while let Some((name, Object { key, .. })) = names.pop() {
        let why = match named(bucket, keys, name).await {
            Ok(found) => match bases(bucket, keys, &found).await {
                Ok(mut checkpoints) => {
                    checkpoints.push(found);
                    return Ok(Some(Newest { checkpoints, damaged }));
                }
                Err(StoreError::NotFound(base)) if *missed == Some(name) => format!("its base {base} is missing"),
                Err(StoreError::NotFound(_)) => {
                    *missed = Some(name);
                    return Ok(None);
                }
                Err(StoreError::Corrupt { key, why }) => format!("its base {key}: {why}"),
                Err(error) => return Err(error),
            },
            Err(StoreError::NotFound(_)) => return Ok(None),
            Err(StoreError::Corrupt { why, .. }) => why,
            Err(error) => return Err(error),
        };
        damaged.push(Damaged { key, why });
    }
    Ok(Some(Newest { checkpoints: Vec::new(), damaged }))
}

/// What a checkpoint builds on, oldest first.
async fn bases(bucket: &Bucket, keys: &JournalKeys, checkpoint: &Checkpoint) -> Result<Vec<Checkpoint>, StoreError> {
    let read = checkpoint.bases.iter().map(|base| named(bucket, keys, base.name));
    stream::iter(read).buffered(READS_AT_ONCE).try_collect().await
}

async fn named(bucket: &Bucket, keys: &JournalKeys, name: CheckpointName) -> Result<Checkpoint, StoreError> {
    let key = keys.checkpoint(name);
    let found = read(bucket, &key).await?;
    if found.name != name || found.journal != keys.journal() {
        let why = format!("it holds {} of journal {}", found.name, found.journal);
        return Err(StoreError::Corrupt { key, why });
    }
    Ok(found)
}

async fn read(bucket: &Bucket, key: &str) -> Result<Checkpoint, StoreError> {
    let object = bucket.get(key, MAX_LEN).await?;
    Checkpoint::parse(&object).map_err(|why| StoreError::unreadable(key, &why))
}

/// A journal's checkpoints, oldest first.
async fn list(bucket: &Bucket, keys: &JournalKeys) -> Result<Vec<(CheckpointName, Object)>, StoreError> {
    let objects = bucket.list(&keys.checkpoints()).await?;
    let name = |object: Object| match Key::parse(&object.key) {
        Some(Key::Checkpoint(_, name)) => Some((name, object)),
        _ => None,
    };
    let mut names: Vec<_> = objects.into_iter().filter_map(name).collect();
    names.sort();
    Ok(names)
}
