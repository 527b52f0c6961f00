//! The metadata store of a single process, in a file. The only user of `redb`.
//!
//! One lock serializes everything: the store is for one process, whose reads come from its cache of the state. A commit
//! is one fsync, away from the runtime's threads.

mod file;
mod history;
mod leases;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use self::file::{File, Source};
use self::history::History;
use self::leases::Leases;
use super::{Changes, Commit, Entry, Event, LeaseId, MetadataStore, Operation, Snapshot, StoreError, Txn};

#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    /// Commits without leaving the runtime's thread: nothing to wait for in memory, and a simulation has one thread.
    inline: bool,
}

#[derive(Debug)]
struct Shared {
    core: Mutex<Core>,
    /// The last revision, for watches to wait on.
    latest: watch::Sender<u64>,
    /// A lease was granted, kept alive or revoked: the next expiry may be another.
    leases_changed: Arc<Notify>,
}

#[derive(Debug)]
struct Core {
    file: File,
    history: History,
    leases: Leases,
}

impl Embedded {
    /// Opens the file, or creates it. Keys that had a lease are gone: their owner was a process that has ended.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        let shared = tokio::task::spawn_blocking(move || Shared::open(Source::path(&path)?))
            .await
            .map_err(|error| StoreError::Failed(error.to_string()))??;
        Ok(Self::start(shared, false))
    }

    /// A store that is gone with this value, for tests and simulations. Must be called within a tokio runtime.
    pub fn in_memory() -> Result<Self, StoreError> {
        Ok(Self::start(Shared::open(Source::memory())?, true))
    }

    #[cfg(test)]
    fn open_source(source: Source) -> Result<Self, StoreError> {
        Ok(Self::start(Shared::open(source)?, true))
    }

    fn start(shared: Shared, inline: bool) -> Self {
        let shared = Arc::new(shared);
        tokio::spawn(leases::expire(Arc::downgrade(&shared), inline));
        Self { shared, inline }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        run(&self.shared, self.inline, work).await
    }
}

/// Runs to its end also when the caller goes away, so that what is committed is always handed to the watches.
async fn run<T: Send + 'static>(
    shared: &Arc<Shared>,
    inline: bool,
    work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    if inline {
        return work(shared);
    }
    let shared = Arc::clone(shared);
    let done = tokio::task::spawn_blocking(move || work(&shared)).await;
    done.map_err(|error| StoreError::Failed(error.to_string()))?
}

impl Shared {
    fn open(source: Source) -> Result<Self, StoreError> {
        let mut file = File::open(source)?;
        file.delete_leased()?;
        let revision = file.revision()?;
        let core = Core { file, history: History::new(revision), leases: Leases::default() };
        Ok(Self { core: Mutex::new(core), latest: watch::Sender::new(revision), leases_changed: Arc::default() })
    }

    /// A panic under the lock leaves a file that its own transactions keep whole, so the lock is taken all the same.
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit(&self, core: &mut Core, txn: &Txn) -> Result<Commit, StoreError> {
        txn.check()?;
        for operation in &txn.operations {
            if let Operation::Put { lease: Some(lease), .. } = operation {
                core.leases.check(*lease, Instant::now())?;
            }
        }
        self.resume(core)?;
        let Some(changes) = core.file.commit(txn)? else { return Ok(Commit::Conflict) };
        let revision = changes.revision;
        for event in &changes.events {
            core.leases.attach(event);
        }
        core.history.push(changes);
        self.latest.send_replace(revision);
        Ok(Commit::Done(revision))
    }

    /// After a failed commit the file is opened again. When the commit had reached the disk after all, watches have
    /// missed it: they must read the state again.
    fn resume(&self, core: &mut Core) -> Result<(), StoreError> {
        let revision = core.file.revision()?;
        if revision != core.history.latest() {
            core.history = History::new(revision);
            self.latest.send_replace(revision);
        }
        Ok(())
    }
}

#[async_trait]
impl MetadataStore for Embedded {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let key = key.to_owned();
        self.run(move |shared| shared.core().file.get(&key)).await
    }

    async fn range(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        let prefix = prefix.to_owned();
        self.run(move |shared| {
            let mut core = shared.core();
            shared.resume(&mut core)?;
            core.file.range(&prefix)
        })
        .await
    }

    async fn commit(&self, txn: Txn) -> Result<Commit, StoreError> {
        self.run(move |shared| shared.commit(&mut shared.core(), &txn)).await
    }

    fn watch(&self, prefix: &str, after: u64) -> BoxStream<'static, Result<Changes, StoreError>> {
        let watcher = Watcher {
            latest: self.shared.latest.subscribe(),
            shared: Arc::clone(&self.shared),
            prefix: prefix.to_owned(),
            after,
            ended: false,
        };
        stream::unfold(watcher, |mut watcher| async {
            let next = watcher.next().await?;
            watcher.ended = next.is_err();
            Some((next, watcher))
        })
        .boxed()
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let lease = self.shared.core().leases.grant(ttl, Instant::now());
        self.shared.leases_changed.notify_one();
        Ok(lease)
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.shared.core().leases.keep_alive(lease, Instant::now())?;
        self.shared.leases_changed.notify_one();
        Ok(())
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.run(move |shared| shared.end_lease(&mut shared.core(), lease)).await
    }

    async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        self.shared.core().history.compact(revision);
        Ok(())
    }
}

struct Watcher {
    shared: Arc<Shared>,
    latest: watch::Receiver<u64>,
    prefix: String,
    after: u64,
    ended: bool,
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<Changes, StoreError>> {
        while !self.ended {
            // Seen before it is read, so that what comes meanwhile wakes the wait below.
            self.latest.mark_unchanged();
            let next = self.shared.core().history.after(self.after);
            match next {
                Err(error) => return Some(Err(error)),
                Ok(Some(changes)) => {
                    self.after = changes.revision;
                    let events: Vec<Event> =
                        changes.events.iter().filter(|event| event.key().starts_with(&self.prefix)).cloned().collect();
                    if !events.is_empty() {
                        return Some(Ok(Changes { revision: changes.revision, events }));
                    }
                }
                Ok(None) => self.latest.changed().await.ok()?,
            }
        }
        None
    }
}

impl Event {
    fn key(&self) -> &str {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Delete(key) => key,
        }
    }
}

#[cfg(test)]
mod tests;
