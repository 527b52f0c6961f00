//! A checkpoint: a journal's state as of one of its entries, in an envelope that names and protects it.
//!
//! It has the whole state, or what is another since earlier checkpoints, its *bases*, which are read before it. What the
//! state looks like is the storage crate's to say. All numbers are big-endian.
//!
//! | at | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `TIDECKPT` |
//! | 8 | 2 | version, 2 (1 was never released) |
//! | 10 | 2 | zero |
//! | 12 | 4 | journal |
//! | 16 | 4 | epoch of the last entry that the state includes |
//! | 20 | 8 | index of the last entry that the state includes |
//! | 28 | 8 | length of the state |
//! | 36 | 4 | number of bases |
//! | 40 | 20 each | base, oldest first: epoch (4), index (8), length of its state (8) |
//! | | | the state |
//! | | 4 | CRC32C of all before |

mod store;

use bytes::{BufMut, Bytes, BytesMut};
use tidemark_model::JournalId;

use crate::FormatError;
use crate::format::Fields;
use crate::names::CheckpointName;

pub use store::{Damaged, Newest};

const WHAT: &str = "checkpoint";
const MAGIC: &[u8; 8] = b"TIDECKPT";
const VERSION: u16 = 2;
const HEADER_LEN: usize = 40;
const BASE_LEN: usize = 20;
const CRC_LEN: usize = 4;
/// Longest checkpoint that is read: a state of ten million partitions at 100 bytes each.
pub const MAX_LEN: u64 = 1024 * 1024 * 1024;

/// Most bases that a checkpoint is read with, more than are ever written.
pub const MAX_BASES: usize = 64;

/// An earlier checkpoint that has a part of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    pub name: CheckpointName,
    /// Bytes of its own state.
    pub len: u64,
}

/// A journal's state as of an entry, or what is another in it since the newest of its bases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub journal: JournalId,
    pub name: CheckpointName,
    /// Oldest first.
    pub bases: Vec<Base>,
    pub state: Bytes,
}

impl Checkpoint {
    /// The object's bytes, in order. The state is shared, not copied.
    pub fn encode(&self) -> Vec<Bytes> {
        let Self { journal, name, bases, state } = self;
        let mut header = BytesMut::with_capacity(HEADER_LEN + bases.len() * BASE_LEN);
        header.put_slice(MAGIC);
        header.put_u16(VERSION);
        header.put_u16(0);
        header.put_u32(journal.0);
        header.put_u32(name.epoch);
        header.put_u64(name.index);
        header.put_u64(state.len() as u64);
        header.put_u32(bases.len() as u32);
        for Base { name, len } in bases {
            header.put_u32(name.epoch);
            header.put_u64(name.index);
            header.put_u64(*len);
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header), state);
        vec![header.freeze(), state.clone(), Bytes::copy_from_slice(&crc.to_be_bytes())]
    }

    /// Parses a whole object. The state shares its memory.
    pub fn parse(object: &Bytes) -> Result<Self, FormatError> {
        if !object.starts_with(MAGIC) || object.len() < HEADER_LEN + CRC_LEN {
            return Err(FormatError::Magic(WHAT));
        }
        let (content, crc) = object.split_at(object.len() - CRC_LEN);
        if crc32c::crc32c(content).to_be_bytes() != crc {
            return Err(FormatError::Checksum(WHAT));
        }
        let mut fields = Fields::new(WHAT, &content[MAGIC.len()..]);
        let (version, zero) = (fields.u16()?, fields.u16()?);
        if version > VERSION {
            return Err(FormatError::Version { what: WHAT, found: version, known: VERSION });
        }
        if version < VERSION || zero != 0 {
            return Err(FormatError::invalid(WHAT, format!("version {version}, or reserved bits set")));
        }
        let journal = JournalId(fields.u32()?);
        let name = CheckpointName { epoch: fields.u32()?, index: fields.u64()? };
        let len = fields.u64()?;
        let count = fields.count(BASE_LEN)?;
        if count > MAX_BASES {
            return Err(FormatError::invalid(WHAT, format!("{count} bases")));
        }
        let base = |_| {
            let name = CheckpointName { epoch: fields.u32()?, index: fields.u64()? };
            Ok(Base { name, len: fields.u64()? })
        };
        let bases: Vec<Base> = (0..count).map(base).collect::<Result<_, FormatError>>()?;
        let mut names = bases.iter().map(|base| base.name).chain([name]);
        let ascend = |before: &mut Option<CheckpointName>, name: CheckpointName| {
            let ascends = before.is_none_or(|before| before < name && before.index < name.index);
            *before = Some(name);
            Some(ascends)
        };
        if !names.by_ref().scan(None, ascend).all(|ascends| ascends) {
            return Err(FormatError::invalid(WHAT, "bases that are not before it, in order"));
        }
        let state_at = HEADER_LEN + count * BASE_LEN;
        if len != (content.len() - state_at) as u64 {
            let why = format!("state of {len} bytes in an object of {}", object.len());
            return Err(FormatError::invalid(WHAT, why));
        }
        Ok(Self { journal, name, bases, state: object.slice(state_at..content.len()) })
    }
}

#[cfg(test)]
mod tests;
