//! Taking batches back out of the log, for readers that are behind the memory and for tiering.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_model::Batch;

use super::Location;
use super::files::{Files, WalFile};
use super::format::Frame;
use crate::entry::Entry;

/// Short entries no further apart than this are read together: a gap costs less than another read.
const MAX_GAP: u64 = 64 * 1024;
/// The most that is read at once.
const MAX_READ: u64 = 1024 * 1024;
/// Entries of less are short: what is read is of many partitions, so each is copied out of it, and nobody who keeps one
/// keeps the others. A longer one is read by itself, into memory of its own.
const SHORT: u32 = 64 * 1024;

/// A batch that is wanted: where it is, and the index that proves that it is still there.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub index: u64,
    pub location: Location,
}

/// Why a batch could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file has been freed since: what was in it is in the object store. Look again.
    #[error("no longer in the log")]
    Gone,
    #[error("{path}: {cause}")]
    Io { path: String, cause: io::Error },
    /// The disk gave other bytes than were written.
    #[error("{path} at {position}: {why}")]
    Corrupt { path: String, position: u64, why: String },
}

/// Reads batches, given in the order of their locations, of any partitions. Each has memory to itself. Blocks.
pub fn read_batches(files: &Files, wanted: &[Wanted]) -> Result<Vec<Batch>, ReadError> {
    let mut batches = Vec::with_capacity(wanted.len());
    let mut rest = wanted;
    while !rest.is_empty() {
        let (together, end) = first_span(rest);
        read_span(files, &rest[..together], end, &mut batches)?;
        rest = &rest[together..];
    }
    Ok(batches)
}

/// How many entries from the first on are read together, and where the last of them ends.
fn first_span(wanted: &[Wanted]) -> (usize, u64) {
    let Some(first) = wanted.first() else { return (0, 0) };
    let end_of = |location: &Location| location.position + u64::from(location.length);
    let (start, mut end) = (first.location.position, end_of(&first.location));
    if first.location.length >= SHORT {
        return (1, end);
    }
    let more = wanted[1..].iter().take_while(|next| {
        let Location { sequence, position, length } = next.location;
        let near = sequence == first.location.sequence && position >= end && position - end <= MAX_GAP;
        let take = near && length < SHORT && end_of(&next.location) - start <= MAX_READ;
        if take {
            end = end_of(&next.location);
        }
        take
    });
    let more = more.count();
    (1 + more, end)
}

fn read_span(files: &Files, wanted: &[Wanted], end: u64, batches: &mut Vec<Batch>) -> Result<(), ReadError> {
    let Some(first) = wanted.first() else { return Ok(()) };
    let Location { sequence, position: start, .. } = first.location;
    let file = files.get(sequence).ok_or(ReadError::Gone)?;
    let read = file.handle.read_long(start, (end - start) as usize);
    let bytes = read.map_err(|cause| ReadError::Io { path: file.path.display().to_string(), cause })?;
    if let [only] = wanted {
        let batch = check(*only, bytes);
        batches.push(batch.map_err(|why| refusal(files, &file, only.location, why))?);
        return Ok(());
    }
    for one in wanted {
        let from = (one.location.position - start) as usize;
        let entry = bytes.get(from..from + one.location.length as usize).unwrap_or_default();
        let batch = check(*one, Bytes::copy_from_slice(entry));
        batches.push(batch.map_err(|why| refusal(files, &file, one.location, why))?);
    }
    Ok(())
}

/// The batch that an entry holds, when it is the one that is wanted and undamaged.
fn check(wanted: Wanted, entry: Bytes) -> Result<Batch, &'static str> {
    let frame = Frame::peek(&entry).ok_or("no entry")?;
    let Wanted { index, location } = wanted;
    if frame.id.index != index || frame.length != location.length || entry.len() != location.length as usize {
        return Err("another entry");
    }
    match frame.decode(&entry) {
        Ok(Entry::Batch(entry)) => Ok(entry.batch),
        Ok(_) => Err("no batch"),
        Err(_) => Err("the entry does not decode"),
    }
}

/// The slot may have been given to a later file while it was read; else the disk is to blame.
fn refusal(files: &Files, file: &Arc<WalFile>, location: Location, why: &str) -> ReadError {
    if files.get(location.sequence).is_none_or(|now| !Arc::ptr_eq(&now, file)) {
        return ReadError::Gone;
    }
    ReadError::Corrupt { path: file.path.display().to_string(), position: location.position, why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(sequence: u64, position: u64, length: u32) -> Wanted {
        Wanted { index: 1, location: Location { sequence, position, length } }
    }

    #[test]
    fn short_entries_that_are_near_are_read_together_and_a_long_one_alone() {
        let gap = MAX_GAP;
        let all = [
            wanted(1, 64, 100),
            wanted(1, 168, 100),
            wanted(1, 268 + gap, 100),
            wanted(1, 369 + 2 * gap, 100),
            wanted(2, 64, SHORT),
            wanted(2, 64 + u64::from(SHORT), 8),
        ];
        assert_eq!(first_span(&all), (3, 368 + gap), "and the fourth is a byte too far");
        assert_eq!(first_span(&all[3..]), (1, 469 + 2 * gap), "the next file is another read");
        assert_eq!(first_span(&all[4..]), (1, 64 + u64::from(SHORT)));
        assert_eq!(first_span(&all[5..]), (1, 72 + u64::from(SHORT)));
        let many: Vec<Wanted> = (0..100).map(|n| wanted(1, n * 32_768, 32_768)).collect();
        assert_eq!(first_span(&many), (32, MAX_READ));
    }
}
