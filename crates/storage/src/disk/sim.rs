//! A disk in memory, with faults and crashes, for tests and simulations. It runs on tokio's current thread.
//!
//! What was written and not synced is there until a power failure; then each dirty page is kept, lost, or torn, as the
//! entropy says. With [latency](SimDisk::set_latency), what an I/O loop does takes time, in which other tasks go on.

mod file;
mod seam;
mod worker;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tidemark_model::Entropy;
use tokio::sync::watch;

use super::DiskFile;
use file::{Content, SimFile};
use worker::Worker;

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
    /// A write or a read takes only this many bytes, at least one.
    Short(usize),
    /// The power goes in the middle of it.
    PowerLoss,
}

/// One operation in this many meets a fault; none where 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Odds {
    pub create: u64,
    pub write: u64,
    pub sync: u64,
    pub read: u64,
}

/// What somebody who watches the disk is told, before it is done.
#[derive(Debug)]
pub enum Seen<'a> {
    Create {
        path: &'a Path,
        len: u64,
        fault: Fault,
    },
    Replace {
        path: &'a Path,
        bytes: &'a [u8],
    },
    Remove {
        path: &'a Path,
    },
    Write {
        path: &'a Path,
        position: u64,
        bytes: &'a [u8],
        fault: Fault,
    },
    Sync {
        path: &'a Path,
        fault: Fault,
    },
    Read {
        path: &'a Path,
        position: u64,
        fault: Fault,
    },
    /// The power went, and so many pages are not what was written last.
    PowerLoss {
        pages: usize,
    },
}

/// Is told of everything.
pub type Watcher = Arc<dyn Fn(&Seen<'_>) + Send + Sync>;

/// A disk in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
    /// The life that this handle is of; none: whichever is the present one.
    life: Option<u64>,
}

#[derive(Default)]
struct Inner {
    files: BTreeMap<PathBuf, Arc<Mutex<Content>>>,
    /// Files whose removal is not durable yet.
    removed: BTreeMap<PathBuf, Arc<Mutex<Content>>>,
    locks: BTreeSet<PathBuf>,
    /// Raised at each crash: what was opened before it is dead.
    life: watch::Sender<u64>,
    faults: VecDeque<(Operation, Fault)>,
    odds: Odds,
    entropy: Option<Arc<dyn Entropy>>,
    /// The power goes at this operation from now.
    power_loss_in: Option<u64>,
    /// The longest that one operation takes, and a background task waits to begin.
    latency: Option<Duration>,
    /// Bytes of files there may be.
    capacity: Option<u64>,
    workers: Vec<Weak<Worker>>,
    /// Reads of files so far.
    reads: usize,
    watcher: Option<Watcher>,
    panic: Option<String>,
}

impl SimDisk {
    /// A disk whose chances are this entropy's.
    pub fn by_chance(entropy: Arc<dyn Entropy>) -> Self {
        let disk = Self::default();
        disk.lock_inner().entropy = Some(entropy);
        disk
    }

    /// The disk as a process has it that lives until the next crash.
    pub fn of_this_life(&self) -> Self {
        Self { inner: self.inner.clone(), life: Some(self.life()) }
    }

    /// How many reads of files there were.
    pub fn reads(&self) -> usize {
        self.lock_inner().reads
    }

    /// How many crashes there were.
    pub fn life(&self) -> u64 {
        self.lock_inner().life()
    }

    /// Is told at each crash.
    pub fn crashes(&self) -> watch::Receiver<u64> {
        self.lock_inner().life.subscribe()
    }

    /// What an I/O loop panicked with.
    pub fn panic(&self) -> Option<String> {
        self.lock_inner().panic.clone()
    }

    pub fn watch(&self, watcher: Watcher) {
        self.lock_inner().watcher = Some(watcher);
    }

    /// The next operations of a kind meet these faults, one each.
    pub fn inject(&self, operation: Operation, faults: impl IntoIterator<Item = Fault>) {
        self.lock_inner().faults.extend(faults.into_iter().map(|fault| (operation, fault)));
    }

    /// Operations fail by [chance](Self::by_chance) from now on.
    pub fn set_odds(&self, odds: Odds) {
        self.lock_inner().odds = odds;
    }

    /// Operations take up to this long. I/O loops made from then on have threads that take turns with tokio's.
    pub fn set_latency(&self, latency: Duration) {
        self.lock_inner().latency = Some(latency);
    }

    /// No file is created beyond this many bytes in all.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock_inner().capacity = bytes;
    }

    /// The power goes in the middle of the operation that comes after so many.
    pub fn lose_power_in(&self, operations: Option<u64>) {
        self.lock_inner().power_loss_in = operations;
    }

    /// The power goes: what was open is dead, locks are gone, and of what was not synced some is there.
    pub fn crash(&self, entropy: &dyn Entropy) {
        let workers = {
            let mut inner = self.lock_inner();
            let removed = std::mem::take(&mut inner.removed);
            for (path, content) in removed {
                if entropy.next_u64().is_multiple_of(2) {
                    inner.files.entry(path).or_insert(content);
                }
            }
            let mut pages = 0;
            for content in inner.files.values() {
                pages += lock(content).lose_power(entropy);
            }
            if let Some(watcher) = inner.watcher.clone() {
                watcher(&Seen::PowerLoss { pages });
            }
            inner.end_life()
        };
        stop(workers);
    }

    /// The process is killed: what was open is dead, locks are gone, and what was written is there, synced or not.
    pub fn kill(&self) {
        let workers = self.lock_inner().end_life();
        stop(workers);
    }

    /// Changes bytes of a file, as a failing disk would.
    pub fn edit(&self, path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
        let inner = self.lock_inner();
        let mut content = lock(inner.files.get(path).expect("a test edits a file that is there"));
        let mut bytes = content.bytes().to_vec();
        edit(&mut bytes);
        *content = Content::durable(bytes);
    }

    /// The bytes of a file.
    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        lock(self.lock_inner().files.get(path).expect("a test reads a file that is there")).bytes().to_vec()
    }

    /// The files there are.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.lock_inner().files.keys().cloned().collect()
    }

    /// The power goes while somebody does something.
    fn lose_power_here(&self) -> io::Error {
        let entropy = self.lock_inner().entropy.clone();
        self.crash(&*entropy.expect("a disk that loses power by itself is made by_chance"));
        worker::end_step();
        dead()
    }

    fn take_time(&self) {
        let time = {
            let inner = self.lock_inner();
            inner.latency.map(|latency| inner.up_to(latency))
        };
        if let Some(time) = time {
            worker::wait(time);
        }
    }

    fn fault(&self, operation: Operation, life: u64) -> io::Result<Fault> {
        let mut inner = self.lock_inner();
        if inner.life() != life {
            drop(inner);
            worker::end_step();
            return Err(dead());
        }
        if inner.power_goes_now() {
            return Ok(Fault::PowerLoss);
        }
        if let Some(at) = inner.faults.iter().position(|(of, _)| *of == operation) {
            return Ok(inner.faults.remove(at).map_or(Fault::None, |(_, fault)| fault));
        }
        Ok(inner.fault_by_chance(operation))
    }

    fn tell(&self, seen: Seen<'_>) {
        let watcher = self.lock_inner().watcher.clone();
        if let Some(watcher) = watcher {
            watcher(&seen);
        }
    }

    fn this_life(&self) -> u64 {
        self.life.unwrap_or_else(|| self.life())
    }

    /// For what is not about an open file: whether the process that asks is still there.
    fn check_alive(&self) -> io::Result<()> {
        let mut inner = self.lock_inner();
        if self.life.is_some_and(|life| life != inner.life()) {
            return Err(dead());
        }
        if inner.power_goes_now() {
            drop(inner);
            return Err(self.lose_power_here());
        }
        Ok(())
    }

    fn lock_inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    fn handle(&self, path: &Path, content: Arc<Mutex<Content>>) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: self.clone(), life: self.this_life(), path: path.to_owned(), content })
    }
}

impl Inner {
    fn life(&self) -> u64 {
        *self.life.borrow()
    }

    fn end_life(&mut self) -> Vec<Weak<Worker>> {
        self.life.send_modify(|life| *life += 1);
        self.locks.clear();
        self.faults.clear();
        self.power_loss_in = None;
        std::mem::take(&mut self.workers)
    }

    fn power_goes_now(&mut self) -> bool {
        match &mut self.power_loss_in {
            None => false,
            Some(0) => {
                self.power_loss_in = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
        }
    }

    fn fault_by_chance(&self, operation: Operation) -> Fault {
        let Odds { create, write, sync, read } = self.odds;
        let one_in = match operation {
            Operation::Create => create,
            Operation::Write => write,
            Operation::Sync => sync,
            Operation::Read => read,
        };
        let Some(entropy) = self.entropy.as_ref().filter(|_| one_in > 0) else { return Fault::None };
        if !entropy.next_u64().is_multiple_of(one_in) {
            return Fault::None;
        }
        match (operation, entropy.next_u64() % 6) {
            (Operation::Sync, _) | (Operation::Read, 0..3) | (_, 0 | 1) => Fault::Io,
            (Operation::Create | Operation::Write, 2) => Fault::NoSpace { kept: 0 },
            (Operation::Create | Operation::Write, 3) => Fault::NoSpace { kept: entropy.next_u64() as usize % 10_000 },
            (_, _) => Fault::Short(1 + entropy.next_u64() as usize % 5_000),
        }
    }

    fn up_to(&self, longest: Duration) -> Duration {
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        let chance = self.entropy.as_ref().map_or(0, |entropy| entropy.next_u64());
        Duration::from_micros(chance % (micros + 1))
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("files", &self.files.len()).field("life", &self.life()).finish_non_exhaustive()
    }
}

fn stop(workers: Vec<Weak<Worker>>) {
    workers.iter().filter_map(Weak::upgrade).for_each(|worker| worker.stop());
}

fn dead() -> io::Error {
    io::Error::other("the machine this was asked of has crashed")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
