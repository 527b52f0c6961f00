//! Compressing records and the way back, as Java's clients read and write them. Never on the way of a produce or a fetch but
//! where a topic asks for a codec of its own.

use std::io::{self, Read, Write as _};

use bytes::{BufMut, Bytes, BytesMut};
use tidemark_model::Batch;
use tidemark_model::batch::{HEADER_LEN, PREFIX_LEN};

use super::{Codec, codec, records};

/// What snappy-java writes before its blocks: a magic number, a version, and the oldest version that can read it.
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_LEN: usize = 16;
const XERIAL_VERSION: u32 = 1;
/// Bytes that snappy-java puts into a block.
const XERIAL_BLOCK: usize = 32 * 1024;
/// The longest block of snappy that is decompressed in one piece.
const MAX_SNAPPY_BLOCK: usize = 256 * 1024 * 1024;
/// Bytes that snappy's blocks may have together.
const MAX_SNAPPY: usize = 1 << 30;
/// Bits of the attributes that name the codec.
const CODEC_BITS: i16 = 0x07;
const CRC_AT: usize = 17 - PREFIX_LEN;
const ATTRIBUTES_AT: usize = 21 - PREFIX_LEN;

/// How to compress: a codec, and its level where it has one. lz4's level is not used: there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    /// 1 to 9, or -1 for the codec's own default.
    Gzip(i32),
    Snappy,
    Lz4,
    Zstd(i32),
}

impl Compression {
    pub fn codec(self) -> Codec {
        match self {
            Self::None => Codec::None,
            Self::Gzip(_) => Codec::Gzip,
            Self::Snappy => Codec::Snappy,
            Self::Lz4 => Codec::Lz4,
            Self::Zstd(_) => Codec::Zstd,
        }
    }
}

/// The records of a batch, decompressed as they are read. Whoever reads bounds how much.
pub fn decompressed(batch: &Batch) -> io::Result<Box<dyn Read>> {
    let bytes = ReadBytes(batch.body().slice(HEADER_LEN - PREFIX_LEN..));
    Ok(match codec(batch) {
        Some(Codec::None) => Box::new(bytes),
        Some(Codec::Gzip) => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        Some(Codec::Snappy) => Box::new(ReadBytes(Bytes::from(unsnap(&bytes.0)?))),
        Some(Codec::Lz4) => Box::new(lz4_flex::frame::FrameDecoder::new(bytes)),
        Some(Codec::Zstd) => Box::new(zstd::stream::read::Decoder::new(bytes)?),
        None => return Err(invalid("a codec that does not exist")),
    })
}

/// The batch with its records compressed otherwise; nothing else of it changes. Its records may have at most
/// `max_decompressed` bytes, and are looked at one by one: an error says that they are not what the header claims.
pub fn recompressed(batch: &Batch, compression: Compression, max_decompressed: u64) -> io::Result<Batch> {
    let mut plain = Vec::new();
    decompressed(batch)?.take(max_decompressed.saturating_add(1)).read_to_end(&mut plain)?;
    if plain.len() as u64 > max_decompressed {
        return Err(invalid("more records than are decompressed"));
    }
    let uncompressed = with_records(batch, Codec::None, &plain);
    let mut offsets = uncompressed.base_offset..;
    for record in records(&uncompressed) {
        let record = record.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        if offsets.next() != Some(record.offset) {
            return Err(invalid("records whose offsets do not follow each other"));
        }
    }
    Ok(match compression {
        Compression::None => uncompressed,
        compression => with_records(batch, compression.codec(), &compress(&plain, compression)?),
    })
}

fn with_records(batch: &Batch, codec: Codec, records: &[u8]) -> Batch {
    let mut body = BytesMut::with_capacity(HEADER_LEN - PREFIX_LEN + records.len());
    body.put_slice(&batch.body()[..HEADER_LEN - PREFIX_LEN]);
    body.put_slice(records);
    let attributes = batch.attributes() & !CODEC_BITS | codec as i16;
    (&mut body[ATTRIBUTES_AT..]).put_i16(attributes);
    let crc = crc32c::crc32c(&body[ATTRIBUTES_AT..]);
    (&mut body[CRC_AT..]).put_u32(crc);
    Batch::from_body(batch.base_offset, batch.leader_epoch, body.freeze()).expect("a body of the same form")
}

fn compress(plain: &[u8], compression: Compression) -> io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(plain.to_vec()),
        Compression::Gzip(level) => {
            let level = u32::try_from(level).map_or_else(|_| flate2::Compression::default(), flate2::Compression::new);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(plain)?;
            encoder.finish()
        }
        Compression::Snappy => snap(plain),
        Compression::Lz4 => {
            // Java's reader takes independent blocks only, and its writer makes them of 64 KiB.
            let info = lz4_flex::frame::FrameInfo::new()
                .block_mode(lz4_flex::frame::BlockMode::Independent)
                .block_size(lz4_flex::frame::BlockSize::Max64KB);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(plain)?;
            encoder.finish().map_err(io::Error::other)
        }
        Compression::Zstd(level) => zstd::stream::encode_all(plain, level),
    }
}

/// Snappy as Java frames it.
fn snap(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::from(&XERIAL_MAGIC[..]);
    out.put_u32(XERIAL_VERSION);
    out.put_u32(XERIAL_VERSION);
    let mut encoder = snap::raw::Encoder::new();
    for block in plain.chunks(XERIAL_BLOCK) {
        let compressed = encoder.compress_vec(block)?;
        out.put_u32(compressed.len() as u32);
        out.extend(compressed);
    }
    Ok(out)
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
        let block = after.get(..len).ok_or_else(|| invalid("a snappy block that is cut"))?;
        out.extend(unsnap_block(block)?);
        if out.len() > MAX_SNAPPY {
            return Err(invalid("too many bytes of snappy"));
        }
        rest = &after[len..];
    }
    Ok(out)
}

fn unsnap_block(block: &[u8]) -> io::Result<Vec<u8>> {
    if snap::raw::decompress_len(block)? > MAX_SNAPPY_BLOCK {
        return Err(invalid("a snappy block that is too long"));
    }
    Ok(snap::raw::Decoder::new().decompress_vec(block)?)
}

fn invalid(why: &'static str) -> io::Error {
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
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;

    const ALL: [Compression; 6] = [
        Compression::None,
        Compression::Gzip(-1),
        Compression::Gzip(9),
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd(3),
    ];

    fn sample() -> Batch {
        let mut builder = BatchBuilder::new().producer(7, 1, 5).timestamp(1_000);
        for n in 0..500 {
            let value =
                format!("value {n} of many that are alike, of which three blocks of snappy are full at the end");
            builder = builder.record(Some(b"key"), Some(value.as_bytes()));
        }
        builder.build()
    }

    #[test]
    fn any_codec_becomes_any_other_and_the_records_stay() {
        let batch = sample();
        let all: Vec<_> = records(&batch).collect();
        assert!(all.len() == 500 && batch.wire_len() > XERIAL_BLOCK);
        for from in ALL {
            let first = recompressed(&batch, from, 1 << 20).unwrap();
            assert!(first.crc_matches() && codec(&first) == Some(from.codec()));
            assert!(from == Compression::None || first.wire_len() < batch.wire_len(), "{from:?}");
            for to in ALL {
                let second = recompressed(&first, to, 1 << 20).unwrap();
                assert_eq!(codec(&second), Some(to.codec()));
                assert_eq!((second.producer_id(), second.base_sequence(), second.record_count()), (7, 5, 500));
                let plain = recompressed(&second, Compression::None, 1 << 20).unwrap();
                assert_eq!(plain, batch, "{from:?} to {to:?}");
            }
        }
    }

    #[test]
    fn what_is_no_record_or_too_much_is_refused() {
        let batch = sample();
        assert!(recompressed(&batch, Compression::Lz4, 1_000).is_err());
        let cut = with_records(&batch, Codec::None, &batch.body()[HEADER_LEN - PREFIX_LEN..20_000]);
        assert!(recompressed(&cut, Compression::Lz4, 1 << 20).is_err());
        let lying = with_records(&batch, Codec::Zstd, b"this was never compressed");
        assert!(recompressed(&lying, Compression::None, 1 << 20).is_err());
    }
}
