//! The records of an uncompressed batch, for tests and tools. Nothing on the way of a produce or a fetch reads them.

use bytes::{Buf, Bytes};
use tidemark_model::Batch;
use tidemark_model::batch::{HEADER_LEN, PREFIX_LEN};

use super::{Codec, codec};

/// One record. Key, value and headers share the batch's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// The bytes are not the records that the batch's header claims, or are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("record {0} of the batch cannot be read")]
pub struct BadRecord(pub i32);

/// Reads one record after the other, and ends after the first bad one.
#[derive(Debug, Clone)]
pub struct Records {
    base_offset: i64,
    base_timestamp: i64,
    index: i32,
    count: i32,
    bytes: Bytes,
}

/// The records of an uncompressed batch.
pub fn records(batch: &Batch) -> Records {
    let compressed = codec(batch) != Some(Codec::None);
    let bytes = if compressed { Bytes::new() } else { batch.body().slice(HEADER_LEN - PREFIX_LEN..) };
    Records {
        base_offset: batch.base_offset,
        base_timestamp: batch.base_timestamp(),
        index: 0,
        count: batch.record_count(),
        bytes,
    }
}

impl Iterator for Records {
    type Item = Result<Record, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.count {
            return None;
        }
        let index = self.index;
        self.index += 1;
        let record = self.read();
        if record.is_none() {
            self.index = self.count;
        }
        Some(record.ok_or(BadRecord(index)))
    }
}

impl Records {
    fn read(&mut self) -> Option<Record> {
        let mut record = take(&mut self.bytes, true)??;
        record.try_get_i8().ok()?;
        let timestamp = self.base_timestamp.wrapping_add(varlong(&mut record)?);
        let offset = self.base_offset.wrapping_add(varlong(&mut record)?);
        let key = take(&mut record, false)?;
        let value = take(&mut record, false)?;
        let count = varlong(&mut record)?;
        let mut headers = Vec::new();
        for _ in 0..count {
            headers.push((take(&mut record, true)??, take(&mut record, false)?));
        }
        (record.is_empty() && count >= 0).then_some(Record { offset, timestamp, key, value, headers })
    }
}

/// Bytes after their length: none where they do not fit, and inside that none where the length is -1. `some` wants a length.
fn take(bytes: &mut Bytes, some: bool) -> Option<Option<Bytes>> {
    match varlong(bytes)? {
        -1 if !some => Some(None),
        length => {
            let length = usize::try_from(length).ok()?;
            (length <= bytes.len()).then(|| Some(bytes.split_to(length)))
        }
    }
}

fn varlong(bytes: &mut Bytes) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}
