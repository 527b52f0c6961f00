//! Makes batches of uncompressed records, for tests and tools.

use bytes::{BufMut, Bytes};
use tidemark_model::Batch;
use tidemark_model::batch::{HEADER_LEN, LOG_OVERHEAD, MAGIC, PREFIX_LEN};

/// Builds a batch as a producer sends it: base offset 0, leader epoch -1.
///
/// ```
/// use tidemark_wire::batch::BatchBuilder;
///
/// let batch = BatchBuilder::new().timestamp(1_000).record(Some(b"key"), Some(b"value")).build();
/// assert_eq!(batch.record_count(), 1);
/// ```
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    attributes: i16,
    base_timestamp: Option<i64>,
    timestamp: i64,
    max_timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    count: i32,
    records: Vec<u8>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    pub fn new() -> Self {
        Self {
            attributes: 0,
            base_timestamp: None,
            timestamp: -1,
            max_timestamp: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: 0,
            records: Vec::new(),
        }
    }

    pub fn attributes(mut self, attributes: i16) -> Self {
        self.attributes = attributes;
        self
    }

    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        (self.producer_id, self.producer_epoch, self.base_sequence) = (id, epoch, base_sequence);
        self
    }

    /// The timestamp of the records that follow.
    pub fn timestamp(mut self, timestamp: i64) -> Self {
        self.timestamp = timestamp;
        self
    }

    pub fn record(mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        let base_timestamp = *self.base_timestamp.get_or_insert(self.timestamp);
        self.max_timestamp = self.max_timestamp.max(self.timestamp);
        let mut record = vec![0];
        put_varlong(&mut record, self.timestamp.wrapping_sub(base_timestamp));
        put_varlong(&mut record, i64::from(self.count));
        for field in [key, value] {
            put_varlong(&mut record, field.map_or(-1, |field| field.len() as i64));
            record.put_slice(field.unwrap_or_default());
        }
        put_varlong(&mut record, 0);
        put_varlong(&mut self.records, record.len() as i64);
        self.records.put_slice(&record);
        self.count += 1;
        self
    }

    /// The records field of a Produce request.
    pub fn wire(self) -> Bytes {
        let mut wire = Vec::with_capacity(HEADER_LEN + self.records.len());
        wire.put_i64(0);
        wire.put_i32((HEADER_LEN - LOG_OVERHEAD + self.records.len()) as i32);
        wire.put_i32(-1);
        wire.put_u8(MAGIC);
        wire.put_u32(0);
        wire.put_i16(self.attributes);
        wire.put_i32(self.count - 1);
        wire.put_i64(self.base_timestamp.unwrap_or(-1));
        wire.put_i64(self.max_timestamp);
        wire.put_i64(self.producer_id);
        wire.put_i16(self.producer_epoch);
        wire.put_i32(self.base_sequence);
        wire.put_i32(self.count);
        wire.put_slice(&self.records);
        seal(&mut wire);
        wire.into()
    }

    pub fn build(self) -> Batch {
        Batch::from_body(0, -1, self.wire().slice(PREFIX_LEN..)).expect("what was just built is a batch")
    }
}

/// Writes the CRC of a whole batch into its header.
fn seal(wire: &mut [u8]) {
    let crc = crc32c::crc32c(&wire[21..]);
    wire[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Zigzag, then seven bits a byte, the lowest first.
fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut value = (value << 1 ^ value >> 63) as u64;
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
