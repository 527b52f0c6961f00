//! Reading the log at the start: what is valid, where it ends, and whether anything is missing.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_model::JournalId;

use super::Location;
use super::files::{Files, WalFile};
use super::format::{ALIGNMENT, FILE_HEADER_LEN, FileHeader, Frame, HeaderError, align, next_group};
use super::writer::{End, Named};
use crate::codec::DecodeError;
use crate::disk::{read_up_to, write_all};
use crate::entry::EntryId;

/// Which log is to be read.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Nothing: whatever journal the files name.
    pub journal: Option<JournalId>,
    pub wal_incarnation: u64,
    /// The first index that has to be there.
    pub needed: u64,
}

/// The slots of a log, by what their headers say, before their entries are read.
#[derive(Debug)]
pub struct Survey {
    live: BTreeMap<u64, (FileHeader, Arc<WalFile>)>,
    /// Slots of other logs, and those without a valid header.
    unused: Vec<Arc<WalFile>>,
    /// A journal and incarnation that another log in the directory has.
    pub other: Option<(JournalId, u64)>,
}

/// What was read.
#[derive(Debug)]
pub struct Recovered {
    pub end: End,
    pub last: EntryId,
    /// Where a torn tail was cut off, if one was.
    pub torn: Option<(String, u64)>,
}

/// Why the log cannot be used. An operator has to act.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error("{path}: {cause}")]
    Io { path: String, cause: io::Error },
    #[error("{path} was written by a newer release: {why}")]
    Newer { path: String, why: String },
    #[error("{path} is damaged at offset {position}: {why}. What follows was acknowledged, so it is not cut off")]
    Damaged { path: String, position: u64, why: String },
    #[error("the write-ahead log in {dir} begins with entry {first}, and entry {needed} is needed")]
    Missing { dir: String, first: u64, needed: u64 },
}

/// The entry that has to come next.
#[derive(Debug, Clone, Copy)]
struct Next {
    id: EntryId,
    checksum: u32,
}

/// Reads the headers.
pub fn survey(files: &Files, expected_incarnation: u64) -> Result<Survey, RecoveryError> {
    let in_dir = |cause| RecoveryError::Io { path: files.dir().display().to_string(), cause };
    let mut survey = Survey { live: BTreeMap::new(), unused: Vec::new(), other: None };
    for file in files.open_slots().map_err(in_dir)? {
        let bytes = read_up_to(&*file.handle, 0, FILE_HEADER_LEN).map_err(|cause| of_file(&file, cause))?;
        match FileHeader::decode(&bytes) {
            Ok(header) if header.wal_incarnation == expected_incarnation => {
                if let Some((_, twin)) = survey.live.insert(header.sequence, (header, file.clone())) {
                    let why = format!("{} has the same sequence {}", twin.path.display(), header.sequence);
                    return Err(damaged(&file, 0, why));
                }
            }
            Ok(header) => {
                survey.other = Some((header.journal, header.wal_incarnation));
                survey.unused.push(file);
            }
            Err(HeaderError::Invalid) => survey.unused.push(file),
            Err(newer @ HeaderError::Newer(_)) => {
                return Err(RecoveryError::Newer { path: file.path.display().to_string(), why: newer.to_string() });
            }
        }
    }
    Ok(survey)
}

impl Survey {
    /// The journal that the log holds; none when there is no log.
    pub fn journal(&self) -> Option<JournalId> {
        self.live.values().next().map(|(header, _)| header.journal)
    }

    /// Reads the entries from the file that has `expected.needed` on, hands each to `sink`, in order, and finds the end.
    ///
    /// An error of `sink` says that an entry cannot follow those before it. After this the log can be written on.
    pub fn recover(
        mut self,
        files: &Files,
        expected: Expected,
        sink: &mut dyn FnMut(Named, Location) -> Result<(), String>,
    ) -> Result<Recovered, RecoveryError> {
        let Expected { journal, wal_incarnation, needed } = expected;
        let dir = || files.dir().display().to_string();
        let holds = self.live.iter().rev().find(|(_, (header, _))| header.first_index <= needed);
        let Some((&start, _)) = holds else {
            if let Some((header, _)) = self.live.values().next() {
                return Err(RecoveryError::Missing { dir: dir(), first: header.first_index, needed });
            }
            if needed > 1 {
                return Err(RecoveryError::Missing { dir: dir(), first: 0, needed });
            }
            self.unused.into_iter().for_each(|file| files.release(file));
            let end = End { sequence: 0, file: None, position: 0, seed: 0, checksum: 0 };
            return Ok(Recovered { end, last: EntryId::default(), torn: None });
        };
        let live = self.live.split_off(&start);
        self.unused.extend(self.live.into_values().map(|(_, file)| file));

        let mut next = Next { id: EntryId::default(), checksum: 0 };
        let mut files_left = live.iter().peekable();
        let read = live.values().map(|(_, file)| (file.handle.clone(), file.size as usize)).collect();
        let mut read = files.disk.read_in_turn(read);
        let mut recovered = None;
        while let Some((&sequence, (header, file))) = files_left.next() {
            if journal.is_some_and(|journal| journal != header.journal) {
                return Err(damaged(file, 0, format!("it is of journal {}", header.journal)));
            }
            if sequence == start {
                next.id.index = header.first_index;
                next.checksum = header.previous_checksum;
            }
            let bytes = read.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
            let bytes = bytes.map_err(|cause| of_file(file, cause))?;
            let scanned = scan(file, header, &bytes, &mut next, sink)?;
            match files_left.peek() {
                Some((following, (header, later))) => {
                    if **following != sequence + 1 {
                        let why = format!("the file of sequence {} before it is missing", *following - 1);
                        return Err(damaged(later, 0, why));
                    }
                    if (header.first_index, header.previous_checksum) != (next.id.index, next.checksum) {
                        let why = format!("entry {} is not valid, and a later file follows", next.id.index);
                        return Err(damaged(file, align(scanned.end), why));
                    }
                }
                None => {
                    let torn = find_damage(file, &bytes, scanned.end, header.seed(), next)?;
                    harden(file, &bytes, &scanned)?;
                    let end = End {
                        sequence,
                        file: Some(file.clone()),
                        position: next_group(scanned.end).min(file.size),
                        seed: header.seed(),
                        checksum: next.checksum,
                    };
                    let torn = torn.then(|| (file.path.display().to_string(), align(scanned.end)));
                    let last = EntryId { index: next.id.index - 1, ..next.id };
                    recovered = Some((Recovered { end, last, torn }, header.journal));
                }
            }
        }
        let (mut recovered, journal) =
            recovered.expect("the file that the loop began with is the last, or one follows");
        let header = FileHeader {
            journal,
            wal_incarnation,
            sequence: recovered.end.sequence + 1,
            first_index: next.id.index,
            previous_checksum: next.checksum,
        };
        for file in self.unused {
            if is_torn_file(&file, &header, next)? {
                recovered.torn.get_or_insert((file.path.display().to_string(), 0));
            }
            files.release(file);
        }
        for (sequence, (header, file)) in live {
            files.add(sequence, header.first_index, file);
        }
        files.written(recovered.end.position);
        Ok(recovered)
    }
}

/// Where the valid entries of a file end, and the last group of them begins.
struct Scanned {
    end: u64,
    group: u64,
}

fn scan(
    file: &Arc<WalFile>,
    header: &FileHeader,
    bytes: &Bytes,
    next: &mut Next,
    sink: &mut dyn FnMut(Named, Location) -> Result<(), String>,
) -> Result<Scanned, RecoveryError> {
    let seed = header.seed();
    let mut at = FILE_HEADER_LEN as u64;
    let mut scanned = Scanned { end: at, group: at };
    while let Some(rest) = bytes.get(at as usize..) {
        // The next entry is of the same group, or begins the next one.
        let follows = |frame: &Frame| {
            frame.id.index == next.id.index
                && frame.id.epoch >= next.id.epoch
                && frame.previous_checksum == next.checksum
        };
        let Some(frame) = Frame::parse(rest, seed).filter(follows) else {
            let next_group = next_group(at);
            if next_group == at {
                break;
            }
            at = next_group;
            continue;
        };
        let entry = match frame.decode(&bytes.slice(at as usize..)) {
            Ok(entry) => entry,
            // Its checksum is right, so this is what was written: by a release that knows more.
            Err(why @ DecodeError::Unknown { .. }) => {
                let why = format!("at offset {at}: {why}");
                return Err(RecoveryError::Newer { path: file.path.display().to_string(), why });
            }
            // Torn. Whoever wrote on behind it began a group.
            Err(_) if next_group(at) != at => {
                at = next_group(at);
                continue;
            }
            Err(_) => break,
        };
        if frame.place_in_group == 0 {
            scanned.group = at;
        }
        let location = Location { sequence: header.sequence, position: at, length: frame.length };
        sink(Named { id: frame.id, entry }, location).map_err(|why| damaged(file, at, why))?;
        *next = Next { id: EntryId { index: frame.id.index + 1, ..frame.id }, checksum: frame.checksum };
        scanned.end = at + u64::from(frame.length);
        at = align(scanned.end);
    }
    Ok(scanned)
}

/// Looks for valid entries behind the end of the last file. Those of the same group as the missing one are a torn tail:
/// says whether there is one. One of a later group proves that the missing entry was durable.
fn find_damage(file: &Arc<WalFile>, bytes: &[u8], end: u64, seed: u32, next: Next) -> Result<bool, RecoveryError> {
    let mut torn = false;
    let mut at = align(end) as usize;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        at += ALIGNMENT;
        let Some(frame) = Frame::peek(rest) else { continue };
        let later = frame.id.index >= next.id.index && frame.id.epoch >= next.id.epoch;
        if !later || Frame::parse(rest, seed).is_none() {
            continue;
        }
        if frame.group_start() > next.id.index {
            let why = format!("entry {} is not valid, and entry {} follows", next.id.index, frame.id.index);
            return Err(damaged(file, align(end), why));
        }
        torn = true;
    }
    // A first entry that is there in part.
    let in_part = |at: u64| {
        let frame = Frame::peek(bytes.get(at as usize..).unwrap_or_default());
        frame.is_some_and(|frame| frame.id.index == next.id.index)
    };
    Ok(torn || in_part(align(end)) || in_part(next_group(end)))
}

/// Whether a file without a valid header was being begun at the crash. When later groups are in it, its header was good
/// once.
fn is_torn_file(file: &Arc<WalFile>, header: &FileHeader, next: Next) -> Result<bool, RecoveryError> {
    let first = read_up_to(&*file.handle, 0, FILE_HEADER_LEN).map_err(|cause| of_file(file, cause))?;
    if FileHeader::decode(&first).is_ok() {
        return Ok(false);
    }
    let bytes = read_up_to(&*file.handle, 0, file.size as usize).map_err(|cause| of_file(file, cause))?;
    match find_damage(file, &bytes, FILE_HEADER_LEN as u64, header.seed(), next) {
        Err(RecoveryError::Damaged { path, why, .. }) => {
            Err(RecoveryError::Damaged { path, position: 0, why: format!("its header is not valid, {why}") })
        }
        result => result,
    }
}

/// Makes the last group durable, which it may not be: it may never have been synced, or its fdatasync may have failed,
/// and then Linux has its pages in memory as clean. Written again they are dirty.
fn harden(file: &Arc<WalFile>, bytes: &[u8], scanned: &Scanned) -> Result<(), RecoveryError> {
    let Scanned { end, group } = *scanned;
    let start = if group == FILE_HEADER_LEN as u64 { 0 } else { group };
    write_all(&*file.handle, &bytes[start as usize..end as usize], start)
        .and_then(|()| file.handle.sync_data())
        .map_err(|cause| of_file(file, cause))
}

fn of_file(file: &WalFile, cause: io::Error) -> RecoveryError {
    RecoveryError::Io { path: file.path.display().to_string(), cause }
}

fn damaged(file: &WalFile, position: u64, why: String) -> RecoveryError {
    RecoveryError::Damaged { path: file.path.display().to_string(), position, why }
}

#[cfg(test)]
mod tests;
