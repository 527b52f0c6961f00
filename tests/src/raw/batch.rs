//! Record batches (magic 2) with every field to be set wrong.

use super::Writer;

/// A batch to be. What is not set is as a correct producer would have it.
#[derive(Debug, Clone)]
pub struct Batch {
    pub values: Vec<Vec<u8>>,
    pub magic: i8,
    pub attributes: i16,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer: (i64, i16, i32),
    pub count: i32,
    pub last_offset_delta: i32,
    /// Added to the true length.
    pub length_off_by: i32,
    /// Flips bits of the true checksum.
    pub crc_flips: u32,
}

impl Batch {
    pub fn new<V: AsRef<[u8]>>(values: &[V]) -> Self {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_millis() as i64;
        Self {
            values: values.iter().map(|value| value.as_ref().to_vec()).collect(),
            magic: 2,
            attributes: 0,
            base_timestamp: now,
            max_timestamp: now,
            producer: (-1, -1, -1),
            count: values.len() as i32,
            last_offset_delta: values.len() as i32 - 1,
            length_off_by: 0,
            crc_flips: 0,
        }
    }

    /// Producer id, epoch and the sequence number of the first record.
    pub fn from_producer(mut self, id: i64, epoch: i16, sequence: i32) -> Self {
        self.producer = (id, epoch, sequence);
        self
    }

    pub fn at(mut self, timestamp: i64) -> Self {
        (self.base_timestamp, self.max_timestamp) = (timestamp, timestamp);
        self
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut records = Writer::new();
        for (delta, value) in self.values.iter().enumerate() {
            // Attributes, timestamp delta, offset delta, no key, the value, no headers.
            let record = Writer::new().i8(0).varint(0).varint(delta as i64).varint(-1);
            let record = record.varint(value.len() as i64).raw(value).varint(0);
            records = records.varint(record.bytes.len() as i64).raw(&record.bytes);
        }
        let (id, epoch, sequence) = self.producer;
        let body = Writer::new().i16(self.attributes).i32(self.last_offset_delta);
        let body = body.i64(self.base_timestamp).i64(self.max_timestamp);
        let body = body.i64(id).i16(epoch).i32(sequence).i32(self.count).raw(&records.bytes);
        let crc = crc32c::crc32c(&body.bytes) ^ self.crc_flips;
        // Leader epoch, magic and checksum count into the length; the base offset and the length itself do not.
        let length = 4 + 1 + 4 + body.bytes.len() as i32 + self.length_off_by;
        let head = Writer::new().i64(0).i32(length).i32(-1).i8(self.magic);
        head.i32(crc as i32).raw(&body.bytes).bytes
    }
}
