//! `compression.type`: batches of topics that want a codec of their own are compressed again before they are appended.
//!
//! That takes milliseconds of CPU, so it happens beside the way of all other batches, on threads of its own and several at
//! a time. A partition's batches still go to the leader in the order of the calls: each waits for the one before.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tidemark_model::broker::BatchFault;
use tidemark_model::storage::{Append, AppendRequest, Appended};
use tidemark_model::topic_config::{CompressionType, Effective};
use tidemark_model::{Batch, BrokerError, Storage, StorageError, TopicPartition};
use tidemark_wire::batch::{Compression, codec, recompressed};
use tokio::sync::{Semaphore, oneshot};

use crate::metrics;

/// Batches that are compressed at once: more would only take the CPU from those that need none.
const AT_ONCE: usize = 2;
/// Bytes of batches, as they came, that may wait to be compressed.
const MAX_WAITING: usize = 64 << 20;
/// Bytes that the records of a batch may have when decompressed.
const MAX_DECOMPRESSED: u64 = 256 << 20;

type Answer = Result<Appended, BrokerError>;

/// A batch that takes the long way.
pub(crate) struct Job {
    pub(crate) storage: Arc<dyn Storage>,
    /// Without appends.
    pub(crate) request: AppendRequest,
    pub(crate) partition: TopicPartition,
    pub(crate) batch: Batch,
    /// Nothing for a batch that only has to stay behind others.
    pub(crate) compression: Option<Compression>,
    pub(crate) max_message_bytes: usize,
}

#[derive(Clone)]
pub(crate) struct Recompress {
    lines: Arc<Lines>,
    threads: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// The last job of each partition that has any.
#[derive(Default)]
struct Lines {
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    number: u64,
    jobs: BTreeMap<TopicPartition, (u64, oneshot::Receiver<()>)>,
}

/// A place in a partition's line. Dropping it lets the next one go.
struct Turn {
    lines: Arc<Lines>,
    partition: TopicPartition,
    number: u64,
    _done: oneshot::Sender<()>,
}

/// How a topic wants a batch compressed; nothing when it is so already. As in Kafka, a batch of the codec that is wanted
/// stays as it is, whatever its level.
pub(crate) fn wanted(config: Effective<'_>, batch: &Batch) -> Option<Compression> {
    let compression = match config.compression_type() {
        CompressionType::Producer => return None,
        CompressionType::Uncompressed => Compression::None,
        CompressionType::Gzip => Compression::Gzip(config.compression_gzip_level()),
        CompressionType::Snappy => Compression::Snappy,
        CompressionType::Lz4 => Compression::Lz4,
        CompressionType::Zstd => Compression::Zstd(config.compression_zstd_level()),
    };
    (codec(batch) != Some(compression.codec())).then_some(compression)
}

impl Recompress {
    pub(crate) fn new() -> Self {
        Self { lines: Arc::default(), threads: Arc::new(Semaphore::new(AT_ONCE)), waiting: Arc::default() }
    }

    /// Whether batches of the partition are on the long way now: those that follow have to stay behind them.
    pub(crate) fn is_busy(&self, at: TopicPartition) -> bool {
        self.lines.lock().jobs.contains_key(&at)
    }

    /// Takes the job's place in its partition's line, and appends it in its turn, whether or not the answer is awaited.
    pub(crate) fn append(&self, job: Job) -> BoxFuture<'static, Answer> {
        let size = job.batch.wire_len();
        if self.waiting.fetch_add(size, Ordering::AcqRel) + size > MAX_WAITING {
            self.waiting.fetch_sub(size, Ordering::AcqRel);
            let error = StorageError::Full(format!("{MAX_WAITING} bytes wait to be compressed"));
            return futures::future::ready(Err(error.into())).boxed();
        }
        let (before, turn) = self.lines.enter(job.partition);
        let (threads, waiting) = (self.threads.clone(), self.waiting.clone());
        let (reply, answer) = oneshot::channel();
        tokio::spawn(async move {
            let (mut job, batch) = compress(&threads, job).await;
            waiting.fetch_sub(size, Ordering::AcqRel);
            if let Some(before) = before {
                // Ends with the turn before, whatever became of it.
                let _ = before.await;
            }
            let sent = batch.map(|batch| {
                job.request.appends = vec![Append { partition: job.partition, batch }];
                job.storage.append(job.request)
            });
            drop(turn);
            let answer = match sent {
                Ok(appended) => appended.await.pop().unwrap_or_else(|| Err(no_answer())).map_err(Into::into),
                Err(error) => Err(error),
            };
            // The caller may have gone; the append went on.
            let _ = reply.send(answer);
        });
        async move { answer.await.unwrap_or_else(|_| Err(no_answer().into())) }.boxed()
    }
}

async fn compress(threads: &Semaphore, job: Job) -> (Job, Result<Batch, BrokerError>) {
    let batch = job.batch.clone();
    let Some(compression) = job.compression else { return (job, Ok(batch)) };
    let _permit = threads.acquire().await;
    let work = tokio::task::spawn_blocking(move || recompressed(&batch, compression, MAX_DECOMPRESSED));
    let rejected = |fault, message| {
        metrics::batch_rejected();
        Err(BrokerError::Rejected { fault, message })
    };
    let batch = match work.await {
        Ok(Ok(batch)) if batch.wire_len() > job.max_message_bytes => {
            let (size, max) = (batch.wire_len(), job.max_message_bytes);
            let message =
                format!("batch of {size} bytes, compressed again, is over the topic's max.message.bytes of {max}");
            rejected(BatchFault::TooLarge, message)
        }
        Ok(Ok(batch)) => {
            metrics::batch_recompressed(job.batch.wire_len(), batch.wire_len());
            Ok(batch)
        }
        Ok(Err(error)) => rejected(BatchFault::InvalidRecord, format!("records cannot be compressed again: {error}")),
        Err(_) => Err(no_answer().into()),
    };
    (job, batch)
}

impl Lines {
    fn enter(self: &Arc<Self>, partition: TopicPartition) -> (Option<oneshot::Receiver<()>>, Turn) {
        let (done, after) = oneshot::channel();
        let mut last = self.lock();
        last.number += 1;
        let number = last.number;
        let before = last.jobs.insert(partition, (number, after)).map(|(_, before)| before);
        (before, Turn { lines: Arc::clone(self), partition, number, _done: done })
    }

    fn lock(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut last = self.lines.lock();
        if last.jobs.get(&self.partition).is_some_and(|(number, _)| *number == self.number) {
            last.jobs.remove(&self.partition);
        }
    }
}

fn no_answer() -> StorageError {
    StorageError::Unavailable("no answer from the journal's leader".into())
}
