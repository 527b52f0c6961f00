//! Writes primitives into one small buffer, and remembers where shared bytes go between them.

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::EncodeError;
use crate::frame::ResponseFrame;

/// Shared bytes of less than this are copied: each piece of a vectored write costs an entry of the kernel's vector, a
/// system call takes few of them, and copying so little is cheaper than both.
const MIN_SHARED: usize = 512;
/// Bytes of the frame's length.
const LENGTH: usize = 4;

/// The tag, whether the field is there, and what writes its value.
pub(crate) type TaggedField<'a> = (u32, bool, &'a dyn Fn(&mut Writer));

/// Writes one response. The first thing that does not fit is remembered and told by [`Writer::finish`], so that
/// encoding reads as the schema does.
pub(crate) struct Writer {
    own: BytesMut,
    /// Shared bytes, each with the position in `own` before which it goes.
    shared: Vec<(usize, Bytes)>,
    shared_len: usize,
    flexible: bool,
    fault: Option<EncodeError>,
}

impl Writer {
    /// Begins a response with its header: version 1 has tagged fields, version 0 has not.
    pub(crate) fn response(correlation_id: i32, header_version: i16, flexible: bool, capacity: usize) -> Self {
        let mut own = BytesMut::with_capacity(capacity + 16);
        own.put_i32(0);
        own.put_i32(correlation_id);
        if header_version >= 1 {
            own.put_u8(0);
        }
        Self { own, shared: Vec::new(), shared_len: 0, flexible, fault: None }
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.own.put_i16(value);
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.own.put_i32(value);
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.own.put_i64(value);
    }

    pub(crate) fn uuid(&mut self, value: Uuid) {
        self.own.put_slice(value.as_bytes());
    }

    pub(crate) fn string(&mut self, value: &str, what: &'static str) {
        self.nullable_string(Some(value), what);
    }

    pub(crate) fn nullable_string(&mut self, value: Option<&str>, what: &'static str) {
        if self.flexible {
            self.compact_length(value.map(str::len), what);
        } else {
            let length = value.map_or(Ok(-1), |value| i16::try_from(value.len()));
            match length {
                Ok(length) => self.own.put_i16(length),
                Err(_) => {
                    self.fail(EncodeError::TooLong { what, length: value.map_or(0, str::len), max: i16::MAX as usize });
                }
            }
        }
        self.own.put_slice(value.unwrap_or_default().as_bytes());
    }

    /// The length of bytes or the count of an array.
    pub(crate) fn length(&mut self, length: Option<usize>, what: &'static str) {
        if self.flexible {
            self.compact_length(length, what);
            return;
        }
        match length.map_or(Ok(-1), i32::try_from) {
            Ok(length) => self.own.put_i32(length),
            Err(_) => self.too_long(length, what),
        }
    }

    pub(crate) fn vec<T>(&mut self, elements: &[T], what: &'static str, mut element: impl FnMut(&mut Self, &T)) {
        self.length(Some(elements.len()), what);
        for each in elements {
            element(self, each);
        }
    }

    /// Bytes that are this response's own.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.own.put_slice(bytes);
    }

    /// Bytes that go to the socket from the memory they are in.
    pub(crate) fn shared(&mut self, bytes: &Bytes) {
        if bytes.len() < MIN_SHARED {
            self.own.put_slice(bytes);
        } else {
            self.shared.push((self.own.len(), bytes.clone()));
            self.shared_len += bytes.len();
        }
    }

    pub(crate) fn no_tagged(&mut self) {
        if self.flexible {
            self.own.put_u8(0);
        }
    }

    /// Tagged fields in ascending order. Their values are small and rare.
    pub(crate) fn tagged(&mut self, fields: &[TaggedField<'_>]) {
        if !self.flexible {
            return;
        }
        self.unsigned_varint(fields.iter().filter(|(_, present, _)| *present).count() as u32);
        for (tag, _, write) in fields.iter().filter(|(_, present, _)| *present) {
            let mut field =
                Self { own: BytesMut::new(), shared: Vec::new(), shared_len: 0, flexible: true, fault: None };
            write(&mut field);
            if let Some(fault) = field.fault {
                self.fail(fault);
            }
            self.unsigned_varint(*tag);
            self.unsigned_varint(field.own.len() as u32);
            self.own.put_slice(&field.own);
        }
    }

    /// Remembers a fault, the first of several.
    pub(crate) fn fail(&mut self, fault: EncodeError) {
        self.fault.get_or_insert(fault);
    }

    /// Fills in the frame's length and lays the pieces in order.
    pub(crate) fn finish(mut self) -> Result<ResponseFrame, EncodeError> {
        let length = self.own.len() - LENGTH + self.shared_len;
        match i32::try_from(length) {
            Ok(length) => self.own[..LENGTH].copy_from_slice(&length.to_be_bytes()),
            Err(_) => self.too_long(Some(length), "response"),
        }
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let own = self.own.freeze();
        let mut frame = ResponseFrame::with_capacity(2 * self.shared.len() + 1);
        let mut from = 0;
        for (before, bytes) in self.shared {
            frame.push(own.slice(from..before));
            frame.push(bytes);
            from = before;
        }
        frame.push(own.slice(from..));
        Ok(frame)
    }

    fn compact_length(&mut self, length: Option<usize>, what: &'static str) {
        match length.map_or(Ok(0), |length| u32::try_from(length + 1)) {
            Ok(length) => self.unsigned_varint(length),
            Err(_) => self.too_long(length, what),
        }
    }

    fn unsigned_varint(&mut self, mut value: u32) {
        while value > 0x7f {
            self.own.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.own.put_u8(value as u8);
    }

    fn too_long(&mut self, length: Option<usize>, what: &'static str) {
        self.fail(EncodeError::TooLong { what, length: length.unwrap_or_default(), max: i32::MAX as usize });
    }
}
