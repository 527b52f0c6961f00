//! Reading a segment's index, finding blocks in it, and taking batches out of blocks.

use std::ops::Range;

use bytes::Bytes;
use tidemark_model::batch::HEADER_LEN;
use tidemark_model::storage::AbortedTransaction;
use tidemark_model::{Batch, JournalId, TopicId, TopicPartition};
use uuid::Uuid;

use super::{
    ABORTED_LEN, BLOCK_LEN, Block, EPOCH_LEN, EpochStart, MAGIC, MAX_INDEX_LEN, RUN_LEN, Run, SegmentIndex, Span,
    TRAILER_LEN, VERSION, WHAT,
};
use crate::format::Fields;
use crate::names::SegmentName;
use crate::{Bucket, FormatError, StoreError};

/// Read first from the end of an object: holds the index of 64 MiB of a few hundred partitions, or of 100 MiB of one.
const FIRST_READ: u64 = 64 * 1024;

impl SegmentIndex {
    /// Reads the index of the object at `key`, of `object_size` bytes, with one request, or two when it is long.
    pub async fn read(bucket: &Bucket, key: &str, object_size: u64) -> Result<Self, StoreError> {
        let mut len = FIRST_READ.min(object_size);
        loop {
            let tail = bucket.get_range(key, object_size - len..object_size).await?;
            match Self::parse(&tail, object_size) {
                Ok(index) => return Ok(index),
                Err(FormatError::Short { needed, .. }) if len < needed && needed <= object_size => len = needed,
                Err(why) => return Err(StoreError::unreadable(key, &why)),
            }
        }
    }

    /// Parses the index out of the last bytes of an object of `object_size` bytes. [`FormatError::Short`] says how many
    /// are needed when there are too few.
    pub fn parse(tail: &[u8], object_size: u64) -> Result<Self, FormatError> {
        let available = tail.len() as u64;
        let short = |needed| FormatError::Short { needed, available };
        let (rest, trailer) = tail.split_last_chunk::<TRAILER_LEN>().ok_or_else(|| short(TRAILER_LEN as u64))?;
        let (fields, magic) = trailer.split_at(TRAILER_LEN - MAGIC.len());
        if magic != MAGIC {
            return Err(FormatError::Magic(WHAT));
        }
        let mut fields = Fields::new(WHAT, fields);
        let (size, index_len, version, zero, crc) =
            (fields.u64()?, fields.u32()? as usize, fields.u16()?, fields.u16()?, fields.u32()?);
        if index_len > MAX_INDEX_LEN {
            return Err(FormatError::invalid(WHAT, format!("index of {index_len} bytes")));
        }
        let footer_len = index_len + TRAILER_LEN;
        let index_at = rest.len().checked_sub(index_len).ok_or_else(|| short(footer_len as u64))?;
        if crc32c::crc32c(&tail[index_at..tail.len() - MAGIC.len() - 4]) != crc {
            return Err(FormatError::Checksum("segment index"));
        }
        if version > VERSION {
            return Err(FormatError::Version { what: WHAT, found: version, known: VERSION });
        }
        if version == 0 || zero != 0 {
            return Err(FormatError::invalid(WHAT, "version 0 or reserved bits set"));
        }
        if size != object_size {
            let why = format!("object of {object_size} bytes whose trailer says {size}");
            return Err(FormatError::invalid(WHAT, why));
        }
        let runs_end = object_size.checked_sub(footer_len as u64).ok_or_else(|| short(footer_len as u64))?;
        parse_index(&rest[index_at..], runs_end)
    }

    /// The run of a partition.
    pub fn run(&self, partition: TopicPartition) -> Option<&Run> {
        let at = self.runs.binary_search_by(|run| run.partition.cmp(&partition)).ok()?;
        self.runs.get(at)
    }

    /// About how many bytes of memory it takes, for a cache.
    pub fn weight(&self) -> usize {
        let run = |run: &Run| {
            size_of::<Run>()
                + size_of_val(&run.epochs[..])
                + size_of_val(&run.blocks[..])
                + size_of_val(&run.aborted[..])
        };
        size_of::<Self>() + self.runs.iter().map(run).sum::<usize>()
    }
}

impl Run {
    /// The first block that has a record at `offset` or above; none when the run ends below.
    pub fn block_at_offset(&self, offset: i64) -> Option<usize> {
        let at = self.blocks.partition_point(|block| block.last_offset < offset);
        (at < self.blocks.len()).then_some(at)
    }

    /// The first block that has a record with this timestamp or a later one.
    pub fn block_at_time(&self, timestamp: i64) -> Option<usize> {
        self.blocks.iter().position(|block| block.max_timestamp >= timestamp)
    }

    /// Blocks from `first` on of together at most `max_bytes`, but at least one block.
    pub fn span(&self, first: usize, max_bytes: u64) -> Option<Span> {
        let start = self.blocks.get(first)?.position;
        let within = |block: &Block| block.end() - start <= max_bytes;
        let count = self.blocks[first..].iter().take_while(|block| within(block)).count().max(1);
        self.blocks_span(first..first + count)
    }

    /// The bytes of the given blocks; nothing when they are not all there.
    pub fn blocks_span(&self, blocks: Range<usize>) -> Option<Span> {
        let within = self.blocks.get(blocks.clone())?;
        let (first, last) = (within.first()?, within.last()?);
        Some(Span { bytes: first.position..last.end(), blocks })
    }

    /// Takes the batches out of the bytes of a span, sharing their memory, after checking the bytes.
    pub fn decode(&self, span: &Span, bytes: &Bytes) -> Result<Vec<Batch>, FormatError> {
        let blocks = self
            .blocks
            .get(span.blocks.clone())
            .ok_or_else(|| FormatError::invalid(WHAT, format!("run without blocks {:?}", span.blocks)))?;
        let expected: u64 = blocks.iter().map(|block| u64::from(block.length)).sum();
        if expected != bytes.len() as u64 {
            let why = format!("{} bytes for blocks of together {expected}", bytes.len());
            return Err(FormatError::invalid(WHAT, why));
        }
        let mut batches = Vec::new();
        let mut position = 0;
        for block in blocks {
            let end = position + block.length as usize;
            let wire = bytes.slice(position..end);
            position = end;
            if crc32c::crc32c(&wire) != block.crc {
                return Err(FormatError::Checksum("segment block"));
            }
            block.split(wire, &mut batches)?;
        }
        Ok(batches)
    }

    /// The transactions aborted in these offsets.
    pub fn aborted_in(&self, offsets: Range<i64>) -> impl Iterator<Item = &AbortedTransaction> {
        self.aborted
            .iter()
            .filter(move |aborted| aborted.last_offset >= offsets.start && aborted.first_offset < offsets.end)
    }
}

impl Block {
    /// Where in the object the byte after it is.
    pub fn end(&self) -> u64 {
        self.position + u64::from(self.length)
    }

    fn split(&self, mut wire: Bytes, batches: &mut Vec<Batch>) -> Result<(), FormatError> {
        let mut next = self.first_offset;
        while !wire.is_empty() {
            let batch = Batch::split_from(&mut wire).map_err(|e| FormatError::invalid(WHAT, e.to_string()))?;
            let in_order = batch.base_offset >= next && batch.last_offset_delta() >= 0;
            if !in_order || batch.last_offset() > self.last_offset {
                let (base, last) = (batch.base_offset, batch.last_offset());
                return Err(FormatError::invalid(WHAT, format!("batch {base}..={last} out of place")));
            }
            next = batch.next_offset();
            batches.push(batch);
        }
        Ok(())
    }
}

fn parse_index(bytes: &[u8], runs_end: u64) -> Result<SegmentIndex, FormatError> {
    let mut fields = Fields::new(WHAT, bytes);
    let journal = JournalId(fields.u32()?);
    let name = SegmentName {
        epoch: fields.u32()?,
        first_index: fields.u64()?,
        last_index: fields.u64()?,
        attempt: fields.u32()?,
    };
    let count = fields.count(RUN_LEN)?;
    let mut runs: Vec<Run> = Vec::with_capacity(count);
    let mut position = MAGIC.len() as u64;
    for _ in 0..count {
        let run = parse_run(&mut fields)?;
        check_run(&run, runs.last(), position, runs_end)?;
        position = run.position + run.length;
        runs.push(run);
    }
    fields.end()?;
    Ok(SegmentIndex { journal, name, runs })
}

fn parse_run(fields: &mut Fields<'_>) -> Result<Run, FormatError> {
    let partition = TopicPartition::new(TopicId(Uuid::from_u128(fields.u128()?)), fields.i32()?);
    let (first_offset, last_offset) = (fields.i64()?, fields.i64()?);
    let (position, length) = (fields.u64()?, fields.u64()?);
    let (max_timestamp, max_timestamp_offset) = (fields.i64()?, fields.i64()?);
    // A count that the bytes left cannot hold fails in `take`, before anything is allocated for it.
    let (epochs, blocks, aborted) = (fields.u32()? as usize, fields.u32()? as usize, fields.u32()? as usize);
    let mut epoch_fields = Fields::new(WHAT, fields.take(epochs.saturating_mul(EPOCH_LEN))?);
    let mut block_fields = Fields::new(WHAT, fields.take(blocks.saturating_mul(BLOCK_LEN))?);
    let mut aborted_fields = Fields::new(WHAT, fields.take(aborted.saturating_mul(ABORTED_LEN))?);
    let epoch = |_| Ok(EpochStart { leader_epoch: epoch_fields.i32()?, start_offset: epoch_fields.i64()? });
    let mut block_position = position;
    let block = |_| {
        let (first_offset, last_offset, max_timestamp) =
            (block_fields.i64()?, block_fields.i64()?, block_fields.i64()?);
        let (length, crc) = (block_fields.u32()?, block_fields.u32()?);
        let block = Block { first_offset, last_offset, max_timestamp, position: block_position, length, crc };
        block_position = block_position.saturating_add(u64::from(length));
        Ok(block)
    };
    let transaction = |_| {
        let (first_offset, last_offset) = (aborted_fields.i64()?, aborted_fields.i64()?);
        Ok(AbortedTransaction { first_offset, last_offset, producer_id: aborted_fields.i64()? })
    };
    Ok(Run {
        partition,
        first_offset,
        last_offset,
        position,
        length,
        max_timestamp,
        max_timestamp_offset,
        epochs: (0..epochs).map(epoch).collect::<Result<_, FormatError>>()?,
        blocks: (0..blocks).map(block).collect::<Result<_, FormatError>>()?,
        aborted: (0..aborted).map(transaction).collect::<Result<_, FormatError>>()?,
    })
}

/// What every reader relies on, so that none has to look twice.
fn check_run(run: &Run, before: Option<&Run>, position: u64, runs_end: u64) -> Result<(), FormatError> {
    let invalid = |why: &str| Err(FormatError::invalid(WHAT, format!("run of {}: {why}", run.partition)));
    if before.is_some_and(|before| before.partition >= run.partition) {
        return invalid("not above the run before");
    }
    if run.position < position || run.position.checked_add(run.length).is_none_or(|end| end > runs_end) {
        return invalid("outside the object or over another run");
    }
    let (Some(first), Some(last)) = (run.blocks.first(), run.blocks.last()) else {
        return invalid("no blocks");
    };
    if run.epochs.is_empty() {
        return invalid("no leader epochs");
    }
    if run.first_offset < 0 || first.first_offset != run.first_offset || last.last_offset != run.last_offset {
        return invalid("its offsets are not those of its blocks");
    }
    let mut length = 0;
    for (at, block) in run.blocks.iter().enumerate() {
        let follows = at == 0 || block.first_offset > run.blocks[at - 1].last_offset;
        if !follows || block.last_offset < block.first_offset || (block.length as usize) < HEADER_LEN {
            return invalid("blocks out of order");
        }
        length += u64::from(block.length);
    }
    if length != run.length {
        return invalid("its length is not that of its blocks");
    }
    Ok(())
}
