//! A snapshot of the metadata store: all that a cluster has there, as of one revision, so that it can be rebuilt.
//!
//! What the keys and values mean is the coordinator's to say. All numbers are big-endian.
//!
//! | at | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `TIDEMETA` |
//! | 8 | 2 | version, 1 |
//! | 10 | 2 | zero |
//! | 12 | 8 | revision of the metadata store |
//! | 20 | 8 | when it was taken, milliseconds since the epoch |
//! | 28 | 8 | number of entries |
//! | 36 | 4 | CRC32C of the 36 bytes before |
//! | 40 | | chunks |
//! | | 8 | zero, which ends them, and the CRC32C of all chunks' checksums |
//!
//! A chunk is its length (4), the CRC32C of what follows (4), and that many bytes of entries, at least one: length of the
//! key (4), length of the value (4), key, value.

mod store;

use bytes::{BufMut, Bytes, BytesMut};

use crate::FormatError;
use crate::format::Fields;

pub use store::Found;

const WHAT: &str = "metadata snapshot";
const MAGIC: &[u8; 8] = b"TIDEMETA";
const VERSION: u16 = 1;
const HEADER_LEN: usize = 40;
/// Bytes of an entry before its key.
const ENTRY_HEAD_LEN: usize = 8;
/// A chunk is closed when it has this many bytes.
const CHUNK_LEN: usize = 1024 * 1024;
/// Longest snapshot that is read: ten million committed offsets.
pub const MAX_LEN: u64 = 4 * 1024 * 1024 * 1024;

/// All entries of a cluster's metadata, as of a revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataSnapshot {
    pub revision: u64,
    /// Milliseconds since the epoch.
    pub taken_ms: i64,
    /// Keys without what is before them in the store, and values, in the order of the keys.
    pub entries: Vec<(String, Bytes)>,
}

impl MetadataSnapshot {
    /// The object's bytes, in order.
    pub fn encode(&self) -> Vec<Bytes> {
        let Self { revision, taken_ms, entries } = self;
        let mut header = BytesMut::with_capacity(HEADER_LEN);
        header.put_slice(MAGIC);
        header.put_u16(VERSION);
        header.put_u16(0);
        header.put_u64(*revision);
        header.put_i64(*taken_ms);
        header.put_u64(entries.len() as u64);
        let crc = crc32c::crc32c(&header);
        header.put_u32(crc);
        let mut object = vec![header.freeze()];
        let (mut chunk, mut all) = (BytesMut::new(), 0);
        let mut close = |chunk: &mut BytesMut, object: &mut Vec<Bytes>| {
            let crc = crc32c::crc32c(chunk);
            all = crc32c::crc32c_append(all, &crc.to_be_bytes());
            let mut head = BytesMut::with_capacity(8);
            head.put_u32(chunk.len() as u32);
            head.put_u32(crc);
            object.extend([head.freeze(), chunk.split().freeze()]);
        };
        for (key, value) in entries {
            chunk.put_u32(key.len() as u32);
            chunk.put_u32(value.len() as u32);
            chunk.put_slice(key.as_bytes());
            chunk.put_slice(value);
            if chunk.len() >= CHUNK_LEN {
                close(&mut chunk, &mut object);
            }
        }
        if !chunk.is_empty() {
            close(&mut chunk, &mut object);
        }
        let mut end = BytesMut::with_capacity(8);
        end.put_u32(0);
        end.put_u32(all);
        object.push(end.freeze());
        object
    }

    /// Parses a whole object. The values share its memory.
    pub fn parse(object: &Bytes) -> Result<Self, FormatError> {
        let mut fields = Fields::of_header(WHAT, MAGIC, VERSION, HEADER_LEN, object)?;
        let (revision, taken_ms, count) = (fields.u64()?, fields.i64()?, fields.u64()?);
        let mut snapshot = Self { revision, taken_ms, entries: Vec::new() };
        let (mut at, mut all) = (HEADER_LEN, 0);
        loop {
            let mut fields = Fields::new(WHAT, &object[at..]);
            let (len, crc) = (fields.u32()? as usize, fields.u32()?);
            if len == 0 {
                fields.end()?;
                if crc != all {
                    return Err(FormatError::Checksum(WHAT));
                }
                break;
            }
            if crc32c::crc32c(fields.take(len)?) != crc {
                return Err(FormatError::Checksum(WHAT));
            }
            all = crc32c::crc32c_append(all, &crc.to_be_bytes());
            at += 8;
            snapshot.parse_chunk(&object.slice(at..at + len))?;
            at += len;
        }
        if snapshot.entries.len() as u64 != count {
            let why = format!("{} entries where {count} were announced", snapshot.entries.len());
            return Err(FormatError::invalid(WHAT, why));
        }
        Ok(snapshot)
    }

    fn parse_chunk(&mut self, chunk: &Bytes) -> Result<(), FormatError> {
        let mut at = 0;
        while at < chunk.len() {
            let mut fields = Fields::new(WHAT, &chunk[at..]);
            let (key_len, value_len) = (fields.u32()? as usize, fields.u32()? as usize);
            let key = std::str::from_utf8(fields.take(key_len)?);
            let key = key.map_err(|_| FormatError::invalid(WHAT, "a key is not text"))?.to_owned();
            fields.take(value_len)?;
            let value_at = at + ENTRY_HEAD_LEN + key_len;
            at = value_at + value_len;
            if self.entries.last().is_some_and(|(before, _)| *before >= key) {
                return Err(FormatError::invalid(WHAT, "keys out of order"));
            }
            self.entries.push((key, chunk.slice(value_at..at)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
