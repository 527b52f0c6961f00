//! The metadata store: a small ordered map with revisions, conditional transactions, watches and leases.
//!
//! The semantics are etcd's. [`Etcd`] is the cluster's store, [`Embedded`] the one of a single process. Both pass the
//! same contract tests.

mod counted;
mod embedded;
mod etcd;
mod txn;

#[cfg(test)]
pub(crate) mod contract;

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

pub(crate) use counted::Counted;
pub use embedded::Embedded;
pub use etcd::{Etcd, EtcdOptions};
pub use txn::{Condition, MAX_TXN_BYTES, MAX_TXN_OPERATIONS, Operation, Txn};

/// A key and what is stored under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub value: Bytes,
    /// The revision of its last change.
    pub revision: u64,
    /// The lease with which it goes away.
    pub lease: Option<LeaseId>,
}

/// Every entry under a prefix, in the order of the keys, as of one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub revision: u64,
    pub entries: Vec<Entry>,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Commit {
    /// All of its operations are durable, at this revision.
    Done(u64),
    /// A condition did not hold. Nothing was written.
    Conflict,
}

/// All changes of one revision under the watched prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    pub revision: u64,
    pub events: Vec<Event>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Put(Entry),
    Delete(String),
}

/// A lease: keys put with it are deleted when it is not kept alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// Why the store did not do it, by what the caller does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It could not be reached, or did not answer within the deadline: retry later. A transaction may have been
    /// committed all the same.
    #[error("metadata store unavailable: {0}")]
    Unavailable(String),
    /// The lease has expired or was revoked, and its keys are gone: grant another and put them again.
    #[error("lease {} is gone", .0.0)]
    LeaseLost(LeaseId),
    /// The history that the watch needs is no longer kept: read the range again and watch from its revision.
    #[error("history is compacted")]
    Compacted,
    /// The transaction breaks the store's bounds: make it smaller. Nothing was written.
    #[error("transaction too large: {0}")]
    TooLarge(String),
    /// The store refuses or is damaged: tell the operator.
    #[error("metadata store failed: {0}")]
    Failed(String),
}

/// The contract of both stores.
///
/// Reads are linearizable. Each committed transaction, and each expiry of leases, is one revision. Revisions rise, and
/// no revision is given twice, also over restarts. No key and no prefix is empty.
#[async_trait]
pub trait MetadataStore: Debug + Send + Sync {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// Everything under `prefix`, as of one revision.
    async fn range(&self, prefix: &str) -> Result<Snapshot, StoreError>;

    /// Commits all operations when all conditions hold, else nothing. The keys of the operations differ.
    async fn commit(&self, txn: Txn) -> Result<Commit, StoreError>;

    /// The changes under `prefix` of each revision above `after`, in order, for ever.
    ///
    /// The stream reconnects by itself and goes on where it was. It ends only after [`StoreError::Compacted`], when
    /// what follows can no longer be had, or [`StoreError::Failed`].
    fn watch(&self, prefix: &str, after: u64) -> BoxStream<'static, Result<Changes, StoreError>>;

    /// A new lease that lives for at least `ttl` after each time it is kept alive.
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Ends the lease and deletes its keys. Not an error when it is gone already.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Forgets the history up to and including `revision`. What is stored stays.
    async fn compact(&self, revision: u64) -> Result<(), StoreError>;

    /// The bytes of its file. A store that keeps no history in a file need not know.
    async fn usage(&self) -> Result<Usage, StoreError> {
        Ok(Usage::default())
    }

    /// Gives back to the file system what is free in its files, one after another, where that is more than `least` bytes
    /// and more than half of the file. Returns the bytes that were given back.
    ///
    /// A member of etcd answers nothing meanwhile, so that none begins unless all answer.
    async fn defragment(&self, _least: u64) -> Result<u64, StoreError> {
        Ok(0)
    }
}

/// The bytes of a store's file; of several, of the largest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub file: u64,
    /// What is stored, and the history that is not forgotten yet.
    pub used: u64,
}
