//! What the object formats have in common: their errors, and reading that stays inside its bytes.

use bytes::{Buf, TryGetError};

const HEADER_CRC_LEN: usize = 4;

/// Why bytes are not a valid object of ours, by what the reader does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Fewer bytes were given than the object's own lengths say: fetch this many from its end.
    #[error("{needed} bytes from the end of the object are needed and {available} were given")]
    Short { needed: u64, available: u64 },
    /// Not an object of this kind at all, or cut: treat the object as lost.
    #[error("not a {0}: the magic does not match")]
    Magic(&'static str),
    /// Written by a newer release: stop, and upgrade this one.
    #[error("{what} of version {found}, and this release reads up to {known}")]
    Version { what: &'static str, found: u16, known: u16 },
    /// Bytes changed since they were written. From a cache: drop the entry and read the object again. From the object
    /// store: read again once, then treat the object as lost.
    #[error("checksum of the {0} does not match")]
    Checksum(&'static str),
    /// The checksum matches and the content makes no sense: a bug in the writer, or an attack.
    #[error("invalid {what}: {why}")]
    Invalid { what: &'static str, why: String },
}

impl FormatError {
    pub(crate) fn invalid(what: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid { what, why: why.into() }
    }
}

/// Reads fields off the front of `bytes`; every read past the end is an error that names the format.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    what: &'static str,
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, bytes }
    }

    /// The fields of a header behind its magic (8), version (2) and zero (2), and before the CRC32C of all before it (4), which
    /// has `len` bytes together. A version from 1 up to `known` is read.
    pub(crate) fn of_header(
        what: &'static str,
        magic: &[u8; 8],
        known: u16,
        len: usize,
        object: &'a [u8],
    ) -> Result<Self, FormatError> {
        let header = object.get(..len).filter(|header| header.starts_with(magic)).ok_or(FormatError::Magic(what))?;
        let (header, crc) = header.split_at(len - HEADER_CRC_LEN);
        if crc32c::crc32c(header).to_be_bytes() != crc {
            return Err(FormatError::Checksum(what));
        }
        let mut fields = Self::new(what, &header[magic.len()..]);
        let (version, zero) = (fields.u16()?, fields.u16()?);
        if version > known {
            return Err(FormatError::Version { what, found: version, known });
        }
        if version == 0 || zero != 0 {
            return Err(FormatError::invalid(what, "version 0 or reserved bits set"));
        }
        Ok(fields)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, FormatError> {
        self.get(Buf::try_get_u16)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        self.get(Buf::try_get_u32)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, FormatError> {
        self.get(Buf::try_get_i32)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        self.get(Buf::try_get_u64)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, FormatError> {
        self.get(Buf::try_get_i64)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, FormatError> {
        self.get(Buf::try_get_u128)
    }

    /// A count of items that follow, each of `item_len` bytes: never more than the bytes left can hold, so that it is
    /// safe to reserve room for them.
    pub(crate) fn count(&mut self, item_len: usize) -> Result<usize, FormatError> {
        let count = self.u32()? as usize;
        if count > self.bytes.len() / item_len {
            let why = format!("{count} items of {item_len} bytes in the {} bytes left", self.bytes.len());
            return Err(FormatError::invalid(self.what, why));
        }
        Ok(count)
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], FormatError> {
        match self.bytes.split_at_checked(len) {
            Some((taken, rest)) => {
                self.bytes = rest;
                Ok(taken)
            }
            None => Err(FormatError::invalid(self.what, format!("{len} bytes where {} are left", self.bytes.len()))),
        }
    }

    /// Nothing may follow the last field.
    pub(crate) fn end(self) -> Result<(), FormatError> {
        match self.bytes.len() {
            0 => Ok(()),
            left => Err(FormatError::invalid(self.what, format!("{left} bytes after the end"))),
        }
    }

    fn get<T>(&mut self, read: impl FnOnce(&mut &'a [u8]) -> Result<T, TryGetError>) -> Result<T, FormatError> {
        read(&mut self.bytes).map_err(|e| FormatError::invalid(self.what, e.to_string()))
    }
}
