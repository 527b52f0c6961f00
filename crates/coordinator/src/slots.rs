//! Who owns the groups of a slot, and the only way to write them.
//!
//! A slot's record names its owner, and is changed by conditional transactions only: by the owner, when it hands the
//! slot over, or by another coordinator once the owner's own record, which goes with its lease, is gone. Whatever an owner
//! writes is conditional on that record being as the owner put it, and whatever it reads out of its memory can be
//! confirmed by reading that record. So an owner that was paused, and wakes after another took its place, writes nothing
//! and confirms nothing, whatever any clock says.
//!
//! [`run`] registers this coordinator and keeps its slots: `plan` decides who should own what, `keeper` takes, loads and
//! hands over, `queue` and `writer` make few transactions of many writes, `confirm` few reads of many questions. What is
//! in the slots is a [`SlotUser`]'s matter, which gets an [`Owned`] for each.

mod confirm;
mod hub;
mod keeper;
mod plan;
mod queue;
mod writer;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use tidemark_model::SlotId;
use tokio_util::sync::CancellationToken;

pub(crate) use self::keeper::run;

use self::hub::{Holding, Hub};
use crate::store::{MAX_TXN_OPERATIONS, Operation, Snapshot};

/// The most operations of one write that are written all or none: beside them goes the slot's record, now and then.
pub(crate) const MAX_WRITE_OPERATIONS: usize = MAX_TXN_OPERATIONS - 1;

/// A slot as its owner holds it. Clones are the same one. Useless once lost.
#[derive(Clone)]
pub(crate) struct Owned {
    hub: Arc<Hub>,
    holding: Arc<Holding>,
}

/// What is done with slots. The calls come one after another for each slot: `loading`, `acquired`, perhaps `drain`, `lost`;
/// or `loading`, `lost`. None of them may wait for the store.
#[async_trait]
pub(crate) trait SlotUser: Send + Sync {
    /// This coordinator owns the slot, and what it holds is being read.
    fn loading(&self, slot: SlotId);

    /// What is stored under the slot's keys was read after it became this coordinator's: nobody else writes there any more.
    fn acquired(&self, owned: Owned, stored: Snapshot);

    /// Another coordinator may own it: forget it, and answer nothing more.
    fn lost(&self, slot: SlotId);

    /// The slot is about to be handed over: take nothing new, and queue what is left to be written. Returns when it is
    /// queued. It takes part in a shutdown, so it is short.
    async fn drain(&self, slot: SlotId);
}

/// How long a write may wait for others to leave with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// As long as it takes to make few transactions of many writes.
    #[default]
    Patient,
    /// Not at all: several members may wait for it one after another.
    Urgent,
}

/// Why something was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotWritten {
    /// The slot is another coordinator's. Some of it may have been written before it went.
    #[error("the slot was lost")]
    Lost,
    /// One operation is larger than a transaction may be. Nothing was written.
    #[error("too large for the metadata store")]
    TooLarge,
}

/// Why it is not known that the slot is still owned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unconfirmed {
    /// It is not: answer NOT_COORDINATOR.
    #[error("the slot was lost")]
    Lost,
    /// The store does not say: answer that it should be tried again.
    #[error("{0}")]
    Unavailable(String),
}

impl Owned {
    pub(crate) fn id(&self) -> SlotId {
        self.holding.slot.id
    }

    /// Kafka's coordinator epoch: higher at each change of owner.
    #[cfg(test)]
    pub(crate) fn epoch(&self) -> u32 {
        self.holding.slot.epoch
    }

    /// The prefix of the slot's keys.
    #[cfg(test)]
    pub(crate) fn prefix(&self) -> String {
        self.hub.keys.groups(self.id())
    }

    /// Writes, of each group in the order of the calls. The future need not be polled; it resolves when the store has it
    /// all.
    ///
    /// It is tried until the store has it or the slot is lost, which takes as long as the store is away. Up to
    /// [`MAX_WRITE_OPERATIONS`] operations, of less than a transaction's bytes together, are written all or none; more
    /// are split, in their order. Several writes of one key may become one, the last.
    pub(crate) fn write(
        &self,
        group: &Arc<str>,
        operations: Vec<Operation>,
        urgency: Urgency,
    ) -> impl Future<Output = Result<(), NotWritten>> + Send + use<> {
        let written = self.hub.write(&self.holding, group, operations, urgency);
        async move { written.await.unwrap_or(Err(NotWritten::Lost)) }
    }

    /// Resolves when the store has all that was written to the slot before.
    fn written(&self) -> impl Future<Output = Result<(), NotWritten>> + Send + use<> {
        let written = self.hub.watch(&self.holding);
        async move { written.await.unwrap_or(Err(NotWritten::Lost)) }
    }

    /// Resolves when a read of the store, begun after this call, has shown that the slot is still owned: before anything
    /// that is read out of memory is answered. One read answers all who asked meanwhile.
    pub(crate) fn confirm(&self) -> impl Future<Output = Result<(), Unconfirmed>> + Send + use<> {
        let (confirmed, lost) = (self.hub.ask(&self.holding), self.lost());
        async move {
            tokio::select! {
                biased;
                () = lost.cancelled() => Err(Unconfirmed::Lost),
                answer = confirmed => answer.unwrap_or(Err(Unconfirmed::Lost)),
            }
        }
    }

    /// Whether nobody else can have taken the slot yet, as far as clocks go: this coordinator's lease was kept alive less
    /// than its time ago. Enough for what does no harm when it is late, as the answer to a heartbeat; while it is false,
    /// ask [`Self::confirm`].
    pub(crate) fn leased(&self) -> bool {
        !self.holding.lost.is_cancelled() && self.hub.leased()
    }

    /// Whether so much waits to be written that no more should be taken: tell clients to come back later.
    pub(crate) fn congested(&self) -> bool {
        self.hub.congested()
    }

    /// Cancelled when the slot is lost or handed over.
    pub(crate) fn lost(&self) -> CancellationToken {
        self.holding.lost.clone()
    }
}

impl fmt::Debug for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Owned").field(&self.holding.slot).finish()
    }
}
