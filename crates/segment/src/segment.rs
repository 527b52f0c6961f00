//! A segment: an immutable object that holds batches of one or many partitions, and an index of them at its end.
//!
//! Batches are in Kafka's wire form, so that a byte range of a run goes to a client as it is. A partition's batches are
//! one piece, its *run*, in offset order; runs are in the order of (topic id, partition). A run is indexed by *blocks*:
//! whole batches of together at least 64 KiB, each with its own checksum, the unit in which a run is read.
//!
//! All numbers are big-endian.
//!
//! | object | bytes |
//! |---|---|
//! | magic `TIDEMSEG` | 8 |
//! | runs | |
//! | index | |
//! | trailer | 28 |
//!
//! The index:
//!
//! | at | size | field |
//! |---|---|---|
//! | 0 | 4 | journal |
//! | 4 | 4 | epoch of the journal in which the segment was written |
//! | 8 | 8 | first journal index whose batches it may hold |
//! | 16 | 8 | last journal index whose batches it may hold |
//! | 24 | 4 | attempt: tells objects of one epoch and range apart |
//! | 28 | 4 | number of runs, which follow |
//!
//! A run:
//!
//! | at | size | field |
//! |---|---|---|
//! | 0 | 16 | topic id |
//! | 16 | 4 | partition |
//! | 20 | 8 | first offset |
//! | 28 | 8 | last offset |
//! | 36 | 8 | position of its first byte in the object |
//! | 44 | 8 | length in bytes |
//! | 52 | 8 | largest timestamp, milliseconds since the epoch |
//! | 60 | 8 | base offset of the first batch that has it |
//! | 68 | 4 | number of leader epochs |
//! | 72 | 4 | number of blocks |
//! | 76 | 4 | number of aborted transactions |
//! | 80 | 12 each | leader epoch (4), base offset of its first batch here (8) |
//! | | 32 each | block: first offset (8), last offset (8), largest timestamp (8), length (4), CRC32C of its bytes (4) |
//! | | 24 each | aborted transaction: first offset (8), last offset (8), producer id (8) |
//!
//! The trailer, whose layout no later version changes:
//!
//! | at | size | field |
//! |---|---|---|
//! | 0 | 8 | size of the whole object |
//! | 8 | 4 | length of the index |
//! | 12 | 2 | version, 1 |
//! | 14 | 2 | zero |
//! | 16 | 4 | CRC32C of the index and the 16 bytes of the trailer so far |
//! | 20 | 8 | magic `TIDEMSEG` |

mod reader;
mod writer;

use std::ops::Range;

use tidemark_model::segment::TieredRun;
use tidemark_model::storage::AbortedTransaction;
use tidemark_model::{JournalId, TopicPartition};

use crate::names::SegmentName;

pub use writer::{EncodedSegment, SegmentWriter};

const WHAT: &str = "segment";
const MAGIC: &[u8; 8] = b"TIDEMSEG";
const VERSION: u16 = 1;
/// Bytes of the fixed fields of the index.
const INDEX_HEADER_LEN: usize = 32;
const RUN_LEN: usize = 80;
const EPOCH_LEN: usize = 12;
const BLOCK_LEN: usize = 32;
const ABORTED_LEN: usize = 24;
const TRAILER_LEN: usize = 28;
/// A block is closed when it has this many bytes: fine enough for a lookup by offset or time to read little too much,
/// coarse enough for the index of 64 MiB to be 32 KiB.
const MIN_BLOCK_LEN: u32 = 64 * 1024;
/// Longest index that is read: that of a 100 GiB segment, or of 800,000 partitions.
pub const MAX_INDEX_LEN: usize = 64 * 1024 * 1024;

/// What a segment holds, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentIndex {
    pub journal: JournalId,
    pub name: SegmentName,
    /// In the order of their partitions.
    pub runs: Vec<Run>,
}

/// One partition's batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub partition: TopicPartition,
    pub first_offset: i64,
    pub last_offset: i64,
    /// Where in the object it begins.
    pub position: u64,
    pub length: u64,
    /// The largest timestamp, in milliseconds since the epoch.
    pub max_timestamp: i64,
    /// The base offset of the first batch that has the largest timestamp.
    pub max_timestamp_offset: i64,
    /// The leader epochs of its batches, each with the base offset of its first batch here. At least one.
    pub epochs: Vec<EpochStart>,
    /// In offset order, without gaps between their bytes. At least one.
    pub blocks: Vec<Block>,
    /// Transactions aborted in its offsets (KIP-98).
    pub aborted: Vec<AbortedTransaction>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    pub leader_epoch: i32,
    pub start_offset: i64,
}

/// Whole batches that are read and checked together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    pub first_offset: i64,
    pub last_offset: i64,
    pub max_timestamp: i64,
    /// Where in the object it begins.
    pub position: u64,
    pub length: u32,
    pub crc: u32,
}

/// Blocks of a run that follow each other, and the bytes of the object that hold them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    pub blocks: Range<usize>,
    pub bytes: Range<u64>,
}

impl Run {
    /// What the manifest keeps of a run in the object at `object`.
    pub fn tiered(&self, object: &str, object_size: u64) -> TieredRun {
        TieredRun {
            object: object.to_owned(),
            partition: self.partition,
            first_offset: self.first_offset,
            last_offset: self.last_offset,
            position: self.position,
            length: self.length,
            object_size,
            max_timestamp: self.max_timestamp,
            leader_epoch: self.epochs.last().map_or(-1, |epoch| epoch.leader_epoch),
        }
    }
}

#[cfg(test)]
mod tests;
