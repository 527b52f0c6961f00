//! Finding a record by time inside one batch: the only place that looks at records, and decompresses them. Asked for by
//! ListOffsets, for one batch each; never on the way of a produce or a fetch.

use std::io::{self, Read};

use tidemark_model::Batch;
use tidemark_wire::batch::decompressed;

use crate::stamp::is_stamped;

/// Bytes that the records of a batch may have when decompressed. More is not looked at.
const MAX_DECOMPRESSED: u64 = 1 << 30;

/// Which record is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The first with this timestamp or a later one.
    AtLeast(i64),
    /// The first with the largest timestamp.
    Largest,
}

/// A record that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
}

/// Finds a record at `from` or above. Nothing when the batch has none such. An error when its records cannot be read.
pub(crate) fn find(batch: &Batch, wanted: Wanted, from: i64) -> io::Result<Option<Found>> {
    if is_stamped(batch) {
        let timestamp = batch.max_timestamp();
        let found = match wanted {
            Wanted::AtLeast(least) => timestamp >= least,
            Wanted::Largest => true,
        };
        return Ok(found.then_some(Found { offset: batch.base_offset.max(from), timestamp }));
    }
    let mut records = decompressed(batch)?.take(MAX_DECOMPRESSED);
    let mut largest: Option<Found> = None;
    for _ in 0..batch.record_count() {
        let (timestamp_delta, offset_delta) = next_record(&mut records)?;
        let found = Found {
            offset: batch.base_offset.saturating_add(offset_delta),
            timestamp: batch.base_timestamp().saturating_add(timestamp_delta),
        };
        if found.offset < from {
            continue;
        }
        match wanted {
            Wanted::AtLeast(least) if found.timestamp >= least => return Ok(Some(found)),
            Wanted::AtLeast(_) => {}
            Wanted::Largest => {
                if largest.is_none_or(|largest| found.timestamp > largest.timestamp) {
                    largest = Some(found);
                }
            }
        }
    }
    Ok(largest)
}

/// Reads one record and returns its deltas of timestamp and offset.
fn next_record(records: &mut impl Read) -> io::Result<(i64, i64)> {
    let length = u64::try_from(varint(records)?).map_err(|_| invalid("a record of negative length".into()))?;
    let mut record = records.take(length);
    let mut attributes = [0];
    record.read_exact(&mut attributes)?;
    let deltas = (varint(&mut record)?, varint(&mut record)?);
    let left = record.limit();
    if io::copy(&mut record, &mut io::sink())? != left {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(deltas)
}

/// A zigzag varint of up to 64 bits.
fn varint(bytes: &mut impl Read) -> io::Result<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        bytes.read_exact(&mut byte)?;
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(invalid("a number of more than 64 bits".into()))
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
pub(crate) mod tests;
