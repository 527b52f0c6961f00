//! Folds: the oldest runs of a partition, listed in an index object and no more in the manifest.
//!
//! Of all numbers, see the table in [`crate::entry`]. A `fold`: its index object's `segment` (24), level (1), position (8) and
//! length (8) of its section, first offset (8), last offset (8), largest timestamp (8), leader epoch (4), opened (8), bytes
//! (8), `oldest` (24). An `oldest`: last offset (8), largest timestamp (8), length (8).
//!
//! A `content`, of a section or of an opening: list of objects: `segment`, size (8), bytes it was made of (8), references
//! (4), bytes of these (8); 0 (1) and a list of `run`, or 1 (1) and a list of `fold`.

use bytes::{BufMut, Bytes, BytesMut};
use tidemark_model::TopicPartition;
use tidemark_segment::SegmentName;

use super::{Run, SEGMENT_LEN, put_run};
use crate::codec::{DecodeError, Fields, put_partition, put_segment};

/// Runs of a partition without gaps between them, or folds of them, that are listed in a section of an index object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fold {
    /// The index object.
    pub object: SegmentName,
    /// 0: it lists runs. Else folds of the level below.
    pub level: u8,
    /// Where its section is.
    pub position: u64,
    pub length: u64,
    pub first_offset: i64,
    pub last_offset: i64,
    pub max_timestamp: i64,
    /// Of its last batch.
    pub leader_epoch: i32,
    /// What it lists that ends below this has left it.
    pub opened: i64,
    /// Bytes of the runs that are left in it.
    pub bytes: u64,
    /// The first run that is left in it.
    pub oldest: Oldest,
}

/// What decides whether a run has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oldest {
    pub last_offset: i64,
    pub max_timestamp: i64,
    pub length: u64,
}

/// What a fold lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Children {
    Runs(Vec<Run>),
    Folds(Vec<Fold>),
}

/// What a section holds: what the fold lists, and the objects that this is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    pub objects: Vec<Listed>,
    pub children: Children,
}

/// An object that the children of a fold are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    pub name: SegmentName,
    /// Bytes of the whole object.
    pub size: u64,
    /// Bytes of what it was made of.
    pub data: u64,
    /// How often all sections of the index object refer to it, together.
    pub refs: u32,
    /// Bytes of these.
    pub live: u64,
}

/// References of partitions are replaced by one each, to a new index object. Void when one of those to be replaced is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldEdit {
    /// The index object, whose intent this fulfils, and its size.
    pub object: SegmentName,
    pub size: u64,
    pub parts: Vec<FoldPart>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldPart {
    pub partition: TopicPartition,
    pub fold: Fold,
    /// The segment and first offset of each run, or the index object of each fold and how far it was opened.
    pub replaced: Vec<(SegmentName, i64)>,
}

/// The first children of a fold leave it: they are of the partition again, or, where nobody wants them any more, gone. Void
/// when the fold is gone, or was opened otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldOpening {
    pub partition: TopicPartition,
    pub object: SegmentName,
    /// How far the fold was opened before.
    pub opened: i64,
    pub content: Content,
    /// The first run that is left; nothing when all children leave.
    pub rest: Option<Oldest>,
}

pub(super) const FOLD_LEN: usize = SEGMENT_LEN + 85;
const LISTED_LEN: usize = SEGMENT_LEN + 28;
const RUN_LEN: usize = SEGMENT_LEN + 44;
const REPLACED_LEN: usize = SEGMENT_LEN + 8;
const OLDEST_LEN: usize = 24;
/// A part that replaces nothing.
const MIN_PART_LEN: usize = 20 + FOLD_LEN + 4;

impl Fold {
    /// The first offset that is left in it.
    pub fn begins(&self) -> i64 {
        self.first_offset.max(self.opened)
    }
}

impl Children {
    pub fn len(&self) -> usize {
        match self {
            Self::Runs(runs) => runs.len(),
            Self::Folds(folds) => folds.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The object that each is in, and its bytes there.
    pub fn refs(&self) -> Vec<(SegmentName, u64)> {
        match self {
            Self::Runs(runs) => runs.iter().map(|run| (run.segment, run.length)).collect(),
            Self::Folds(folds) => folds.iter().map(|fold| (fold.object, fold.length)).collect(),
        }
    }

    /// Bytes of all runs in them.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Runs(runs) => runs.iter().map(|run| run.length).fold(0, u64::saturating_add),
            Self::Folds(folds) => folds.iter().map(|fold| fold.bytes).fold(0, u64::saturating_add),
        }
    }

    pub fn last_offset(&self) -> Option<i64> {
        match self {
            Self::Runs(runs) => runs.last().map(|run| run.last_offset),
            Self::Folds(folds) => folds.last().map(|fold| fold.last_offset),
        }
    }

    /// The first run in them.
    pub fn oldest(&self) -> Option<Oldest> {
        match self {
            Self::Runs(runs) => runs.first().map(Run::oldest),
            Self::Folds(folds) => folds.first().map(|fold| fold.oldest),
        }
    }
}

impl Run {
    pub fn oldest(&self) -> Oldest {
        Oldest { last_offset: self.last_offset, max_timestamp: self.max_timestamp, length: self.length }
    }
}

impl Content {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_len());
        put_content(&mut out, self);
        out.freeze()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(bytes);
        let content = content(&mut fields)?;
        fields.end()?;
        Ok(content)
    }

    pub fn object(&self, name: SegmentName) -> Option<&Listed> {
        self.objects.iter().find(|object| object.name == name)
    }

    fn encoded_len(&self) -> usize {
        let each = match &self.children {
            Children::Runs(_) => RUN_LEN,
            Children::Folds(_) => FOLD_LEN,
        };
        4 + self.objects.len() * LISTED_LEN + 1 + 4 + self.children.len() * each
    }
}

impl FoldEdit {
    pub(super) fn encoded_len(&self) -> usize {
        let parts = self.parts.iter().map(|part| MIN_PART_LEN + part.replaced.len() * REPLACED_LEN);
        SEGMENT_LEN + 8 + 4 + parts.sum::<usize>()
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        let Self { object, size, parts } = self;
        put_segment(out, *object);
        out.put_u64(*size);
        out.put_u32(parts.len() as u32);
        for FoldPart { partition, fold, replaced } in parts {
            put_partition(out, *partition);
            put_fold(out, fold);
            out.put_u32(replaced.len() as u32);
            for (segment, offset) in replaced {
                put_segment(out, *segment);
                out.put_i64(*offset);
            }
        }
    }

    pub(super) fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let (object, size) = (fields.segment()?, fields.u64()?);
        let mut parts = Vec::new();
        for _ in 0..fields.count(MIN_PART_LEN)? {
            let (partition, fold) = (fields.partition()?, fold(fields)?);
            let replaced = (0..fields.count(REPLACED_LEN)?)
                .map(|_| Ok((fields.segment()?, fields.i64()?)))
                .collect::<Result<_, DecodeError>>()?;
            parts.push(FoldPart { partition, fold, replaced });
        }
        Ok(Self { object, size, parts })
    }
}

impl FoldOpening {
    pub(super) fn encoded_len(&self) -> usize {
        let rest = if self.rest.is_some() { OLDEST_LEN } else { 0 };
        20 + SEGMENT_LEN + 8 + self.content.encoded_len() + 1 + rest
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        let Self { partition, object, opened, content, rest } = self;
        put_partition(out, *partition);
        put_segment(out, *object);
        out.put_i64(*opened);
        put_content(out, content);
        out.put_u8(u8::from(rest.is_some()));
        if let Some(rest) = rest {
            put_oldest(out, rest);
        }
    }

    pub(super) fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let (partition, object, opened) = (fields.partition()?, fields.segment()?, fields.i64()?);
        let content = content(fields)?;
        let rest = match fields.u8()? {
            0 => None,
            1 => Some(oldest(fields)?),
            other => return Err(DecodeError::Unknown { what: "flag", value: other.into() }),
        };
        Ok(Self { partition, object, opened, content, rest })
    }
}

/// A fold as the text above has it, for the entries and for the checkpoint.
pub(crate) fn put_fold(out: &mut BytesMut, fold: &Fold) {
    let Fold { object, level, position, length, first_offset, last_offset, max_timestamp, leader_epoch, .. } = fold;
    let Fold { opened, bytes, oldest, .. } = fold;
    put_segment(out, *object);
    out.put_u8(*level);
    out.put_u64(*position);
    out.put_u64(*length);
    out.put_i64(*first_offset);
    out.put_i64(*last_offset);
    out.put_i64(*max_timestamp);
    out.put_i32(*leader_epoch);
    out.put_i64(*opened);
    out.put_u64(*bytes);
    put_oldest(out, oldest);
}

pub(crate) fn fold(fields: &mut Fields<'_>) -> Result<Fold, DecodeError> {
    Ok(Fold {
        object: fields.segment()?,
        level: fields.u8()?,
        position: fields.u64()?,
        length: fields.u64()?,
        first_offset: fields.i64()?,
        last_offset: fields.i64()?,
        max_timestamp: fields.i64()?,
        leader_epoch: fields.i32()?,
        opened: fields.i64()?,
        bytes: fields.u64()?,
        oldest: oldest(fields)?,
    })
}

fn put_oldest(out: &mut BytesMut, oldest: &Oldest) {
    let Oldest { last_offset, max_timestamp, length } = oldest;
    out.put_i64(*last_offset);
    out.put_i64(*max_timestamp);
    out.put_u64(*length);
}

fn oldest(fields: &mut Fields<'_>) -> Result<Oldest, DecodeError> {
    Ok(Oldest { last_offset: fields.i64()?, max_timestamp: fields.i64()?, length: fields.u64()? })
}

fn put_content(out: &mut BytesMut, content: &Content) {
    let Content { objects, children } = content;
    out.put_u32(objects.len() as u32);
    for Listed { name, size, data, refs, live } in objects {
        put_segment(out, *name);
        out.put_u64(*size);
        out.put_u64(*data);
        out.put_u32(*refs);
        out.put_u64(*live);
    }
    match children {
        Children::Runs(runs) => {
            out.put_u8(0);
            out.put_u32(runs.len() as u32);
            runs.iter().for_each(|run| put_run(out, run));
        }
        Children::Folds(folds) => {
            out.put_u8(1);
            out.put_u32(folds.len() as u32);
            folds.iter().for_each(|fold| put_fold(out, fold));
        }
    }
}

fn content(fields: &mut Fields<'_>) -> Result<Content, DecodeError> {
    let objects = (0..fields.count(LISTED_LEN)?)
        .map(|_| {
            let name = fields.segment()?;
            let (size, data, refs) = (fields.u64()?, fields.u64()?, fields.u32()?);
            Ok(Listed { name, size, data, refs, live: fields.u64()? })
        })
        .collect::<Result<_, DecodeError>>()?;
    let children = match fields.u8()? {
        0 => Children::Runs((0..fields.count(RUN_LEN)?).map(|_| super::decode_run(fields)).collect::<Result<_, _>>()?),
        1 => Children::Folds((0..fields.count(FOLD_LEN)?).map(|_| fold(fields)).collect::<Result<_, _>>()?),
        other => return Err(DecodeError::Unknown { what: "level", value: other.into() }),
    };
    Ok(Content { objects, children })
}
