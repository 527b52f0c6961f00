//! Reads primitives off shared bytes, so that what is kept of them is a slice and not a copy.

use bytes::Bytes;
use kafka_wire_core::StrBytes;
use uuid::Uuid;

use super::DecodeError;

/// Tagged fields of one structure. Kafka 4.2 defines at most three anywhere; a newer client may send a few more.
const MAX_TAGGED_FIELDS: usize = 64;

/// A cursor. `flexible` chooses compact lengths and tagged fields (KIP-482).
pub(crate) struct Reader {
    bytes: Bytes,
    at: usize,
    flexible: bool,
}

impl Reader {
    pub(crate) fn new(bytes: Bytes, flexible: bool) -> Self {
        Self { bytes, at: 0, flexible }
    }

    /// What has not been read.
    pub(crate) fn rest(self) -> Bytes {
        self.bytes.slice(self.at..)
    }

    /// How many bytes have been read.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn i8(&mut self, what: &'static str) -> Result<i8, DecodeError> {
        self.array(what).map(i8::from_be_bytes)
    }

    pub(crate) fn i16(&mut self, what: &'static str) -> Result<i16, DecodeError> {
        self.array(what).map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self, what: &'static str) -> Result<i32, DecodeError> {
        self.array(what).map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        self.array(what).map(i64::from_be_bytes)
    }

    pub(crate) fn uuid(&mut self, what: &'static str) -> Result<Uuid, DecodeError> {
        self.array(what).map(Uuid::from_bytes)
    }

    pub(crate) fn string(&mut self, what: &'static str) -> Result<StrBytes, DecodeError> {
        let at = self.at;
        self.nullable_string(what)?.ok_or(DecodeError::Null { what, at })
    }

    pub(crate) fn nullable_string(&mut self, what: &'static str) -> Result<Option<StrBytes>, DecodeError> {
        if !self.flexible {
            return self.legacy_nullable_string(what);
        }
        let length = self.compact_length(what)?;
        length.map(|length| self.utf8(length, what)).transpose()
    }

    /// A string with a 16-bit length, which a request header has in every version.
    pub(crate) fn legacy_nullable_string(&mut self, what: &'static str) -> Result<Option<StrBytes>, DecodeError> {
        let at = self.at;
        let length = self.i16(what)?;
        let length = nullable_length(i64::from(length), what, at)?;
        length.map(|length| self.utf8(length, what)).transpose()
    }

    /// Bytes that share the memory they came in.
    pub(crate) fn nullable_bytes(&mut self, what: &'static str) -> Result<Option<Bytes>, DecodeError> {
        let length = self.length(what)?;
        length.map(|length| self.take(length, what)).transpose()
    }

    /// An array whose elements take at least `min_element` bytes each. Memory is reserved only for as many elements as
    /// the bytes that are left can hold.
    pub(crate) fn vec<T>(
        &mut self,
        min_element: usize,
        what: &'static str,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let at = self.at;
        let count = self.length(what)?.ok_or(DecodeError::Null { what, at })?;
        let left = self.left();
        if count.checked_mul(min_element).is_none_or(|needed| needed > left) {
            return Err(DecodeError::BadCount { what, at, count, left });
        }
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    /// Passes over the tagged fields that end a structure, giving each that `known` wants a reader of its own bytes.
    pub(crate) fn tagged(
        &mut self,
        mut known: impl FnMut(u32, &mut Self) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        if !self.flexible {
            return Ok(());
        }
        let what = "tagged fields";
        let at = self.at;
        let count = self.unsigned_varint(what)? as usize;
        if count > MAX_TAGGED_FIELDS {
            return Err(DecodeError::BadCount { what, at, count, left: self.left() });
        }
        for _ in 0..count {
            let tag = self.unsigned_varint(what)?;
            let length = self.unsigned_varint(what)? as usize;
            let mut field = Self::new(self.take(length, what)?, true);
            known(tag, &mut field)?;
        }
        Ok(())
    }

    pub(crate) fn skip_tagged(&mut self) -> Result<(), DecodeError> {
        self.tagged(|_, _| Ok(()))
    }

    fn unsigned_varint(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        let at = self.at;
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array(what)?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::BadVarint { what, at })
    }

    fn length(&mut self, what: &'static str) -> Result<Option<usize>, DecodeError> {
        if self.flexible {
            return self.compact_length(what);
        }
        let at = self.at;
        let length = self.i32(what)?;
        nullable_length(i64::from(length), what, at)
    }

    fn compact_length(&mut self, what: &'static str) -> Result<Option<usize>, DecodeError> {
        Ok(self.unsigned_varint(what)?.checked_sub(1).map(|length| length as usize))
    }

    fn utf8(&mut self, length: usize, what: &'static str) -> Result<StrBytes, DecodeError> {
        let at = self.at;
        StrBytes::try_from(self.take(length, what)?).map_err(|_| DecodeError::NotUtf8 { what, at })
    }

    fn take(&mut self, length: usize, what: &'static str) -> Result<Bytes, DecodeError> {
        self.check(length, what)?;
        let from = self.at;
        self.at += length;
        Ok(self.bytes.slice(from..self.at))
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let Some(array) = self.bytes[self.at..].first_chunk::<N>() else {
            return Err(DecodeError::Truncated { what, at: self.at, needed: N, left: self.left() });
        };
        self.at += N;
        Ok(*array)
    }

    fn check(&self, needed: usize, what: &'static str) -> Result<(), DecodeError> {
        let left = self.left();
        if needed > left {
            return Err(DecodeError::Truncated { what, at: self.at, needed, left });
        }
        Ok(())
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }
}

/// -1 is null, and nothing else is below zero.
fn nullable_length(length: i64, what: &'static str, at: usize) -> Result<Option<usize>, DecodeError> {
    match usize::try_from(length) {
        Ok(length) => Ok(Some(length)),
        Err(_) if length == -1 => Ok(None),
        Err(_) => Err(DecodeError::BadLength { what, at, length }),
    }
}
