//! Tiering: committed batches become segments in the object store, the state becomes checkpoints, and what lies behind
//! both leaves the write-ahead log.
//!
//! One loop does one thing at a time: [`flush`], [`checkpoint`], [`merge`], [`fold`], [`janitor`]. Each step is an entry of the journal, so
//! whatever a crash leaves undone the next leader finds in the state. An object store that is slow or gone only makes the
//! loop wait; the write-ahead log grows meanwhile, up to its limit.

mod checkpoint;
pub(crate) mod flush;
mod fold;
mod janitor;
mod merge;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemark_model::{Entropy, StorageError};
use tidemark_runtime::backoff::Backoff;
use tidemark_segment::checkpoint::Base;
use tidemark_segment::{SegmentName, StoreError};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::entry::{Entry, ManifestEdit};
use crate::health::Health;
use crate::journal::Journal;
use crate::metrics;
use crate::store::Store;

/// The first wait after the object store failed, beyond the client's own attempts.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// The longest: how late tiering may notice that the object store is back.
const RETRY_LIMIT: Duration = Duration::from_secs(15);

/// Segments that a node has in memory at once while it writes them, whatever the number of its journals.
const MAX_SEGMENTS: usize = 2;
/// The same where they go to a directory: a second one would wait for the same disk.
const MAX_LOCAL_SEGMENTS: usize = 1;

/// When things are due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// Bytes of untiered batches that are flushed at once.
    pub(crate) segment_bytes: u64,
    /// The age at which fewer are.
    pub(crate) segment_age: Duration,
    /// Bytes tiered since the last checkpoint at which the next is due.
    pub(crate) checkpoint_bytes: u64,
    /// The age of the first change since the last checkpoint at which the next is due.
    pub(crate) checkpoint_age: Duration,
    /// How long an object stays after a checkpoint does not refer to it any more.
    pub(crate) delete_grace: Duration,
    /// Bytes of the write-ahead log above which everything is due.
    pub(crate) wal_pressure_bytes: u64,
    pub(crate) folds: FoldLimits,
}

/// How much of the manifest is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoldLimits {
    /// Runs of a partition, but for those that are to be merged, and as many of these.
    pub runs: usize,
    /// Of these the newest that are not folded.
    pub kept: usize,
    /// Folds of a partition.
    pub folds: usize,
}

impl Default for FoldLimits {
    fn default() -> Self {
        Self { runs: 64, kept: 16, folds: 64 }
    }
}

/// What the loops of a node's journals share.
#[derive(Debug)]
pub(crate) struct Shared {
    journals: u64,
    /// Segments that may be in memory at once while they are written.
    segments: Semaphore,
    /// Bytes of each that is flushed at most.
    segment_bytes: u64,
    health: Arc<Health>,
}

/// The loop's own memory. What must survive is in the journal's state.
pub(crate) struct Tiering {
    journal: Arc<Journal>,
    store: Store,
    policy: Policy,
    entropy: Arc<dyn Entropy>,
    /// Tells names of one epoch and range apart.
    attempt: u32,
    tiered_since_checkpoint: u64,
    /// When something first changed that a checkpoint should have.
    changed: Option<Instant>,
    /// Since when an object waits for a checkpoint before it can be deleted.
    garbage_since: Option<Instant>,
    /// Objects that nobody should read any more, with when they may be deleted.
    doomed: BTreeMap<SegmentName, Instant>,
    merging: merge::Merging,
    folding: fold::Folding,
    chain: checkpoint::Chain,
    shared: Arc<Shared>,
    /// Until then a checkpoint may come to be whose PUT nobody waits for any more. A listing then finds it.
    strays_until: Option<Instant>,
}

/// Why a step was not done. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TierError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the journal: {0}")]
    Journal(#[from] StorageError),
    #[error("cannot read the write-ahead log: {0}")]
    Wal(#[from] crate::wal::read::ReadError),
    #[error("cannot make a segment: {0}")]
    Segment(#[from] tidemark_segment::FormatError),
}

impl Shared {
    /// `local`: where objects are.
    pub(crate) fn new(journals: u64, local: bool, health: Arc<Health>) -> Self {
        let (segments, segment_bytes) = match local {
            true => (MAX_LOCAL_SEGMENTS, flush::MAX_LOCAL_SEGMENT_BYTES),
            false => (MAX_SEGMENTS, flush::MAX_SEGMENT_BYTES),
        };
        Self { journals: journals.max(1), segments: Semaphore::new(segments), segment_bytes, health }
    }
}

impl Tiering {
    /// `checkpoints`: what the journal was recovered from.
    pub(crate) fn new(
        journal: Arc<Journal>,
        store: Store,
        policy: Policy,
        entropy: Arc<dyn Entropy>,
        shared: Arc<Shared>,
        checkpoints: Vec<Base>,
    ) -> Self {
        let now = Instant::now();
        // Whatever is intended at the start is of an earlier life, whose last request may still be on its way.
        let gone = now + policy.delete_grace;
        let doomed = journal.lock().state.intents.iter().map(|name| (*name, gone)).collect();
        // And whatever the log holds may be tiered already, by an earlier life that did not get to its checkpoint.
        let tiered_since_checkpoint = journal.files.used();
        Self {
            journal,
            store,
            policy,
            entropy,
            attempt: 0,
            tiered_since_checkpoint,
            changed: Some(now),
            garbage_since: None,
            doomed,
            merging: merge::Merging::new(now),
            folding: fold::Folding::default(),
            chain: checkpoint::Chain { parts: checkpoints, alone: false },
            shared,
            strays_until: Some(gone),
        }
    }

    /// Runs until shutdown.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LIMIT);
        loop {
            let done = shutdown.run_until_cancelled(self.step()).await;
            let wait = match done {
                None => return,
                Some(Ok(true)) => {
                    backoff.reset();
                    self.report(Ok(()));
                    continue;
                }
                Some(Ok(false)) => {
                    self.report(Ok(()));
                    self.next_due()
                }
                Some(Err(error)) => {
                    metrics::tiering_failed();
                    if backoff.failures().is_power_of_two() || backoff.failures() == 0 {
                        tracing::warn!(journal = %self.journal.id, %error, "tiering failed, trying again");
                    }
                    self.report(Err(error.to_string()));
                    Some(Instant::now() + backoff.next(&*self.entropy))
                }
            };
            let failed = backoff.failures() > 0;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.journal.tier.notified(), if !failed => {}
                () = tokio::time::sleep_until(wait.unwrap_or_else(Instant::now)), if wait.is_some() => {}
            }
        }
    }

    /// Does what is due, if anything is, and says whether something was.
    async fn step(&mut self) -> Result<bool, TierError> {
        let now = Instant::now();
        // First what makes room: under pressure there is always something to flush.
        if self.checkpoint_due().is_some_and(|due| due <= now) {
            self.checkpoint().await?;
            return Ok(true);
        }
        if let Some(index) = self.nothing_to_flush() {
            let edit = ManifestEdit { tiered_through: index, ..ManifestEdit::default() };
            self.journal.append_entry(Entry::ManifestEdited(edit)).await?;
            self.tiered_since_checkpoint += self.journal.files.used();
            self.changed.get_or_insert(now);
            return Ok(true);
        }
        if self.flush_due().is_some_and(|due| due <= now) {
            self.flush().await?;
            return Ok(true);
        }
        if self.merging.due().is_some_and(|due| due <= now) && !self.under_pressure() && self.merge().await? {
            return Ok(true);
        }
        if !self.under_pressure() && self.fold_or_open().await? {
            return Ok(true);
        }
        self.clean_up().await
    }

    fn next_due(&self) -> Option<Instant> {
        let cleaning = self.doomed.values().min().copied();
        let strays = self.strays_until.filter(|_| self.chain.alone);
        // Under pressure nothing is merged, and to wait for it would be no wait.
        let merging = self.merging.due().filter(|_| !self.under_pressure());
        [self.flush_due(), self.checkpoint_due(), merging, cleaning, strays].into_iter().flatten().min()
    }

    /// The index up to which the log holds nothing that has to be tiered, when it is that which keeps it from being trimmed:
    /// batches of topics that are gone, and what is no batch. No flush would ever say so, and a full log takes no batch to
    /// flush.
    fn nothing_to_flush(&self) -> Option<u64> {
        if !self.under_pressure() {
            return None;
        }
        let core = self.journal.lock();
        let (through, last) = (core.state.tiered_through, core.state.last.index);
        let files = &self.journal.files;
        let helps = core.untiered_since().is_none() && !files.can_trim(through + 1) && files.can_trim(last + 1);
        helps.then_some(last)
    }

    fn flush_due(&self) -> Option<Instant> {
        let (bytes, since) = {
            let core = self.journal.lock();
            (core.untiered_bytes(), core.untiered_since())
        };
        let since = since?;
        if bytes >= self.policy.segment_bytes || self.under_pressure() {
            return Some(since);
        }
        Some(since + self.policy.segment_age)
    }

    fn checkpoint_due(&self) -> Option<Instant> {
        let changed = self.changed?;
        let trims = self.tiered_since_checkpoint > 0;
        if trims && (self.tiered_since_checkpoint >= self.policy.checkpoint_bytes || self.under_pressure()) {
            return Some(changed);
        }
        let garbage = self.garbage_since.map(|since| since + self.policy.delete_grace);
        Some(garbage.map_or(changed + self.policy.checkpoint_age, |due| due.min(changed + self.policy.checkpoint_age)))
    }

    /// Whether the node's logs are nearly full, and not least because of this one. What the small ones could free would
    /// not help, and cost a request each.
    fn under_pressure(&self) -> bool {
        let (own, all) = (self.journal.files.used(), self.journal.files.used_by_all());
        all >= self.policy.wal_pressure_bytes && own >= all / self.shared.journals
    }

    fn report(&self, health: Result<(), String>) {
        self.shared.health.report(self.journal.id, health);
    }
}
