//! What a start does with a log of which an fdatasync failed.
//!
//! After such a failure nobody knows what of the last writes is on the disk: the operating system may show pages that it
//! will not write any more. So that log is over. What was acknowledged before is on the disk, by every fdatasync that
//! succeeded; it is read, checked, and written to a new log, which takes the place of the old one when it is durable. What
//! was refused is left behind. Where an entry that was acknowledged is not there any more, the start is refused.

use std::sync::Arc;

use tidemark_model::Entropy;

use super::restore::{needed, newest_state};
use crate::data_dir::{DataDir, Log};
use crate::disk::off_thread;
use crate::entry::EntryId;
use crate::error::StartError;
use crate::store::Store;
use crate::wal::files::Files;
use crate::wal::format::entry_len;
use crate::wal::recovery::{Expected, survey};
use crate::wal::writer::{End, Named, WriteError, Writer};

/// Bytes that are copied by one write and one fdatasync.
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// Copies a log that failed, and says which log there is now. `store` is its journal's part of the bucket, when it has one.
pub(super) async fn copy(
    data_dir: &Arc<DataDir>,
    failed: Log,
    store: Option<Store>,
    file_bytes: u64,
    entropy: &dyn Entropy,
) -> Result<Log, StartError> {
    let Some(acknowledged) = failed.failed else { return Ok(failed) };
    let incarnation = match failed.copy {
        // An earlier start did not finish it.
        Some(copy) => copy,
        None => data_dir.copy_begun(failed.incarnation, entropy)?,
    };
    let Some(store) = store else {
        // It failed before its journal was opened: there is nothing in it.
        return data_dir.copied(&failed, incarnation);
    };
    let journal = store.keys.journal();
    let needed = needed(&newest_state(&store).await?.0).min(acknowledged.index);
    let disk = data_dir.disk.clone();
    let files = |incarnation| Arc::new(Files::new(disk.clone(), data_dir.wal(incarnation), file_bytes));
    let (from, to) = (files(failed.incarnation), files(incarnation));
    let expected = Expected { journal: Some(journal), wal_incarnation: failed.incarnation, needed };
    let work = move || -> Result<u64, StartError> {
        remove_log(&to)?;
        let writer = Writer::new(to, journal, incarnation, End::default());
        let mut copy = Copy { writer, group: Vec::new(), bytes: 0, last: EntryId::default(), failure: None };
        let mut sink = |named: Named, _| {
            if named.id <= acknowledged { copy.add(named) } else { Ok(()) }
        };
        let recovered = survey(&from, failed.incarnation)?.recover(&from, expected, &mut sink);
        if let Some(failure) = copy.failure.take() {
            return Err(failure);
        }
        recovered?;
        copy.flush()?;
        if copy.last < acknowledged {
            let (have, acknowledged) = (copy.last.index, acknowledged.index);
            return Err(StartError::LostAcknowledged { dir: from.dir().to_owned(), have, acknowledged });
        }
        Ok(copy.bytes)
    };
    let bytes = off_thread(&*data_dir.disk, work).await.ok_or(StartError::Stopped)??;
    tracing::warn!(
        %journal, bytes, through = acknowledged.index,
        "an fdatasync of this journal's log failed: what was acknowledged was copied to a new one"
    );
    data_dir.copied(&failed, incarnation)
}

/// Removes the files of a log that another succeeded, or of a copy that was not finished.
pub(super) fn remove_log(files: &Files) -> Result<(), StartError> {
    let failed = |cause| StartError::Io { path: files.dir().to_owned(), cause };
    files.disk.create_dir(files.dir()).map_err(failed)?;
    for file in files.open_slots().map_err(failed)? {
        files.disk.remove(&file.path).map_err(failed)?;
    }
    Ok(())
}

struct Copy {
    writer: Writer,
    group: Vec<Named>,
    bytes: u64,
    last: EntryId,
    failure: Option<StartError>,
}

impl Copy {
    /// Takes an entry in. Its failure is kept, as that of the copy and not of the log that is read.
    fn add(&mut self, named: Named) -> Result<(), String> {
        self.group.push(named);
        let bytes: usize = self.group.iter().map(|named| entry_len(&named.entry)).sum();
        if bytes < GROUP_BYTES {
            return Ok(());
        }
        self.flush().map_err(|error| {
            let text = error.to_string();
            self.failure = Some(error);
            text
        })
    }

    fn flush(&mut self) -> Result<(), StartError> {
        let Some(last) = self.group.last() else { return Ok(()) };
        let id = last.id;
        let bytes: u64 = self.group.iter().map(|named| entry_len(&named.entry) as u64).sum();
        // Room is asked for as if the group was all batches: a little of each file stays empty.
        let new_file = self.writer.room().0 < bytes + self.group.len() as u64 * crate::wal::format::ALIGNMENT as u64;
        self.writer.write(&self.group, new_file).map_err(|error| {
            let (WriteError::Clean(cause)
            | WriteError::Undone(cause)
            | WriteError::Unknown(cause)
            | WriteError::NotSynced(cause)) = error;
            StartError::Io { path: self.writer.dir(), cause }
        })?;
        self.bytes += bytes;
        self.last = id;
        self.group.clear();
        Ok(())
    }
}
