//! Reads from the leaders of journals. Those that ask for the same at the same time share one read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use tidemark_model::storage::{Read, ReadRequest, Records};
use tidemark_model::{JournalId, Storage, StorageError, TopicPartition};

use crate::metrics;

/// Reads that nobody waits for any more are looked for when there are this many.
const READS_BEFORE_PRUNING: usize = 1024;

/// Reads under way.
#[derive(Default)]
pub(crate) struct Leader {
    reads: Mutex<BTreeMap<Key, WeakShared<Reading>>>,
}

type Reading = BoxFuture<'static, Result<Arc<Read>, StorageError>>;

/// All of a request.
type Key = (JournalId, TopicPartition, u64, i64, usize, Option<i32>);

impl Leader {
    pub(crate) async fn read(
        &self,
        storage: &Arc<dyn Storage>,
        request: ReadRequest,
    ) -> Result<Arc<Read>, StorageError> {
        let (reading, begun_here) = self.join(storage, request);
        let read = reading.await;
        if begun_here {
            self.lock().remove(&key(&request));
        } else if !read.as_ref().is_ok_and(|read| has_records(read)) {
            // It began before this was asked: what it did not find may be there by now.
            metrics::leader_read();
            return storage.read(request).await.map(Arc::new);
        }
        read
    }

    fn join(&self, storage: &Arc<dyn Storage>, request: ReadRequest) -> (Shared<Reading>, bool) {
        let mut reads = self.lock();
        if let Some(reading) = reads.get(&key(&request)).and_then(WeakShared::upgrade) {
            return (reading, false);
        }
        if reads.len() >= READS_BEFORE_PRUNING {
            reads.retain(|_, reading| reading.upgrade().is_some());
        }
        metrics::leader_read();
        let storage = storage.clone();
        let reading = async move { storage.read(request).await.map(Arc::new) }.boxed().shared();
        if let Some(weak) = reading.downgrade() {
            reads.insert(key(&request), weak);
        }
        (reading, true)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, WeakShared<Reading>>> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(request: &ReadRequest) -> Key {
    let ReadRequest { journal, partition, revision, offset, max_bytes, current_leader_epoch } = *request;
    (journal, partition, revision, offset, max_bytes, current_leader_epoch)
}

fn has_records(read: &Read) -> bool {
    match &read.records {
        Records::Batches(batches) => !batches.is_empty(),
        Records::Tiered(_) => true,
    }
}
