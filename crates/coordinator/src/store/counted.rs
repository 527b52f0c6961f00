//! A store whose revisions are counted from another number.
//!
//! A rebuilt cluster has a new store, which counts from 1 again. Everybody who followed the old one, and what is in the logs
//! and in the bucket, knows higher revisions: those that a client sees must go on above them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use super::{Changes, Commit, Condition, Entry, Event, LeaseId, MetadataStore, Snapshot, StoreError, Txn, Usage};
use crate::records::decode_revisions;

/// A cluster's store: what its revisions are counted from is written in it.
#[derive(Debug, Clone)]
pub(crate) struct Counted {
    store: Arc<dyn MetadataStore>,
    /// Where it is written.
    key: String,
    base: Arc<OnceCell<u64>>,
}

impl Counted {
    pub(crate) fn new(store: Arc<dyn MetadataStore>, key: String) -> Self {
        Self { store, key, base: Arc::default() }
    }

    /// What is added to each revision. Read once, by whoever needs it first.
    async fn base(&self) -> Result<u64, StoreError> {
        let read = || async {
            let Some(entry) = self.store.get(&self.key).await? else { return Ok(0) };
            let revisions = decode_revisions(&entry.value);
            let revisions = revisions.map_err(|error| StoreError::Failed(format!("{}: {error}", self.key)))?;
            if revisions.unfinished {
                let what = "it is half made: `tidemark storage rebuild` was cut short, run it again";
                return Err(StoreError::Failed(what.into()));
            }
            Ok(revisions.base)
        };
        self.base.get_or_try_init(read).await.copied()
    }
}

fn up(base: u64, entry: Entry) -> Entry {
    Entry { revision: entry.revision + base, ..entry }
}

#[async_trait]
impl MetadataStore for Counted {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let base = self.base().await?;
        Ok(self.store.get(key).await?.map(|entry| up(base, entry)))
    }

    async fn range(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        let base = self.base().await?;
        let Snapshot { revision, entries } = self.store.range(prefix).await?;
        let entries = entries.into_iter().map(|entry| up(base, entry)).collect();
        Ok(Snapshot { revision: revision + base, entries })
    }

    async fn commit(&self, mut txn: Txn) -> Result<Commit, StoreError> {
        let base = self.base().await?;
        for condition in &mut txn.conditions {
            if let Condition::Unchanged(_, revision) = condition {
                // One from before the base is of nothing in this store.
                let Some(own) = revision.checked_sub(base) else { return Ok(Commit::Conflict) };
                *revision = own;
            }
        }
        Ok(match self.store.commit(txn).await? {
            Commit::Done(revision) => Commit::Done(revision + base),
            Commit::Conflict => Commit::Conflict,
        })
    }

    fn watch(&self, prefix: &str, after: u64) -> BoxStream<'static, Result<Changes, StoreError>> {
        let (this, prefix) = (self.clone(), prefix.to_owned());
        let begun = async move {
            let base = this.base().await?;
            let shift = move |changes: Changes| {
                let event = |event| match event {
                    Event::Put(entry) => Event::Put(up(base, entry)),
                    Event::Delete(key) => Event::Delete(key),
                };
                Changes { revision: changes.revision + base, events: changes.events.into_iter().map(event).collect() }
            };
            Ok(this.store.watch(&prefix, after.saturating_sub(base)).map_ok(shift))
        };
        stream::once(begun).try_flatten().boxed()
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.store.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.revoke(lease).await
    }

    async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        match revision.checked_sub(self.base().await?) {
            Some(own) if own > 0 => self.store.compact(own).await,
            _ => Ok(()),
        }
    }

    async fn usage(&self) -> Result<Usage, StoreError> {
        self.store.usage().await
    }

    async fn defragment(&self, least: u64) -> Result<u64, StoreError> {
        self.store.defragment(least).await
    }
}
