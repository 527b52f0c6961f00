//! The primitive types of Kafka's protocol.

/// Writes primitive types.
#[derive(Debug, Default, Clone)]
pub struct Writer {
    pub bytes: Vec<u8>,
}

impl Writer {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub fn i8(self, value: i8) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub fn i16(self, value: i16) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub fn i32(self, value: i32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub fn i64(self, value: i64) -> Self {
        self.raw(&value.to_be_bytes())
    }

    /// An unsigned variable-length integer.
    pub fn uvarint(mut self, mut value: u32) -> Self {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
        self
    }

    /// A zigzag variable-length integer, as records have them.
    pub fn varint(mut self, value: i64) -> Self {
        let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
        while zigzag >= 0x80 {
            self.bytes.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        self.bytes.push(zigzag as u8);
        self
    }

    /// A string of the old kind.
    pub fn string(self, text: &str) -> Self {
        self.i16(text.len() as i16).raw(text.as_bytes())
    }

    pub fn compact_string(self, text: &str) -> Self {
        self.compact_bytes(text.as_bytes())
    }

    pub fn compact_bytes(self, bytes: &[u8]) -> Self {
        self.uvarint(bytes.len() as u32 + 1).raw(bytes)
    }

    /// A compact string, bytes or array that is null.
    pub fn compact_null(self) -> Self {
        self.uvarint(0)
    }

    /// The length of a compact array, whose elements follow.
    pub fn compact_array(self, length: usize) -> Self {
        self.uvarint(length as u32 + 1)
    }

    /// No tagged fields.
    pub fn tags(self) -> Self {
        self.uvarint(0)
    }
}

/// Reads primitive types, and panics on what is not there: an answer that is too short fails its test.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn raw(&mut self, length: usize) -> &'a [u8] {
        assert!(length <= self.rest.len(), "{length} bytes wanted, {} left", self.rest.len());
        let (head, rest) = self.rest.split_at(length);
        self.rest = rest;
        head
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.raw(N).try_into().expect("the length is N")
    }

    pub fn i8(&mut self) -> i8 {
        i8::from_be_bytes(self.array())
    }

    pub fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.array())
    }

    pub fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.array())
    }

    pub fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.array())
    }

    pub fn uuid(&mut self) -> [u8; 16] {
        self.array()
    }

    pub fn uvarint(&mut self) -> u32 {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.array::<1>()[0];
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return value;
            }
        }
        panic!("a variable-length integer of more than five bytes");
    }

    pub fn string(&mut self) -> String {
        let length = self.i16();
        self.text(length as usize)
    }

    pub fn nullable_string(&mut self) -> Option<String> {
        let length = self.i16();
        (length >= 0).then(|| self.text(length as usize))
    }

    pub fn compact_string(&mut self) -> Option<String> {
        let length = self.uvarint().checked_sub(1)?;
        Some(self.text(length as usize))
    }

    pub fn compact_bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.uvarint().checked_sub(1)?;
        Some(self.raw(length as usize))
    }

    /// The length of a compact array; a null one is empty.
    pub fn compact_array(&mut self) -> usize {
        self.uvarint().saturating_sub(1) as usize
    }

    pub fn tags(&mut self) {
        for _ in 0..self.uvarint() {
            self.uvarint();
            let length = self.uvarint();
            self.raw(length as usize);
        }
    }

    fn text(&mut self, length: usize) -> String {
        String::from_utf8(self.raw(length).to_vec()).expect("Kafka's strings are UTF-8")
    }
}
