//! Batches as producers make them, each with a number of its own that is found again in its bytes.

use bytes::{BufMut, Bytes, BytesMut};
use tidemark_model::Batch;

/// Who made a batch, in Kafka's terms.
#[derive(Debug, Clone, Copy)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
    pub sequence: i32,
}

pub const NOBODY: Producer = Producer { id: -1, epoch: -1, sequence: -1 };

/// Bytes of a batch's header.
const HEADER: usize = 61;
/// The number is the last thing in the last record but for its count of headers.
const NUMBER_LEN: usize = 8;

/// A batch of `count` records a millisecond apart, with `size` bytes of value in each but the last, which has the number.
pub fn batch(number: u64, producer: Producer, count: i32, timestamp: i64, size: usize) -> Batch {
    let mut records = BytesMut::new();
    for n in 0..count {
        let mut record = BytesMut::new();
        record.put_u8(0);
        varint(&mut record, i64::from(n));
        varint(&mut record, i64::from(n));
        varint(&mut record, -1);
        if n == count - 1 {
            varint(&mut record, NUMBER_LEN as i64);
            record.put_u64(number);
        } else {
            varint(&mut record, size as i64);
            record.put_bytes(number as u8, size);
        }
        varint(&mut record, 0);
        varint(&mut records, record.len() as i64);
        records.put_slice(&record);
    }
    let mut wire = BytesMut::with_capacity(HEADER + records.len());
    wire.put_i64(0);
    wire.put_i32((HEADER - 12 + records.len()) as i32);
    wire.put_i32(-1);
    wire.put_u8(2);
    wire.put_u32(0);
    wire.put_i16(0);
    wire.put_i32(count - 1);
    wire.put_i64(timestamp);
    wire.put_i64(timestamp + i64::from(count) - 1);
    wire.put_i64(producer.id);
    wire.put_i16(producer.epoch);
    wire.put_i32(producer.sequence);
    wire.put_i32(count);
    wire.put_slice(&records);
    let crc = crc32c::crc32c(&wire[21..]);
    wire[17..21].copy_from_slice(&crc.to_be_bytes());
    Batch::split_from(&mut wire.freeze()).expect("what was made here is a batch")
}

/// The number of a batch that was made here.
pub fn number(body: &Bytes) -> Option<u64> {
    let end = body.len().checked_sub(1)?;
    let number = body.get(end.checked_sub(NUMBER_LEN)?..end)?;
    Some(u64::from_be_bytes(number.try_into().ok()?))
}

fn varint(out: &mut BytesMut, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}
