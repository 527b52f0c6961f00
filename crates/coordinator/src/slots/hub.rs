//! What the slots of one coordinator share: what it holds, what waits to be written, who waits to be confirmed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemark_model::{NodeId, Slot, SlotId};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::confirm::Ask;
use super::queue::{Queue, Written};
use super::{NotWritten, Owned, SlotUser, Unconfirmed, Urgency};
use crate::metrics;
use crate::records::Keys;
use crate::store::{MetadataStore, Operation, Snapshot};

/// What may wait to be written before clients are told to come back later. While the store is away this is what fills.
const CONGESTED_BYTES: usize = 64 << 20;

pub(crate) struct Hub {
    pub(super) store: Arc<dyn MetadataStore>,
    pub(super) keys: Keys,
    pub(super) user: Arc<dyn SlotUser>,
    /// This coordinator's node and incarnation.
    pub(super) me: (NodeId, u64),
    /// Until when the lease surely lives.
    leased_until: watch::Receiver<Instant>,
    held: Mutex<Held>,
    queue: Mutex<Queue>,
    /// Something waits to be written.
    pub(super) queued: Notify,
    asks: Mutex<Vec<Ask>>,
    /// Somebody waits to be confirmed.
    pub(super) asked: Notify,
}

/// A slot for as long as this coordinator holds it.
#[derive(Debug)]
pub(super) struct Holding {
    pub(super) slot: Slot,
    /// Tells one time of holding a slot from another, also when the slot's epoch is the same.
    pub(super) tenure: u64,
    /// Its user has it.
    announced: AtomicBool,
    pub(super) lost: CancellationToken,
}

impl Holding {
    pub(super) fn announced(&self) -> bool {
        self.announced.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
struct Held {
    slots: BTreeMap<SlotId, Arc<Holding>>,
    tenures: u64,
}

impl Hub {
    pub(super) fn new(
        store: Arc<dyn MetadataStore>,
        keys: Keys,
        user: Arc<dyn SlotUser>,
        me: (NodeId, u64),
        leased_until: watch::Receiver<Instant>,
    ) -> Self {
        Self {
            store,
            keys,
            user,
            me,
            leased_until,
            held: Mutex::default(),
            queue: Mutex::default(),
            queued: Notify::new(),
            asks: Mutex::default(),
            asked: Notify::new(),
        }
    }

    pub(super) fn is_mine(&self, slot: &Slot) -> bool {
        (slot.owner, slot.incarnation) == self.me
    }

    pub(super) fn leased(&self) -> bool {
        *self.leased_until.borrow() > Instant::now()
    }

    pub(super) fn congested(&self) -> bool {
        self.queue().bytes() > CONGESTED_BYTES
    }

    pub(super) fn holding(&self, slot: SlotId) -> Option<Arc<Holding>> {
        self.held().slots.get(&slot).cloned()
    }

    pub(super) fn holdings(&self) -> Vec<Arc<Holding>> {
        self.held().slots.values().cloned().collect()
    }

    /// Begins to hold a slot whose record, of `revision`, names this coordinator. What it holds is still to be read.
    pub(super) fn hold(&self, slot: Slot, revision: u64) -> Arc<Holding> {
        let mut held = self.held();
        held.tenures += 1;
        let (announced, lost) = (AtomicBool::new(false), CancellationToken::new());
        let holding = Arc::new(Holding { slot, tenure: held.tenures, announced, lost });
        held.slots.insert(slot.id, Arc::clone(&holding));
        self.queue().open(slot, holding.tenure, revision);
        self.user.loading(slot.id);
        metrics::slots_owned(held.slots.len());
        holding
    }

    /// Gives a slot that was read to its user, unless it was lost meanwhile.
    pub(super) fn announce(self: &Arc<Self>, holding: &Arc<Holding>, stored: Snapshot) {
        // The lock is held so that the user hears of the loss after this.
        let held = self.held();
        if held.slots.get(&holding.slot.id).is_some_and(|now| now.tenure == holding.tenure) {
            holding.announced.store(true, Ordering::Relaxed);
            self.user.acquired(Owned { hub: Arc::clone(self), holding: Arc::clone(holding) }, stored);
        }
    }

    /// Forgets a slot, once for each time of holding it. Its user answers nothing more when this returns.
    pub(super) fn lose(&self, slot: SlotId, tenure: u64) {
        let mut held = self.held();
        if held.slots.get(&slot).is_none_or(|now| now.tenure != tenure) {
            return;
        }
        if let Some(holding) = held.slots.remove(&slot) {
            holding.lost.cancel();
        }
        self.queue().close(slot, tenure);
        self.user.lost(slot);
        metrics::slots_owned(held.slots.len());
    }

    pub(super) fn write(
        &self,
        holding: &Holding,
        group: &Arc<str>,
        operations: Vec<Operation>,
        urgency: Urgency,
    ) -> oneshot::Receiver<Result<(), NotWritten>> {
        let (written, answer) = oneshot::channel();
        self.queue().push(holding.slot.id, holding.tenure, group, operations, urgency, Written(written));
        self.queued.notify_one();
        answer
    }

    pub(super) fn watch(&self, holding: &Holding) -> oneshot::Receiver<Result<(), NotWritten>> {
        let (written, answer) = oneshot::channel();
        self.queue().watch(holding.slot.id, holding.tenure, Written(written));
        answer
    }

    pub(super) fn ask(&self, holding: &Arc<Holding>) -> oneshot::Receiver<Result<(), Unconfirmed>> {
        let (confirmed, answer) = oneshot::channel();
        self.asks().push(Ask { holding: Arc::clone(holding), confirmed });
        self.asked.notify_one();
        answer
    }

    pub(super) fn asks(&self) -> MutexGuard<'_, Vec<Ask>> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Taken before the queue's lock where both are.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
