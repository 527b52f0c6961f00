//! The broker service as the gateway sees it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::storage::{AbortedTransaction, Acks, Appended, EpochEnd, FoundOffset, OffsetSpec};
use crate::{Batch, NodeId, StorageError, TopicPartition};

/// Records for partitions whose journals this broker serves, appended in this order.
#[derive(Debug, Clone)]
pub struct ProduceRequest {
    pub gateway: NodeId,
    /// The revision of the cluster state by which the gateway routed.
    pub revision: u64,
    pub acks: Acks,
    pub timeout: Duration,
    pub partitions: Vec<ProducePartition>,
}

#[derive(Debug, Clone)]
pub struct ProducePartition {
    pub partition: TopicPartition,
    /// The records field of the Kafka request, as it came.
    pub records: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

/// A fetch of partitions whose journals this broker serves.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    pub revision: u64,
    /// How long to wait for `min_bytes`. The answer comes at once when a partition has an error.
    pub max_wait: Duration,
    /// Without a wait, more than 0 means that what is committed must not be missed: where the broker's memory, which may
    /// be a moment behind, has nothing, the leader is asked.
    pub min_bytes: usize,
    /// At least one batch of the first partition that has data is returned, however large it is (KIP-74).
    pub max_bytes: usize,
    pub isolation: Isolation,
    pub partitions: Vec<FetchPartition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchPartition {
    pub partition: TopicPartition,
    pub offset: i64,
    pub max_bytes: usize,
    pub current_leader_epoch: Option<i32>,
    /// The epoch of the last record the client has (KIP-595), to find out that its log diverged.
    pub last_fetched_epoch: Option<i32>,
}

/// What a partition gave. The first batch may begin below the offset asked for and holds it.
#[derive(Debug, Clone)]
pub struct Fetched {
    pub leader_epoch: i32,
    pub log_start_offset: i64,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub aborted: Vec<AbortedTransaction>,
    pub diverging: Option<EpochEnd>,
    pub batches: Vec<Batch>,
}

#[derive(Debug, Clone, Copy)]
pub struct PartitionOffsetQuery {
    pub partition: TopicPartition,
    pub revision: u64,
    pub current_leader_epoch: Option<i32>,
    pub spec: OffsetSpec,
}

#[derive(Debug, Clone, Copy)]
pub struct PartitionEpochQuery {
    pub partition: TopicPartition,
    pub revision: u64,
    pub current_leader_epoch: Option<i32>,
    pub leader_epoch: i32,
}

/// DeleteRecords (KIP-107) of one partition.
#[derive(Debug, Clone, Copy)]
pub struct PartitionRecordDeletion {
    pub partition: TopicPartition,
    pub revision: u64,
    /// The offset that becomes the log start; nothing for the high watermark.
    pub before: Option<i64>,
    pub timeout: Duration,
}

/// What is wrong with produced records, in Kafka's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchFault {
    /// CORRUPT_MESSAGE: the CRC or the lengths do not match.
    Corrupt,
    /// INVALID_RECORD: counts, attributes or the number of batches are wrong.
    InvalidRecord,
    /// MESSAGE_TOO_LARGE: over the topic's `max.message.bytes`.
    TooLarge,
    /// INVALID_TIMESTAMP: outside what the topic allows.
    InvalidTimestamp,
    /// UNSUPPORTED_COMPRESSION_TYPE: a codec that does not exist.
    UnsupportedCompression,
}

/// Why a broker did not do it, by what the gateway does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// The records are bad: tell the client what and where. Nothing was appended.
    #[error("{message}")]
    Rejected { fault: BatchFault, message: String },
    /// The journal's leader answered this, or could not be reached.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The object store cannot be read now: the client retries.
    #[error("object store unavailable: {0}")]
    ObjectStore(String),
    /// Too much is in flight, or the broker cannot be reached: the client retries.
    #[error("broker unavailable: {0}")]
    Unavailable(String),
}

/// The stateless data plane: validates and routes produce, fans a fetch out, long-polls, caches.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Validates and appends, answering each partition in its place.
    ///
    /// A call takes its place in the order when it is made, not when its future is first polled: calls of one caller
    /// for one partition are appended in the order they were made. Dropping the future does not undo the append.
    fn produce(&self, request: ProduceRequest) -> BoxFuture<'static, Vec<Result<Appended, BrokerError>>>;

    /// Fetches, answering each partition in its place. Dropping the future ends the wait.
    async fn fetch(&self, request: FetchRequest) -> Vec<Result<Fetched, BrokerError>>;

    /// Finds offsets, answering each query in its place.
    async fn list_offsets(&self, queries: Vec<PartitionOffsetQuery>) -> Vec<Result<FoundOffset, BrokerError>>;

    /// Finds where leader epochs ended, answering each query in its place.
    async fn epoch_ends(&self, queries: Vec<PartitionEpochQuery>) -> Vec<Result<EpochEnd, BrokerError>>;

    /// Deletes records, answering each deletion in its place with the log start there is then. The answer comes when no
    /// broker serves anything below it any more.
    async fn delete_records(&self, deletions: Vec<PartitionRecordDeletion>) -> Vec<Result<i64, BrokerError>>;
}
