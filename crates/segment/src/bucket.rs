//! The object store client: a bucket (or a local directory, or memory) by URL.
//!
//! Objects are written once, under a name never used before, and never changed: [`Bucket::put_new`] refuses a name that
//! is taken. When it returns, the object is durable; on a local directory that means the file and its directory were
//! fsynced. Every operation is tried again, with jittered backoff, until its budget of time is spent; what is then left
//! to the caller is in [`StoreError`].

mod check;
mod directory;
mod error;
mod open;
mod retry;
mod upload;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use tidemark_model::Entropy;
use tokio::sync::Semaphore;
use tracing::{Instrument, debug_span};

pub use check::Access;
pub use error::StoreError;
use retry::Attempts;
pub use retry::RetryPolicy;

use crate::claim::{Guard, Holder};
use crate::metrics::{self, Operation};

/// Requests in flight at once, of all clones of a bucket: more sockets do not make an object store faster.
const MAX_IN_FLIGHT: usize = 128;
/// Ranges of one call that are read at once.
const PARALLEL_RANGES: usize = 8;
/// Keys in one delete request: S3's limit.
const MAX_DELETE_KEYS: usize = 1000;
/// Keys in one page of a listing: S3's limit.
const LIST_PAGE_KEYS: usize = 1000;
/// Bytes from the end of an object that tell whether it is ours. Our formats end in checksums.
const COMPARED_TAIL: u64 = 64 * 1024;

/// A bucket and a prefix in it, to which all keys are relative. Clones share the connections.
#[derive(Clone)]
pub struct Bucket {
    inner: Arc<Inner>,
    retry: RetryPolicy,
    upload: upload::Limits,
    guard: Option<Arc<Guard>>,
}

struct Inner {
    url: String,
    store: Arc<dyn ObjectStore>,
    /// Set where large objects are better uploaded in parts.
    multipart: Option<Arc<dyn MultipartStore>>,
    prefix: Path,
    /// Whether an object that can be read is durable. In a local directory it may be there before its fsync returned, or
    /// after that failed.
    visible_is_durable: bool,
    entropy: Arc<dyn Entropy>,
    in_flight: Semaphore,
}

/// An object as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    pub key: String,
    pub size: u64,
}

/// What is found under the name of an object that was to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    This,
    Another,
    Nothing,
}

impl Bucket {
    /// A client of any store, for a test that wraps one with faults; else see [`open`](Self::open).
    pub fn with_store(
        store: Arc<dyn ObjectStore>,
        multipart: Option<Arc<dyn MultipartStore>>,
        prefix: &str,
        url: &str,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self::with_inner(Inner {
            url: if url.ends_with("://") { url } else { url.trim_end_matches('/') }.to_owned(),
            store,
            multipart,
            prefix: Path::from(prefix),
            visible_is_durable: true,
            entropy,
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
        })
    }

    fn with_inner(inner: Inner) -> Self {
        Self { inner: Arc::new(inner), retry: RetryPolicy::default(), upload: upload::Limits::default(), guard: None }
    }

    /// The same bucket, with more or less patience.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// The same bucket, to which objects are written, and from which they are deleted, only while `holder` has it. The first
    /// call that finds that another has it ends [`lost_claim`](Self::lost_claim), and all that follow are refused.
    #[must_use]
    pub fn guarded(&self, holder: Holder) -> Self {
        Self { guard: Some(Guard::new(holder)), ..self.clone() }
    }

    /// Returns when a [guarded](Self::guarded) bucket is another's, with the reason. Does not return otherwise.
    pub async fn lost_claim(&self) -> StoreError {
        match &self.guard {
            Some(guard) => guard.lost().await,
            None => std::future::pending().await,
        }
    }

    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// Whether it is a directory of this machine, where no request has to wait for a network.
    pub fn is_local(&self) -> bool {
        self.inner.url.starts_with("file:")
    }

    /// Stores an object under a name that was never used before. The chunks are its bytes, in order.
    ///
    /// Returns once it is durable. An attempt whose answer was lost and that did store the object counts as success.
    pub async fn put_new(&self, key: &str, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        let len = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let span = debug_span!("object_store.put", key, len);
        async {
            self.check_claim().await?;
            match &self.inner.multipart {
                Some(multipart) if len > self.upload.single_put => self.upload(multipart, key, chunks, len).await?,
                _ => self.put_at_once(key, chunks, len).await?,
            }
            metrics::bytes_written(len);
            Ok(())
        }
        .instrument(span)
        .await
    }

    /// Reads a whole object of at most `max_len` bytes.
    pub async fn get(&self, key: &str, max_len: u64) -> Result<Bytes, StoreError> {
        let size = self.head(key).await?;
        if size > max_len {
            let why = format!("{size} bytes, and at most {max_len} were expected");
            return Err(StoreError::Corrupt { key: key.to_owned(), why });
        }
        self.get_range(key, 0..size).await
    }

    /// Reads a byte range of an object, all of it: an object that is shorter is [`StoreError::Corrupt`].
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let len = range.end - range.start;
        let path = self.path(key)?;
        let span = debug_span!("object_store.get", key, start = range.start, len);
        let read = || get_exactly(&self.inner.store, &path, range.clone());
        let bytes = Attempts::new(self, Operation::Get, key).until_done(len, read).instrument(span).await?;
        let Some(bytes) = bytes else {
            let why = format!("it ends before byte {} of what was asked for", range.end);
            return Err(StoreError::Corrupt { key: key.to_owned(), why });
        };
        metrics::bytes_read(len);
        Ok(bytes)
    }

    /// Reads byte ranges of an object, some at once, each with a request of its own.
    pub async fn get_ranges(&self, key: &str, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>, StoreError> {
        let reads = ranges.into_iter().map(|range| self.get_range(key, range));
        stream::iter(reads).buffered(PARALLEL_RANGES).try_collect().await
    }

    /// The object's length in bytes.
    pub async fn head(&self, key: &str) -> Result<u64, StoreError> {
        let path = self.path(key)?;
        let meta = Attempts::new(self, Operation::Head, key).until_done(0, || self.inner.store.head(&path)).await?;
        Ok(meta.size)
    }

    /// All objects below `prefix` (a directory: `a` does not match `ab/c`), sorted by key. Empty: all of the bucket's.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        let path = self.path(prefix)?;
        let read = || self.inner.store.list(Some(&path)).try_collect::<Vec<_>>();
        let metas = Attempts::new(self, Operation::List, prefix).until_done(0, read).await?;
        metrics::more_pages_listed((metas.len().saturating_sub(1) / LIST_PAGE_KEYS) as u64);
        let object = |meta: object_store::ObjectMeta| {
            let key = meta.location.as_ref().strip_prefix(self.inner.prefix.as_ref())?;
            Some(Object { key: key.trim_start_matches('/').to_owned(), size: meta.size })
        };
        let mut objects: Vec<Object> = metas.into_iter().filter_map(object).collect();
        objects.sort();
        Ok(objects)
    }

    /// Deletes objects. One that is not there counts as deleted.
    pub async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        self.check_claim().await?;
        for keys in keys.chunks(MAX_DELETE_KEYS) {
            let paths = keys.iter().map(|key| self.path(key)).collect::<Result<Vec<_>, _>>()?;
            let what = keys.first().map_or("", String::as_str);
            let delete = || delete_all(self.inner.store.clone(), paths.clone());
            Attempts::new(self, Operation::Delete, what).until_done(0, delete).await?;
        }
        Ok(())
    }

    /// Whether a [guarded](Self::guarded) bucket still is its holder's.
    pub async fn check_claim(&self) -> Result<(), StoreError> {
        match &self.guard {
            Some(guard) => guard.check(self).await,
            None => Ok(()),
        }
    }

    async fn put_at_once(&self, key: &str, chunks: Vec<Bytes>, len: u64) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let payload: PutPayload = chunks.iter().cloned().collect();
        let mut attempts = Attempts::new(self, Operation::Put, key);
        let mut outcome_unknown = false;
        loop {
            let put = self.inner.store.put_opts(&path, payload.clone(), PutMode::Create.into());
            let error = match attempts.once(len, put).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Exists(_)) if outcome_unknown => match self.stored(key, &chunks, len).await? {
                    Stored::This if self.inner.visible_is_durable => return Ok(()),
                    Stored::This => {
                        let why = format!("{}/{key}: it is there, and may not be on disk", self.url());
                        return Err(StoreError::Unavailable(why));
                    }
                    Stored::Another => return Err(StoreError::Exists(key.to_owned())),
                    Stored::Nothing => {
                        StoreError::Unavailable(format!("{}/{key}: an earlier write of it is under way", self.url()))
                    }
                },
                Err(error) => error,
            };
            outcome_unknown |= error.is_retriable();
            attempts.pause(error).await?;
        }
    }

    /// What an attempt of ours whose answer was lost has left behind. Names are used once, so length and tail (with its
    /// checksums) tell whether an object is the one it was to store.
    async fn stored(&self, key: &str, chunks: &[Bytes], len: u64) -> Result<Stored, StoreError> {
        match self.head(key).await {
            Ok(size) if size == len => {}
            Ok(_) => return Ok(Stored::Another),
            Err(StoreError::NotFound(_)) => return Ok(Stored::Nothing),
            Err(error) => return Err(error),
        }
        let start = len.saturating_sub(COMPARED_TAIL);
        let mut theirs = &self.get_range(key, start..len).await?[..];
        let mut position = 0;
        for chunk in chunks {
            let skip = start.saturating_sub(position).min(chunk.len() as u64) as usize;
            match theirs.strip_prefix(&chunk[skip..]) {
                Some(rest) => theirs = rest,
                None => return Ok(Stored::Another),
            }
            position += chunk.len() as u64;
        }
        Ok(Stored::This)
    }

    fn path(&self, key: &str) -> Result<Path, StoreError> {
        let full = format!("{}/{key}", self.inner.prefix);
        Path::parse(full.trim_matches('/')).map_err(|e| StoreError::Refused(format!("key {key:?}: {e}")))
    }
}

impl fmt::Debug for Bucket {
    /// The library's own `Debug` shows credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("url", &self.inner.url).field("retry", &self.retry).finish_non_exhaustive()
    }
}

/// Nothing when the object ends before the range does. A body that was cut is an error, so that it is read again.
async fn get_exactly(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    range: Range<u64>,
) -> object_store::Result<Option<Bytes>> {
    let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
    let result = store.get_opts(path, options).await?;
    if result.range != range {
        return Ok(None);
    }
    let bytes = result.bytes().await?;
    if bytes.len() as u64 != range.end - range.start {
        let source = format!("body of {} bytes where {} were announced", bytes.len(), range.end - range.start);
        return Err(object_store::Error::Generic { store: "body", source: source.into() });
    }
    Ok(Some(bytes))
}

async fn delete_all(store: Arc<dyn ObjectStore>, paths: Vec<Path>) -> object_store::Result<()> {
    let mut deleted = store.delete_stream(stream::iter(paths).map(Ok).boxed());
    while let Some(result) = deleted.next().await {
        match result {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
