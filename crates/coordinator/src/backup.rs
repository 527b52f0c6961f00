//! Snapshots of the metadata in the bucket, from which a lost cluster is rebuilt.
//!
//! Every coordinator looks; a record, changed only by compare-and-swap, tells which of them writes the next snapshot and what
//! the last one has. Two that write at once do no harm: each snapshot is whole, and has a number of its own.
//!
//! Before that the cluster claims the bucket. A coordinator whose claim another generation has taken must not go on: it is
//! what is left of the cluster from before a rebuild.

use std::time::Duration;

use tidemark_model::RecordKey;
use tidemark_segment::{Bucket, Holder, MetadataKeys, MetadataSnapshot, StoreError as BucketError};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::Error;
use crate::metrics;
use crate::records::{Keys, StateKey, StoredBackup, decode_backup, encode_backup};
use crate::service::Shared;
use crate::store::{Commit, Entry, Snapshot, StoreError, Txn};

/// How soon a snapshot follows the last one when there is a topic more or less: what is tiered of it is then found again.
const SOON: Duration = Duration::from_secs(2);

/// How long to wait after the bucket could not be claimed.
const RETRY: Duration = Duration::from_secs(2);

/// Parts of the interval: how often to look, and how old the last snapshot is when the next is due. Together they are less
/// than the interval, whenever the change came.
const LOOKS_PER_INTERVAL: u32 = 4;
const DUE_PER_INTERVAL: u32 = 2;

/// Whether the bucket has what it should; if not, why.
pub(crate) type Health = watch::Sender<Result<(), String>>;

/// Why there is no snapshot. The next look tries again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes snapshots for as long as it is polled. Returns only what makes this coordinator useless.
pub(crate) async fn run(shared: &Shared, bucket: &Bucket) -> Error {
    let holder = claim(shared, bucket).await;
    let (bucket, keys) = match holder {
        Ok((holder, keys)) => (bucket.guarded(holder), keys),
        Err(error) => return error,
    };
    tokio::select! {
        biased;
        lost = bucket.lost_claim() => Error::Bucket(lost.to_string()),
        never = Backup::new(shared, bucket.clone(), keys).run() => match never {},
    }
}

/// Claims the bucket, however long it takes.
async fn claim(shared: &Shared, bucket: &Bucket) -> Result<(Holder, MetadataKeys), Error> {
    shared.state.revisions().wait_for(Option::is_some).await;
    let (cluster, claim) = shared.state.identity();
    let Some(claim) = claim else { return Err(Error::Bucket("the metadata store has no claim".into())) };
    let keys = MetadataKeys::new(&cluster).map_err(|error| Error::Bucket(error.to_string()))?;
    let holder = Holder { cluster, claim };
    let mut failures = 0_u32;
    loop {
        match holder.take(bucket).await {
            Ok(()) => return Ok((holder, keys)),
            Err(error @ BucketError::Unavailable(_)) => {
                failures = failures.saturating_add(1);
                if failures.is_power_of_two() {
                    tracing::warn!(%error, failures, "cannot look at whose the bucket is, trying again");
                }
                shared.say_of_backups(Err(error.to_string()));
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => return Err(Error::Bucket(error.to_string())),
        }
    }
}

pub(crate) struct Backup<'a> {
    shared: &'a Shared,
    bucket: Bucket,
    keys: MetadataKeys,
    /// Since when this coordinator looks: as long as there is no snapshot, that is how old the last one is taken to be.
    began_ms: i64,
    /// The revision of the last topic or journal that changed, as the last snapshot has it.
    catalog: u64,
    /// The snapshot before which this coordinator has deleted all.
    cleaned: Option<u64>,
    failures: u32,
}

/// What a look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing has changed since the last snapshot.
    Covered,
    /// The last one is not old enough yet, or another coordinator writes the next.
    Waiting,
    Written,
}

impl<'a> Backup<'a> {
    pub(crate) fn new(shared: &'a Shared, bucket: Bucket, keys: MetadataKeys) -> Self {
        Self { shared, bucket, keys, began_ms: shared.clock.now_ms(), catalog: 0, cleaned: None, failures: 0 }
    }

    async fn run(mut self) -> std::convert::Infallible {
        let interval = self.shared.settings.snapshot_interval;
        loop {
            let looked = self.look().await;
            metrics::snapshot_checked();
            match looked {
                Ok(_) => {
                    self.failures = 0;
                    self.shared.say_of_backups(Ok(()));
                }
                Err(error) => {
                    metrics::snapshot_failed();
                    self.failures = self.failures.saturating_add(1);
                    if self.failures.is_power_of_two() {
                        tracing::warn!(%error, failures = self.failures, "no snapshot of the metadata, trying again");
                    }
                    self.shared.say_of_backups(Err(error.to_string()));
                }
            }
            let mut revisions = self.shared.state.revisions();
            let moved = async {
                revisions.wait_for(|_| self.shared.state.catalog() > self.catalog).await;
                tokio::time::sleep(SOON).await;
            };
            let _ = tokio::time::timeout(interval / LOOKS_PER_INTERVAL, moved).await;
        }
    }

    /// Writes a snapshot when one is due.
    pub(crate) async fn look(&mut self) -> Result<Look, BackupError> {
        let Shared { store, keys, settings, state, clock, .. } = self.shared;
        let Snapshot { revision, mut entries } = store.range(&keys.backup()).await?;
        let entry = entries.pop();
        let last = match entry.as_ref().map(|entry| decode_backup(&entry.value)) {
            Some(Ok(last)) => last,
            // What cannot be read is of a newer version, which must not be held up: nothing is known of the last one.
            Some(Err(_)) | None => StoredBackup::default(),
        };
        let now_ms = clock.now_ms();
        let since = |ms: i64| Duration::from_millis(u64::try_from(now_ms.saturating_sub(ms)).unwrap_or(u64::MAX));
        self.catalog = self.catalog.max(last.revision);
        // Nothing but the record itself was written after the snapshot.
        let covered = entry.as_ref().is_some_and(|entry| entry.revision == revision && last.revision + 1 == revision);
        let newest_ms = if last.number == 0 { self.began_ms } else { last.taken_ms };
        // Before the bucket is asked for anything: it grows also while there is none.
        metrics::snapshot_age(if covered { Duration::ZERO } else { since(newest_ms) });
        // Also while nothing changes: what is left from before a rebuild has to notice.
        self.bucket.check_claim().await?;
        if covered {
            return Ok(Look::Covered);
        }
        let soon = state.catalog() > last.revision && since(last.begun_ms) >= SOON;
        if !soon && since(last.begun_ms) < settings.snapshot_interval / DUE_PER_INTERVAL {
            return Ok(Look::Waiting);
        }
        let Some(begun) = self.record(entry.as_ref(), StoredBackup { begun_ms: now_ms, ..last }).await? else {
            return Ok(Look::Waiting);
        };
        self.write(last, begun).await?;
        Ok(Look::Written)
    }

    async fn write(&mut self, last: StoredBackup, begun: Entry) -> Result<(), BackupError> {
        let Shared { store, keys, clock, .. } = self.shared;
        let started = Instant::now();
        let taken_ms = clock.now_ms();
        let catalog = self.shared.state.catalog();
        let Snapshot { revision, entries } = store.range(keys.root()).await?;
        let entries = entries.into_iter().filter(|entry| lasts(keys, entry));
        let entries = entries.filter_map(|entry| Some((entry.key.strip_prefix(keys.root())?.to_owned(), entry.value)));
        let snapshot = MetadataSnapshot { revision, taken_ms, entries: entries.collect() };
        let (count, size) = (snapshot.entries.len(), snapshot.encode().iter().map(|chunk| chunk.len() as u64).sum());
        let number = snapshot.write_after(&self.bucket, &self.keys, last.number).await?;
        let done = StoredBackup { number, revision, taken_ms, begun_ms: taken_ms };
        // Where another coordinator has begun one meanwhile, it will say so.
        self.record(Some(&begun), done).await?;
        self.catalog = catalog;
        metrics::snapshot_written(size, started.elapsed());
        metrics::snapshot_age(Duration::ZERO);
        tracing::debug!(number, revision, entries = count, bytes = size, "snapshot of the metadata");
        // What others left behind is found by a listing.
        if self.cleaned == Some(last.number) && number == last.number + 1 {
            self.bucket.delete(&[self.keys.snapshot(last.number)]).await?;
        } else {
            MetadataSnapshot::delete_older(&self.bucket, &self.keys, number).await?;
        }
        self.cleaned = Some(number);
        Ok(())
    }

    /// Changes the record, unless another coordinator has. Returns it as it is then.
    async fn record(&self, before: Option<&Entry>, value: StoredBackup) -> Result<Option<Entry>, StoreError> {
        let key = self.shared.keys.backup();
        let value = encode_backup(&value);
        let txn = Txn::new().if_still(&key, before).put(&key, value.clone());
        Ok(match self.shared.store.commit(txn).await? {
            Commit::Done(revision) => Some(Entry { key, value, revision, lease: None }),
            Commit::Conflict => {
                metrics::write_conflict();
                None
            }
        })
    }
}

/// Whether an entry is of use to a rebuilt cluster: not what is a process's, and not what is of this store alone.
fn lasts(keys: &Keys, entry: &Entry) -> bool {
    let of_this_store = [keys.backup(), keys.claim(), keys.compaction(), keys.revisions()];
    let live = matches!(keys.parse_state(&entry.key), Some(StateKey::Record(RecordKey::Node(..))));
    entry.lease.is_none() && !live && !of_this_store.contains(&entry.key)
}
