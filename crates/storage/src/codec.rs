//! Reading the fields of persisted bytes, within bounds. All numbers are big-endian.

use tidemark_model::{TopicId, TopicPartition};
use tidemark_segment::SegmentName;
use uuid::Uuid;

use bytes::{BufMut, BytesMut};

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("{needed} bytes are needed where {left} are left")]
    Short { needed: usize, left: usize },
    #[error("{left} bytes follow the end")]
    Trailing { left: usize },
    #[error("{what} {value} is not known")]
    Unknown { what: &'static str, value: u64 },
    #[error("{0}")]
    Invalid(String),
}

/// What is left to read.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    left: &'a [u8],
}

macro_rules! number {
    ($name:ident) => {
        pub(crate) fn $name(&mut self) -> Result<$name, DecodeError> {
            Ok($name::from_be_bytes(self.array()?))
        }
    };
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    number!(u8);
    number!(u16);
    number!(i16);
    number!(u32);
    number!(i32);
    number!(u64);
    number!(i64);
    number!(u128);

    pub(crate) fn topic(&mut self) -> Result<TopicId, DecodeError> {
        Ok(TopicId(Uuid::from_u128(self.u128()?)))
    }

    pub(crate) fn partition(&mut self) -> Result<TopicPartition, DecodeError> {
        Ok(TopicPartition::new(self.topic()?, self.i32()?))
    }

    pub(crate) fn segment(&mut self) -> Result<SegmentName, DecodeError> {
        Ok(SegmentName { epoch: self.u32()?, first_index: self.u64()?, last_index: self.u64()?, attempt: self.u32()? })
    }

    /// A number of things that take at least `each` bytes: one that the bytes left cannot hold reserves nothing.
    pub(crate) fn count(&mut self, each: usize) -> Result<usize, DecodeError> {
        let count = self.u32()? as usize;
        let needed = count.saturating_mul(each);
        if needed > self.left.len() {
            return Err(DecodeError::Short { needed, left: self.left.len() });
        }
        Ok(count)
    }

    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.left.is_empty() { Ok(()) } else { Err(DecodeError::Trailing { left: self.left.len() }) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let short = DecodeError::Short { needed: N, left: self.left.len() };
        let (array, left) = self.left.split_first_chunk().ok_or(short)?;
        self.left = left;
        Ok(*array)
    }
}

pub(crate) fn put_partition(out: &mut BytesMut, at: TopicPartition) {
    let TopicPartition { topic, partition } = at;
    out.put_u128(topic.0.as_u128());
    out.put_i32(partition);
}

pub(crate) fn put_segment(out: &mut BytesMut, name: SegmentName) {
    let SegmentName { epoch, first_index, last_index, attempt } = name;
    out.put_u32(epoch);
    out.put_u64(first_index);
    out.put_u64(last_index);
    out.put_u32(attempt);
}
