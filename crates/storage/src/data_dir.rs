//! The data directory: who holds it, and whose it is.
//!
//! | file | holds |
//! |---|---|
//! | `lock` | nothing; locked while a process uses the directory |
//! | `node` | the identity: lines of `key = value` |
//! | `wal/` | the write-ahead log |
//!
//! The identity has `format` (1), `name` (the node's, a UUID), `wal` (the log's incarnation, 16 hexadecimal digits) and,
//! once the log has a file, `journal` (its number). The incarnation is there before the coordinator hears of it, so that a
//! crash in between does not leave a journal without a log; the journal's number says that there was a log, so that one
//! that was emptied is told from one that is new.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemark_model::{Entropy, JournalId};
use uuid::Uuid;

use crate::disk::{Disk, Lock};
use crate::error::StartError;

const FORMAT: u32 = 1;

/// A data directory that this process holds.
#[derive(Debug)]
pub struct DataDir {
    pub(crate) disk: Arc<dyn Disk>,
    dir: PathBuf,
    identity: Identity,
    _lock: Box<dyn Lock>,
}

/// Who the node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    name: Uuid,
    wal_incarnation: u64,
    journal: Option<JournalId>,
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
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (high, low) = (entropy.next_u64(), entropy.next_u64());
                let name = uuid::Builder::from_random_bytes(Uuid::from_u64_pair(high, low).into_bytes()).into_uuid();
                Identity { name, wal_incarnation: entropy.next_u64(), journal: None }
            }
            Err(cause) => return Err(StartError::Io { path, cause }),
        };
        let mut this = Self { disk, dir: dir.to_owned(), identity, _lock: lock };
        // Also when it is there already: it shows now, not at the first append, that nothing can be written.
        this.write(identity)?;
        let wal = this.wal();
        this.disk.create_dir(&wal).map_err(not_writable)?;
        Ok(this)
    }

    /// The node's name, the same at every start.
    pub fn name(&self) -> String {
        self.identity.name.to_string()
    }

    pub(crate) fn wal(&self) -> PathBuf {
        self.dir.join("wal")
    }

    pub(crate) fn wal_incarnation(&self) -> u64 {
        self.identity.wal_incarnation
    }

    /// The journal of the log, once there was one.
    pub(crate) fn journal(&self) -> Option<JournalId> {
        self.identity.journal
    }

    /// The log has a file now.
    pub(crate) fn log_created(&mut self, journal: JournalId) -> Result<(), StartError> {
        self.write(Identity { journal: Some(journal), ..self.identity })
    }

    /// The log was emptied: what begins is another.
    pub(crate) fn log_lost(&mut self, entropy: &dyn Entropy) -> Result<(), StartError> {
        self.write(Identity { wal_incarnation: entropy.next_u64(), journal: None, ..self.identity })
    }

    fn write(&mut self, identity: Identity) -> Result<(), StartError> {
        let written = self.disk.replace(&self.dir.join("node"), identity.to_text().as_bytes());
        written.map_err(|cause| StartError::NotWritable { dir: self.dir.clone(), cause })?;
        self.identity = identity;
        Ok(())
    }
}

impl Identity {
    fn to_text(self) -> String {
        let Self { name, wal_incarnation, journal } = self;
        let mut text = format!("format = {FORMAT}\nname = {name}\nwal = {wal_incarnation:016x}\n");
        if let Some(journal) = journal {
            let _ = writeln!(text, "journal = {journal}");
        }
        text
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, StartError> {
        let bad = |why: &str| StartError::BadIdentity { path: path.to_owned(), why: why.to_owned() };
        let text = std::str::from_utf8(bytes).map_err(|_| bad("it is not text"))?;
        let value = |key: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(" = "));
            lines.find(|(name, _)| *name == key).map(|(_, value)| value)
        };
        let format: u32 = value("format").and_then(|value| value.parse().ok()).ok_or_else(|| bad("no format"))?;
        if format > FORMAT {
            return Err(StartError::NewerFormat { path: path.to_owned(), found: format, known: FORMAT });
        }
        let name = value("name").and_then(|value| value.parse().ok()).ok_or_else(|| bad("no name"))?;
        let wal = value("wal").and_then(|value| u64::from_str_radix(value, 16).ok());
        let journal = match value("journal") {
            None => None,
            Some(value) => Some(JournalId(value.parse().map_err(|_| bad("the journal is not a number"))?)),
        };
        Ok(Self { name, wal_incarnation: wal.ok_or_else(|| bad("no wal"))?, journal })
    }
}

#[cfg(test)]
mod tests {
    use tidemark_segment::testing::Seeded;

    use super::*;
    use crate::disk::RealDisk;
    use crate::disk::sim::SimDisk;

    fn open(disk: &SimDisk) -> Result<DataDir, StartError> {
        DataDir::open(Arc::new(disk.clone()), Path::new("/data"), &Seeded::new(1))
    }

    #[test]
    fn the_name_stays_and_the_lock_is_held() {
        let disk = SimDisk::default();
        let first = open(&disk).unwrap();
        let (name, incarnation) = (first.name(), first.wal_incarnation());
        let error = open(&disk).unwrap_err();
        assert!(error.to_string().contains("/data/lock") && matches!(error, StartError::InUse { .. }), "{error}");
        drop(first);
        let mut again = open(&disk).unwrap();
        assert_eq!((again.name(), again.wal_incarnation(), again.journal()), (name.clone(), incarnation, None));
        again.log_created(JournalId(4)).unwrap();
        drop(again);
        let mut again = open(&disk).unwrap();
        assert_eq!(again.journal(), Some(JournalId(4)));
        again.log_lost(&Seeded::new(2)).unwrap();
        assert!(again.wal_incarnation() != incarnation && again.name() == name);
    }

    #[test]
    fn a_newer_or_broken_identity_is_refused() {
        let disk = SimDisk::default();
        drop(open(&disk).unwrap());
        let path = Path::new("/data/node");
        disk.replace(path, b"format = 2\n").unwrap();
        assert!(matches!(open(&disk), Err(StartError::NewerFormat { found: 2, .. })));
        disk.replace(path, b"format = 1\nname = x\n").unwrap();
        assert!(matches!(open(&disk), Err(StartError::BadIdentity { .. })));
    }

    #[test]
    fn a_real_directory_is_locked_and_one_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let open = |path: &Path| DataDir::open(Arc::new(RealDisk), path, &Seeded::new(1));
        let held = open(dir.path()).unwrap();
        assert!(matches!(open(dir.path()), Err(StartError::InUse { .. })));
        drop(held);
        open(dir.path()).unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        assert!(matches!(open(&file.join("data")), Err(StartError::NotWritable { .. })));
    }
}
