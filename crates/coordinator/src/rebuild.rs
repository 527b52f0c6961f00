//! A metadata store made again from a snapshot in the bucket, and from what the bucket has of the journals.
//!
//! [`Saved`] reads the snapshot, [`Plan`] decides what goes into the new store, [`write()`] puts it there. The snapshot may be older
//! than what the journals have in the bucket: topics that are newer come back under another name, and every number that is
//! handed out once goes on far above what was seen.

mod plan;
mod saved;
mod write;

use std::collections::BTreeMap;

use tidemark_model::{JournalId, TopicPartition};

pub use plan::{Origin, Plan, PlannedTopic};
pub use saved::Saved;
pub use write::{NotEmpty, WriteError, check_empty, write};

/// What was found of the journals, in the bucket and on disks.
#[derive(Debug, Clone, Default)]
pub struct Journals {
    pub journals: BTreeMap<JournalId, JournalFound>,
    /// The highest producer id that wrote anything.
    pub producer_id: Option<i64>,
    /// The highest revision of the cluster state that any of them knows.
    pub revision: u64,
}

#[derive(Debug, Clone, Default)]
pub struct JournalFound {
    /// The highest epoch that is known of.
    pub epoch: u32,
    pub log: Log,
    pub partitions: Vec<PartitionFound>,
}

/// Whether a journal's write-ahead log is still there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Log {
    /// The bucket has all that is left. The journal goes to a new log.
    #[default]
    Lost,
    /// It is where the snapshot says.
    Kept,
    /// It is on the storage node of this name, with this incarnation.
    On { node: String, incarnation: u64 },
}

#[derive(Debug, Clone)]
pub struct PartitionFound {
    pub partition: TopicPartition,
    /// The leader epoch of the last record, -1 for none.
    pub leader_epoch: i32,
    /// The cluster state had it from this revision on; none where it is not known.
    pub revision: Option<u64>,
}

#[cfg(test)]
mod tests;
