//! Writing groups of entries: one write, one fdatasync.
//!
//! A group is put together in memory that begins at a block, and is whole blocks, so that it goes to the disk past the
//! page cache. Copying it there costs less than the page cache does, which copies it too, and then some.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tidemark_model::JournalId;

use super::Location;
use super::files::{Files, WalFile};
use super::format::{
    BLOCK, COVERED_BODY_LEN, ENTRY_HEADER_LEN, FILE_HEADER_LEN, FileHeader, Frame, align, entry_len, next_group,
};
use super::staging::Staging;
use crate::disk::write_all;
use crate::entry::{Entry, EntryId, VERSION};

/// Bytes at the end of each file that only entries other than batches use. When the disk is full no new file can be had,
/// and room for tiering to write its entries is what lets old files go.
const RESERVED: u64 = 1024 * 1024;
/// The part of a small file that may be reserved.
const RESERVED_SHARE: u64 = 16;
/// An entry with its name, to be written.
#[derive(Debug, Clone)]
pub struct Named {
    pub id: EntryId,
    pub entry: Entry,
}

/// Where the log ends, and what the next entry is chained to.
#[derive(Debug, Clone, Default)]
pub struct End {
    pub sequence: u64,
    pub file: Option<Arc<WalFile>>,
    pub position: u64,
    /// The file's seed.
    pub seed: u32,
    /// The last entry's checksum.
    pub checksum: u32,
}

/// Writes at the end of the log.
#[derive(Debug)]
pub struct Writer {
    files: Arc<Files>,
    journal: JournalId,
    wal_incarnation: u64,
    end: End,
    /// Where a group that failed could not be undone. Nothing is written before it is.
    tainted: Option<Tainted>,
    /// The group being written; kept for its memory.
    staging: Staging,
}

/// Why a group is not in the log.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Not a byte was written: the same names may be used again.
    #[error("nothing was written: {0}")]
    Clean(io::Error),
    /// Something may have been written. It was overwritten durably, so that no recovery finds it.
    #[error("the write failed: {0}")]
    Undone(io::Error),
    /// Something may have been written, and a recovery may find it.
    #[error("the write failed and could not be undone: {0}")]
    Unknown(io::Error),
    /// The fdatasync failed: what is on the disk is not known, and this log is at its end.
    #[error("fdatasync failed: {0}")]
    NotSynced(io::Error),
}

/// Where something was written that must not be found.
#[derive(Debug)]
struct Tainted {
    file: Arc<WalFile>,
    start: u64,
    /// Whether it is a file that was begun with this.
    is_new: bool,
}

impl Writer {
    pub fn new(files: Arc<Files>, journal: JournalId, wal_incarnation: u64, end: End) -> Self {
        Self { files, journal, wal_incarnation, end, tainted: None, staging: Staging::default() }
    }

    /// The log's directory.
    pub fn dir(&self) -> PathBuf {
        self.files.dir().to_owned()
    }

    /// How many bytes of entries can still go into the present file: for batches, and for other entries.
    pub fn room(&self) -> (u64, u64) {
        let size = self.end.file.as_ref().map_or(0, |file| file.size);
        let room = size.saturating_sub(self.end.position);
        (room.saturating_sub(RESERVED.min(size / RESERVED_SHARE)), room)
    }

    /// Writes a group that fits, into the present file or from the beginning of a new one, and makes it durable. Says
    /// where each entry is.
    pub fn write(&mut self, group: &[Named], new_file: bool) -> Result<Vec<Location>, WriteError> {
        self.cleanse()?;
        let mut end = self.end.clone();
        let mut header = None;
        if new_file || end.file.is_none() {
            let first_index = group.first().map_or(0, |first| first.id.index);
            let (next, bytes) = self.new_file(group, first_index)?;
            (end, header) = (next, Some(bytes));
        }
        let file = end.file.clone().ok_or_else(|| WriteError::Clean(io::Error::other("no file to write to")))?;
        let start = if header.is_some() { 0 } else { end.position };

        let locations = self.encode(group, &mut end, start, header);
        if let Err(cause) = write_all(&*file.handle, self.staging.bytes(), start) {
            // Also when no byte seems to be written: an error tells nothing of those it came from.
            self.tainted = Some(Tainted { file, start, is_new: header.is_some() });
            return Err(if self.cleanse().is_ok() { WriteError::Undone(cause) } else { WriteError::Unknown(cause) });
        }
        if let Err(error) = file.handle.sync_data() {
            return Err(WriteError::NotSynced(error));
        }
        if header.is_some() {
            self.files.add(end.sequence, group[0].id.index, file);
        }
        self.files.written(end.position);
        self.end = end;
        self.staging.shrink();
        Ok(locations)
    }

    /// Overwrites the beginning of a group that failed, durably, so that no recovery takes it for valid.
    fn cleanse(&mut self) -> Result<(), WriteError> {
        let Some(Tainted { file, start, is_new }) = &self.tainted else { return Ok(()) };
        // The header of a file and that of an entry are both no longer, and what follows the group is not in use.
        let zeros = [0; FILE_HEADER_LEN];
        let cleansed = write_all(&*file.handle, &zeros, *start).and_then(|()| file.handle.sync_data());
        cleansed.map_err(WriteError::Unknown)?;
        if *is_new {
            self.files.release(file.clone());
        }
        self.tainted = None;
        Ok(())
    }

    fn new_file(&mut self, group: &[Named], first_index: u64) -> Result<(End, [u8; FILE_HEADER_LEN]), WriteError> {
        let needed: u64 = group.iter().map(|named| align(entry_len(&named.entry) as u64)).sum();
        let file = self.files.acquire(next_group(FILE_HEADER_LEN as u64 + needed)).map_err(WriteError::Clean)?;
        let header = FileHeader {
            journal: self.journal,
            wal_incarnation: self.wal_incarnation,
            sequence: self.end.sequence + 1,
            first_index,
            previous_checksum: self.end.checksum,
        };
        let end = End {
            sequence: header.sequence,
            file: Some(file),
            position: FILE_HEADER_LEN as u64,
            seed: header.seed(),
            checksum: self.end.checksum,
        };
        Ok((end, header.encode()))
    }

    /// Frames the group from `end` on, which moves behind it, for a write at `start`.
    fn encode(
        &mut self,
        group: &[Named],
        end: &mut End,
        start: u64,
        header: Option<[u8; FILE_HEADER_LEN]>,
    ) -> Vec<Location> {
        let mut locations = Vec::with_capacity(group.len());
        let entries: usize = group.iter().map(|named| align(entry_len(&named.entry) as u64) as usize).sum();
        let staging = self.staging.begin(FILE_HEADER_LEN + entries + BLOCK);
        staging.extend_from_slice(header.as_ref().map_or(&[], |header| &header[..]));
        for (place, Named { id, entry }) in group.iter().enumerate() {
            let length = entry_len(entry);
            let at = staging.len();
            staging.resize(at + ENTRY_HEADER_LEN, 0);
            entry.encode_head(staging);
            let body = match entry {
                Entry::Batch(entry) => &entry.batch.body()[..],
                _ => &[],
            };
            let frame = Frame {
                id: *id,
                checksum: 0,
                previous_checksum: end.checksum,
                length: length as u32,
                kind: entry.kind() as u8,
                version: VERSION,
                place_in_group: place as u32,
            };
            let (entry_header, payload) = staging[at..].split_at_mut(ENTRY_HEADER_LEN);
            let covered_body = &body[..COVERED_BODY_LEN.min(body.len())];
            end.checksum = frame.seal(entry_header, payload, covered_body, end.seed).checksum;
            staging.extend_from_slice(body);
            locations.push(Location { sequence: end.sequence, position: end.position, length: length as u32 });
            let next = align(end.position + length as u64);
            staging.resize(at + (next - end.position) as usize, 0);
            end.position = next;
        }
        // A file whose size is not whole blocks ends the last group early, which then goes through the page cache.
        let size = end.file.as_ref().map_or(u64::MAX, |file| file.size);
        let padding = next_group(end.position).min(size.max(end.position)) - end.position;
        staging.resize(staging.len() + padding as usize, 0);
        end.position += padding;
        debug_assert_eq!(self.staging.bytes().len() as u64, end.position - start, "what is written is what was framed");
        locations
    }
}

/// Whether the disk, or the part of it that we may use, is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
