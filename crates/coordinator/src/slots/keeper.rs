//! Keeps this coordinator registered, and its share of the slots: takes them, reads them, hands them over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use tidemark_model::{CoordinatorError, NodeId, RecordKey, Registration, Role, Slot, SlotId};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, timeout};

use super::confirm::{Records, records};
use super::hub::{Holding, Hub};
use super::plan::{self, Live};
use super::{Owned, SlotUser};
use crate::error::Error;
use crate::metrics;
use crate::nodes::{self, Membership};
use crate::records::{decode_node, decode_slot, encode_slot};
use crate::service::Shared;
use crate::store::{Commit, Entry, Snapshot, StoreError, Txn};

/// How long to wait after the store could not be read.
const RETRY: Duration = Duration::from_millis(500);

/// How often the records are looked at although nothing is known to have changed: the watch may be cut.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Slots that are read at the same time, each of which may be large.
const MAX_LOADS: usize = 8;

/// How long a slot's user may take to stop, and what it has left to be written. Longer ones are handed over as they are:
/// what was not written by then is not acknowledged.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// How long a clean stop waits for the store.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);

/// Slots that are taken in one transaction: with the conditions on their owners less than it may have.
const MAX_TAKEN: usize = 60;

type Nodes = BTreeMap<NodeId, (u64, Entry)>;

/// Registers this coordinator and gives it its share of the slots until shutdown, and hands them over then. An error says
/// that another process has taken its registration.
pub(crate) async fn run(shared: &Shared, user: Arc<dyn SlotUser>) -> Result<(), Error> {
    let registration = shared.registration();
    let Some(membership) = shared.shutdown.run_until_cancelled(register(shared, &registration)).await else {
        return Ok(());
    };
    let membership = membership?;
    let me = (membership.id(), registration.incarnation);
    let (store, keys) = (Arc::clone(&shared.store), shared.keys.clone());
    let hub = Arc::new(Hub::new(store, keys, user, me, membership.leased_until()));
    let ended = tokio::select! {
        biased;
        fenced = membership.keep() => Err(Error::Replaced(fenced.to_string())),
        () = super::writer::run(&hub) => Ok(()),
        () = super::confirm::run(&hub) => Ok(()),
        ended = keep(shared, &hub) => ended,
    };
    for holding in hub.holdings() {
        hub.lose(holding.slot.id, holding.tenure);
    }
    if ended.is_ok() {
        let left = timeout(LEAVE_PATIENCE, nodes::leave(shared, Role::Coordinator, me.0, me.1)).await;
        if let Err(error) = left.unwrap_or_else(|_| Err(CoordinatorError::Unavailable("no answer".into()))) {
            tracing::warn!(%error, "cannot leave: the slots are taken when the lease is over");
        }
    }
    ended
}

async fn register<'a>(shared: &'a Shared, registration: &'a Registration) -> Result<Membership<'a>, Error> {
    loop {
        let registered = match shared.wait_until_loaded().await {
            Ok(()) => Membership::register(shared, registration).await,
            Err(error) => Err(error),
        };
        match registered {
            Ok(membership) => return Ok(membership),
            Err(error @ CoordinatorError::Fenced(_)) => return Err(Error::Replaced(error.to_string())),
            Err(error) => {
                tracing::warn!(%error, "cannot register this coordinator, trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Keeps the slots until shutdown. Returns when nothing is left to be written, or when another process has this one's name.
async fn keep(shared: &Shared, hub: &Arc<Hub>) -> Result<(), Error> {
    let mut revisions = shared.state.revisions();
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = None;
    let mut failures = 0_u32;
    let mut work = Work {
        hub,
        loads: Arc::new(Semaphore::new(MAX_LOADS)),
        leaving: BTreeSet::new(),
        jobs: FuturesUnordered::new(),
    };
    loop {
        let look = tokio::select! {
            biased;
            () = shared.shutdown.cancelled() => break,
            Some(job) = work.jobs.next() => {
                work.done(job);
                true
            }
            () = revisions.changed() => {
                let now = Some(shared.state.slots());
                std::mem::replace(&mut known, now) != known
            }
            _ = ticks.tick() => true,
        };
        if !look {
            continue;
        }
        match shared.shutdown.run_until_cancelled(work.look()).await {
            None => break,
            Some(Ok(Look::Done)) => failures = 0,
            Some(Ok(Look::Replaced)) => {
                return Err(Error::Replaced("another process has registered under its name".into()));
            }
            Some(Err(error)) => {
                failures = failures.saturating_add(1);
                if failures.is_power_of_two() {
                    tracing::warn!(%error, failures, "cannot look after the slots, trying again");
                }
                ticks.reset_after(RETRY);
            }
        }
    }
    let draining = hub.holdings().into_iter().map(|holding| async move { drain(hub, &holding).await });
    futures::future::join_all(draining).await;
    Ok(())
}

struct Work<'a> {
    hub: &'a Arc<Hub>,
    loads: Arc<Semaphore>,
    /// The slots that are being handed over.
    leaving: BTreeSet<SlotId>,
    jobs: FuturesUnordered<BoxFuture<'a, Job>>,
}

/// What a look at the store showed.
enum Look {
    Done,
    /// Another process is registered as this coordinator.
    Replaced,
}

/// What was done in the background.
enum Job {
    Loaded,
    HandedOver(SlotId),
}

impl<'a> Work<'a> {
    /// Compares what is stored with what is held, and does what is to be done.
    async fn look(&mut self) -> Result<Look, StoreError> {
        let nodes = nodes(self.hub).await?;
        let records = records(self.hub).await?;
        for holding in self.hub.holdings() {
            if records.get(&holding.slot.id).is_none_or(|(slot, _)| *slot != holding.slot) {
                self.hub.lose(holding.slot.id, holding.tenure);
            }
        }
        for (slot, entry) in records.values() {
            if self.hub.is_mine(slot) && self.hub.holding(slot.id).is_none() {
                self.load(*slot, entry.revision);
            }
        }
        let (me, incarnation) = self.hub.me;
        match nodes.get(&me) {
            Some((other, _)) if *other != incarnation => return Ok(Look::Replaced),
            Some(_) => {}
            // The lease was lost. Until it is had again nothing new is begun.
            None => return Ok(Look::Done),
        }
        let live: Live = nodes.iter().map(|(id, (incarnation, _))| (*id, *incarnation)).collect();
        let slots = records.iter().map(|(id, (slot, _))| (*id, *slot)).collect();
        let steps = plan::steps(me, &live, &slots);
        for (slot, to) in steps.hand_over {
            let incarnation = live.get(&to).copied().unwrap_or_default();
            self.hand_over(slot, to, incarnation);
        }
        for chunk in steps.take.chunks(MAX_TAKEN) {
            self.take(chunk, &nodes, &records).await?;
        }
        Ok(Look::Done)
    }

    /// Takes slots whose owners are gone, if they still are.
    async fn take(&mut self, ids: &[SlotId], nodes: &Nodes, records: &Records) -> Result<(), StoreError> {
        let (me, incarnation) = self.hub.me;
        let keys = &self.hub.keys;
        let node = |id: NodeId| keys.record(RecordKey::Node(Role::Coordinator, id));
        let entry_of = |id: NodeId| nodes.get(&id).map(|(_, entry)| entry);
        // Another process that took this one's name must not find that it owns something.
        let mut txn = Txn::new().if_still(node(me), entry_of(me));
        let mut owners = BTreeSet::from([me]);
        let mut taken = Vec::with_capacity(ids.len());
        for id in ids {
            let before = records.get(id);
            let key = keys.record(RecordKey::Slot(*id));
            if let Some((slot, _)) = before
                && owners.insert(slot.owner)
            {
                txn = txn.if_still(node(slot.owner), entry_of(slot.owner));
            }
            let epoch = before.map_or(0, |(slot, _)| slot.epoch.saturating_add(1));
            let slot = Slot { id: *id, epoch, owner: me, incarnation };
            txn = txn.if_still(&key, before.map(|(_, entry)| entry)).put(key, encode_slot(slot));
            taken.push(slot);
        }
        match self.hub.store.commit(txn).await? {
            Commit::Done(revision) => {
                tracing::info!(slots = taken.len(), "took slots that had no living owner");
                metrics::slots_taken(taken.len());
                taken.into_iter().for_each(|slot| self.load(slot, revision));
            }
            // Whoever was faster, the change of the state has this look again.
            Commit::Conflict => metrics::write_conflict(),
        }
        Ok(())
    }

    /// Holds a slot whose record names this coordinator, and reads what is in it.
    fn load(&mut self, slot: Slot, revision: u64) {
        let (hub, loads, holding) = (self.hub, Arc::clone(&self.loads), self.hub.hold(slot, revision));
        let job = async move {
            let _permit = loads.acquire().await;
            while !holding.lost.is_cancelled() {
                match read(hub, &holding).await {
                    Ok(Some(stored)) => {
                        hub.announce(&holding, stored);
                        break;
                    }
                    Ok(None) => hub.lose(slot.id, holding.tenure),
                    Err(error) => {
                        tracing::warn!(%error, slot = %slot.id, "cannot read a slot, trying again");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
            Job::Loaded
        };
        self.jobs.push(job.boxed());
    }

    fn hand_over(&mut self, slot: SlotId, to: NodeId, incarnation: u64) {
        let hub = self.hub;
        let Some(holding) = hub.holding(slot).filter(|_| self.leaving.insert(slot)) else { return };
        let job = async move {
            drain(hub, &holding).await;
            match give(hub, &holding, to, incarnation).await {
                Ok(Commit::Done(_)) => {
                    metrics::slot_handed_over();
                    tracing::info!(%slot, %to, "handed a slot over");
                }
                Ok(Commit::Conflict) => metrics::write_conflict(),
                Err(error) => tracing::warn!(%error, %slot, %to, "cannot hand a slot over"),
            }
            // Its user has stopped. Should it still be this coordinator's, it is loaded again.
            hub.lose(slot, holding.tenure);
            Job::HandedOver(slot)
        };
        self.jobs.push(job.boxed());
    }

    fn done(&mut self, job: Job) {
        match job {
            Job::Loaded => {}
            Job::HandedOver(slot) => drop(self.leaving.remove(&slot)),
        }
    }
}

/// What is stored in a slot, when it is this coordinator's all the while.
async fn read(hub: &Hub, holding: &Holding) -> Result<Option<Snapshot>, StoreError> {
    let stored = hub.store.range(&hub.keys.groups(holding.slot.id)).await?;
    let entry = hub.store.get(&hub.keys.record(RecordKey::Slot(holding.slot.id))).await?;
    let now = entry.and_then(|entry| decode_slot(&entry.value).ok());
    Ok((now == Some(holding.slot)).then_some(stored))
}

/// Lets a slot's user stop, and waits until what it queued is written.
async fn drain(hub: &Arc<Hub>, holding: &Arc<Holding>) {
    if !holding.announced() {
        return hub.lose(holding.slot.id, holding.tenure);
    }
    let owned = Owned { hub: Arc::clone(hub), holding: Arc::clone(holding) };
    let drained = async {
        hub.user.drain(owned.id()).await;
        owned.written().await
    };
    if timeout(DRAIN_PATIENCE, drained).await.is_err() {
        tracing::warn!(slot = %owned.id(), "a slot goes before all that waited was written");
    }
}

/// Makes another coordinator the owner.
async fn give(hub: &Hub, holding: &Holding, to: NodeId, incarnation: u64) -> Result<Commit, StoreError> {
    let key = hub.keys.record(RecordKey::Slot(holding.slot.id));
    let entry = hub.store.get(&key).await?;
    let now = entry.as_ref().and_then(|entry| decode_slot(&entry.value).ok());
    if now != Some(holding.slot) {
        return Ok(Commit::Conflict);
    }
    let slot = Slot { epoch: holding.slot.epoch.saturating_add(1), owner: to, incarnation, ..holding.slot };
    hub.store.commit(Txn::new().if_still(&key, entry.as_ref()).put(&key, encode_slot(slot))).await
}

/// The coordinators whose leases live: their incarnations and records.
async fn nodes(hub: &Hub) -> Result<Nodes, StoreError> {
    let entries = hub.store.range(&hub.keys.nodes(Role::Coordinator)).await?.entries;
    let mut nodes = Nodes::new();
    for entry in entries {
        match decode_node(&entry.value) {
            Ok(stored) => drop(nodes.insert(stored.node.id, (stored.node.incarnation, entry))),
            Err(error) => tracing::error!(key = entry.key, %error, "cannot read a node's record"),
        }
    }
    Ok(nodes)
}
