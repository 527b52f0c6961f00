//! The way back from bytes to entries.

use bytes::Bytes;
use tidemark_model::route::Route;
use tidemark_model::{Batch, NodeId};
use tidemark_segment::CheckpointName;

use super::{
    ADDED_LEN, BatchEntry, Entry, FoldEdit, FoldOpening, Kind, LogStarts, MOVED_LEN, ManifestEdit, REMOVED_LEN,
    ROUTE_LEN, Run, RunRef, SEGMENT_LEN, VERSION,
};
use crate::codec::{DecodeError, Fields};

impl Entry {
    /// Decodes a whole payload. A batch shares its memory.
    pub fn decode(kind: u8, version: u8, payload: &Bytes) -> Result<Self, DecodeError> {
        let kind = Kind::from_number(kind).ok_or(DecodeError::Unknown { what: "entry kind", value: kind.into() })?;
        if version != VERSION {
            return Err(DecodeError::Unknown { what: "entry version", value: version.into() });
        }
        let mut fields = Fields::new(payload);
        let entry = match kind {
            Kind::Batch => return batch(payload),
            Kind::EpochStarted => Self::EpochStarted { node: NodeId(fields.i32()?), wal_incarnation: fields.u64()? },
            Kind::PartitionCreated => {
                Self::PartitionCreated { partition: fields.partition()?, revision: fields.u64()? }
            }
            Kind::TopicDeleted => Self::TopicDeleted { topic: fields.topic()?, revision: fields.u64()? },
            Kind::SegmentIntended => Self::SegmentIntended(fields.segment()?),
            Kind::ManifestEdited => Self::ManifestEdited(edit(&mut fields)?),
            Kind::CheckpointWritten => {
                Self::CheckpointWritten(CheckpointName { epoch: fields.u32()?, index: fields.u64()? })
            }
            Kind::ObjectsDeleted => {
                let count = fields.count(SEGMENT_LEN)?;
                Self::ObjectsDeleted((0..count).map(|_| fields.segment()).collect::<Result<_, _>>()?)
            }
            Kind::ProducersExpired => Self::ProducersExpired { through_ms: fields.i64()? },
            Kind::LogStartsMoved => {
                let time_ms = fields.i64()?;
                let moves = (0..fields.count(MOVED_LEN)?)
                    .map(|_| Ok((fields.partition()?, fields.i64()?)))
                    .collect::<Result<_, DecodeError>>()?;
                Self::LogStartsMoved(LogStarts { time_ms, moves })
            }
            Kind::Folded => Self::Folded(FoldEdit::decode(&mut fields)?),
            Kind::FoldOpened => Self::FoldOpened(FoldOpening::decode(&mut fields)?),
        };
        fields.end()?;
        Ok(entry)
    }
}

fn batch(payload: &Bytes) -> Result<Entry, DecodeError> {
    let mut fields = Fields::new(payload);
    let partition = fields.partition()?;
    let (gateway, broker, generation) = (NodeId(fields.i32()?), NodeId(fields.i32()?), fields.u64()?);
    let mut wire = payload.slice(ROUTE_LEN..);
    let batch = Batch::split_from(&mut wire).map_err(|e| DecodeError::Invalid(e.to_string()))?;
    if !wire.is_empty() {
        return Err(DecodeError::Trailing { left: wire.len() });
    }
    Ok(Entry::Batch(BatchEntry { partition, route: Route { generation, gateway, broker }, batch }))
}

fn edit(fields: &mut Fields<'_>) -> Result<ManifestEdit, DecodeError> {
    let tiered_through = fields.u64()?;
    let segment = match fields.u8()? {
        0 => None,
        1 => Some((fields.segment()?, fields.u64()?)),
        other => return Err(DecodeError::Unknown { what: "flag", value: other.into() }),
    };
    let removed = (0..fields.count(REMOVED_LEN)?)
        .map(|_| {
            let (partition, first_offset) = (fields.partition()?, fields.i64()?);
            Ok(RunRef { partition, first_offset, segment: fields.segment()? })
        })
        .collect::<Result<_, DecodeError>>()?;
    let added = (0..fields.count(ADDED_LEN)?)
        .map(|_| Ok((fields.partition()?, run(fields)?)))
        .collect::<Result<_, DecodeError>>()?;
    Ok(ManifestEdit { tiered_through, segment, removed, added })
}

pub(crate) fn run(fields: &mut Fields<'_>) -> Result<Run, DecodeError> {
    Ok(Run {
        segment: fields.segment()?,
        first_offset: fields.i64()?,
        last_offset: fields.i64()?,
        position: fields.u64()?,
        length: fields.u64()?,
        max_timestamp: fields.i64()?,
        leader_epoch: fields.i32()?,
    })
}
