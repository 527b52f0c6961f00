//! What a journal does beside appending: it follows the cluster state, and opens itself again after a failed append.

use std::sync::Arc;
use std::time::Duration;

use tidemark_model::coordinator::OpenJournal;
use tidemark_model::{ClusterState, Coordinator, CoordinatorError, Entropy, NodeId, StorageError, TopicId};
use tidemark_runtime::backoff::Backoff;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Journal;
use super::core::{Answers, Core, Phase};
use super::expire;
use crate::entry::Entry;
use crate::error::StartError;

/// The first wait after the coordinator or the disk refused: a full disk has room again in its own time.
const REOPEN_FIRST: Duration = Duration::from_millis(50);
/// How late a journal may notice that it can be opened again.
const REOPEN_LIMIT: Duration = Duration::from_secs(2);

/// Until shutdown: tells the journals of a node of each view, in their order.
pub(crate) async fn follow(
    mut view: watch::Receiver<Arc<ClusterState>>,
    journals: Vec<Arc<Journal>>,
    shutdown: CancellationToken,
) {
    loop {
        journals.iter().for_each(|journal| journal.view_changed());
        // Without a sender, there is none to come.
        match shutdown.run_until_cancelled(view.changed()).await {
            Some(Ok(())) => {}
            Some(Err(_)) | None => return,
        }
    }
}

/// What it takes to open a journal in a new epoch.
#[derive(Clone)]
pub(crate) struct Opener {
    pub(crate) coordinator: Arc<dyn Coordinator>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) node: NodeId,
    pub(crate) wal_incarnation: u64,
    /// The logs that the node has.
    pub(crate) logs: Arc<[u64]>,
    /// The log that this one was copied from.
    pub(crate) succeeds: Option<u64>,
}

impl Journal {
    /// Starts a new epoch: its number from the coordinator, its first entry in the log.
    pub(crate) async fn open(&self, epoch: u32) -> Result<(), StorageError> {
        let (answer, last) = {
            let mut core = self.lock();
            if epoch <= core.state.last.epoch {
                let last = core.state.last.epoch;
                return Err(StorageError::Unavailable(format!("epoch {epoch} is not above the log's epoch {last}")));
            }
            (core.reopen(epoch), core.state.last)
        };
        self.wake();
        answer.await.unwrap_or_else(|_| Err(StorageError::Unavailable("the node is stopping".into())))?;
        tracing::info!(journal = %self.id, epoch, after = last.index, "leading");
        self.set_health(Ok(()));
        Ok(())
    }

    /// Until shutdown: lets in what waited for the view too long, and opens the journal again when it has to be.
    pub(crate) async fn supervise(self: Arc<Self>, opener: Opener, shutdown: CancellationToken) {
        let mut expire_at = Instant::now();
        loop {
            self.view_changed();
            if Instant::now() >= expire_at || self.lock().has_too_many_producers() {
                self.expire_producers();
                expire_at = Instant::now() + expire::INTERVAL;
            }
            if matches!(self.lock().phase, Phase::Reopening(_)) {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return,
                    () = self.reopen(&opener) => {}
                }
            }
            let parked_until = self.lock().parked_until(Instant::now());
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.supervise.notified() => {}
                () = tokio::time::sleep_until(expire_at) => {}
                () = tokio::time::sleep_until(parked_until.unwrap_or_else(Instant::now)), if parked_until.is_some() => {}
            }
        }
    }

    /// Takes the newest view: topics that are gone are deleted, requests that waited for it are taken in.
    pub(crate) fn view_changed(&self) {
        let view = self.view.borrow().clone();
        let mut answers = Answers::default();
        let queued = {
            let mut core = self.lock();
            if view.revision >= core.view.revision {
                core.view = view;
                core.end_reads_of_what_is_gone();
            }
            core.delete_topics() | core.retry_parked(self.space(), Instant::now(), &mut answers)
        };
        answers.send();
        if queued {
            self.wake();
        }
        self.view_moved.notify_waiters();
    }

    async fn reopen(&self, opener: &Opener) {
        let mut backoff = Backoff::new(REOPEN_FIRST, REOPEN_LIMIT);
        while matches!(self.lock().phase, Phase::Reopening(_)) {
            let opened = opener.coordinator.open_journal(opener.request()).await;
            let error = match opened {
                Ok(journal) => match self.open(journal.epoch).await {
                    Ok(()) => return,
                    Err(error) => error.to_string(),
                },
                Err(CoordinatorError::Fenced(why)) => {
                    tracing::error!(journal = %self.id, why, "this node may not lead its journal any more");
                    return self.end(&format!("another node leads journal {}: {why}", self.id));
                }
                Err(error) => error.to_string(),
            };
            tracing::warn!(journal = %self.id, error, "could not open a new epoch");
            tokio::time::sleep(backoff.next(&*opener.entropy)).await;
        }
    }
}

impl Core {
    /// Deletes the topics that are not in the view any more. Whether there is now something to write.
    fn delete_topics(&mut self) -> bool {
        if self.phase != Phase::Serving {
            return false;
        }
        let mut gone: Vec<TopicId> = Vec::new();
        for (at, state) in &self.state.partitions {
            // A view that is older than the partition does not know it yet.
            let deleted = self.view.revision > state.revision && self.view.topic(at.topic).is_none();
            if deleted && !self.deleting.contains(&at.topic) && gone.last() != Some(&at.topic) {
                gone.push(at.topic);
            }
        }
        for topic in &gone {
            self.deleting.insert(*topic);
            self.name(Entry::TopicDeleted { topic: *topic, revision: self.view.revision });
        }
        !gone.is_empty()
    }

    /// Readers of partitions that the journal never had anything of: no entry will tell them.
    fn end_reads_of_what_is_gone(&mut self) {
        for (at, slot) in &mut self.slots {
            if !slot.readers.is_empty() && self.view.partition(*at).is_none() {
                slot.readers.drain(..).for_each(|reader| reader.end(*at, StorageError::UnknownPartition(*at)));
            }
        }
    }
}

impl Opener {
    fn request(&self) -> OpenJournal {
        let Self { node, wal_incarnation, logs, succeeds, .. } = self;
        OpenJournal { node: *node, wal_incarnation: *wal_incarnation, logs: logs.to_vec(), succeeds: *succeeds }
    }

    /// Opens a journal at the start, trying for as long as the coordinator cannot be reached.
    pub(crate) async fn open_first(&self, shutdown: &CancellationToken) -> Result<tidemark_model::Journal, StartError> {
        let mut backoff = Backoff::new(REOPEN_FIRST, REOPEN_LIMIT);
        loop {
            let opened = shutdown
                .run_until_cancelled(self.coordinator.open_journal(self.request()))
                .await
                .ok_or(StartError::Stopped)?;
            match opened {
                Ok(journal) => return Ok(journal),
                Err(CoordinatorError::Unavailable(why)) => {
                    if backoff.failures().is_power_of_two() {
                        tracing::warn!(why, "the coordinator cannot open the journal now, trying again");
                    }
                    let wait = tokio::time::sleep(backoff.next(&*self.entropy));
                    shutdown.run_until_cancelled(wait).await.ok_or(StartError::Stopped)?;
                }
                Err(error) => return Err(StartError::Coordinator(error)),
            }
        }
    }
}
