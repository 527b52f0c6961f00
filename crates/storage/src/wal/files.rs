//! The files of the log: those in use, by sequence, and those free to be used again.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile};
use crate::metrics;

/// What the names of the slots end with.
const SUFFIX: &str = ".wal";
/// Free files that are kept to be used again; more are removed. Enough for a second of writing.
const MAX_FREE: usize = 8;

/// A slot.
#[derive(Debug)]
pub struct WalFile {
    pub slot: u32,
    pub path: PathBuf,
    pub size: u64,
    pub handle: Arc<dyn DiskFile>,
}

/// A file in use.
#[derive(Debug, Clone)]
pub struct LiveFile {
    pub first_index: u64,
    pub file: Arc<WalFile>,
}

/// The files of one log.
#[derive(Debug)]
pub struct Files {
    pub disk: Arc<dyn Disk>,
    dir: PathBuf,
    file_bytes: u64,
    inner: Mutex<Inner>,
    /// Bytes of the files in use, but for what is not written yet of the last one.
    used: AtomicU64,
    usage: Arc<Usage>,
}

/// Bytes that several logs take together.
#[derive(Debug, Default)]
pub struct Usage(AtomicU64);

#[derive(Debug, Default)]
struct Inner {
    live: BTreeMap<u64, LiveFile>,
    free: Vec<Arc<WalFile>>,
    last_slot: u32,
    last_position: u64,
}

impl Files {
    /// `file_bytes`: the size of new files.
    pub fn new(disk: Arc<dyn Disk>, dir: PathBuf, file_bytes: u64) -> Self {
        Self { disk, dir, file_bytes, inner: Mutex::default(), used: AtomicU64::new(0), usage: Arc::default() }
    }

    /// The same, whose bytes are counted together with those of other logs.
    pub fn counted_in(self, usage: Arc<Usage>) -> Self {
        Self { usage, ..self }
    }

    /// Opens every slot that is there.
    pub fn open_slots(&self) -> io::Result<Vec<Arc<WalFile>>> {
        let mut slots = Vec::new();
        for name in self.disk.list(&self.dir)? {
            let Some(slot) = name.strip_suffix(SUFFIX).and_then(|number| number.parse().ok()) else { continue };
            let path = self.dir.join(&name);
            let handle = self.disk.open(&path)?;
            slots.push(Arc::new(WalFile { slot, size: handle.size()?, path, handle }));
        }
        let mut inner = self.lock();
        inner.last_slot = slots.iter().map(|file| file.slot).max().unwrap_or(0);
        Ok(slots)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file of at least `min_size` bytes to write from the beginning. It is of the caller alone.
    pub fn acquire(&self, min_size: u64) -> io::Result<Arc<WalFile>> {
        let size = self.file_bytes.max(min_size);
        let slot = {
            let mut inner = self.lock();
            if let Some(at) = inner.free.iter().position(|file| file.size >= min_size) {
                return Ok(inner.free.swap_remove(at));
            }
            inner.last_slot += 1;
            inner.last_slot
        };
        let path = self.dir.join(format!("{slot:04}{SUFFIX}"));
        let handle = self.disk.create(&path, size)?;
        metrics::wal_file_created();
        Ok(Arc::new(WalFile { slot, path, size, handle }))
    }

    /// Gives back a file that holds nothing of the log.
    pub fn release(&self, file: Arc<WalFile>) {
        let mut inner = self.lock();
        // One that grew for a long entry, or was cut, would not serve as the others do.
        if inner.free.len() < MAX_FREE && file.size == self.file_bytes {
            inner.free.push(file);
            return;
        }
        drop(inner);
        if let Err(error) = self.disk.remove(&file.path) {
            tracing::warn!(path = %file.path.display(), %error, "cannot remove a file of the log that is not needed");
        }
    }

    /// The file is in use from now on.
    pub fn add(&self, sequence: u64, first_index: u64, file: Arc<WalFile>) {
        self.lock().live.insert(sequence, LiveFile { first_index, file });
    }

    /// The file of a sequence, while it is in use.
    pub fn get(&self, sequence: u64) -> Option<Arc<WalFile>> {
        self.lock().live.get(&sequence).map(|live| live.file.clone())
    }

    /// Whether [`trim`](Self::trim) would free any.
    pub fn can_trim(&self, index: u64) -> bool {
        self.lock().live.values().nth(1).is_some_and(|next| next.first_index <= index)
    }

    /// Frees the files whose entries are all below `index`, and says how many. The last file always stays.
    pub fn trim(&self, index: u64) -> usize {
        let mut freed = Vec::new();
        {
            let mut inner = self.lock();
            while inner.live.values().nth(1).is_some_and(|next| next.first_index <= index) {
                freed.extend(inner.live.pop_first().map(|(_, live)| live.file));
            }
            self.count_used(&inner);
        }
        let count = freed.len();
        freed.into_iter().for_each(|file| self.release(file));
        count
    }

    /// The last file is written up to `position`.
    pub fn written(&self, position: u64) {
        let mut inner = self.lock();
        inner.last_position = position;
        self.count_used(&inner);
    }

    /// Bytes that the log takes.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that all logs take that are counted together.
    pub fn used_by_all(&self) -> u64 {
        self.usage.0.load(Ordering::Relaxed)
    }

    pub fn count(&self) -> usize {
        self.lock().live.len()
    }

    fn count_used(&self, inner: &Inner) {
        let full: u64 = inner.live.values().rev().skip(1).map(|live| live.file.size).sum();
        let now = full + inner.last_position;
        // Only one thread at a time is here, with the lock.
        let before = self.used.swap(now, Ordering::Relaxed);
        let all = match now.checked_sub(before) {
            Some(more) => self.usage.0.fetch_add(more, Ordering::Relaxed) + more,
            None => self.usage.0.fetch_sub(before - now, Ordering::Relaxed) - (before - now),
        };
        metrics::wal_used(all);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
