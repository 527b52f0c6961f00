//! A disk in memory, with faults and crashes, for tests and simulations. It runs on tokio's current thread.
//!
//! What was written and not synced is there until a crash; then each dirty page is kept, lost, or torn at a sector, as
//! the entropy says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemark_model::Entropy;
use tokio::sync::Notify;

use super::{Disk, DiskFile, IoLoop, Lock};

/// The unit in which unsynced writes are kept or lost.
const PAGE: usize = 4096;
/// The unit that a disk writes whole.
const SECTOR: usize = 512;

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Create,
    Write,
    Sync,
    Read,
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// `ENOSPC`. A write keeps this many bytes of what it was given, which it does not say.
    NoSpace {
        kept: usize,
    },
    /// `EIO`. A write may have kept half of it; a failed sync leaves the pages clean and not durable.
    Io,
    /// A write takes only this many bytes, at least one.
    Short(usize),
}

/// A disk in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    files: BTreeMap<PathBuf, Arc<Mutex<Content>>>,
    dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    /// Raised at each crash: what was opened before it is dead.
    life: u64,
    faults: VecDeque<(Operation, Fault)>,
    chance: Option<Chance>,
    /// Bytes of files there may be.
    capacity: Option<u64>,
}

/// Faults by chance.
struct Chance {
    entropy: Arc<dyn Entropy>,
    /// One operation in this many of those that fail meets a fault.
    one_in: u64,
}

#[derive(Debug, Default, Clone)]
struct Content {
    durable: Vec<u8>,
    now: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    life: u64,
    content: Arc<Mutex<Content>>,
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    life: u64,
    path: PathBuf,
}

#[derive(Debug)]
struct SimLoop {
    notify: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl SimDisk {
    /// The next operations of a kind meet these faults, one each.
    pub fn inject(&self, operation: Operation, faults: impl IntoIterator<Item = Fault>) {
        self.lock_inner().faults.extend(faults.into_iter().map(|fault| (operation, fault)));
    }

    /// One write, sync or create in `one_in` fails from now on; none when 0.
    pub fn fail_by_chance(&self, entropy: Arc<dyn Entropy>, one_in: u64) {
        self.lock_inner().chance = (one_in > 0).then_some(Chance { entropy, one_in });
    }

    /// No file is created beyond this many bytes in all.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock_inner().capacity = bytes;
    }

    /// The power goes: what was open is dead, locks are gone, and of what was not synced some is there.
    pub fn crash(&self, entropy: &dyn Entropy) {
        let mut inner = self.lock_inner();
        inner.life += 1;
        inner.locks.clear();
        inner.faults.clear();
        for content in inner.files.values_mut() {
            let mut after = lock(content).clone();
            for page in std::mem::take(&mut after.dirty) {
                let range = page * PAGE..((page + 1) * PAGE).min(after.now.len());
                let kept = match entropy.next_u64() % 4 {
                    0 => 0,
                    1 => (entropy.next_u64() as usize % (PAGE / SECTOR)) * SECTOR,
                    _ => range.len(),
                };
                let split = range.start + kept.min(range.len());
                after.durable[range.start..split].copy_from_slice(&after.now[range.start..split]);
            }
            after.now = after.durable.clone();
            *content = Arc::new(Mutex::new(after));
        }
    }

    /// Changes bytes of a file, as a failing disk would.
    pub fn edit(&self, path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
        let inner = self.lock_inner();
        let mut content = lock(inner.files.get(path).expect("a test edits a file that is there"));
        edit(&mut content.now);
        content.durable = content.now.clone();
    }

    /// The bytes of a file.
    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        lock(self.lock_inner().files.get(path).expect("a test reads a file that is there")).now.clone()
    }

    /// The files there are.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.lock_inner().files.keys().cloned().collect()
    }

    fn fault(&self, operation: Operation, life: u64) -> io::Result<Fault> {
        let mut inner = self.lock_inner();
        if inner.life != life {
            return Err(io::Error::other("the machine this file was open on has crashed"));
        }
        if let Some(at) = inner.faults.iter().position(|(of, _)| *of == operation) {
            return Ok(inner.faults.remove(at).map_or(Fault::None, |(_, fault)| fault));
        }
        let Some(Chance { entropy, one_in }) = &inner.chance else { return Ok(Fault::None) };
        if operation == Operation::Read || entropy.next_u64() % one_in != 0 {
            return Ok(Fault::None);
        }
        Ok(match (operation, entropy.next_u64() % 8) {
            // A failed sync ends the journal until a restart: rarer than what it recovers from by itself.
            (Operation::Sync, 0) => Fault::Io,
            (Operation::Sync, _) => Fault::None,
            (_, 0 | 1) => Fault::Io,
            (_, 2 | 3) => Fault::NoSpace { kept: 0 },
            (_, 4) => Fault::NoSpace { kept: entropy.next_u64() as usize % 10_000 },
            (_, _) => Fault::Short(1 + entropy.next_u64() as usize % 5_000),
        })
    }

    fn lock_inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    fn handle(&self, life: u64, content: Arc<Mutex<Content>>) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: self.clone(), life, content })
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.lock_inner().dirs.insert(dir.to_owned());
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = self.lock_inner();
        let names = inner.files.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut inner = self.lock_inner();
        if !inner.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { disk: self.clone(), life: inner.life, path: path.to_owned() }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let inner = self.lock_inner();
        Ok(lock(inner.files.get(path).ok_or(io::ErrorKind::NotFound)?).now.clone())
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let content = Content { durable: bytes.to_vec(), now: bytes.to_vec(), dirty: BTreeSet::new() };
        self.lock_inner().files.insert(path.to_owned(), Arc::new(Mutex::new(content)));
        Ok(())
    }

    fn create(&self, path: &Path, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        let life = self.lock_inner().life;
        match self.fault(Operation::Create, life)? {
            Fault::None | Fault::Short(_) => {}
            Fault::NoSpace { .. } => return Err(io::ErrorKind::StorageFull.into()),
            Fault::Io => return Err(io::Error::other("injected EIO")),
        }
        let mut inner = self.lock_inner();
        if inner.files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let used: u64 = inner.files.values().map(|content| lock(content).now.len() as u64).sum();
        if inner.capacity.is_some_and(|capacity| used + len > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let zeros = vec![0; len as usize];
        let content = Arc::new(Mutex::new(Content { durable: zeros.clone(), now: zeros, dirty: BTreeSet::new() }));
        inner.files.insert(path.to_owned(), content.clone());
        drop(inner);
        Ok(self.handle(life, content))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.lock_inner();
        let content = inner.files.get(path).ok_or(io::ErrorKind::NotFound)?.clone();
        Ok(self.handle(inner.life, content))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.lock_inner().files.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn io_loop(&self, _name: &str, mut step: Box<dyn FnMut() + Send>) -> io::Result<Box<dyn IoLoop>> {
        let notify = Arc::new(Notify::new());
        let woken = notify.clone();
        let task = tokio::spawn(async move {
            loop {
                woken.notified().await;
                step();
            }
        });
        Ok(Box::new(SimLoop { notify, task }))
    }

    fn background(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(lock(&self.content).now.len() as u64)
    }

    fn write_at(&self, buffers: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let fault = self.disk.fault(Operation::Write, self.life)?;
        let bytes: Vec<u8> = buffers.iter().flat_map(|buffer| buffer.iter().copied()).collect();
        let kept = match fault {
            Fault::None => bytes.len(),
            Fault::NoSpace { kept } => kept.min(bytes.len()),
            Fault::Io => bytes.len() / 2,
            Fault::Short(n) => n.clamp(1, bytes.len().max(1)).min(bytes.len()),
        };
        let mut content = lock(&self.content);
        let start = position as usize;
        if content.now.len() < start + kept {
            content.now.resize(start + kept, 0);
            content.durable.resize(start + kept, 0);
        }
        content.now[start..start + kept].copy_from_slice(&bytes[..kept]);
        if kept > 0 {
            content.dirty.extend(start / PAGE..=(start + kept - 1) / PAGE);
        }
        match fault {
            Fault::None | Fault::Short(_) => Ok(kept),
            Fault::NoSpace { .. } => Err(io::ErrorKind::StorageFull.into()),
            Fault::Io => Err(io::Error::other("injected EIO")),
        }
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        if self.disk.fault(Operation::Read, self.life)? != Fault::None {
            return Err(io::Error::other("injected EIO"));
        }
        let content = lock(&self.content);
        let rest = content.now.get(position as usize..).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn sync_data(&self) -> io::Result<()> {
        let fault = self.disk.fault(Operation::Sync, self.life)?;
        let mut content = lock(&self.content);
        let dirty = std::mem::take(&mut content.dirty);
        if fault != Fault::None {
            // As Linux does: the pages count as clean, and are not on the disk.
            return Err(io::Error::other("injected EIO"));
        }
        for page in dirty {
            let range = page * PAGE..((page + 1) * PAGE).min(content.now.len());
            let Content { durable, now, .. } = &mut *content;
            durable[range.clone()].copy_from_slice(&now[range]);
        }
        Ok(())
    }
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut inner = self.disk.lock_inner();
        if inner.life == self.life {
            inner.locks.remove(&self.path);
        }
    }
}

impl IoLoop for SimLoop {
    fn wake(&self) {
        self.notify.notify_one();
    }
}

impl Drop for SimLoop {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("files", &self.files.len()).field("life", &self.life).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
