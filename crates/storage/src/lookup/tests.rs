use std::io::Write;

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;
use tidemark_model::batch::{HEADER_LEN, LOG_OVERHEAD, PREFIX_LEN};

use super::*;

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn compress(codec: i16, records: &[u8]) -> Vec<u8> {
    match codec {
        0 => records.to_vec(),
        1 => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(records).unwrap();
            out.finish().unwrap()
        }
        2 => {
            let mut out = [&b"\x82SNAPPY\0"[..], &[0, 0, 0, 1, 0, 0, 0, 1]].concat();
            for block in records.chunks(100) {
                let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
                out.extend((block.len() as u32).to_be_bytes());
                out.extend(block);
            }
            out
        }
        3 => {
            let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
            out.write_all(records).unwrap();
            out.finish().unwrap()
        }
        _ => zstd::encode_all(records, 1).unwrap(),
    }
}

/// A batch of one record for each timestamp.
pub(crate) fn batch_of(base_offset: i64, timestamps: &[i64], codec: i16) -> Batch {
    let base = timestamps[0];
    let mut records = Vec::new();
    for (n, timestamp) in timestamps.iter().enumerate() {
        let mut record = vec![0];
        put_varint(&mut record, timestamp - base);
        put_varint(&mut record, n as i64);
        put_varint(&mut record, -1);
        put_varint(&mut record, 50);
        record.extend([n as u8; 50]);
        put_varint(&mut record, 0);
        put_varint(&mut records, record.len() as i64);
        records.extend(record);
    }
    let records = compress(codec, &records);
    let mut wire = BytesMut::new();
    wire.put_i64(base_offset);
    wire.put_i32((HEADER_LEN - LOG_OVERHEAD + records.len()) as i32);
    wire.put_i32(0);
    wire.put_u8(2);
    wire.put_u32(0);
    wire.put_i16(codec);
    wire.put_i32(timestamps.len() as i32 - 1);
    wire.put_i64(base);
    wire.put_i64(*timestamps.iter().max().unwrap());
    wire.put_i64(-1);
    wire.put_i16(-1);
    wire.put_i32(-1);
    wire.put_i32(timestamps.len() as i32);
    wire.put_slice(&records);
    let crc = crc32c::crc32c(&wire[21..]);
    wire[17..21].copy_from_slice(&crc.to_be_bytes());
    Batch::split_from(&mut wire.freeze()).unwrap()
}

#[test]
fn the_record_itself_is_found_in_every_codec() {
    for codec in 0..=4 {
        let batch = batch_of(100, &[50, 40, 70, 60, 70], codec);
        let at_least = |timestamp| find(&batch, Wanted::AtLeast(timestamp), 0).unwrap();
        assert_eq!(at_least(0), Some(Found { offset: 100, timestamp: 50 }), "codec {codec}");
        assert_eq!(at_least(51), Some(Found { offset: 102, timestamp: 70 }), "codec {codec}");
        assert_eq!(at_least(71), None, "codec {codec}");
        assert_eq!(find(&batch, Wanted::Largest, 0).unwrap(), Some(Found { offset: 102, timestamp: 70 }));
    }
}

#[test]
fn snappy_without_framing_is_read_too() {
    let framed = batch_of(0, &[1, 2, 3], 2);
    let plain = batch_of(0, &[1, 2, 3], 0);
    let raw = snap::raw::Encoder::new().compress_vec(&plain.body()[HEADER_LEN - PREFIX_LEN..]).unwrap();
    let mut body = BytesMut::from(&framed.body()[..HEADER_LEN - PREFIX_LEN]);
    body.put_slice(&raw);
    let batch = Batch::from_body(0, 0, body.freeze()).unwrap();
    assert_eq!(find(&batch, Wanted::AtLeast(2), 0).unwrap(), Some(Found { offset: 1, timestamp: 2 }));
}

#[test]
fn records_of_a_stamped_batch_have_its_time() {
    let batch = crate::stamp::stamped(&batch_of(100, &[50, 40, 70], 0), 1_000);
    assert_eq!(find(&batch, Wanted::AtLeast(999), 0).unwrap(), Some(Found { offset: 100, timestamp: 1_000 }));
    assert_eq!(find(&batch, Wanted::AtLeast(1_001), 0).unwrap(), None);
}

proptest! {
    #[test]
    fn damaged_records_are_an_error_or_an_answer_and_never_a_panic(codec in 0i16..6, at in any::<usize>(), flip in 1u8..) {
        let good = batch_of(0, &[1, 2, 3, 4, 5, 6, 7, 8], codec.min(4));
        let mut body = BytesMut::from(&good.body()[..]);
        let records = body.len() - (HEADER_LEN - PREFIX_LEN);
        let at = HEADER_LEN - PREFIX_LEN + at % records;
        body[at] ^= flip;
        let batch = Batch::from_body(0, 0, body.freeze()).unwrap();
        let _ = find(&batch, Wanted::AtLeast(9), 0);
        let _ = find(&batch, Wanted::Largest, 0);
    }
}
