//! The seam to the local disk: files, their durability, and the threads that wait for them.
//!
//! Everything here blocks. The journal calls it only from an [`IoLoop`] of the disk or through [`off_thread`].

mod pool;
mod real;
#[cfg(any(test, feature = "testing"))]
pub mod sim;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

pub use pool::Pool;
pub use real::RealDisk;

/// The bytes of files, in their order.
pub type FilesRead = Box<dyn Iterator<Item = io::Result<Bytes>> + Send>;

/// A directory tree that can make things durable.
pub trait Disk: Debug + Send + Sync {
    /// Creates a directory and those above it, durably.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// The names of the files in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Holds `path` against everyone else until the guard is dropped; `WouldBlock` when someone else holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;

    /// Reads a small file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Writes a small file: after a crash it has the old bytes or the new ones. Durable on return.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Creates a file of `len` bytes whose space is reserved and whose name is durable. Leaves nothing when it fails.
    fn create(&self, path: &Path, len: u64) -> io::Result<Arc<dyn DiskFile>>;

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Runs `step` on a thread of its own whenever it was woken since the last step began. Ends when the loop's handle
    /// is dropped, after the step under way.
    fn io_loop(&self, name: &str, step: Box<dyn FnMut() + Send>) -> io::Result<Box<dyn IoLoop>>;

    /// Reads so many bytes from the beginning of each file, or as many as it has, one file after the other; where the disk
    /// can, one file ahead of who takes them, and past its cache: they are read once.
    fn read_in_turn(&self, files: Vec<(Arc<dyn DiskFile>, usize)>) -> FilesRead {
        let pool = Arc::default();
        Box::new(files.into_iter().map(move |(file, len)| file.read_once(len, &pool)))
    }

    /// Runs work that blocks, away from the threads that serve requests.
    fn background(&self, work: Box<dyn FnOnce() + Send>);
}

/// A file that is read and written at positions.
pub trait DiskFile: Debug + Send + Sync {
    fn size(&self) -> io::Result<u64>;

    /// Writes what it can of the buffers, in order, and says how many bytes that was.
    fn write_at(&self, buffers: &[IoSlice<'_>], position: u64) -> io::Result<usize>;

    /// Reads what it can, and says how many bytes that was: 0 at the end.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// The same behind bytes that are there already, as far as they have room. Memory that is filled at once need not be
    /// zeroed first, where the disk can do without.
    fn read_behind(&self, bytes: &mut Vec<u8>, position: u64) -> io::Result<usize> {
        let (filled, room) = (bytes.len(), bytes.capacity());
        bytes.resize(room, 0);
        let read = self.read_at(&mut bytes[filled..], position);
        bytes.truncate(filled + read.as_ref().map_or(0, |read| *read));
        read
    }

    /// Reads `len` bytes at `position`, or as many as there are before the end of the file. Many are read past the disk's
    /// cache where that can be: who reads a log reads on.
    fn read_long(&self, position: u64, len: usize) -> io::Result<Bytes>;

    /// Reads the first `len` bytes, or as many as there are, which nobody will read again soon, to memory of the pool where
    /// that helps.
    fn read_once(&self, len: usize, pool: &Arc<Pool>) -> io::Result<Bytes>;

    /// Makes everything written so far durable. After an error nothing is known of what was not durable before.
    fn sync_data(&self) -> io::Result<()>;
}

/// A lock that is held until it is dropped.
pub trait Lock: Debug + Send + Sync {}

/// The handle of a loop that [`Disk::io_loop`] runs.
pub trait IoLoop: Debug + Send + Sync {
    fn wake(&self);
}

/// Runs blocking work behind the seam and waits for it. Nothing when the disk is gone.
pub async fn off_thread<T: Send + 'static>(disk: &dyn Disk, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = oneshot::channel();
    disk.background(Box::new(move || {
        // The caller may have stopped waiting.
        let _ = done.send(work());
    }));
    result.await.ok()
}

/// Reads `len` bytes at `position`, or as many as there are before the end of the file.
pub fn read_up_to(file: &dyn DiskFile, position: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let next = position + bytes.len() as u64;
        match file.read_behind(&mut bytes, next) {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    // A vector may have room for more than was asked for.
    bytes.truncate(len);
    Ok(bytes)
}

/// Writes all of `bytes` at `position`.
pub fn write_all(file: &dyn DiskFile, mut bytes: &[u8], mut position: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(&[IoSlice::new(bytes)], position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = &bytes[n..];
                position += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
