//! The state as a checkpoint holds it, inside the envelope of [`tidemark_segment::checkpoint`].
//!
//! It is whole, or a part: then partitions and objects that it does not name are as they were. All numbers are big-endian;
//! `segment`, `partition` and `run` are as in [`crate::entry`]; lists begin with their
//! length (4).
//!
//! | field | bytes |
//! |---|---|
//! | version, 4 (earlier ones were never released) | 2 |
//! | last entry: epoch, index | 4, 8 |
//! | tiered through index | 8 |
//! | 1 and the newest durable checkpoint (epoch, index), or 0 | 1, 4, 8 |
//! | list of objects: `segment`, size, bytes of what it was made of, how many runs or folds are left of these, and their bytes | 24, 8, 8, 4, 8 each |
//! | list of objects that are not counted any more: `segment` | 24 each |
//! | list of intents: `segment` | 24 each |
//! | list of garbage: `segment`, index at which it was dropped | 24, 8 each |
//! | list of folds that are closing: `partition`, `fold` | 20, 109 each |
//! | list of partitions that are gone: `partition` | 20 each |
//! | list of partitions | |
//!
//! A partition: `partition` (20), revision (8), log start (8), high watermark (8), route: gateway (4), broker (4),
//! generation (8); list of leader epochs: epoch (4), start offset (8); list of producers: id (8), epoch (2), number of
//! batches (1), each: last sequence (4), last offset (8), offset delta (4), timestamp (8); list of `fold` (109); list of
//! `run` (68).

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use tidemark_model::route::Route;
use tidemark_model::{NodeId, TopicPartition};
use tidemark_segment::{CheckpointName, SegmentName};

use super::producers::{BATCHES, BatchMeta, Producer};
use super::{Changed, EpochStart, PartitionState, SegmentState, State};
use crate::codec::{DecodeError, Fields, put_partition, put_segment};
use crate::entry::fold::{fold as decode_fold, put_fold};
use crate::entry::{EntryId, decode_run, put_run};

const VERSION: u16 = 4;
const SEGMENT_LEN: usize = 52;
const CLOSING_LEN: usize = 129;
const FOLD_LEN: usize = 109;
const GARBAGE_LEN: usize = 32;
const INTENT_LEN: usize = 24;
const EPOCH_LEN: usize = 12;
const RUN_LEN: usize = 68;
/// The fields before the lists, and the lengths of these.
const HEAD_LEN: usize = 35 + 7 * 4;
const PARTITION_NAME_LEN: usize = 20;
const BATCH_LEN: usize = 24;
/// A producer without batches.
const MIN_PRODUCER_LEN: usize = 11;
/// A partition without epochs, producers, folds and runs.
const MIN_PARTITION_LEN: usize = 76;

pub(super) fn encode(state: &State, since: u64) -> Bytes {
    let State { last, partitions, producers: _, segments, closing, intents, garbage, .. } = state;
    let State { tiered_through, checkpoint, changes, .. } = state;
    let mut out = BytesMut::with_capacity(len(state, since) as usize);
    out.put_u16(VERSION);
    out.put_u32(last.epoch);
    out.put_u64(last.index);
    out.put_u64(*tiered_through);
    match checkpoint {
        None => out.put_u8(0),
        Some(CheckpointName { epoch, index }) => {
            out.put_u8(1);
            out.put_u32(*epoch);
            out.put_u64(*index);
        }
    }
    let (counted, gone): (Vec<SegmentName>, Vec<SegmentName>) = match since {
        0 => (segments.keys().copied().collect(), Vec::new()),
        since => changes.objects_since(since).partition(|name| segments.contains_key(name)),
    };
    out.put_u32(counted.len() as u32);
    for name in counted {
        let SegmentState { size, data, runs, live } = segments[&name];
        put_segment(&mut out, name);
        out.put_u64(size);
        out.put_u64(data);
        out.put_u32(runs);
        out.put_u64(live);
    }
    out.put_u32(gone.len() as u32);
    gone.into_iter().for_each(|name| put_segment(&mut out, name));
    out.put_u32(intents.len() as u32);
    for name in intents {
        put_segment(&mut out, *name);
    }
    out.put_u32(garbage.len() as u32);
    for (name, dropped_at) in garbage {
        put_segment(&mut out, *name);
        out.put_u64(*dropped_at);
    }
    out.put_u32(closing.len() as u32);
    for ((_, at), fold) in closing {
        put_partition(&mut out, *at);
        put_fold(&mut out, fold);
    }
    let gone: Vec<TopicPartition> = match since {
        0 => Vec::new(),
        since => changes.partitions_gone_since(since).filter(|at| !partitions.contains_key(at)).collect(),
    };
    out.put_u32(gone.len() as u32);
    gone.into_iter().for_each(|at| put_partition(&mut out, at));
    let changed = || partitions.iter().filter(|(_, partition)| is_new(partition, since));
    out.put_u32(changed().count() as u32);
    for (at, partition) in changed() {
        put_partition(&mut out, *at);
        encode_partition(partition, &mut out);
    }
    out.freeze()
}

pub(super) fn len(state: &State, since: u64) -> u64 {
    let State { partitions, segments, closing, intents, garbage, changes, .. } = state;
    let objects = if since == 0 { segments.len() } else { changes.objects_since(since).count() };
    let gone = if since == 0 { 0 } else { changes.partitions_gone_since(since).count() };
    let lists = objects * SEGMENT_LEN + intents.len() * INTENT_LEN + garbage.len() * GARBAGE_LEN;
    let changed = partitions.values().filter(|partition| is_new(partition, since)).map(partition_len);
    (HEAD_LEN + lists + closing.len() * CLOSING_LEN + gone * PARTITION_NAME_LEN + changed.sum::<usize>()) as u64
}

fn is_new(partition: &PartitionState, since: u64) -> bool {
    since == 0 || partition.changed.0 > since
}

fn partition_len(partition: &PartitionState) -> usize {
    let PartitionState { epochs, producers, folds, runs, .. } = partition;
    let batches: usize = producers.values().map(|producer| producer.batches().len() * BATCH_LEN).sum();
    MIN_PARTITION_LEN
        + epochs.len() * EPOCH_LEN
        + producers.len() * MIN_PRODUCER_LEN
        + batches
        + folds.len() * FOLD_LEN
        + runs.len() * RUN_LEN
}

fn encode_partition(partition: &PartitionState, out: &mut BytesMut) {
    let PartitionState { changed: _, revision, log_start, high_watermark, route, epochs, producers, folds, runs } =
        partition;
    out.put_u64(*revision);
    out.put_i64(*log_start);
    out.put_i64(*high_watermark);
    let Route { generation, gateway, broker } = route;
    out.put_i32(gateway.0);
    out.put_i32(broker.0);
    out.put_u64(*generation);
    out.put_u32(epochs.len() as u32);
    for EpochStart { leader_epoch, start_offset } in epochs {
        out.put_i32(*leader_epoch);
        out.put_i64(*start_offset);
    }
    out.put_u32(producers.len() as u32);
    for (id, producer) in producers {
        out.put_i64(*id);
        out.put_i16(producer.epoch);
        out.put_u8(producer.batches().len() as u8);
        for BatchMeta { last_sequence, last_offset, offset_delta, timestamp } in producer.batches() {
            out.put_i32(*last_sequence);
            out.put_i64(*last_offset);
            out.put_i32(*offset_delta);
            out.put_i64(*timestamp);
        }
    }
    out.put_u32(folds.len() as u32);
    folds.iter().for_each(|fold| put_fold(out, fold));
    out.put_u32(runs.len() as u32);
    runs.iter().for_each(|run| put_run(out, run));
}

pub(super) fn merge(state: &mut State, bytes: &[u8]) -> Result<(), DecodeError> {
    let mut fields = Fields::new(bytes);
    let version = fields.u16()?;
    if version != VERSION {
        return Err(DecodeError::Unknown { what: "state version", value: version.into() });
    }
    state.last = EntryId { epoch: fields.u32()?, index: fields.u64()? };
    state.tiered_through = fields.u64()?;
    state.checkpoint = match fields.u8()? {
        0 => None,
        1 => Some(CheckpointName { epoch: fields.u32()?, index: fields.u64()? }),
        other => return Err(DecodeError::Unknown { what: "flag", value: other.into() }),
    };
    let index = state.last.index;
    for _ in 0..fields.count(SEGMENT_LEN)? {
        let name = fields.segment()?;
        let (size, data, runs) = (fields.u64()?, fields.u64()?, fields.u32()?);
        state.segments.insert(name, SegmentState { size, data, runs, live: fields.u64()? });
        state.changes.object(name, index);
    }
    for _ in 0..fields.count(INTENT_LEN)? {
        let name = fields.segment()?;
        state.segments.remove(&name);
        state.changes.object(name, index);
    }
    state.intents = (0..fields.count(INTENT_LEN)?).map(|_| fields.segment()).collect::<Result<_, _>>()?;
    state.garbage.clear();
    for _ in 0..fields.count(GARBAGE_LEN)? {
        state.garbage.insert(fields.segment()?, fields.u64()?);
    }
    state.closing.clear();
    for _ in 0..fields.count(CLOSING_LEN)? {
        let (at, fold) = (fields.partition()?, decode_fold(&mut fields)?);
        state.closing.insert((fold.object, at), fold);
    }
    for _ in 0..fields.count(PARTITION_NAME_LEN)? {
        let at = fields.partition()?;
        state.partitions.remove(&at);
        state.changes.partition_gone(at, index);
    }
    for _ in 0..fields.count(MIN_PARTITION_LEN)? {
        let at = fields.partition()?;
        let partition = PartitionState { changed: Changed(index), ..decode_partition(&mut fields)? };
        state.partitions.insert(at, partition);
    }
    state.producers = state.partitions.values().map(|partition| partition.producers.len()).sum();
    fields.end()
}

pub(super) fn check(state: &State) -> Result<(), DecodeError> {
    for (at, partition) in &state.partitions {
        let runs = partition.runs.iter().map(|run| run.segment);
        let mut objects = runs.chain(partition.folds.iter().map(|fold| fold.object));
        if let Some(unknown) = objects.find(|object| !state.segments.contains_key(object)) {
            return Err(DecodeError::Invalid(format!("{at} has a run or a fold in {unknown}, which is not counted")));
        }
    }
    Ok(())
}

fn decode_partition(fields: &mut Fields<'_>) -> Result<PartitionState, DecodeError> {
    let (revision, log_start, high_watermark) = (fields.u64()?, fields.i64()?, fields.i64()?);
    let (gateway, broker, generation) = (NodeId(fields.i32()?), NodeId(fields.i32()?), fields.u64()?);
    let epochs = (0..fields.count(EPOCH_LEN)?)
        .map(|_| Ok(EpochStart { leader_epoch: fields.i32()?, start_offset: fields.i64()? }))
        .collect::<Result<_, DecodeError>>()?;
    let mut producers = BTreeMap::new();
    for _ in 0..fields.count(MIN_PRODUCER_LEN)? {
        let (id, epoch, count) = (fields.i64()?, fields.i16()?, fields.u8()?);
        if usize::from(count) > BATCHES {
            return Err(DecodeError::Invalid(format!("producer {id} with {count} batches")));
        }
        let batches = (0..count)
            .map(|_| {
                let (last_sequence, last_offset) = (fields.i32()?, fields.i64()?);
                Ok(BatchMeta { last_sequence, last_offset, offset_delta: fields.i32()?, timestamp: fields.i64()? })
            })
            .collect::<Result<Vec<_>, DecodeError>>()?;
        producers.insert(id, Producer::restored(epoch, batches));
    }
    let folds = (0..fields.count(FOLD_LEN)?).map(|_| decode_fold(fields)).collect::<Result<_, _>>()?;
    let runs = (0..fields.count(RUN_LEN)?).map(|_| decode_run(fields)).collect::<Result<_, _>>()?;
    let route = Route { generation, gateway, broker };
    Ok(PartitionState {
        changed: Changed::default(),
        revision,
        log_start,
        high_watermark,
        route,
        epochs,
        producers,
        folds,
        runs,
    })
}
