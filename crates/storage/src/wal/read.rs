//! Taking batches back out of the log, for readers that are behind the memory and for tiering.

use std::io;

use bytes::Bytes;
use tidemark_model::Batch;

use super::Location;
use super::files::Files;
use super::format::Frame;
use crate::disk::read_up_to;
use crate::entry::Entry;

/// Entries no further apart than this are read together: a gap costs less than another read.
const MAX_GAP: u64 = 64 * 1024;
/// The most that is read at once.
const MAX_READ: u64 = 4 * 1024 * 1024;

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

/// Reads batches, given in the order of their locations. Blocks.
pub fn read_batches(files: &Files, wanted: &[Wanted]) -> Result<Vec<Batch>, ReadError> {
    let mut batches = Vec::with_capacity(wanted.len());
    let mut rest = wanted;
    while let Some(first) = rest.first() {
        let start = first.location.position;
        let mut end = start;
        let together = rest.iter().take_while(|next| {
            let Location { sequence, position, length } = next.location;
            let next_end = position + u64::from(length);
            let near = sequence == first.location.sequence && position >= end && position - end <= MAX_GAP;
            let take = near && (end == start || next_end - start <= MAX_READ);
            if take {
                end = next_end;
            }
            take
        });
        let count = together.count();
        read_span(files, &rest[..count], start, end, &mut batches)?;
        rest = &rest[count..];
    }
    Ok(batches)
}

fn read_span(
    files: &Files,
    wanted: &[Wanted],
    start: u64,
    end: u64,
    batches: &mut Vec<Batch>,
) -> Result<(), ReadError> {
    let sequence = wanted.first().map_or(0, |first| first.location.sequence);
    let file = files.get(sequence).ok_or(ReadError::Gone)?;
    let path = || file.path.display().to_string();
    let bytes = read_up_to(&*file.handle, start, (end - start) as usize)
        .map_err(|cause| ReadError::Io { path: path(), cause })?;
    let bytes = Bytes::from(bytes);
    // The slot may have been given to a later file while it was read.
    let still_there = || files.get(sequence).is_some_and(|now| std::sync::Arc::ptr_eq(&now, &file));
    for Wanted { index, location } in wanted {
        let from = (location.position - start) as usize;
        let entry = bytes.get(from..from + location.length as usize).map(|_| {
            let entry = bytes.slice(from..from + location.length as usize);
            let frame = Frame::peek(&entry).ok_or("no entry")?;
            if frame.id.index != *index || frame.length != location.length {
                return Err("another entry");
            }
            frame.decode(&entry).map_err(|_| "the entry does not decode")
        });
        match entry {
            Some(Ok(Entry::Batch(entry))) => batches.push(entry.batch),
            _ if !still_there() => return Err(ReadError::Gone),
            Some(Err(why)) => {
                let (position, why) = (location.position, why.to_owned());
                return Err(ReadError::Corrupt { path: path(), position, why });
            }
            Some(Ok(_)) | None => {
                let why = "no batch".to_owned();
                return Err(ReadError::Corrupt { path: path(), position: location.position, why });
            }
        }
    }
    Ok(())
}
