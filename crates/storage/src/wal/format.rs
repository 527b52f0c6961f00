//! The bytes of the write-ahead log. All numbers are big-endian.
//!
//! The log is a directory of files `0001.wal`, `0002.wal`, …: slots, which are used again and again. What a slot holds is
//! in its header, and only there.
//!
//! | at | size | file header |
//! |---|---|---|
//! | 0 | 8 | magic `TIDEMWAL` |
//! | 8 | 2 | version, 1 |
//! | 10 | 2 | zero |
//! | 12 | 4 | journal |
//! | 16 | 8 | incarnation of the log: another whenever it is new or was emptied |
//! | 24 | 8 | sequence: which file of the log this is, from 1, without gaps; another at each use of the slot |
//! | 32 | 8 | index of the first entry in it |
//! | 40 | 4 | checksum of the entry before that; 0 when there is none |
//! | 44 | 16 | zero |
//! | 60 | 4 | CRC32C of the 60 bytes before: the file's *seed* |
//!
//! Entries follow, each at a multiple of 8, with zeros between. Those that were written together are a *group*; the
//! first of a group is at a multiple of 4096 (in a new file: behind the header), so that whole blocks are written, past
//! the page cache, and a block that is durable is never written again:
//!
//! | at | size | entry |
//! |---|---|---|
//! | 0 | 4 | checksum |
//! | 4 | 4 | length: bytes of the entry, from the checksum to the end of the payload |
//! | 8 | 4 | checksum of the entry before |
//! | 12 | 1 | kind |
//! | 13 | 1 | version of the kind |
//! | 14 | 2 | zero |
//! | 16 | 4 | epoch |
//! | 20 | 4 | place in its group: how many entries before it were written with it |
//! | 24 | 8 | index |
//! | 32 | | payload, see [`crate::entry`] |
//!
//! The checksum is the CRC32C of the bytes from the length on, seeded with the file's seed. Of a batch it covers the
//! bytes up to its records; the batch's own CRC, which is among them, covers those. So every byte is covered once, an
//! entry tells by itself whether it belongs to this use of this file, and each is chained to the one before it.
//!
//! A group is what was made durable together. The next group is written only when the one before is
//! durable. So after an entry that is not valid, a valid one of a later group, or a later file, proves damage; valid
//! ones of the same group do not: a crash may have kept any of its pages. That is a torn tail, which was never
//! acknowledged, and is cut off.

use bytes::{Buf, BufMut, Bytes};
use tidemark_model::JournalId;
use tidemark_model::batch::{HEADER_LEN as BATCH_HEADER_LEN, PREFIX_LEN};

use crate::codec::DecodeError;
use crate::entry::{BATCH_HEAD_LEN, Entry, EntryId, Kind};

pub const MAGIC: &[u8; 8] = b"TIDEMWAL";
pub const VERSION: u16 = 1;
pub const FILE_HEADER_LEN: usize = 64;
pub const ENTRY_HEADER_LEN: usize = 32;
/// Entries begin at multiples of this, so that looking for one after damage takes an eighth of the steps.
pub const ALIGNMENT: usize = 8;
/// Groups begin at multiples of this, and are padded to it: what direct I/O writes at least.
pub const BLOCK: usize = 4096;
/// Bytes of a batch's body that the entry's checksum covers: the rest of the batch's header.
pub const COVERED_BODY_LEN: usize = BATCH_HEADER_LEN - PREFIX_LEN;
/// Longest entry: what a Kafka frame can hold, and far from where a `u32` ends.
pub const MAX_ENTRY_LEN: usize = 1 << 30;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    pub journal: JournalId,
    pub wal_incarnation: u64,
    pub sequence: u64,
    pub first_index: u64,
    pub previous_checksum: u32,
}

/// Why bytes are no header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Never used, or damaged.
    #[error("no valid header")]
    Invalid,
    #[error("format version {0}, and this release knows up to {VERSION}")]
    Newer(u16),
}

/// An entry's framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    pub id: EntryId,
    pub checksum: u32,
    pub previous_checksum: u32,
    pub length: u32,
    pub kind: u8,
    pub version: u8,
    pub place_in_group: u32,
}

impl FileHeader {
    pub fn encode(&self) -> [u8; FILE_HEADER_LEN] {
        let Self { journal, wal_incarnation, sequence, first_index, previous_checksum } = self;
        let mut bytes = [0; FILE_HEADER_LEN];
        let mut out = &mut bytes[..];
        out.put_slice(MAGIC);
        out.put_u16(VERSION);
        out.put_u16(0);
        out.put_u32(journal.0);
        out.put_u64(*wal_incarnation);
        out.put_u64(*sequence);
        out.put_u64(*first_index);
        out.put_u32(*previous_checksum);
        out.put_u128(0);
        let crc = self::seed(&bytes);
        bytes[60..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// What the checksums of the file's entries begin with.
    pub fn seed(&self) -> u32 {
        seed(&self.encode())
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes = bytes.get(..FILE_HEADER_LEN).ok_or(HeaderError::Invalid)?;
        if !bytes.starts_with(MAGIC) || bytes[60..] != seed(bytes).to_be_bytes() {
            return Err(HeaderError::Invalid);
        }
        let mut fields = &bytes[MAGIC.len()..];
        let version = fields.get_u16();
        if version > VERSION {
            return Err(HeaderError::Newer(version));
        }
        fields.advance(2);
        Ok(Self {
            journal: JournalId(fields.get_u32()),
            wal_incarnation: fields.get_u64(),
            sequence: fields.get_u64(),
            first_index: fields.get_u64(),
            previous_checksum: fields.get_u32(),
        })
    }
}

fn seed(header: &[u8]) -> u32 {
    crc32c::crc32c(&header[..60])
}

/// Bytes of an entry in the log, without the zeros after it.
pub fn entry_len(entry: &Entry) -> usize {
    ENTRY_HEADER_LEN + entry.payload_len()
}

/// Where the entry after `position` begins at the earliest.
pub fn align(position: u64) -> u64 {
    position.next_multiple_of(ALIGNMENT as u64)
}

/// Where the group after one that ends at `position` begins.
pub fn next_group(position: u64) -> u64 {
    position.next_multiple_of(BLOCK as u64)
}

/// The entries of a file that follow each other from its beginning on, with where each begins. For who only looks: it ends
/// where nothing valid follows, and recovery alone judges what that means.
pub fn frames(file: &[u8], header: &FileHeader) -> impl Iterator<Item = (u64, Frame)> {
    let (seed, mut end, mut checksum) = (header.seed(), FILE_HEADER_LEN as u64, header.previous_checksum);
    std::iter::from_fn(move || {
        let at = |begin: u64| Frame::parse(file.get(begin as usize..)?, seed).map(|frame| (begin, frame));
        let follows = |(_, frame): &(u64, Frame)| frame.previous_checksum == checksum;
        // In the same group, or as the first of the next one.
        let (begin, frame) = [align(end), next_group(end)].into_iter().find_map(|begin| at(begin).filter(follows))?;
        (end, checksum) = (begin + u64::from(frame.length), frame.checksum);
        Some((begin, frame))
    })
}

impl Frame {
    /// Writes the header in front of `covered`, the part of the payload that the checksum covers, which may continue in
    /// `body`. Returns the frame with its checksum.
    pub fn seal(mut self, header: &mut [u8], covered: &[u8], body: &[u8], seed: u32) -> Self {
        let mut out = &mut header[4..];
        out.put_u32(self.length);
        out.put_u32(self.previous_checksum);
        out.put_u8(self.kind);
        out.put_u8(self.version);
        out.put_u16(0);
        out.put_u32(self.id.epoch);
        out.put_u32(self.place_in_group);
        out.put_u64(self.id.index);
        let crc = crc32c::crc32c_append(seed, &header[4..ENTRY_HEADER_LEN]);
        self.checksum = crc32c::crc32c_append(crc32c::crc32c_append(crc, covered), body);
        header[..4].copy_from_slice(&self.checksum.to_be_bytes());
        self
    }

    /// Reads the framing of the entry at the front of `bytes` and checks it. Nothing when there is no entry of this file,
    /// or not all of it.
    ///
    /// Of a batch, the records are not looked at: see [`decode`](Self::decode).
    pub fn parse(bytes: &[u8], seed: u32) -> Option<Self> {
        let frame = Self::peek(bytes)?;
        let entry = bytes.get(..frame.length as usize)?;
        let covered = frame.covered_len().min(entry.len());
        (crc32c::crc32c_append(seed, &entry[4..covered]) == frame.checksum).then_some(frame)
    }

    /// Reads a header without checking more than that it may be one.
    pub fn peek(bytes: &[u8]) -> Option<Self> {
        let mut fields = bytes.get(..ENTRY_HEADER_LEN)?;
        let (checksum, length, previous_checksum) = (fields.get_u32(), fields.get_u32(), fields.get_u32());
        let (kind, version, zero) = (fields.get_u8(), fields.get_u8(), fields.get_u16());
        let (epoch, place_in_group, index) = (fields.get_u32(), fields.get_u32(), fields.get_u64());
        let plausible = (ENTRY_HEADER_LEN..=MAX_ENTRY_LEN).contains(&(length as usize)) && zero == 0 && index > 0;
        let id = EntryId { epoch, index };
        plausible.then_some(Self { id, checksum, previous_checksum, length, kind, version, place_in_group })
    }

    /// Decodes the entry that this frames, sharing its memory, and checks a batch's CRC.
    pub fn decode(&self, bytes: &Bytes) -> Result<Entry, DecodeError> {
        let payload = bytes.slice(ENTRY_HEADER_LEN..self.length as usize);
        let entry = Entry::decode(self.kind, self.version, &payload)?;
        match &entry {
            Entry::Batch(entry) if !entry.batch.crc_matches() => {
                Err(DecodeError::Invalid("the batch's CRC does not match its records".into()))
            }
            _ => Ok(entry),
        }
    }

    /// The index of the first entry of its group.
    pub fn group_start(&self) -> u64 {
        self.id.index.saturating_sub(u64::from(self.place_in_group))
    }

    fn covered_len(&self) -> usize {
        if self.kind == Kind::Batch as u8 {
            ENTRY_HEADER_LEN + BATCH_HEAD_LEN + COVERED_BODY_LEN
        } else {
            self.length as usize
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_a_changed_one_does_not() {
        let header =
            FileHeader { journal: JournalId(1), wal_incarnation: 2, sequence: 3, first_index: 5, previous_checksum: 6 };
        let bytes = header.encode();
        assert_eq!(FileHeader::decode(&bytes), Ok(header));
        for at in 0..FILE_HEADER_LEN {
            let mut bytes = bytes;
            bytes[at] ^= 1;
            assert!(FileHeader::decode(&bytes).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_newer_format_says_so() {
        let header =
            FileHeader { journal: JournalId(1), wal_incarnation: 2, sequence: 3, first_index: 5, previous_checksum: 6 };
        let mut bytes = header.encode();
        bytes[9] = 2;
        let crc = seed(&bytes);
        bytes[60..].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(FileHeader::decode(&bytes), Err(HeaderError::Newer(2)));
    }
}
