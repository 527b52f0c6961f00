//! An index object: runs of partitions that are long past, listed outside of the manifest. It is read in parts, a
//! *section* for each partition.
//!
//! What a section lists is the storage crate's to say. All numbers are big-endian.
//!
//! | at | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `TIDEINDX` |
//! | 8 | 2 | version, 1 |
//! | 10 | 2 | zero |
//! | 12 | 4 | journal |
//! | 16 | 24 | its name: epoch (4), first index (8), last index (8), attempt (4) |
//! | 40 | 4 | number of sections |
//! | 44 | 4 | CRC32C of all before |
//! | 48 | | sections, in the order of their partitions |
//!
//! A section: topic id (16), partition (4), length of its content (4), the content, CRC32C of all of it before (4).

use bytes::{BufMut, Bytes, BytesMut};
use tidemark_model::{JournalId, TopicId, TopicPartition};
use uuid::Uuid;

use crate::FormatError;
use crate::format::Fields;
use crate::names::SegmentName;

const WHAT: &str = "index object";
const MAGIC: &[u8; 8] = b"TIDEINDX";
const VERSION: u16 = 1;
const HEADER_LEN: usize = 48;
const SECTION_HEADER_LEN: usize = 24;
const CRC_LEN: usize = 4;
/// Longest section that is read, far above what is written.
pub const MAX_SECTION_LEN: u64 = 64 * 1024 * 1024;

/// A partition's part of an index object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub partition: TopicPartition,
    pub content: Bytes,
}

/// A whole index object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexObject {
    pub journal: JournalId,
    pub name: SegmentName,
    pub sections: Vec<Section>,
}

impl IndexObject {
    /// The object's bytes.
    pub fn encode(&self) -> Bytes {
        let Self { journal, name, sections } = self;
        let len: u64 = sections.iter().map(|section| section.len()).sum();
        let mut out = BytesMut::with_capacity(HEADER_LEN + len as usize);
        out.put_slice(MAGIC);
        out.put_u16(VERSION);
        out.put_u16(0);
        out.put_u32(journal.0);
        let SegmentName { epoch, first_index, last_index, attempt } = name;
        out.put_u32(*epoch);
        out.put_u64(*first_index);
        out.put_u64(*last_index);
        out.put_u32(*attempt);
        out.put_u32(sections.len() as u32);
        out.put_u32(crc32c::crc32c(&out));
        sections.iter().for_each(|section| section.encode(&mut out));
        out.freeze()
    }

    /// Where each section is: its position and length.
    pub fn places(&self) -> impl Iterator<Item = (u64, u64)> {
        self.sections.iter().scan(HEADER_LEN as u64, |position, section| {
            let at = *position;
            *position += section.len();
            Some((at, section.len()))
        })
    }

    /// Parses a whole object. The sections share its memory.
    pub fn parse(object: &Bytes) -> Result<Self, FormatError> {
        let mut fields = Fields::of_header(WHAT, MAGIC, VERSION, HEADER_LEN, object)?;
        let journal = JournalId(fields.u32()?);
        let name = SegmentName {
            epoch: fields.u32()?,
            first_index: fields.u64()?,
            last_index: fields.u64()?,
            attempt: fields.u32()?,
        };
        let count = fields.u32()?;
        let mut rest = object.slice(HEADER_LEN..);
        let mut sections = Vec::new();
        for _ in 0..count {
            let (section, len) = Section::parse_front(&rest)?;
            sections.push(section);
            rest = rest.slice(len..);
        }
        if !rest.is_empty() {
            return Err(FormatError::invalid(WHAT, format!("{} bytes after the last section", rest.len())));
        }
        Ok(Self { journal, name, sections })
    }
}

impl Section {
    /// Parses the bytes of one section, neither more nor less.
    pub fn parse(bytes: &Bytes) -> Result<Self, FormatError> {
        let (section, len) = Self::parse_front(bytes)?;
        if len != bytes.len() {
            return Err(FormatError::invalid(WHAT, format!("a section of {len} bytes in {}", bytes.len())));
        }
        Ok(section)
    }

    fn parse_front(bytes: &Bytes) -> Result<(Self, usize), FormatError> {
        let mut fields = Fields::new(WHAT, bytes);
        let partition = TopicPartition::new(TopicId(Uuid::from_u128(fields.u128()?)), fields.i32()?);
        let len = fields.u32()? as usize;
        fields.take(len)?;
        let end = SECTION_HEADER_LEN + len;
        if crc32c::crc32c(&bytes[..end]) != fields.u32()? {
            return Err(FormatError::Checksum("section of an index object"));
        }
        Ok((Self { partition, content: bytes.slice(SECTION_HEADER_LEN..end) }, end + CRC_LEN))
    }

    fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        let TopicPartition { topic, partition } = self.partition;
        out.put_u128(topic.0.as_u128());
        out.put_i32(partition);
        out.put_u32(self.content.len() as u32);
        out.put_slice(&self.content);
        out.put_u32(crc32c::crc32c(&out[start..]));
    }

    fn len(&self) -> u64 {
        (SECTION_HEADER_LEN + self.content.len() + CRC_LEN) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn object() -> impl Strategy<Value = IndexObject> {
        let name = any::<(u32, u64, u64, u32)>().prop_map(|(epoch, first_index, last_index, attempt)| SegmentName {
            epoch,
            first_index,
            last_index,
            attempt,
        });
        let section = (any::<u128>(), any::<i32>(), proptest::collection::vec(any::<u8>(), 0..50)).prop_map(
            |(topic, partition, content)| Section {
                partition: TopicPartition::new(TopicId(Uuid::from_u128(topic)), partition),
                content: content.into(),
            },
        );
        (any::<u32>(), name, proptest::collection::vec(section, 0..5))
            .prop_map(|(journal, name, sections)| IndexObject { journal: JournalId(journal), name, sections })
    }

    proptest! {
        #[test]
        fn it_comes_back_whole_and_in_parts(object in object()) {
            let bytes = object.encode();
            prop_assert_eq!(IndexObject::parse(&bytes), Ok(object.clone()));
            for (section, (position, len)) in object.sections.iter().zip(object.places()) {
                let part = bytes.slice(position as usize..(position + len) as usize);
                prop_assert_eq!(&Section::parse(&part), &Ok(section.clone()));
            }
        }

        #[test]
        fn a_changed_or_cut_one_is_refused(object in object(), at in any::<usize>(), bit in 0..8u32) {
            let mut bytes = object.encode().to_vec();
            let at = at % bytes.len();
            bytes[at] ^= 1u8 << bit;
            prop_assert!(IndexObject::parse(&Bytes::from(bytes.clone())).is_err());
            bytes[at] ^= 1u8 << bit;
            prop_assert!(IndexObject::parse(&Bytes::from(bytes).slice(..at)).is_err());
        }

        #[test]
        fn no_bytes_make_parsing_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Section::parse(&Bytes::from(bytes.clone()));
            let mut framed = MAGIC.to_vec();
            framed.extend(bytes);
            let _ = IndexObject::parse(&Bytes::from(framed));
        }
    }
}
