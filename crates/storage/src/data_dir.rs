//! The data directory: who holds it, and whose it is.
//!
//! | file | holds |
//! |---|---|
//! | `lock` | nothing; locked while a process uses the directory |
//! | `node` | the identity: lines of `key = value` |
//! | `wal/<incarnation>/` | a write-ahead log |
//!
//! The identity has `format` (2), `name` (the node's, a UUID) and for each log a line `log`: its incarnation (16
//! hexadecimal digits), then what else is known of it, each by a word:
//!
//! | word | what follows | since |
//! |---|---|---|
//! | `journal` | its number | the log has a file: one that was emptied is told from one that is new |
//! | `failed` | epoch and index of the last entry that was acknowledged | an fdatasync failed |
//! | `copy` | an incarnation | what was acknowledged is being copied to that log |
//! | `succeeds` | an incarnation | it was copied from that log, until the coordinator has it in that one's place |
//!
//! An incarnation is here before the coordinator hears of it, so that a crash in between does not leave a journal without
//! a log.

pub(crate) mod identity;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemark_model::{Entropy, JournalId};

use crate::disk::{Disk, Lock};
use crate::entry::EntryId;
use crate::error::StartError;
use identity::Identity;

pub(crate) use identity::Log;

/// A data directory that this process holds.
#[derive(Debug)]
pub struct DataDir {
    pub(crate) disk: Arc<dyn Disk>,
    dir: PathBuf,
    identity: Mutex<Identity>,
    _lock: Box<dyn Lock>,
}

impl DataDir {
    /// Opens a directory, or makes it one, and holds it until this is dropped.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, entropy: &dyn Entropy) -> Result<Self, StartError> {
        let not_writable = |cause| StartError::NotWritable { dir: dir.to_owned(), cause };
        disk.create_dir(dir).map_err(not_writable)?;
        let lock_path = dir.join("lock");
        let lock = disk.lock(&lock_path).map_err(|cause| match cause.kind() {
            io::ErrorKind::WouldBlock => StartError::InUse { dir: dir.to_owned(), lock: lock_path.clone() },
            _ => not_writable(cause),
        })?;
        let path = dir.join("node");
        let identity = match disk.read(&path) {
            Ok(bytes) => Identity::parse(&path, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Identity::new(entropy),
            Err(cause) => return Err(StartError::Io { path, cause }),
        };
        let this = Self { disk, dir: dir.to_owned(), identity: Mutex::new(identity), _lock: lock };
        // Also when it is there already: it shows now, not at the first append, that nothing can be written.
        this.change(|_| {})?;
        Ok(this)
    }

    /// The node's name, the same at every start.
    pub fn name(&self) -> String {
        self.lock().name.to_string()
    }

    /// Where a log is.
    pub(crate) fn wal(&self, incarnation: u64) -> PathBuf {
        self.dir.join("wal").join(format!("{incarnation:016x}"))
    }

    pub(crate) fn logs(&self) -> Vec<Log> {
        self.lock().logs.clone()
    }

    /// Adds logs until there are `count`. There may be more already: none is given up.
    pub(crate) fn add_logs(&self, count: usize, entropy: &dyn Entropy) -> Result<(), StartError> {
        self.change(|identity| {
            while identity.logs.len() < count {
                identity.logs.push(Log::new(entropy.next_u64()));
            }
        })
    }

    /// The logs have files now, and the coordinator knows them.
    pub(crate) fn logs_opened(&self, opened: &[(u64, JournalId)]) -> Result<(), StartError> {
        self.change(|identity| {
            for (incarnation, journal) in opened {
                identity.change(*incarnation, |log| {
                    *log = Log { journal: Some(*journal), ..Log::new(*incarnation) };
                });
            }
        })
    }

    /// The log was emptied: what begins is another, of this incarnation.
    pub(crate) fn log_lost(&self, incarnation: u64, entropy: &dyn Entropy) -> Result<u64, StartError> {
        let next = entropy.next_u64();
        self.change(|identity| identity.change(incarnation, |log| *log = Log::new(next)))?;
        Ok(next)
    }

    /// An fdatasync of the log failed, when `acknowledged` was the last entry that was durable.
    pub(crate) fn log_failed(&self, incarnation: u64, acknowledged: EntryId) -> Result<(), StartError> {
        self.change(|identity| identity.change(incarnation, |log| log.failed = Some(acknowledged)))
    }

    /// A log that failed is copied to the one of this incarnation.
    pub(crate) fn copy_begun(&self, incarnation: u64, entropy: &dyn Entropy) -> Result<u64, StartError> {
        let copy = entropy.next_u64();
        self.change(|identity| identity.change(incarnation, |log| log.copy = Some(copy)))?;
        Ok(copy)
    }

    /// The copy has everything, and is durable.
    pub(crate) fn copied(&self, failed: &Log, copy: u64) -> Result<Log, StartError> {
        let log = Log { journal: failed.journal, succeeds: Some(failed.incarnation), ..Log::new(copy) };
        self.change(|identity| identity.change(failed.incarnation, |failed| *failed = log.clone()))?;
        Ok(log)
    }

    fn change(&self, change: impl FnOnce(&mut Identity)) -> Result<(), StartError> {
        let mut identity = self.lock();
        let mut next = identity.clone();
        change(&mut next);
        let written = self.disk.replace(&self.dir.join("node"), next.to_text().as_bytes());
        written.map_err(|cause| StartError::NotWritable { dir: self.dir.clone(), cause })?;
        *identity = next;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
