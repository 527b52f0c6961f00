//! The disk of production: the operating system's files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, Thread};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{FallocateFlags, FlockOperation, OFlags};

use super::pool::Pooled;
use super::{Disk, DiskFile, FilesRead, IoLoop, Lock, Pool, read_up_to};

/// Files by `pwritev`, `fdatasync` and `fallocate`, loops on threads, background work on tokio's blocking threads.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

/// A file, and the same file for what goes past the page cache where the file system has that.
///
/// Measured for the write-ahead log: direct writes take a fifth of the CPU and are more than twice as fast.
#[derive(Debug)]
struct RealFile {
    cached: File,
    direct: Option<File>,
}

/// What direct I/O asks of memory, lengths and positions, on every file system and disk that we know.
const DIRECT_ALIGNMENT: usize = 4096;

/// Reads of less go through the page cache, which then reads ahead.
const LEAST_DIRECT_READ: usize = 64 * 1024;

/// `flock` goes with the file, and so with the process.
#[derive(Debug)]
struct RealLock {
    _file: File,
}

#[derive(Debug)]
struct RealLoop {
    thread: Thread,
    shared: Arc<Flags>,
}

#[derive(Debug, Default)]
struct Flags {
    woken: AtomicBool,
    stopped: AtomicBool,
}

impl Disk for RealDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = parent_of(dir);
        self.create_dir(parent)?;
        match fs::create_dir(dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists || !dir.is_dir() => return Err(e),
            _ => {}
        }
        sync_dir(parent)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(RealLock { _file: file }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        sync_dir(parent_of(path))
    }

    fn create(&self, path: &Path, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let reserve = || {
            match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len) {
                // The file system cannot reserve: a full disk then shows at the write.
                Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(len)?,
                reserved => reserved?,
            }
            file.sync_all()?;
            sync_dir(parent_of(path))
        };
        match reserve() {
            Ok(()) => Ok(Arc::new(RealFile::new(file, path))),
            Err(error) => {
                // What cannot be removed is found, unused, at the next start.
                let _ = fs::remove_file(path);
                Err(error)
            }
        }
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile::new(OpenOptions::new().read(true).write(true).open(path)?, path)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn io_loop(&self, name: &str, mut step: Box<dyn FnMut() + Send>) -> io::Result<Box<dyn IoLoop>> {
        let shared = Arc::new(Flags::default());
        let flags = shared.clone();
        let run = move || {
            while !flags.stopped.load(Ordering::Acquire) {
                if flags.woken.swap(false, Ordering::AcqRel) {
                    step();
                } else {
                    thread::park();
                }
            }
        };
        let handle = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Box::new(RealLoop { thread: handle.thread().clone(), shared }))
    }

    fn background(&self, work: Box<dyn FnOnce() + Send>) {
        tokio::task::spawn_blocking(work);
    }

    fn read_in_turn(&self, files: Vec<(Arc<dyn DiskFile>, usize)>) -> FilesRead {
        // One is read while the one before is worked on, and no more: each is tens of megabytes.
        let (sender, receiver) = mpsc::sync_channel(0);
        let read = move || {
            let pool = Arc::default();
            for (file, len) in files {
                let bytes = file.read_once(len, &pool);
                let failed = bytes.is_err();
                // Whoever wanted them may want no more.
                if sender.send(bytes).is_err() || failed {
                    return;
                }
            }
        };
        match thread::Builder::new().name("read-ahead".to_owned()).spawn(read) {
            Ok(_) => Box::new(receiver.into_iter()),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }
}

impl RealFile {
    fn new(cached: File, path: &Path) -> Self {
        let flags = OFlags::DIRECT.bits().cast_signed();
        // Where there is no direct I/O (tmpfs of older kernels, some network file systems) all goes through the cache.
        let direct = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).ok();
        Self { cached, direct }
    }
}

impl DiskFile for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.cached.metadata()?.len())
    }

    fn write_at(&self, buffers: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        if let Some(direct) = self.direct.as_ref().filter(|_| can_be_direct(buffers, position)) {
            match rustix::io::pwritev(direct, buffers, position) {
                // The disk asks for more than we know of.
                Err(rustix::io::Errno::INVAL) => {}
                written => return Ok(written?),
            }
        }
        Ok(rustix::io::pwritev(&self.cached, buffers, position)?)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.cached.read_at(buffer, position)
    }

    fn read_behind(&self, bytes: &mut Vec<u8>, position: u64) -> io::Result<usize> {
        Ok(rustix::io::pread(&self.cached, spare_capacity(bytes), position)?)
    }

    fn read_long(&self, position: u64, len: usize) -> io::Result<Bytes> {
        if let Some(direct) = self.direct.as_ref().filter(|_| len >= LEAST_DIRECT_READ) {
            match read_blocks(direct, position, len) {
                Ok(bytes) if bytes.len() == len => return Ok(bytes),
                // It stopped short, as at the end of the file, or the disk asks for more than we know of.
                Ok(_) | Err(rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(read_up_to(self, position, len)?.into())
    }

    fn read_once(&self, len: usize, pool: &Arc<Pool>) -> io::Result<Bytes> {
        if let Some(direct) = self.direct.as_ref().filter(|_| len.is_multiple_of(DIRECT_ALIGNMENT)) {
            let mut memory = pool.take(len + DIRECT_ALIGNMENT);
            let begin = memory.as_ptr().align_offset(DIRECT_ALIGNMENT).min(DIRECT_ALIGNMENT);
            match read_direct(direct, &mut memory[begin..begin + len]) {
                Ok(read) if read == len || read as u64 == self.size()? => {
                    let used = begin..begin + read;
                    return Ok(Bytes::from_owner(Pooled { memory, used, pool: pool.clone() }));
                }
                // It stopped short, or the disk asks for more than we know of.
                Ok(_) | Err(rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(read_up_to(self, 0, len)?.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        // Of the file, however it was written.
        Ok(rustix::fs::fdatasync(&self.cached)?)
    }
}

/// Reads from the beginning of a file until the buffer is full or the file ends.
fn read_direct(file: &File, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match rustix::io::pread(file, &mut buffer[read..], read as u64) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        // Only at the end of a file: to read on from there is not to be asked of the disk.
        if !read.is_multiple_of(DIRECT_ALIGNMENT) {
            break;
        }
    }
    Ok(read)
}

/// Reads the blocks that hold `len` bytes at `position`, and returns these, or fewer where a read stopped short. The memory
/// is not zeroed first, which would cost as much as the read.
#[expect(
    unsafe_code,
    reason = "memory that is not initialised can only be read to, from somewhere within it, like this"
)]
fn read_blocks(file: &File, position: u64, len: usize) -> rustix::io::Result<Bytes> {
    let first = position / DIRECT_ALIGNMENT as u64 * DIRECT_ALIGNMENT as u64;
    let before = (position - first) as usize;
    let blocks = (before + len).next_multiple_of(DIRECT_ALIGNMENT);
    let mut memory: Vec<u8> = Vec::with_capacity(blocks + DIRECT_ALIGNMENT);
    let begin = memory.as_ptr().align_offset(DIRECT_ALIGNMENT).min(DIRECT_ALIGNMENT);
    memory.resize(begin, 0);
    let mut read = 0;
    while read < before + len && read.is_multiple_of(DIRECT_ALIGNMENT) {
        let target = &mut memory.spare_capacity_mut()[..blocks - read];
        match rustix::io::pread(file, target, first + read as u64) {
            Ok(([], _)) => break,
            Ok((filled, _)) => {
                read += filled.len();
                // SAFETY: there is room for all blocks, and the read has filled so many bytes of it from where the memory
                // that is in use ends.
                unsafe { memory.set_len(begin + read) };
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    let end = begin + read.min(before + len);
    Ok(Bytes::from(memory).slice((begin + before).min(end)..end))
}

fn can_be_direct(buffers: &[IoSlice<'_>], position: u64) -> bool {
    let aligned = |buffer: &IoSlice<'_>| {
        buffer.len().is_multiple_of(DIRECT_ALIGNMENT) && buffer.as_ptr().align_offset(DIRECT_ALIGNMENT) == 0
    };
    position.is_multiple_of(DIRECT_ALIGNMENT as u64) && buffers.iter().all(aligned)
}

impl Lock for RealLock {}

impl IoLoop for RealLoop {
    fn wake(&self) {
        if !self.shared.woken.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }
}

impl Drop for RealLoop {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::write_all;

    #[test]
    fn long_reads_give_what_is_there_wherever_they_begin() {
        let dir = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..1_000_003_usize).map(|at| (at * 31 / 7) as u8).collect();
        fs::write(dir.path().join("file"), &content).unwrap();
        let file = RealDisk.open(&dir.path().join("file")).unwrap();
        // What was written a moment ago, and not made durable, is read too.
        write_all(&*file, b"changed", 300_000).unwrap();
        let content = [&content[..300_000], b"changed", &content[300_007..]].concat();
        for position in [0, 1, 4_095, 4_096, 123_457, 999_999, 1_000_003] {
            for len in [0, 1, LEAST_DIRECT_READ - 1, LEAST_DIRECT_READ, 3 * LEAST_DIRECT_READ + 5, 2_000_000] {
                let read = file.read_long(position as u64, len).unwrap();
                let expected = &content[position..(position + len).min(content.len())];
                assert!(read == expected, "{len} bytes at {position}");
            }
        }
    }

    #[test]
    fn files_are_read_in_turn_whatever_their_length_and_where_they_end() {
        let dir = tempfile::tempdir().unwrap();
        let lens = [DIRECT_ALIGNMENT, 3 * DIRECT_ALIGNMENT, 5_000, 0, 1 << 20];
        let content = |n: usize, len: usize| (0..len).map(|at| (at * 31 + n) as u8).collect::<Vec<u8>>();
        let file = |(n, len): (usize, &usize)| {
            let path = dir.path().join(n.to_string());
            fs::write(&path, content(n, *len)).unwrap();
            RealDisk.open(&path).unwrap()
        };
        let files: Vec<_> = lens.iter().enumerate().map(file).collect();
        // What was written a moment ago, and not made durable, is read too.
        write_all(&*files[1], b"changed", 5_000).unwrap();
        let wanted = |more: usize| files.iter().zip(lens).map(|(file, len)| (file.clone(), len + more)).collect();
        for more in [0, DIRECT_ALIGNMENT, 7] {
            let read: Vec<Bytes> = RealDisk.read_in_turn(wanted(more)).collect::<io::Result<_>>().unwrap();
            for (n, (read, len)) in read.iter().zip(lens).enumerate() {
                let mut expected = content(n, len);
                if n == 1 {
                    expected[5_000..5_007].copy_from_slice(b"changed");
                }
                assert!(*read == expected, "file {n} of {len} bytes, {more} more wanted");
            }
        }
        assert!(RealDisk.read_in_turn(Vec::new()).next().is_none());
        // Whoever stops taking them is not waited for.
        let mut some = RealDisk.read_in_turn(wanted(0));
        assert!(some.next().is_some());
    }
}
