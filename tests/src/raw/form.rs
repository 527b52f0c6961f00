//! Messages in any of their versions: the old ones with lengths of fixed size, the flexible ones with compact lengths and
//! tagged fields (KIP-482).

use super::connection::is_flexible;
use super::{Reader, Writer};

/// Writes a message of a version.
#[derive(Debug, Clone)]
pub struct Form {
    writer: Writer,
    flexible: bool,
}

impl Form {
    pub fn new(key: i16, version: i16) -> Self {
        Self { writer: Writer::new(), flexible: is_flexible(key, version) }
    }

    fn with(mut self, write: impl FnOnce(Writer) -> Writer) -> Self {
        self.writer = write(self.writer);
        self
    }

    pub fn i8(self, value: i8) -> Self {
        self.with(|writer| writer.i8(value))
    }

    pub fn i32(self, value: i32) -> Self {
        self.with(|writer| writer.i32(value))
    }

    pub fn i64(self, value: i64) -> Self {
        self.with(|writer| writer.i64(value))
    }

    pub fn raw(self, bytes: &[u8]) -> Self {
        self.with(|writer| writer.raw(bytes))
    }

    pub fn text(self, text: &str) -> Self {
        let flexible = self.flexible;
        self.with(|writer| if flexible { writer.compact_string(text) } else { writer.string(text) })
    }

    pub fn nullable(self, text: Option<&str>) -> Self {
        let flexible = self.flexible;
        match text {
            Some(text) => self.text(text),
            None => self.with(|writer| if flexible { writer.compact_null() } else { writer.i16(-1) }),
        }
    }

    pub fn bytes(self, bytes: &[u8]) -> Self {
        let flexible = self.flexible;
        let length = bytes.len() as i32;
        self.with(|writer| if flexible { writer.compact_bytes(bytes) } else { writer.i32(length).raw(bytes) })
    }

    /// An array, or none where it is null.
    pub fn list<T>(self, items: Option<&[T]>, mut each: impl FnMut(Self, &T) -> Self) -> Self {
        let flexible = self.flexible;
        let mut form = self.with(|writer| match (items, flexible) {
            (Some(items), true) => writer.compact_array(items.len()),
            (Some(items), false) => writer.i32(items.len() as i32),
            (None, true) => writer.compact_null(),
            (None, false) => writer.i32(-1),
        });
        for item in items.unwrap_or_default() {
            form = each(form, item);
        }
        form
    }

    /// The end of a structure.
    pub fn end(self) -> Self {
        let flexible = self.flexible;
        self.with(|writer| if flexible { writer.tags() } else { writer })
    }

    pub fn writer(self) -> Writer {
        self.writer
    }
}

/// Reads a message of a version.
#[derive(Debug)]
pub struct Parts<'a> {
    reader: Reader<'a>,
    flexible: bool,
}

impl<'a> Parts<'a> {
    pub fn new(key: i16, version: i16, bytes: &'a [u8]) -> Self {
        Self { reader: Reader::new(bytes), flexible: is_flexible(key, version) }
    }

    pub fn i8(&mut self) -> i8 {
        self.reader.i8()
    }

    pub fn i16(&mut self) -> i16 {
        self.reader.i16()
    }

    pub fn i32(&mut self) -> i32 {
        self.reader.i32()
    }

    pub fn i64(&mut self) -> i64 {
        self.reader.i64()
    }

    pub fn uuid(&mut self) -> [u8; 16] {
        self.reader.uuid()
    }

    pub fn text(&mut self) -> String {
        self.nullable().expect("a string that is not null")
    }

    pub fn nullable(&mut self) -> Option<String> {
        if self.flexible { self.reader.compact_string() } else { self.reader.nullable_string() }
    }

    pub fn bytes(&mut self) -> Vec<u8> {
        if self.flexible {
            return self.reader.compact_bytes().unwrap_or_default().to_vec();
        }
        let length = self.reader.i32().max(0);
        self.reader.raw(length as usize).to_vec()
    }

    /// An array; a null one is empty.
    pub fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let length = if self.flexible { self.reader.compact_array() } else { self.reader.i32().max(0) as usize };
        (0..length).map(|_| each(self)).collect()
    }

    /// The end of a structure.
    pub fn end(&mut self) {
        if self.flexible {
            self.reader.tags();
        }
    }

    /// The end of the message: nothing may follow.
    pub fn done(&mut self) {
        self.end();
        assert_eq!(self.reader.remaining(), 0, "bytes behind the end of the message");
    }
}
