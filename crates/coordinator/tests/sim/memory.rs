//! A metadata store in memory, which is as etcd would be: one map, a revision for each change, leases by tokio's clock.
//!
//! The coordinator's own embedded store keeps its promises to a disk, which takes most of a run's time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tidemark_coordinator::store::{
    Changes, Commit, Condition, Entry, Event, LeaseId, MetadataStore, Operation, Snapshot, StoreError, Txn,
};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Clones are the same store.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    core: Mutex<Core>,
    /// Something was written. Those who wait are woken in the order in which they came.
    written: Notify,
}

#[derive(Debug, Default)]
struct Core {
    revision: u64,
    entries: BTreeMap<String, Entry>,
    history: VecDeque<Changes>,
    /// What came up to here is forgotten.
    compacted: u64,
    leases: BTreeMap<LeaseId, Lease>,
    last_lease: i64,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    until: Instant,
}

impl Memory {
    /// Ends leases when their time is over, for as long as it is polled.
    pub async fn expire(&self) {
        loop {
            let expired: Vec<LeaseId> = {
                let core = self.core();
                core.leases.iter().filter(|(_, lease)| lease.until <= Instant::now()).map(|(id, _)| *id).collect()
            };
            expired.into_iter().for_each(|lease| self.end(lease));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Forgets all history, as when whoever watches was away for too long.
    pub fn forget(&self) {
        let mut core = self.core();
        core.compacted = core.revision;
        core.history.clear();
        drop(core);
        self.0.written.notify_waiters();
    }

    fn end(&self, lease: LeaseId) {
        let mut core = self.core();
        if core.leases.remove(&lease).is_none() {
            return;
        }
        let its = core.entries.values().filter(|entry| entry.lease == Some(lease)).map(|entry| entry.key.clone());
        let gone: Vec<Operation> = its.map(|key| Operation::Delete { key }).collect();
        if !gone.is_empty() {
            core.write(gone);
            drop(core);
            self.0.written.notify_waiters();
        }
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.0.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Absent(key) => !self.entries.contains_key(key),
            Condition::Unchanged(key, revision) => {
                self.entries.get(key).is_some_and(|entry| entry.revision == *revision)
            }
        }
    }

    fn write(&mut self, operations: Vec<Operation>) {
        self.revision += 1;
        let revision = self.revision;
        let mut events = Vec::new();
        for operation in operations {
            match operation {
                Operation::Put { key, value, lease } => {
                    let entry = Entry { key: key.clone(), value, revision, lease };
                    events.push(Event::Put(entry.clone()));
                    self.entries.insert(key, entry);
                }
                Operation::Delete { key } => {
                    if self.entries.remove(&key).is_some() {
                        events.push(Event::Delete(key));
                    }
                }
            }
        }
        self.history.push_back(Changes { revision, events });
    }

    fn live(&self, lease: LeaseId) -> Result<(), StoreError> {
        let live = self.leases.get(&lease).is_some_and(|lease| lease.until > Instant::now());
        if live { Ok(()) } else { Err(StoreError::LeaseLost(lease)) }
    }

    /// The next changes under a prefix.
    fn next(&self, prefix: &str, after: &mut u64) -> Result<Option<Changes>, StoreError> {
        if *after < self.compacted {
            return Err(StoreError::Compacted);
        }
        let from = self.history.partition_point(|changes| changes.revision <= *after);
        for changes in self.history.range(from..) {
            *after = changes.revision;
            let is_under = |event: &&Event| match event {
                Event::Put(entry) => entry.key.starts_with(prefix),
                Event::Delete(key) => key.starts_with(prefix),
            };
            let events: Vec<Event> = changes.events.iter().filter(is_under).cloned().collect();
            if !events.is_empty() {
                return Ok(Some(Changes { revision: changes.revision, events }));
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl MetadataStore for Memory {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        Ok(self.core().entries.get(key).cloned())
    }

    async fn range(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        let core = self.core();
        let under = core.entries.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(Snapshot { revision: core.revision, entries: under.map(|(_, entry)| entry.clone()).collect() })
    }

    async fn commit(&self, txn: Txn) -> Result<Commit, StoreError> {
        let mut core = self.core();
        let keys: BTreeSet<&str> = txn.operations.iter().map(key).collect();
        assert_eq!(keys.len(), txn.operations.len(), "etcd refuses a transaction with a key twice");
        for operation in &txn.operations {
            if let Operation::Put { lease: Some(lease), .. } = operation {
                core.live(*lease)?;
            }
        }
        if !txn.conditions.iter().all(|condition| core.holds(condition)) {
            return Ok(Commit::Conflict);
        }
        if !txn.operations.is_empty() {
            core.write(txn.operations);
        }
        let revision = core.revision;
        drop(core);
        self.0.written.notify_waiters();
        Ok(Commit::Done(revision))
    }

    fn watch(&self, prefix: &str, after: u64) -> BoxStream<'static, Result<Changes, StoreError>> {
        let watcher = (self.clone(), prefix.to_owned(), Some(after));
        stream::unfold(watcher, |(memory, prefix, after)| async move {
            let mut after = after?;
            loop {
                let written = memory.0.written.notified();
                let next = memory.core().next(&prefix, &mut after);
                match next {
                    Err(error) => return Some((Err(error), (memory.clone(), prefix, None))),
                    Ok(Some(changes)) => return Some((Ok(changes), (memory.clone(), prefix, Some(after)))),
                    Ok(None) => written.await,
                }
            }
        })
        .boxed()
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let mut core = self.core();
        core.last_lease += 1;
        let lease = LeaseId(core.last_lease);
        core.leases.insert(lease, Lease { ttl, until: Instant::now() + ttl });
        Ok(lease)
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        let mut core = self.core();
        core.live(lease)?;
        if let Some(lease) = core.leases.get_mut(&lease) {
            lease.until = Instant::now() + lease.ttl;
        }
        Ok(())
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.end(lease);
        Ok(())
    }

    async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        let mut core = self.core();
        core.compacted = core.compacted.max(revision.min(core.revision));
        let compacted = core.compacted;
        core.history.retain(|changes| changes.revision > compacted);
        Ok(())
    }
}

fn key(operation: &Operation) -> &str {
    match operation {
        Operation::Put { key, .. } | Operation::Delete { key } => key,
    }
}
