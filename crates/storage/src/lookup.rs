//! Finding a record by time inside one batch: the only place that looks at records, and decompresses them. Asked for by
//! ListOffsets, for one batch each; never on the way of a produce or a fetch.

use std::io::{self, Read};

use bytes::Bytes;
use tidemark_model::Batch;
use tidemark_model::batch::{HEADER_LEN, PREFIX_LEN};

use crate::stamp::is_stamped;

/// Bytes that the records of a batch may have when decompressed. More is not looked at.
const MAX_DECOMPRESSED: u64 = 1 << 30;
/// What snappy-java writes before its blocks: a magic number, a version, and the oldest version that can read it.
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_LEN: usize = 16;
/// The longest block of snappy that is decompressed in one piece.
const MAX_SNAPPY_BLOCK: usize = 256 * 1024 * 1024;

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
    let mut records = records(batch)?.take(MAX_DECOMPRESSED);
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

/// The records of a batch, decompressed as they are read.
fn records(batch: &Batch) -> io::Result<Box<dyn Read>> {
    let bytes = ReadBytes(batch.body().slice(HEADER_LEN - PREFIX_LEN..));
    Ok(match batch.attributes() & 0x07 {
        0 => Box::new(bytes),
        1 => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        2 => Box::new(ReadBytes(Bytes::from(unsnap(&bytes.0)?))),
        3 => Box::new(lz4_flex::frame::FrameDecoder::new(bytes)),
        4 => Box::new(zstd::stream::read::Decoder::new(bytes)?),
        other => return Err(invalid(format!("compression codec {other}"))),
    })
}

/// Snappy as Java frames it, or as one raw block.
fn unsnap(bytes: &[u8]) -> io::Result<Vec<u8>> {
    if !bytes.starts_with(XERIAL_MAGIC) {
        return unsnap_block(bytes);
    }
    let mut out = Vec::new();
    let mut rest = bytes.get(XERIAL_HEADER_LEN..).unwrap_or_default();
    while let Some((len, after)) = rest.split_first_chunk::<4>() {
        let len = u32::from_be_bytes(*len) as usize;
        let block = after.get(..len).ok_or_else(|| invalid("a snappy block that is cut".into()))?;
        out.extend(unsnap_block(block)?);
        if out.len() as u64 > MAX_DECOMPRESSED {
            return Err(invalid("too many bytes of snappy".into()));
        }
        rest = &after[len..];
    }
    Ok(out)
}

fn unsnap_block(block: &[u8]) -> io::Result<Vec<u8>> {
    if snap::raw::decompress_len(block)? > MAX_SNAPPY_BLOCK {
        return Err(invalid("a snappy block that is too long".into()));
    }
    Ok(snap::raw::Decoder::new().decompress_vec(block)?)
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

struct ReadBytes(Bytes);

impl Read for ReadBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = buffer.len().min(self.0.len());
        buffer[..n].copy_from_slice(&self.0.split_to(n));
        Ok(n)
    }
}

#[cfg(test)]
pub(crate) mod tests;
