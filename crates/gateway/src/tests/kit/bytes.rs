//! The primitive types of the protocol, for the messages that `wire` writes only one way.

use bytes::{Buf, BufMut, Bytes};
use uuid::Uuid;

/// Writes a request.
#[derive(Default)]
pub(crate) struct Put {
    pub(crate) out: Vec<u8>,
    pub(crate) flexible: bool,
}

/// Reads a response.
pub(crate) struct Get {
    pub(crate) bytes: Bytes,
    pub(crate) flexible: bool,
}

impl Put {
    pub(crate) fn new(flexible: bool) -> Self {
        Self { out: Vec::new(), flexible }
    }

    fn varint(&mut self, mut value: u32) {
        while value > 0x7f {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    pub(crate) fn string(&mut self, text: &str) {
        match self.flexible {
            true => self.varint(text.len() as u32 + 1),
            false => self.out.put_i16(text.len() as i16),
        }
        self.out.put_slice(text.as_bytes());
    }

    pub(crate) fn null_string(&mut self) {
        match self.flexible {
            true => self.varint(0),
            false => self.out.put_i16(-1),
        }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.array(bytes.len());
        self.out.put_slice(bytes);
    }

    pub(crate) fn array(&mut self, len: usize) {
        match self.flexible {
            true => self.varint(len as u32 + 1),
            false => self.out.put_i32(len as i32),
        }
    }

    pub(crate) fn tags(&mut self) {
        if self.flexible {
            self.out.push(0);
        }
    }
}

impl Get {
    fn varint(&mut self) -> u32 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = self.bytes.get_u8();
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    pub(crate) fn array(&mut self) -> usize {
        match self.flexible {
            true => self.varint().saturating_sub(1) as usize,
            false => self.bytes.get_i32().max(0) as usize,
        }
    }

    pub(crate) fn string(&mut self) -> Option<String> {
        let len = match self.flexible {
            true => self.varint().checked_sub(1)? as usize,
            false => usize::try_from(self.bytes.get_i16()).ok()?,
        };
        Some(String::from_utf8(self.bytes.split_to(len).to_vec()).unwrap())
    }

    pub(crate) fn uuid(&mut self) -> Uuid {
        Uuid::from_slice(&self.bytes.split_to(16)).unwrap()
    }

    pub(crate) fn bytes(&mut self) -> Bytes {
        let len = self.array();
        self.bytes.split_to(len)
    }

    /// The tagged fields, by tag.
    pub(crate) fn tags(&mut self) -> Vec<(u32, Get)> {
        if !self.flexible {
            return Vec::new();
        }
        let count = self.varint();
        let field = |get: &mut Self| {
            let (tag, len) = (get.varint(), get.varint());
            (tag, Get { bytes: get.bytes.split_to(len as usize), flexible: true })
        };
        (0..count).map(|_| field(self)).collect()
    }
}
