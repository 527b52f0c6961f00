//! A file of the simulated disk: its bytes now, and those that a power failure leaves.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tidemark_model::Entropy;

use super::{Fault, Operation, Seen, SimDisk, lock, worker};
use crate::disk::{DiskFile, Pool, read_up_to};

/// The unit in which unsynced writes are kept or lost.
const PAGE: usize = 4096;
/// The unit that a disk writes whole.
const SECTOR: usize = 512;

#[derive(Debug, Default, Clone)]
pub(super) struct Content {
    durable: Vec<u8>,
    now: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) life: u64,
    pub(super) path: PathBuf,
    pub(super) content: Arc<Mutex<Content>>,
}

impl Content {
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        Self { durable: bytes.clone(), now: bytes, dirty: BTreeSet::new() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.now
    }

    /// What a power failure leaves: each dirty page is whole, lost, cut, in pieces, or has a flipped bit; as the entropy
    /// says. What was durable stays. Says how many pages are not whole.
    pub(super) fn lose_power(&mut self, entropy: &dyn Entropy) -> usize {
        let mut lost = 0;
        for page in std::mem::take(&mut self.dirty) {
            let range = page * PAGE..((page + 1) * PAGE).min(self.now.len());
            let how = entropy.next_u64();
            let pieces = entropy.next_u64();
            for (n, start) in range.clone().step_by(SECTOR).enumerate() {
                let sector = start..(start + SECTOR).min(range.end);
                let kept = match how % 8 {
                    0 | 1 => false,
                    2 => n < pieces as usize % (PAGE / SECTOR),
                    3 => pieces >> n & 1 == 1,
                    _ => true,
                };
                if kept && self.durable[sector.clone()] != self.now[sector.clone()] {
                    self.durable[sector.clone()].copy_from_slice(&self.now[sector.clone()]);
                    // While a sector is written, anything may come to be in it.
                    if how % 8 == 4 && pieces as usize % (PAGE / SECTOR) == n {
                        self.durable[sector.start + (pieces >> 8) as usize % sector.len()] ^= 1 << (pieces >> 60 & 7);
                    }
                }
            }
            lost += usize::from(self.durable[range.clone()] != self.now[range]);
        }
        self.now.copy_from_slice(&self.durable);
        lost
    }

    fn write(&mut self, bytes: &[u8], start: usize) {
        let end = start + bytes.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
            self.durable.resize(end, 0);
        }
        self.now[start..end].copy_from_slice(bytes);
        if !bytes.is_empty() {
            self.dirty.extend(start / PAGE..=(end - 1) / PAGE);
        }
    }

    fn sync(&mut self) {
        for page in std::mem::take(&mut self.dirty) {
            let range = page * PAGE..((page + 1) * PAGE).min(self.now.len());
            self.durable[range.clone()].copy_from_slice(&self.now[range]);
        }
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(lock(&self.content).now.len() as u64)
    }

    fn write_at(&self, buffers: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.disk.take_time();
        let fault = self.disk.fault(Operation::Write, self.life)?;
        let mut bytes = Vec::with_capacity(buffers.iter().map(|buffer| buffer.len()).sum());
        buffers.iter().for_each(|buffer| bytes.extend_from_slice(buffer));
        self.disk.tell(Seen::Write { path: &self.path, position, bytes: &bytes, fault });
        let kept = match fault {
            Fault::None => bytes.len(),
            Fault::NoSpace { kept } => kept.min(bytes.len()),
            Fault::Io | Fault::PowerLoss => bytes.len() / 2,
            Fault::Short(n) => n.clamp(1, bytes.len().max(1)).min(bytes.len()),
        };
        lock(&self.content).write(&bytes[..kept], position as usize);
        match fault {
            Fault::None | Fault::Short(_) => Ok(kept),
            Fault::NoSpace { .. } => Err(io::ErrorKind::StorageFull.into()),
            Fault::Io => Err(io::Error::other("injected EIO")),
            Fault::PowerLoss => Err(self.disk.lose_power_here()),
        }
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        worker::wait(std::time::Duration::ZERO);
        self.disk.lock_inner().reads += 1;
        match self.disk.fault(Operation::Read, self.life)? {
            Fault::None => {}
            Fault::PowerLoss => return Err(self.disk.lose_power_here()),
            Fault::Short(n) => {
                let short = n.clamp(1, buffer.len().max(1)).min(buffer.len());
                return Ok(self.read(&mut buffer[..short], position));
            }
            fault @ (Fault::Io | Fault::NoSpace { .. }) => {
                self.disk.tell(Seen::Read { path: &self.path, position, fault });
                return Err(io::Error::other("injected EIO"));
            }
        }
        Ok(self.read(buffer, position))
    }

    fn read_long(&self, position: u64, len: usize) -> io::Result<Bytes> {
        Ok(read_up_to(self, position, len)?.into())
    }

    fn read_once(&self, len: usize, _: &Arc<Pool>) -> io::Result<Bytes> {
        Ok(read_up_to(self, 0, len)?.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.take_time();
        let fault = self.disk.fault(Operation::Sync, self.life)?;
        self.disk.tell(Seen::Sync { path: &self.path, fault });
        match fault {
            Fault::PowerLoss => return Err(self.disk.lose_power_here()),
            Fault::None => lock(&self.content).sync(),
            _ => {
                // As Linux does: the pages count as clean, and are not on the disk.
                lock(&self.content).dirty.clear();
                return Err(io::Error::other("injected EIO"));
            }
        }
        Ok(())
    }
}

impl SimFile {
    fn read(&self, buffer: &mut [u8], position: u64) -> usize {
        let content = lock(&self.content);
        let rest = content.now.get(position as usize..).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        n
    }
}
