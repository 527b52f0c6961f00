//! A record batch (magic 2) in memory: a small owned prefix and a shared body that nobody copies.
//!
//! The wire form, big-endian, from Kafka's `DefaultRecordBatch`:
//!
//! | at | size | field |
//! |---|---|---|
//! | 0 | 8 | base offset |
//! | 8 | 4 | batch length: bytes after this field |
//! | 12 | 4 | partition leader epoch |
//! | 16 | 1 | magic, 2 |
//! | 17 | 4 | CRC32C of everything from the attributes on |
//! | 21 | 2 | attributes: codec in bits 0-2, 3 log append time, 4 transactional, 5 control, 6 delete horizon |
//! | 23 | 4 | last offset delta |
//! | 27 | 8 | base timestamp |
//! | 35 | 8 | max timestamp |
//! | 43 | 8 | producer id |
//! | 51 | 2 | producer epoch |
//! | 53 | 4 | base sequence |
//! | 57 | 4 | number of records |
//! | 61 | | records |
//!
//! The first 16 bytes are the prefix: the log assigns them, and they are outside the CRC. The rest is the body.

use bytes::{Buf, BufMut, Bytes};

/// Bytes of the prefix: base offset, batch length and leader epoch.
pub const PREFIX_LEN: usize = 16;
/// Bytes of a batch without its records.
pub const HEADER_LEN: usize = 61;
/// Bytes of the base offset and batch length, which the batch length does not count.
pub const LOG_OVERHEAD: usize = 12;
/// The only magic that is stored.
pub const MAGIC: u8 = 2;

/// A record batch. The body has at least the bytes of a header, so that no accessor can fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub base_offset: i64,
    pub leader_epoch: i32,
    body: Bytes,
}

/// Why bytes are not a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than the batch says it has. In a fetch response: the last batch was cut by a size limit.
    #[error("batch needs {needed} bytes and {available} are there")]
    Truncated { needed: usize, available: usize },
    /// The length is less than a header's. The bytes are not a batch.
    #[error("batch length {0} is less than a batch header")]
    BadLength(i32),
    /// A message set of magic 0 or 1, or garbage.
    #[error("magic {0} is not 2")]
    BadMagic(u8),
}

impl Batch {
    /// Splits the batch at the front off `wire`, sharing its memory. `wire` is unchanged when this fails.
    pub fn split_from(wire: &mut Bytes) -> Result<Self, BatchError> {
        if wire.len() < PREFIX_LEN + 1 {
            return Err(BatchError::Truncated { needed: HEADER_LEN, available: wire.len() });
        }
        let mut prefix = &wire[..PREFIX_LEN];
        let base_offset = prefix.get_i64();
        let length = prefix.get_i32();
        let leader_epoch = prefix.get_i32();
        let magic = wire[PREFIX_LEN];
        if magic != MAGIC {
            return Err(BatchError::BadMagic(magic));
        }
        if length < (HEADER_LEN - LOG_OVERHEAD) as i32 {
            return Err(BatchError::BadLength(length));
        }
        let total = length as usize + LOG_OVERHEAD;
        if wire.len() < total {
            return Err(BatchError::Truncated { needed: total, available: wire.len() });
        }
        let mut whole = wire.split_to(total);
        whole.advance(PREFIX_LEN);
        Ok(Self { base_offset, leader_epoch, body: whole })
    }

    /// A batch of an already separated body (everything from the magic on).
    pub fn from_body(base_offset: i64, leader_epoch: i32, body: Bytes) -> Result<Self, BatchError> {
        if body.len() < HEADER_LEN - PREFIX_LEN {
            return Err(BatchError::Truncated { needed: HEADER_LEN - PREFIX_LEN, available: body.len() });
        }
        if i32::try_from(body.len() + 4).is_err() {
            return Err(BatchError::BadLength(i32::MAX));
        }
        if body[0] != MAGIC {
            return Err(BatchError::BadMagic(body[0]));
        }
        Ok(Self { base_offset, leader_epoch, body })
    }

    /// Splits all of `wire` into batches, which share its memory.
    pub fn split_all(mut wire: Bytes) -> Result<Vec<Self>, BatchError> {
        let mut batches = Vec::new();
        while !wire.is_empty() {
            batches.push(Self::split_from(&mut wire)?);
        }
        Ok(batches)
    }

    /// The 16 bytes that precede the body on the wire.
    pub fn prefix(&self) -> [u8; PREFIX_LEN] {
        let mut prefix = [0; PREFIX_LEN];
        let mut out = &mut prefix[..];
        out.put_i64(self.base_offset);
        out.put_i32(self.body.len() as i32 + 4);
        out.put_i32(self.leader_epoch);
        prefix
    }

    /// Everything from the magic on.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Bytes of the batch on the wire.
    pub fn wire_len(&self) -> usize {
        PREFIX_LEN + self.body.len()
    }

    /// Whether the CRC in the header is that of the bytes after it. Reads the whole body.
    pub fn crc_matches(&self) -> bool {
        crc32c::crc32c(&self.body[5..]) == self.crc()
    }

    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(self.field(17))
    }

    pub fn attributes(&self) -> i16 {
        i16::from_be_bytes(self.field(21))
    }

    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(self.field(23))
    }

    /// The offset of the batch's last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta()))
    }

    /// The offset that follows the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Milliseconds since the epoch of the first record, or what the attributes say.
    pub fn base_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.field(27))
    }

    /// The largest timestamp of the batch, in milliseconds since the epoch.
    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.field(35))
    }

    /// The producer's id, or -1 for a producer that is not idempotent.
    pub fn producer_id(&self) -> i64 {
        i64::from_be_bytes(self.field(43))
    }

    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(self.field(51))
    }

    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(self.field(53))
    }

    /// The sequence of the last record. Sequences wrap from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        let base = self.base_sequence();
        if base < 0 {
            return base;
        }
        let last = i64::from(base) + i64::from(self.last_offset_delta());
        (last % (i64::from(i32::MAX) + 1)) as i32
    }

    /// The number of records that the header claims.
    pub fn record_count(&self) -> i32 {
        i32::from_be_bytes(self.field(57))
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes() & 0x10 != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes() & 0x20 != 0
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        let at = at - PREFIX_LEN;
        self.body[at..at + N].try_into().expect("a body has at least the bytes of a header")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(records: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        wire.put_i64(7);
        wire.put_i32((HEADER_LEN - LOG_OVERHEAD + records.len()) as i32);
        wire.put_i32(3);
        wire.put_u8(MAGIC);
        wire.put_u32(0);
        wire.put_i16(0);
        wire.put_i32(4);
        wire.put_i64(100);
        wire.put_i64(104);
        wire.put_i64(9);
        wire.put_i16(1);
        wire.put_i32(i32::MAX - 1);
        wire.put_i32(5);
        wire.put_slice(records);
        let crc = crc32c::crc32c(&wire[21..]);
        wire[17..21].copy_from_slice(&crc.to_be_bytes());
        wire
    }

    #[test]
    fn split_keeps_every_byte_and_shares_them() {
        let wire = Bytes::from([sample(b"abc"), sample(b"")].concat());
        let batches = Batch::split_all(wire.clone()).unwrap();
        assert_eq!(batches.len(), 2);
        assert_eq!(batches[0].body().as_ptr(), wire[PREFIX_LEN..].as_ptr());
        let again: Vec<u8> = batches.iter().flat_map(|b| [&b.prefix()[..], b.body()].concat()).collect();
        assert_eq!(again, wire);
        assert!(batches[0].crc_matches());
        assert_eq!(batches[0].next_offset(), 12);
        assert_eq!(batches[0].last_sequence(), 2, "sequences wrap to 0 after i32::MAX");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), mutate in any::<Option<(u8, u8)>>()) {
            let mut wire = sample(&bytes);
            if let Some((at, value)) = mutate {
                let at = at as usize % wire.len();
                wire[at] = value;
            }
            for bytes in [Bytes::from(bytes), Bytes::from(wire)] {
                for batch in Batch::split_all(bytes).unwrap_or_default() {
                    let _ = (batch.last_offset(), batch.last_sequence(), batch.crc_matches());
                }
            }
        }
    }
}
