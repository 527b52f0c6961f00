//! Where tiered records are.

use crate::TopicPartition;

/// One partition's run in a segment: a byte range of an object that holds its batches in wire form, in offset order.
/// A run may have holes in its offsets (compaction), never an overlap with another run of the same partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TieredRun {
    /// The segment's object key, relative to the bucket's prefix.
    pub object: String,
    pub partition: TopicPartition,
    /// The offset of the run's first record.
    pub first_offset: i64,
    /// The offset of the run's last record.
    pub last_offset: i64,
    /// Where in the object the run begins.
    pub position: u64,
    /// Bytes of the run.
    pub length: u64,
    /// Bytes of the whole object: its footer is at the end.
    pub object_size: u64,
    /// The largest timestamp in the run, in milliseconds since the epoch.
    pub max_timestamp: i64,
    /// The leader epoch of the run's last batch.
    pub leader_epoch: i32,
}
