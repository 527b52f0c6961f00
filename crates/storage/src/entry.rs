//! The entries of a journal: everything that changes its state, and all that is persisted of it in the write-ahead log.
//!
//! [`crate::wal::format`] says how an entry is framed: its name, kind, kind's version, length and checksum. Here is what
//! each kind holds. All numbers are big-endian; `segment` is a segment's name: epoch (4), first index (8), last index
//! (8), attempt (4); `partition` is a topic id (16) and a partition number (4); lists begin with their length (4).
//!
//! | kind | version | entry | fields |
//! |---|---|---|---|
//! | 1 | 1 | batch | `partition` (20), gateway (4), broker (4), route generation (8), the batch in wire form |
//! | 2 | 1 | epoch started | node (4), incarnation of the write-ahead log (8) |
//! | 3 | 1 | partition created | `partition` (20), cluster revision (8) |
//! | 4 | 1 | topic deleted | topic id (16), cluster revision (8) |
//! | 5 | 1 | segment intended | `segment` (24) |
//! | 6 | 1 | manifest edited | tiered through index (8); 1 and `segment` (24) with its size (8), or 0 (1); list of removed: `partition` (20), first offset (8), `segment` (24); list of added: `partition` (20), `run` (68) |
//! | 7 | 1 | checkpoint written | epoch (4), index (8) |
//! | 8 | 1 | objects deleted | list of `segment` (24) |
//! | 9 | 1 | producers expired | timestamp, milliseconds since the epoch (8) |
//! | 10 | 1 | log starts moved | time, milliseconds since the epoch (8); list of: `partition` (20), log start (8) |
//! | 11 | 1 | folded | index object's `segment` (24), size (8); list of: `partition` (20), `fold` (109), list of replaced: `segment` (24), offset (8) |
//! | 12 | 1 | fold opened | `partition` (20), index object's `segment` (24), opened before (8), `content`; 1 and the `oldest` (24) that is left, or 0 (1) |
//!
//! A `run`: `segment` (24), first offset (8), last offset (8), position (8), length (8), largest timestamp (8), leader
//! epoch (4). A `fold`, its `oldest` and a `content` are in [`fold`].
//!
//! A batch's framing checksum covers what is before its records; the batch's own CRC covers those (see the format).

mod decode;
pub mod fold;

use bytes::{BufMut, BytesMut};
use tidemark_model::batch::PREFIX_LEN;
use tidemark_model::route::Route;
use tidemark_model::{Batch, NodeId, TopicId, TopicPartition};
use tidemark_segment::{CheckpointName, SegmentName};

use crate::codec::{put_partition, put_segment};
pub use fold::{Children, Content, Fold, FoldEdit, FoldOpening, FoldPart, Listed, Oldest};

/// The name of an entry: it means one byte string for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The journal's epoch in which it was appended.
    pub epoch: u32,
    /// Its place in the journal, from 1.
    pub index: u64,
}

/// A change of a journal's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Records of a partition.
    Batch(BatchEntry),
    /// The first entry of each epoch.
    EpochStarted {
        node: NodeId,
        wal_incarnation: u64,
    },
    /// The partition is of this journal as of the revision. Comes before its first batch.
    PartitionCreated {
        partition: TopicPartition,
        revision: u64,
    },
    /// The topic is gone as of the revision, and all that this journal has of it.
    TopicDeleted {
        topic: TopicId,
        revision: u64,
    },
    /// An object of this name may be there from now on.
    SegmentIntended(SegmentName),
    ManifestEdited(ManifestEdit),
    /// The state as of this entry is durable in the object store.
    CheckpointWritten(CheckpointName),
    /// These objects are not there any more, and never will be again.
    ObjectsDeleted(Vec<SegmentName>),
    /// Producers whose last batch has no later timestamp than this are forgotten, in all partitions.
    ProducersExpired {
        through_ms: i64,
    },
    /// Records below these offsets are gone: retention dropped them, or a client's DeleteRecords.
    LogStartsMoved(LogStarts),
    /// Old runs of partitions, or folds of them, are listed in an index object from now on.
    Folded(FoldEdit),
    FoldOpened(FoldOpening),
}

/// Records of a partition, with their offsets, and the way they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchEntry {
    pub partition: TopicPartition,
    pub route: Route,
    pub batch: Batch,
}

/// Log starts that move at one time. One that would move back, or past the high watermark, does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStarts {
    /// When the leader decided it, by its clock: replicas have none of their own.
    pub time_ms: i64,
    pub moves: Vec<(TopicPartition, i64)>,
}

/// The one edit of the manifest: replace exactly these runs by those. Void when a run to be removed is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ManifestEdit {
    /// Every batch up to this index is in a run, or its partition is gone.
    pub tiered_through: u64,
    /// The segment that this edit brings in, whose intent it fulfils, and its size in bytes.
    pub segment: Option<(SegmentName, u64)>,
    pub removed: Vec<RunRef>,
    pub added: Vec<(TopicPartition, Run)>,
}

/// A run as an edit names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunRef {
    pub partition: TopicPartition,
    pub first_offset: i64,
    pub segment: SegmentName,
}

/// One partition's byte range of a segment, as the manifest keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub segment: SegmentName,
    pub first_offset: i64,
    pub last_offset: i64,
    pub position: u64,
    pub length: u64,
    pub max_timestamp: i64,
    pub leader_epoch: i32,
}

/// The kinds, by their number in the framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Batch = 1,
    EpochStarted = 2,
    PartitionCreated = 3,
    TopicDeleted = 4,
    SegmentIntended = 5,
    ManifestEdited = 6,
    CheckpointWritten = 7,
    ObjectsDeleted = 8,
    ProducersExpired = 9,
    LogStartsMoved = 10,
    Folded = 11,
    FoldOpened = 12,
}

/// The version that is written, of every kind.
pub const VERSION: u8 = 1;
/// Bytes of a batch entry before the batch.
pub const ROUTE_LEN: usize = 36;
/// Bytes of a batch entry before the body of the batch.
pub const BATCH_HEAD_LEN: usize = ROUTE_LEN + PREFIX_LEN;
/// Bytes of a segment's name.
const SEGMENT_LEN: usize = 24;
/// Bytes of an added run with its partition.
const ADDED_LEN: usize = 88;
/// Bytes of a removed run.
const REMOVED_LEN: usize = 52;
/// Bytes of a log start that moved.
const MOVED_LEN: usize = 28;

impl Entry {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Batch(_) => Kind::Batch,
            Self::EpochStarted { .. } => Kind::EpochStarted,
            Self::PartitionCreated { .. } => Kind::PartitionCreated,
            Self::TopicDeleted { .. } => Kind::TopicDeleted,
            Self::SegmentIntended(_) => Kind::SegmentIntended,
            Self::ManifestEdited(_) => Kind::ManifestEdited,
            Self::CheckpointWritten(_) => Kind::CheckpointWritten,
            Self::ObjectsDeleted(_) => Kind::ObjectsDeleted,
            Self::ProducersExpired { .. } => Kind::ProducersExpired,
            Self::LogStartsMoved(_) => Kind::LogStartsMoved,
            Self::Folded(_) => Kind::Folded,
            Self::FoldOpened(_) => Kind::FoldOpened,
        }
    }

    /// Bytes of its payload: what [`encode_head`](Self::encode_head) writes, and a batch's body.
    pub fn payload_len(&self) -> usize {
        match self {
            Self::Batch(entry) => BATCH_HEAD_LEN + entry.batch.body().len(),
            Self::EpochStarted { .. } | Self::CheckpointWritten(_) => 12,
            Self::PartitionCreated { .. } => 28,
            Self::TopicDeleted { .. } => 24,
            Self::SegmentIntended(_) => SEGMENT_LEN,
            Self::ManifestEdited(edit) => {
                let segment = if edit.segment.is_some() { SEGMENT_LEN + 8 } else { 0 };
                8 + 1 + segment + 4 + edit.removed.len() * REMOVED_LEN + 4 + edit.added.len() * ADDED_LEN
            }
            Self::ObjectsDeleted(names) => 4 + names.len() * SEGMENT_LEN,
            Self::ProducersExpired { .. } => 8,
            Self::LogStartsMoved(starts) => 8 + 4 + starts.moves.len() * MOVED_LEN,
            Self::Folded(edit) => edit.encoded_len(),
            Self::FoldOpened(opening) => opening.encoded_len(),
        }
    }

    /// Writes the payload, except for a batch's body, which follows.
    pub fn encode_head(&self, out: &mut BytesMut) {
        match self {
            Self::Batch(BatchEntry { partition, route, batch }) => {
                put_partition(out, *partition);
                let Route { generation, gateway, broker } = route;
                out.put_i32(gateway.0);
                out.put_i32(broker.0);
                out.put_u64(*generation);
                out.put_slice(&batch.prefix());
            }
            Self::EpochStarted { node, wal_incarnation } => {
                out.put_i32(node.0);
                out.put_u64(*wal_incarnation);
            }
            Self::PartitionCreated { partition, revision } => {
                put_partition(out, *partition);
                out.put_u64(*revision);
            }
            Self::TopicDeleted { topic, revision } => {
                out.put_u128(topic.0.as_u128());
                out.put_u64(*revision);
            }
            Self::SegmentIntended(name) => put_segment(out, *name),
            Self::ManifestEdited(edit) => encode_edit(edit, out),
            Self::CheckpointWritten(CheckpointName { epoch, index }) => {
                out.put_u32(*epoch);
                out.put_u64(*index);
            }
            Self::ObjectsDeleted(names) => {
                out.put_u32(names.len() as u32);
                names.iter().for_each(|name| put_segment(out, *name));
            }
            Self::ProducersExpired { through_ms } => out.put_i64(*through_ms),
            Self::LogStartsMoved(LogStarts { time_ms, moves }) => {
                out.put_i64(*time_ms);
                out.put_u32(moves.len() as u32);
                for (partition, log_start) in moves {
                    put_partition(out, *partition);
                    out.put_i64(*log_start);
                }
            }
            Self::Folded(edit) => edit.encode(out),
            Self::FoldOpened(opening) => opening.encode(out),
        }
    }
}

impl Kind {
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Batch,
            2 => Self::EpochStarted,
            3 => Self::PartitionCreated,
            4 => Self::TopicDeleted,
            5 => Self::SegmentIntended,
            6 => Self::ManifestEdited,
            7 => Self::CheckpointWritten,
            8 => Self::ObjectsDeleted,
            9 => Self::ProducersExpired,
            10 => Self::LogStartsMoved,
            11 => Self::Folded,
            12 => Self::FoldOpened,
            _ => return None,
        })
    }
}

fn encode_edit(edit: &ManifestEdit, out: &mut BytesMut) {
    let ManifestEdit { tiered_through, segment, removed, added } = edit;
    out.put_u64(*tiered_through);
    match segment {
        None => out.put_u8(0),
        Some((name, size)) => {
            out.put_u8(1);
            put_segment(out, *name);
            out.put_u64(*size);
        }
    }
    out.put_u32(removed.len() as u32);
    for RunRef { partition, first_offset, segment } in removed {
        put_partition(out, *partition);
        out.put_i64(*first_offset);
        put_segment(out, *segment);
    }
    out.put_u32(added.len() as u32);
    for (partition, run) in added {
        put_partition(out, *partition);
        put_run(out, run);
    }
}

/// A run as the table above has it, for the entries and for the checkpoint.
pub(crate) fn put_run(out: &mut BytesMut, run: &Run) {
    let Run { segment, first_offset, last_offset, position, length, max_timestamp, leader_epoch } = run;
    put_segment(out, *segment);
    out.put_i64(*first_offset);
    out.put_i64(*last_offset);
    out.put_u64(*position);
    out.put_u64(*length);
    out.put_i64(*max_timestamp);
    out.put_i32(*leader_epoch);
}

pub(crate) use decode::run as decode_run;

#[cfg(test)]
pub(crate) mod tests;
