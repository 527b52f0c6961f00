//! Laying out a segment.

use bytes::{BufMut, Bytes, BytesMut};
use tidemark_model::storage::AbortedTransaction;
use tidemark_model::{Batch, JournalId, TieredRun, TopicPartition};

use super::{
    ABORTED_LEN, BLOCK_LEN, Block, EPOCH_LEN, EpochStart, INDEX_HEADER_LEN, MAGIC, MAX_INDEX_LEN, MIN_BLOCK_LEN,
    RUN_LEN, Run, SegmentIndex, TRAILER_LEN, VERSION, WHAT,
};
use crate::FormatError;
use crate::names::SegmentName;

/// Bodies shorter than this are copied together: a write or a frame for each would cost more than the copy.
const SMALL_BODY_LEN: usize = 8 * 1024;
/// Length of the chunks that small bodies are copied into.
const COPIED_CHUNK_LEN: usize = 256 * 1024;

/// Takes runs in the order of their partitions. Bodies are shared, not copied, unless they are small.
#[derive(Debug)]
pub struct SegmentWriter {
    index: SegmentIndex,
    position: u64,
    chunks: Chunks,
}

/// A segment ready to be stored.
#[derive(Debug, Clone)]
pub struct EncodedSegment {
    /// The object's bytes, in order.
    pub chunks: Vec<Bytes>,
    /// Their sum.
    pub size: u64,
    pub index: SegmentIndex,
}

impl EncodedSegment {
    /// What the manifest keeps of it once it is stored at `object`, in the order of the partitions.
    pub fn tiered_runs(&self, object: &str) -> Vec<TieredRun> {
        self.index.runs.iter().map(|run| run.tiered(object, self.size)).collect()
    }
}

impl SegmentWriter {
    pub fn new(journal: JournalId, name: SegmentName) -> Self {
        let mut chunks = Chunks::default();
        chunks.copy(MAGIC);
        Self { index: SegmentIndex { journal, name, runs: Vec::new() }, position: MAGIC.len() as u64, chunks }
    }

    /// Bytes so far, without the index.
    pub fn len(&self) -> u64 {
        self.position
    }

    pub fn is_empty(&self) -> bool {
        self.index.runs.is_empty()
    }

    /// Adds a partition's batches, in offset order; without any, nothing. Partitions come in ascending order, each once.
    ///
    /// `aborted` are the transactions aborted in these offsets.
    ///
    /// After an error (the batches are not in order, which is the caller's bug) the writer is of no more use.
    pub fn run(
        &mut self,
        partition: TopicPartition,
        batches: impl IntoIterator<Item = Batch>,
        aborted: Vec<AbortedTransaction>,
    ) -> Result<(), FormatError> {
        let invalid = |why: String| FormatError::invalid(WHAT, format!("run of {partition}: {why}"));
        if self.index.runs.last().is_some_and(|last| last.partition >= partition) {
            return Err(invalid("it is not above the run before".into()));
        }
        let mut batches = batches.into_iter();
        let Some(first) = batches.next() else { return Ok(()) };
        if first.base_offset < 0 {
            return Err(invalid(format!("offset {} is negative", first.base_offset)));
        }
        let mut run = Run {
            partition,
            first_offset: first.base_offset,
            last_offset: first.base_offset - 1,
            position: self.position,
            length: 0,
            max_timestamp: i64::MIN,
            max_timestamp_offset: first.base_offset,
            epochs: Vec::new(),
            blocks: Vec::new(),
            aborted,
        };
        for batch in std::iter::once(first).chain(batches) {
            if batch.base_offset <= run.last_offset || batch.last_offset_delta() < 0 {
                let (base, last) = (batch.base_offset, batch.last_offset());
                return Err(invalid(format!("batch {base}..={last} follows offset {}", run.last_offset)));
            }
            self.add(&mut run, batch);
        }
        self.index.runs.push(run);
        Ok(())
    }

    /// Adds the index. Fails when it is too long to be read back: fewer partitions must go into one segment.
    pub fn finish(self) -> Result<EncodedSegment, FormatError> {
        let Self { index, position, mut chunks } = self;
        let footer = encode_footer(&index, position)?;
        let size = position + footer.len() as u64;
        chunks.share(footer);
        Ok(EncodedSegment { chunks: chunks.finish(), size, index })
    }

    fn add(&mut self, run: &mut Run, batch: Batch) {
        let len = batch.wire_len() as u32;
        let prefix = batch.prefix();
        if run.epochs.last().is_none_or(|epoch| epoch.leader_epoch != batch.leader_epoch) {
            run.epochs.push(EpochStart { leader_epoch: batch.leader_epoch, start_offset: batch.base_offset });
        }
        if run.blocks.last().is_none_or(|block| block.length >= MIN_BLOCK_LEN) {
            run.blocks.push(Block {
                first_offset: batch.base_offset,
                last_offset: batch.base_offset,
                max_timestamp: i64::MIN,
                position: self.position,
                length: 0,
                crc: 0,
            });
        }
        let block = run.blocks.last_mut().expect("pushed when there is none");
        block.crc = crc32c::crc32c_append(crc32c::crc32c_append(block.crc, &prefix), batch.body());
        block.length += len;
        block.last_offset = batch.last_offset();
        block.max_timestamp = block.max_timestamp.max(batch.max_timestamp());

        if batch.max_timestamp() > run.max_timestamp {
            run.max_timestamp = batch.max_timestamp();
            run.max_timestamp_offset = batch.base_offset;
        }
        run.last_offset = batch.last_offset();
        run.length += u64::from(len);
        self.position += u64::from(len);
        self.chunks.copy(&prefix);
        match batch.body() {
            body if body.len() < SMALL_BODY_LEN => self.chunks.copy(body),
            body => self.chunks.share(body.clone()),
        }
    }
}

/// The object's bytes: what is copied is gathered, what is shared is kept.
#[derive(Debug, Default)]
struct Chunks {
    done: Vec<Bytes>,
    copied: BytesMut,
}

impl Chunks {
    fn copy(&mut self, bytes: &[u8]) {
        if self.copied.len() + bytes.len() > self.copied.capacity() {
            self.flush();
            self.copied.reserve(COPIED_CHUNK_LEN.max(bytes.len()));
        }
        self.copied.put_slice(bytes);
    }

    fn share(&mut self, bytes: Bytes) {
        self.flush();
        self.done.push(bytes);
    }

    fn flush(&mut self) {
        if !self.copied.is_empty() {
            self.done.push(self.copied.split().freeze());
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.flush();
        self.done
    }
}

fn encode_footer(index: &SegmentIndex, position: u64) -> Result<Bytes, FormatError> {
    let run_len = |run: &Run| {
        let Run { epochs, blocks, aborted, .. } = run;
        RUN_LEN + epochs.len() * EPOCH_LEN + blocks.len() * BLOCK_LEN + aborted.len() * ABORTED_LEN
    };
    let index_len = INDEX_HEADER_LEN + index.runs.iter().map(run_len).sum::<usize>();
    if index_len > MAX_INDEX_LEN {
        return Err(FormatError::invalid(
            WHAT,
            format!("index of {index_len} bytes, at most {MAX_INDEX_LEN} are read"),
        ));
    }
    let mut out = BytesMut::with_capacity(index_len + TRAILER_LEN);
    let SegmentIndex { journal, name, runs } = index;
    out.put_u32(journal.0);
    out.put_u32(name.epoch);
    out.put_u64(name.first_index);
    out.put_u64(name.last_index);
    out.put_u32(name.attempt);
    out.put_u32(runs.len() as u32);
    for run in runs {
        encode_run(run, &mut out);
    }
    debug_assert_eq!(out.len(), index_len);
    out.put_u64(position + (index_len + TRAILER_LEN) as u64);
    out.put_u32(index_len as u32);
    out.put_u16(VERSION);
    out.put_u16(0);
    let crc = crc32c::crc32c(&out);
    out.put_u32(crc);
    out.put_slice(MAGIC);
    Ok(out.freeze())
}

fn encode_run(run: &Run, out: &mut BytesMut) {
    let Run {
        partition,
        first_offset,
        last_offset,
        position,
        length,
        max_timestamp,
        max_timestamp_offset,
        epochs,
        blocks,
        aborted,
    } = run;
    out.put_u128(partition.topic.0.as_u128());
    out.put_i32(partition.partition);
    out.put_i64(*first_offset);
    out.put_i64(*last_offset);
    out.put_u64(*position);
    out.put_u64(*length);
    out.put_i64(*max_timestamp);
    out.put_i64(*max_timestamp_offset);
    out.put_u32(epochs.len() as u32);
    out.put_u32(blocks.len() as u32);
    out.put_u32(aborted.len() as u32);
    for EpochStart { leader_epoch, start_offset } in epochs {
        out.put_i32(*leader_epoch);
        out.put_i64(*start_offset);
    }
    // Positions follow from the lengths.
    for Block { first_offset, last_offset, max_timestamp, position: _, length, crc } in blocks {
        out.put_i64(*first_offset);
        out.put_i64(*last_offset);
        out.put_i64(*max_timestamp);
        out.put_u32(*length);
        out.put_u32(*crc);
    }
    for AbortedTransaction { first_offset, last_offset, producer_id } in aborted {
        out.put_i64(*first_offset);
        out.put_i64(*last_offset);
        out.put_i64(*producer_id);
    }
}
