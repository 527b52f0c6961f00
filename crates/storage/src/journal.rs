//! A journal that this node leads: what arrives is admitted, named, written with what else arrived meanwhile, and, when it
//! is durable, committed and answered.
//!
//! [`admit`] and [`commit`] work on the [`core`], all that changes together, behind one lock. The disk's I/O loop takes
//! what is queued, writes it without the lock, and commits it. Idle, an append is written at once; while one group is
//! written, the next gathers. [`log`] is what is known of recent batches. [`supervise`] follows the cluster state and
//! opens the journal again after a failed append.

mod admit;
mod commit;
pub(crate) mod core;
pub(crate) mod expire;
pub(crate) mod log;
mod parked;
pub(crate) mod supervise;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tidemark_model::storage::AppendRequest;
use tidemark_model::{Batch, Clock, ClusterState, JournalId, NodeId, StorageError, TopicPartition};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::data_dir::DataDir;
use crate::disk::{Disk, IoLoop, off_thread};
use crate::entry::{Entry, EntryId};
use crate::health::Health;
use crate::metrics;
use crate::state::State;
use crate::wal::Location;
use crate::wal::files::Files;
use crate::wal::read::{ReadError, Wanted, read_batches};
use crate::wal::writer::{Named, WriteError, Writer, is_full};
use admit::WalSpace;
use core::{Answers, AppendResults, Core, Group, Phase};

/// How long a request may wait for a view of the cluster that a caller already has.
pub(crate) const VIEW_DEADLINE: Duration = Duration::from_secs(1);

/// A journal that this node leads.
pub(crate) struct Journal {
    pub(crate) id: JournalId,
    pub(crate) files: Arc<Files>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) view: watch::Receiver<Arc<ClusterState>>,
    core: Mutex<Core>,
    io: OnceLock<Box<dyn IoLoop>>,
    wal_max_bytes: u64,
    ahead_max_bytes: u64,
    /// Groups in a row of which nothing could be written.
    failures: AtomicU64,
    /// Something happened that the supervisor acts on.
    pub(crate) supervise: Notify,
    /// A broker said what it has seen of a log start, or follows a partition no more.
    pub(crate) seen: Notify,
    /// The journal has a newer view. Those who wait for one wait here, and are woken in the order in which they came.
    pub(crate) view_moved: Notify,
    /// Something happened that tiering may act on.
    pub(crate) tier: Notify,
    /// Bytes not in the object store at which tiering is told.
    pub(crate) tier_at: u64,
    /// Of all journals of the node.
    health: Arc<Health>,
    /// Where it is noted when the log has failed.
    data_dir: Weak<DataDir>,
}

/// What a journal is made of.
pub(crate) struct Parts<'a> {
    pub(crate) id: JournalId,
    pub(crate) node: NodeId,
    pub(crate) wal_incarnation: u64,
    pub(crate) state: State,
    pub(crate) files: Arc<Files>,
    pub(crate) data_dir: &'a Arc<DataDir>,
    pub(crate) view: watch::Receiver<Arc<ClusterState>>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Bytes that the logs of all journals of the node may take.
    pub(crate) wal_max_bytes: u64,
    /// Bytes that may be named and not committed.
    pub(crate) ahead_max_bytes: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) producers: expire::Memory,
    pub(crate) tier_at: u64,
    pub(crate) health: Arc<Health>,
}

impl Journal {
    /// A journal with what recovery found. Nothing can be appended before it is [started](Self::start) and opened.
    pub(crate) fn new(parts: Parts<'_>, recovered: &[(Named, Location)]) -> Arc<Self> {
        let Parts { id, node, wal_incarnation, state, files, data_dir, view, clock, .. } = parts;
        let Parts { wal_max_bytes, ahead_max_bytes, memory_bytes, producers, tier_at, health, .. } = parts;
        health.report(id, Err("the journal is being opened".to_owned()));
        let now = view.borrow().clone();
        let mut core = Core::new(id, node, wal_incarnation, state, now, (memory_bytes, producers), clock);
        recovered.iter().for_each(|(named, location)| core.recovered(named, *location));
        core.forget_tiered();
        Arc::new(Self {
            id,
            files,
            disk: data_dir.disk.clone(),
            view,
            core: Mutex::new(core),
            io: OnceLock::new(),
            wal_max_bytes,
            ahead_max_bytes,
            failures: AtomicU64::new(0),
            supervise: Notify::new(),
            seen: Notify::new(),
            view_moved: Notify::new(),
            tier: Notify::new(),
            tier_at,
            health,
            data_dir: Arc::downgrade(data_dir),
        })
    }

    /// Starts the loop that writes.
    pub(crate) fn start(self: &Arc<Self>, writer: Writer) -> std::io::Result<()> {
        let journal = Arc::downgrade(self);
        let mut writer = writer;
        let step = move || write_all_queued(&journal, &mut writer);
        let io = self.disk.io_loop("wal", Box::new(step))?;
        assert!(self.io.set(io).is_ok(), "a journal is started once");
        Ok(())
    }

    /// Appends, in the order of the calls.
    pub(crate) fn append(&self, request: AppendRequest) -> BoxFuture<'static, AppendResults> {
        let count = request.appends.len();
        let (reply, answer) = oneshot::channel();
        let mut answers = Answers::default();
        let (queued, parked) = {
            let mut core = self.lock();
            let queued = core.submit(request, reply, self.space(), Instant::now(), &mut answers);
            (queued, core.has_parked())
        };
        answers.send();
        if queued {
            self.wake();
        }
        if parked {
            self.supervise.notify_one();
        }
        // From the admission to the answer, fdatasync included.
        let span = tracing::debug_span!("wal.commit", journal = self.id.0, batches = count);
        async move {
            let stopped = || vec![Err(StorageError::Unavailable("the node is stopping".into())); count];
            answer.await.unwrap_or_else(|_| stopped())
        }
        .instrument(span)
        .boxed()
    }

    /// Appends an entry of the journal's own and waits until it is committed.
    pub(crate) async fn append_entry(&self, entry: Entry) -> Result<EntryId, StorageError> {
        let answer = self.lock().append_entry(entry);
        self.wake();
        answer.await.unwrap_or_else(|_| Err(StorageError::Unavailable("the node is stopping".into())))
    }

    /// Reads batches from the write-ahead log, off this thread.
    pub(crate) async fn read_wal(&self, wanted: Vec<Wanted>) -> Result<Vec<Batch>, ReadError> {
        let files = self.files.clone();
        off_thread(&*self.disk, move || read_batches(&files, &wanted)).await.unwrap_or(Err(ReadError::Gone))
    }

    /// Waits until the view is as new as `revision`, when the partition is not in it yet. For a second at most.
    pub(crate) async fn wait_for_view(&self, at: TopicPartition, revision: u64) {
        let until = Instant::now() + VIEW_DEADLINE;
        loop {
            let mut moved = std::pin::pin!(self.view_moved.notified());
            moved.as_mut().enable();
            // Whether it came in time shows when the partition is looked up.
            if !self.lock().view_is_behind(at, revision) || tokio::time::timeout_at(until, moved).await.is_err() {
                return;
            }
        }
    }

    /// The lock over everything. Never held over I/O or a wait.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wake(&self) {
        if let Some(io) = self.io.get() {
            io.wake();
        }
    }

    /// Takes no more appends and fails those under way that are not durable.
    pub(crate) fn end(&self, reason: &str) {
        let error = StorageError::Unavailable(reason.to_owned());
        let answers = self.lock().fail(Phase::Ended(error.clone()), &error);
        answers.send();
        self.set_health(Err(reason.to_owned()));
    }

    /// Waits until everything that was named is committed or failed.
    pub(crate) async fn drained(&self) {
        let last = self.lock().last_named();
        if let Some(last) = last {
            // Committed or failed: there is nothing more to wait for.
            let _ = last.await;
        }
    }

    /// Notes on the disk that the log is not to be trusted beyond what is committed. A disk that does not take that either
    /// leaves the next start to what it finds: it makes the last group durable, or cuts it off.
    fn note_failed_log(&self) {
        let (incarnation, acknowledged) = {
            let core = self.lock();
            (core.wal_incarnation, core.state.last)
        };
        let Some(data_dir) = self.data_dir.upgrade() else { return };
        if let Err(error) = data_dir.log_failed(incarnation, acknowledged) {
            tracing::error!(journal = %self.id, %error, "cannot note that the write-ahead log has ended");
        }
    }

    fn set_health(&self, health: Result<(), String>) {
        self.health.report(self.id, health);
    }

    fn space(&self) -> WalSpace {
        WalSpace { used: self.files.used_by_all(), limit: self.wal_max_bytes, ahead_limit: self.ahead_max_bytes }
    }

    fn commit(&self, group: &Group, locations: &[Location]) {
        let mut answers = Answers::default();
        let (committed, tell_tiering, too_many) = {
            let mut core = self.lock();
            let before = seen_by_tiering(&core);
            let committed = core.commit(&group.entries, locations, &mut answers);
            let after = seen_by_tiering(&core);
            (committed, before != after || core.untiered_bytes() >= self.tier_at, core.has_too_many_producers())
        };
        answers.send();
        if let Err(error) = committed {
            tracing::error!(journal = %self.id, %error, "the journal contradicts itself: it is not written to any more");
            self.end(&format!("the journal contradicts itself: {error}"));
        }
        if self.failures.swap(0, Ordering::Relaxed) > 0 {
            tracing::info!(journal = %self.id, "appends succeed again");
            self.set_health(Ok(()));
        }
        if tell_tiering {
            self.tier.notify_one();
        }
        if too_many {
            self.supervise.notify_one();
        }
    }

    fn write_failed(&self, error: WriteError) {
        let text = error.to_string();
        let refusal = |cause: &std::io::Error| match is_full(cause) {
            true => StorageError::Full(text.clone()),
            false => StorageError::Unavailable(text.clone()),
        };
        metrics::wal_write_failed();
        let (phase, refused) = match &error {
            WriteError::Clean(cause) => (Phase::Serving, refusal(cause)),
            WriteError::Undone(cause) => (Phase::Reopening(refusal(cause)), refusal(cause)),
            WriteError::Unknown(_) => {
                let unavailable = StorageError::Unavailable(text.clone());
                (Phase::Reopening(unavailable.clone()), unavailable)
            }
            WriteError::NotSynced(_) => {
                let ended = StorageError::Unavailable(text.clone());
                (Phase::Ended(ended.clone()), ended)
            }
        };
        match &phase {
            // Clients try again many times a second: told at the start, and then ever more rarely.
            Phase::Serving => {
                let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
                if failures.is_power_of_two() {
                    tracing::warn!(journal = %self.id, failures, error = text, "appends fail, and are tried again by clients");
                }
            }
            Phase::Reopening(_) => {
                tracing::warn!(journal = %self.id, error = text, "append failed, opening a new epoch");
            }
            Phase::Ended(_) => {
                tracing::error!(journal = %self.id, error = text, "the write-ahead log has ended: restart the node");
                self.note_failed_log();
            }
        }
        self.set_health(Err(text));
        let answers = self.lock().fail(phase, &refused);
        answers.send();
        self.supervise.notify_one();
    }
}

/// What tiering is told of when it is another.
fn seen_by_tiering(core: &Core) -> (Option<Instant>, usize, u64) {
    (core.untiered_since(), core.state.garbage.len() + core.state.closing.len(), core.starts_moved)
}

/// One step of the I/O loop: everything that is queued.
fn write_all_queued(journal: &Weak<Journal>, writer: &mut Writer) {
    let Some(journal) = journal.upgrade() else { return };
    loop {
        let group = journal.lock().take_group(writer.room());
        if group.entries.is_empty() {
            return;
        }
        let started = Instant::now();
        match writer.write(&group.entries, group.new_file) {
            Ok(locations) => {
                let bytes = locations.iter().map(|location| u64::from(location.length)).sum();
                metrics::group_written(group.entries.len(), bytes, started.elapsed());
                journal.commit(&group, &locations);
            }
            Err(error) => journal.write_failed(error),
        }
    }
}
