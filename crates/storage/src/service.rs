//! The storage service: the [`Storage`] trait on top of its rooms.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesOrdered, StreamExt as _};
use tidemark_model::storage::{
    AppendRequest, Appended, EpochEnd, EpochQuery, FoundOffset, OffsetQuery, Read, ReadRequest, RecordDeletion,
    TailCommand, TailEvent,
};
use tidemark_model::{Clock, ClusterState, Coordinator, Entropy, JournalId, NodeId, Storage, StorageError};
use tidemark_segment::Bucket;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::error::StartError;
use crate::health::Health;
use crate::journal::Journal;
use crate::store::Store;
use crate::tier::FoldLimits;
use crate::{deletion, offsets, read, start, tail};

/// What a storage node is given.
pub struct Dependencies {
    /// Who it is, as the coordinator said when it joined under the data directory's name.
    pub node: NodeId,
    pub data_dir: DataDir,
    /// The object store.
    pub bucket: Bucket,
    pub coordinator: Arc<dyn Coordinator>,
    /// The cluster state that it follows.
    pub view: watch::Receiver<Arc<ClusterState>>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub shutdown: CancellationToken,
}

/// A running storage node.
pub struct Service {
    pub(crate) journals: Arc<BTreeMap<JournalId, Served>>,
    pub(crate) wal_health: Arc<Health>,
    pub(crate) tier_health: Arc<Health>,
    pub(crate) tasks: Mutex<Vec<JoinHandle<()>>>,
    pub(crate) stop: CancellationToken,
    /// Held for as long as the service is.
    pub(crate) _data_dir: Arc<DataDir>,
}

/// A journal that the node leads, with its part of the bucket.
pub(crate) struct Served {
    pub(crate) journal: Arc<Journal>,
    pub(crate) store: Store,
}

impl Service {
    /// Recovers what the node had, opens each of its journals in a new epoch, and serves them.
    ///
    /// Waits for the coordinator, and fails when an operator has to act. `shutdown` stops the wait, and later the work that
    /// goes on in the background; [`shutdown`](Self::shutdown) waits for its end.
    pub async fn start(config: &Config, deps: Dependencies) -> Result<Arc<Self>, StartError> {
        start::start(config, deps, FoldLimits::default(), Store::new).await
    }

    /// The same with less of the manifest in memory, for tests.
    #[cfg(any(test, feature = "testing"))]
    pub async fn start_folding(
        config: &Config,
        deps: Dependencies,
        folds: FoldLimits,
    ) -> Result<Arc<Self>, StartError> {
        start::start(config, deps, folds, Store::new).await
    }

    /// Whether appends are taken; if not, why.
    pub fn wal_health(&self) -> watch::Receiver<Result<(), String>> {
        self.wal_health.subscribe()
    }

    /// Whether the object store takes what it is given; if not, why. Appends go on until the write-ahead log is full.
    pub fn tier_health(&self) -> watch::Receiver<Result<(), String>> {
        self.tier_health.subscribe()
    }

    /// Stops the work in the background, and refuses what comes from now on. What was taken before is answered first,
    /// when the caller stopped calling.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        for task in std::mem::take(&mut *self.tasks.lock().await) {
            // A task that failed has nothing left to stop.
            let _ = task.await;
        }
        for Served { journal, .. } in self.journals.values() {
            journal.drained().await;
            journal.end("the node is stopping");
        }
    }

    /// Ends the work in the background where it is, as a crash does, and says what of it had panicked.
    #[cfg(feature = "testing")]
    pub async fn kill(&self) -> Vec<String> {
        let tasks = std::mem::take(&mut *self.tasks.lock().await);
        tasks.iter().for_each(JoinHandle::abort);
        let mut panics = Vec::new();
        for task in tasks {
            panics.extend(task.await.err().filter(tokio::task::JoinError::is_panic).map(|error| error.to_string()));
        }
        panics
    }

    fn served(&self, id: JournalId) -> Result<&Served, StorageError> {
        self.journals.get(&id).ok_or_else(|| not_led(id))
    }

    async fn find_offset(&self, query: OffsetQuery) -> Result<FoundOffset, StorageError> {
        let Served { journal, store } = self.served(query.journal)?;
        offsets::find(journal, store, query).await
    }

    async fn epoch_end(&self, query: EpochQuery) -> Result<EpochEnd, StorageError> {
        offsets::epoch_end(&self.served(query.journal)?.journal, query).await
    }

    async fn delete(&self, deletion: RecordDeletion) -> Result<i64, StorageError> {
        deletion::delete(&self.served(deletion.journal)?.journal, deletion).await
    }
}

#[async_trait]
impl Storage for Service {
    fn append(&self, request: AppendRequest) -> BoxFuture<'static, Vec<Result<Appended, StorageError>>> {
        match self.served(request.journal) {
            Ok(Served { journal, .. }) => {
                // Open until the append is durable on disk, or refused.
                let span =
                    tracing::debug_span!("storage.append", journal = %request.journal, appends = request.appends.len());
                let appended = span.in_scope(|| journal.append(request));
                tracing::Instrument::instrument(appended, span).boxed()
            }
            Err(error) => {
                let results = vec![Err(error); request.appends.len()];
                async move { results }.boxed()
            }
        }
    }

    async fn read(&self, request: ReadRequest) -> Result<Read, StorageError> {
        let Served { journal, store } = self.served(request.journal)?;
        read::read(journal, store, request).await
    }

    async fn list_offsets(&self, queries: Vec<OffsetQuery>) -> Vec<Result<FoundOffset, StorageError>> {
        queries.into_iter().map(|query| self.find_offset(query)).collect::<FuturesOrdered<_>>().collect().await
    }

    async fn epoch_ends(&self, queries: Vec<EpochQuery>) -> Vec<Result<EpochEnd, StorageError>> {
        queries.into_iter().map(|query| self.epoch_end(query)).collect::<FuturesOrdered<_>>().collect().await
    }

    async fn delete_records(&self, deletions: Vec<RecordDeletion>) -> Vec<Result<i64, StorageError>> {
        deletions.into_iter().map(|deletion| self.delete(deletion)).collect::<FuturesOrdered<_>>().collect().await
    }

    fn tail(&self, commands: BoxStream<'static, TailCommand>) -> BoxStream<'static, Result<TailEvent, StorageError>> {
        let journals = self.journals.clone();
        tail::serve(Arc::new(move |id| Some(journals.get(&id)?.journal.clone())), commands)
    }
}

fn not_led(journal: JournalId) -> StorageError {
    StorageError::NotLeader(format!("this node does not lead journal {journal}"))
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("journals", &self.journals.keys()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Dependencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dependencies").field("node", &self.node).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
