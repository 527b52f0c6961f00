//! Leases, by tokio's clock. They live in memory: a process that ends takes its leases with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::{Core, Shared, run};
use crate::store::{Event, LeaseId, StoreError, Txn};

/// How long to wait before keys of expired leases are deleted again after the file failed.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Leases {
    live: BTreeMap<LeaseId, Lease>,
    /// Which lease a key has.
    keys: BTreeMap<String, LeaseId>,
    last: i64,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    deadline: Instant,
    keys: BTreeSet<String>,
}

impl Leases {
    pub(super) fn grant(&mut self, ttl: Duration, now: Instant) -> LeaseId {
        self.last += 1;
        let lease = LeaseId(self.last);
        self.live.insert(lease, Lease { ttl, deadline: now + ttl, keys: BTreeSet::new() });
        lease
    }

    pub(super) fn keep_alive(&mut self, lease: LeaseId, now: Instant) -> Result<(), StoreError> {
        self.check(lease, now)?;
        if let Some(live) = self.live.get_mut(&lease) {
            live.deadline = now + live.ttl;
        }
        Ok(())
    }

    /// Refuses a lease whose time is over, also when its keys are not deleted yet.
    pub(super) fn check(&self, lease: LeaseId, now: Instant) -> Result<(), StoreError> {
        match self.live.get(&lease) {
            Some(live) if live.deadline > now => Ok(()),
            _ => Err(StoreError::LeaseLost(lease)),
        }
    }

    /// Notes what a change means for leases: a put binds its key to the lease it names, and to no other.
    pub(super) fn attach(&mut self, event: &Event) {
        let (key, lease) = match event {
            Event::Put(entry) => (&entry.key, entry.lease),
            Event::Delete(key) => (key, None),
        };
        if let Some(before) = self.keys.remove(key)
            && let Some(before) = self.live.get_mut(&before)
        {
            before.keys.remove(key);
        }
        if let Some(lease) = lease
            && let Some(live) = self.live.get_mut(&lease)
        {
            live.keys.insert(key.clone());
            self.keys.insert(key.clone(), lease);
        }
    }

    fn expired(&self, now: Instant) -> Option<LeaseId> {
        self.live.iter().find(|(_, lease)| lease.deadline <= now).map(|(id, _)| *id)
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.live.values().map(|lease| lease.deadline).min()
    }
}

impl Shared {
    /// Deletes the keys of a lease, then the lease. Under one lock, so that none of the keys gets another lease meanwhile.
    pub(super) fn end_lease(&self, core: &mut Core, lease: LeaseId) -> Result<(), StoreError> {
        let keys: Vec<String> = match core.leases.live.get(&lease) {
            Some(live) => live.keys.iter().cloned().collect(),
            None => return Ok(()),
        };
        for chunk in keys.chunks(crate::store::MAX_TXN_OPERATIONS) {
            let txn = chunk.iter().fold(Txn::new(), |txn, key| txn.delete(key));
            // Without conditions there is no conflict.
            let _ = self.commit(core, &txn)?;
        }
        core.leases.live.remove(&lease);
        Ok(())
    }

    fn end_expired_leases(&self) -> Result<(), StoreError> {
        let mut core = self.core();
        while let Some(lease) = core.leases.expired(Instant::now()) {
            self.end_lease(&mut core, lease)?;
        }
        Ok(())
    }
}

/// Ends leases when their time is over, for as long as the store is there.
pub(super) async fn expire(shared: Weak<Shared>, inline: bool) {
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let any = strong.core().leases.expired(Instant::now()).is_some();
        if any && let Err(error) = run(&strong, inline, Shared::end_expired_leases).await {
            tracing::error!(%error, "cannot delete the keys of expired leases, trying again");
            drop(strong);
            tokio::time::sleep(RETRY).await;
            continue;
        }
        let next = strong.core().leases.next_deadline();
        // The wait holds no reference: it ends soon after the store is dropped, at the latest at the next deadline.
        let changed = wait_for_change(&strong);
        drop(strong);
        match next {
            Some(deadline) => {
                let _ = tokio::time::timeout_at(deadline, changed).await;
            }
            None => changed.await,
        }
    }
}

fn wait_for_change(shared: &Arc<Shared>) -> impl Future<Output = ()> + use<> {
    let changed = Arc::clone(&shared.leases_changed);
    async move { changed.notified().await }
}
