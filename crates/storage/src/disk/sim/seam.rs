//! The seam itself: [`Disk`] on files in memory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::file::Content;
use super::worker::{Worker, Yield};
use super::{Fault, Operation, Seen, SimDisk, lock};
use crate::disk::{Disk, DiskFile, IoLoop, Lock};

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    life: u64,
    path: PathBuf,
}

#[derive(Debug)]
struct SimLoop {
    notify: Arc<Notify>,
    task: JoinHandle<()>,
    worker: Option<Arc<Worker>>,
}

impl Disk for SimDisk {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        self.check_alive()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.check_alive()?;
        let inner = self.lock_inner();
        let names = inner.files.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.check_alive()?;
        let mut inner = self.lock_inner();
        if !inner.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { disk: self.clone(), life: inner.life(), path: path.to_owned() }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.check_alive()?;
        let inner = self.lock_inner();
        let bytes = lock(inner.files.get(path).ok_or(io::ErrorKind::NotFound)?).bytes().to_vec();
        Ok(bytes)
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.check_alive()?;
        self.tell(Seen::Replace { path, bytes });
        let mut inner = self.lock_inner();
        inner.files.insert(path.to_owned(), Arc::new(Mutex::new(Content::durable(bytes.to_vec()))));
        inner.removed.retain(|removed, _| removed.parent() != path.parent());
        Ok(())
    }

    fn create(&self, path: &Path, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.take_time();
        let fault = self.fault(Operation::Create, self.this_life())?;
        self.tell(Seen::Create { path, len, fault });
        match fault {
            Fault::None | Fault::Short(_) => {}
            Fault::NoSpace { .. } => return Err(io::ErrorKind::StorageFull.into()),
            Fault::Io => return Err(io::Error::other("injected EIO")),
            Fault::PowerLoss => return Err(self.lose_power_here()),
        }
        let mut inner = self.lock_inner();
        if inner.files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let used: u64 = inner.files.values().map(|content| lock(content).bytes().len() as u64).sum();
        if inner.capacity.is_some_and(|capacity| used + len > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let content = Arc::new(Mutex::new(Content::durable(vec![0; len as usize])));
        inner.files.insert(path.to_owned(), content.clone());
        inner.removed.retain(|removed, _| removed.parent() != path.parent());
        drop(inner);
        Ok(self.handle(path, content))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.check_alive()?;
        let content = self.lock_inner().files.get(path).ok_or(io::ErrorKind::NotFound)?.clone();
        Ok(self.handle(path, content))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.check_alive()?;
        self.tell(Seen::Remove { path });
        let mut inner = self.lock_inner();
        let content = inner.files.remove(path).ok_or(io::ErrorKind::NotFound)?;
        inner.removed.insert(path.to_owned(), content);
        Ok(())
    }

    fn io_loop(&self, _name: &str, mut step: Box<dyn FnMut() + Send>) -> io::Result<Box<dyn IoLoop>> {
        let notify = Arc::new(Notify::new());
        let woken = notify.clone();
        if self.lock_inner().latency.is_none() {
            let task = tokio::spawn(async move {
                loop {
                    woken.notified().await;
                    step();
                }
            });
            return Ok(Box::new(SimLoop { notify, task, worker: None }));
        }
        let worker = Arc::new(Worker::spawn(step)?);
        self.lock_inner().workers.push(Arc::downgrade(&worker));
        let (running, disk) = (worker.clone(), self.clone());
        let task = tokio::spawn(async move {
            loop {
                woken.notified().await;
                loop {
                    match running.resume() {
                        Yield::Wait(time) => tokio::time::sleep(time).await,
                        Yield::Done => break,
                        Yield::Panicked(words) => {
                            disk.lock_inner().panic = Some(words);
                            break;
                        }
                    }
                }
            }
        });
        Ok(Box::new(SimLoop { notify, task, worker: Some(worker) }))
    }

    fn background(&self, work: Box<dyn FnOnce() + Send>) {
        let time = {
            let inner = self.lock_inner();
            inner.latency.map(|latency| inner.up_to(latency))
        };
        match time {
            None => work(),
            Some(time) => drop(tokio::spawn(async move {
                tokio::time::sleep(time).await;
                work();
            })),
        }
    }
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut inner = self.disk.lock_inner();
        if inner.life() == self.life {
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
        if let Some(worker) = &self.worker {
            worker.stop();
        }
    }
}
