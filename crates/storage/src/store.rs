//! The object store as this service uses it: what it puts, reads and deletes there, and nothing else.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_model::{Batch, TieredRun, TopicPartition};
use tidemark_segment::segment::{Run, Span};
use tidemark_segment::{Bucket, Checkpoint, CheckpointName, JournalKeys, SegmentIndex, SegmentName, StoreError};

use crate::checkpoint::{self, Newest};
use crate::entry::{Content, Fold};
use crate::folds;

/// A journal's part of the bucket.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    bucket: Bucket,
    pub(crate) keys: JournalKeys,
    folds: Arc<folds::Cache>,
    #[cfg(test)]
    faults: Arc<dyn tidemark_segment::testing::Faults>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Put,
    Get,
    List,
    Delete,
}

impl Store {
    pub(crate) fn new(bucket: Bucket, keys: JournalKeys) -> Self {
        Self {
            bucket,
            keys,
            folds: Arc::default(),
            #[cfg(test)]
            faults: Arc::new(tidemark_segment::testing::Script::default()),
        }
    }

    /// The same with requests that fail, for tests.
    #[cfg(test)]
    pub(crate) fn with_faults(self, faults: Arc<dyn tidemark_segment::testing::Faults>) -> Self {
        Self { faults, ..self }
    }

    pub(crate) async fn put_segment(&self, name: SegmentName, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        let key = self.keys.segment(name);
        self.attempt(Request::Put, &key, self.bucket.put_new(&key, chunks)).await
    }

    /// Deletes segments. One that is not there counts as deleted.
    pub(crate) async fn delete_segments(&self, names: &[SegmentName]) -> Result<(), StoreError> {
        let keys: Vec<String> = names.iter().map(|name| self.keys.segment(*name)).collect();
        self.attempt(Request::Delete, keys.first().map_or("", String::as_str), self.bucket.delete(&keys)).await
    }

    pub(crate) async fn put_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let key = self.keys.checkpoint(checkpoint.name);
        self.attempt(Request::Put, &key, checkpoint.write(&self.bucket, &self.keys)).await
    }

    pub(crate) async fn newest_checkpoint(&self) -> Result<Newest, StoreError> {
        self.attempt(Request::List, &self.keys.checkpoints(), checkpoint::newest(&self.bucket, &self.keys)).await
    }

    /// Deletes checkpoints, without a listing, which is billed as a PUT.
    pub(crate) async fn delete_checkpoints(&self, names: &[CheckpointName]) -> Result<(), StoreError> {
        let keys: Vec<String> = names.iter().map(|name| self.keys.checkpoint(*name)).collect();
        let Some(first) = keys.first() else { return Ok(()) };
        self.attempt(Request::Delete, first, self.bucket.delete(&keys)).await
    }

    /// Deletes what is older than the last of these but for these.
    pub(crate) async fn delete_checkpoints_but(&self, names: &[CheckpointName]) -> Result<(), StoreError> {
        let delete = Checkpoint::delete_older(&self.bucket, &self.keys, names);
        self.attempt(Request::Delete, &self.keys.checkpoints(), delete).await.map(drop)
    }

    /// The index of a segment of this size.
    pub(crate) async fn index_of(&self, name: SegmentName, size: u64) -> Result<SegmentIndex, StoreError> {
        let key = self.keys.segment(name);
        self.attempt(Request::Get, &key, SegmentIndex::read(&self.bucket, &key, size)).await
    }

    pub(crate) async fn segment_index(&self, run: &TieredRun) -> Result<SegmentIndex, StoreError> {
        let read = SegmentIndex::read(&self.bucket, &run.object, run.object_size);
        self.attempt(Request::Get, &run.object, read).await
    }

    /// What a fold lists.
    pub(crate) async fn fold(&self, at: TopicPartition, fold: &Fold) -> Result<Arc<Content>, StoreError> {
        if let Some(content) = self.folds.get(fold) {
            return Ok(content);
        }
        let key = self.keys.segment(fold.object);
        let read = folds::read(&self.bucket, &self.keys, at, fold);
        let content = Arc::new(self.attempt(Request::Get, &key, read).await?);
        self.folds.put(fold, content.clone());
        Ok(content)
    }

    /// The index of a segment that no manifest tells of.
    pub(crate) async fn index_at(&self, object: &str, size: u64) -> Result<SegmentIndex, StoreError> {
        self.attempt(Request::Get, object, SegmentIndex::read(&self.bucket, object, size)).await
    }

    pub(crate) async fn range(&self, object: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.attempt(Request::Get, object, self.bucket.get_range(object, range)).await
    }

    /// Reads batches of a run that is indexed so.
    pub(crate) async fn batches(&self, object: &str, indexed: &Run, span: &Span) -> Result<Vec<Batch>, StoreError> {
        let read = self.bucket.get_range(object, span.bytes.clone());
        let bytes = self.attempt(Request::Get, object, read).await?;
        indexed.decode(span, &bytes).map_err(|why| StoreError::unreadable(object, &why))
    }

    #[cfg(not(test))]
    async fn attempt<T>(
        &self,
        _: Request,
        _: &str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        work.await
    }

    #[cfg(test)]
    async fn attempt<T>(
        &self,
        request: Request,
        key: &str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        use tidemark_segment::testing::{Fault, Request as Faulty};
        let request = match request {
            Request::Put => Faulty::Put,
            Request::Get => Faulty::Get,
            Request::List => Faulty::List,
            Request::Delete => Faulty::Delete,
        };
        let failed = |why: &str| StoreError::Unavailable(format!("{why}: {key}"));
        match self.faults.next(request, key) {
            Fault::SlowDown => Err(failed("injected 503")),
            Fault::LostAnswer => {
                work.await?;
                Err(failed("injected loss of the answer"))
            }
            Fault::Delay(delay) => {
                tokio::time::sleep(delay).await;
                work.await
            }
            _ => work.await,
        }
    }
}
