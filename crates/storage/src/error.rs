//! Why a storage node cannot start. What it answers to a caller is [`tidemark_model::StorageError`].

use std::io;
use std::path::PathBuf;

use tidemark_model::{CoordinatorError, StorageError};
use tidemark_segment::StoreError;

use crate::wal::recovery::RecoveryError;

/// Tell the operator and exit.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the data directory {dir} is in use by another process, which holds {lock}")]
    InUse { dir: PathBuf, lock: PathBuf },
    #[error("the data directory {dir} cannot be written to: {cause}")]
    NotWritable { dir: PathBuf, cause: io::Error },
    #[error("{path} is of format {found}, and this release knows up to {known}: it was written by a newer release")]
    NewerFormat { path: PathBuf, found: u32, known: u32 },
    #[error("{path} is of format {found}, and this release reads {known}: it was written before the first release")]
    OlderFormat { path: PathBuf, found: u32, known: u32 },
    #[error("{path} is not a node's identity: {why}")]
    BadIdentity { path: PathBuf, why: String },
    #[error("{path}: {cause}")]
    Io { path: PathBuf, cause: io::Error },
    /// The directory has another log than the identity names: one of them was put there from elsewhere.
    #[error("{dir} holds the log of incarnation {found:016x}, and this node's is {expected:016x}")]
    ForeignLog { dir: PathBuf, found: u64, expected: u64 },
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// An fdatasync failed, and of what was durable before something is not there any more: the disk lost it.
    #[error("the log in {dir} was acknowledged up to entry {acknowledged}, and has entries up to {have} only")]
    LostAcknowledged { dir: PathBuf, have: u64, acknowledged: u64 },
    /// Batches that neither the log nor the object store has.
    #[error("offsets {from}..{to} of {partition} are neither in the write-ahead log nor in the object store")]
    Gap { partition: String, from: i64, to: i64 },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the coordinator does not let this node lead its journal: {0}")]
    Coordinator(CoordinatorError),
    /// The coordinator gave an epoch that the log has already: its metadata store was set back.
    #[error("the coordinator opened journal {journal} in epoch {got}, and its log is in epoch {last} already")]
    OldEpoch { journal: u32, got: u32, last: u32 },
    #[error("the coordinator says that this log is journal {given}'s, and it is journal {found}'s")]
    OtherJournal { given: u32, found: u32 },
    #[error("the journal cannot be opened: {0}")]
    Open(StorageError),
    #[error("the cluster id {0:?} cannot be used in the object store")]
    ClusterId(String),
    #[error("stopped while starting")]
    Stopped,
}
