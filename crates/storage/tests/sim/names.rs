//! The names of entries: everything that is ever written to a log is looked at, and one name is never two entries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tidemark_model::JournalId;
use tidemark_segment::testing::sim::Trace;
use tidemark_storage::disk::sim::{Fault, Seen, Watcher};
use tidemark_storage::wal::format::{ENTRY_HEADER_LEN, FILE_HEADER_LEN, FileHeader, Frame, align};

#[derive(Debug, Default)]
struct Names {
    /// The header that each file has at present.
    headers: BTreeMap<PathBuf, FileHeader>,
    /// The bytes that each name means: kind, version and payload.
    entries: BTreeMap<(JournalId, u32, u64), Vec<u8>>,
}

/// Watches a disk, writes down what is done to it, and compares names.
pub fn watcher(trace: Trace) -> Watcher {
    let names = Arc::new(Mutex::new(Names::default()));
    Arc::new(move |seen| {
        note(&trace, seen);
        if let Seen::Write { path, position, bytes, .. } = seen {
            let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(wrong) = names.written(path, *position, bytes) {
                trace.wrong(wrong);
            }
        }
    })
}

impl Names {
    /// What is asked to be written counts, whatever becomes of it: the same could go to a follower.
    fn written(&mut self, path: &Path, position: u64, bytes: &[u8]) -> Result<(), String> {
        let mut at = 0;
        if position == 0 {
            let Ok(header) = FileHeader::decode(bytes) else { return Ok(()) };
            self.headers.insert(path.to_owned(), header);
            at = FILE_HEADER_LEN;
        }
        let Some(header) = self.headers.get(path) else { return Ok(()) };
        // The rest of a short write begins anywhere, and was seen before.
        while let Some(frame) = bytes.get(at..).and_then(|rest| Frame::parse(rest, header.seed())) {
            let end = at + frame.length as usize;
            let mut meaning = vec![frame.kind, frame.version];
            meaning.extend_from_slice(&bytes[at + ENTRY_HEADER_LEN..end]);
            let name = (header.journal, frame.id.epoch, frame.id.index);
            if self.entries.entry(name).or_insert_with(|| meaning.clone()) != &meaning {
                return Err(format!("entry {} of epoch {} is two entries", frame.id.index, frame.id.epoch));
            }
            at = align(end as u64) as usize;
        }
        Ok(())
    }
}

fn note(trace: &Trace, seen: &Seen<'_>) {
    let fault = match seen {
        Seen::Create { path, len, fault } => {
            trace.note(format_args!("disk: create {} of {len}: {fault:?}", path.display()));
            *fault
        }
        Seen::Replace { path, bytes } => {
            trace.note(format_args!("disk: replace {} by {} bytes", path.display(), bytes.len()));
            Fault::None
        }
        Seen::Remove { path } => {
            trace.note(format_args!("disk: remove {}", path.display()));
            Fault::None
        }
        Seen::Write { path, position, bytes, fault } => {
            let (len, crc) = (bytes.len(), crc32c::crc32c(bytes));
            trace.note(format_args!("disk: write {} at {position}: {len} bytes {crc:08x}: {fault:?}", path.display()));
            *fault
        }
        Seen::Sync { path, fault } => {
            trace.note(format_args!("disk: sync {}: {fault:?}", path.display()));
            *fault
        }
        Seen::Read { path, position, fault } => {
            trace.note(format_args!("disk: read {} at {position}: {fault:?}", path.display()));
            *fault
        }
        Seen::PowerLoss { pages } => {
            trace.note(format_args!("disk: the power goes, {pages} pages are not what was written"));
            trace.count("power losses");
            if *pages > 0 {
                trace.count("power losses that lost writes");
            }
            Fault::None
        }
    };
    if fault != Fault::None {
        trace.count("faults of the disk");
    }
}
