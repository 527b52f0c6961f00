//! The storage service as its callers see it.

use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::route::Route;
use crate::{Batch, JournalId, TieredRun, TopicPartition};

/// What of an append must be on disk before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// Nothing: there will be no answer (`acks=0`). Kept for order and back-pressure.
    None,
    /// The leader's fsync has returned (`acks=1`).
    Leader,
    /// Every in-sync replica's fsync has returned (`acks=all`).
    All,
}

/// Batches for partitions of one journal, appended in this order.
#[derive(Debug, Clone)]
pub struct AppendRequest {
    pub journal: JournalId,
    pub route: Route,
    pub acks: Acks,
    /// How long to wait for replicas before answering [`StorageError::TimedOut`]; the append itself may still succeed.
    pub timeout: Duration,
    pub appends: Vec<Append>,
}

#[derive(Debug, Clone)]
pub struct Append {
    pub partition: TopicPartition,
    /// Validated by the broker. Its base offset and leader epoch are not looked at: the leader assigns them.
    pub batch: Batch,
}

/// Where an append landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: i64,
    /// The time the leader gave the batch when the topic wants log append time, else -1.
    pub log_append_time_ms: i64,
    pub log_start_offset: i64,
}

/// The present bounds of a partition, from its journal's leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub leader_epoch: i32,
    pub log_start_offset: i64,
    /// The offset after the last committed record.
    pub high_watermark: i64,
    /// The offset below which every transaction is decided.
    pub last_stable_offset: i64,
}

#[derive(Debug, Clone, Copy)]
pub struct ReadRequest {
    pub journal: JournalId,
    pub partition: TopicPartition,
    /// The revision of the caller's cluster state: an older leader waits for it before it says "unknown".
    pub revision: u64,
    pub offset: i64,
    /// At least one batch is returned when there is one, however large it is.
    pub max_bytes: usize,
    /// The leader epoch the client believes in (KIP-320), checked when given.
    pub current_leader_epoch: Option<i32>,
}

/// A read's answer. The first batch may begin below the offset asked for and holds it.
#[derive(Debug, Clone)]
pub struct Read {
    pub bounds: Bounds,
    pub records: Records,
    /// Transactions that were aborted in the offsets returned (KIP-98).
    pub aborted: Vec<AbortedTransaction>,
}

#[derive(Debug, Clone)]
pub enum Records {
    /// Committed batches; none at the end of the log.
    Batches(Vec<Batch>),
    /// They are in the object store: read there. Runs from the one that holds the offset on, a bounded number.
    Tiered(Vec<TieredRun>),
}

/// A transaction that was aborted: its producer's records from `first_offset` to its marker are to be skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AbortedTransaction {
    pub first_offset: i64,
    pub last_offset: i64,
    pub producer_id: i64,
}

/// What ListOffsets may ask for (KIP-79, KIP-734, KIP-405, KIP-1005, KIP-1023).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first record with at least this timestamp, in milliseconds since the epoch.
    Timestamp(i64),
    /// -2: the log start offset.
    Earliest,
    /// -1 read uncommitted: the high watermark.
    Latest,
    /// -1 read committed: the last stable offset.
    LastStable,
    /// -3: the record with the largest timestamp.
    MaxTimestamp,
    /// -4: the first offset that is not only in the object store.
    EarliestLocal,
    /// -5: the last offset that is in the object store.
    LatestTiered,
    /// -6: the first offset that is not yet in the object store.
    EarliestPendingUpload,
}

#[derive(Debug, Clone, Copy)]
pub struct OffsetQuery {
    pub journal: JournalId,
    pub partition: TopicPartition,
    pub revision: u64,
    pub current_leader_epoch: Option<i32>,
    pub spec: OffsetSpec,
}

/// An offset that was asked for. Offset and timestamp are -1 where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    pub leader_epoch: i32,
    pub offset: i64,
    pub timestamp: i64,
}

/// OffsetForLeaderEpoch (KIP-101, KIP-320).
#[derive(Debug, Clone, Copy)]
pub struct EpochQuery {
    pub journal: JournalId,
    pub partition: TopicPartition,
    pub revision: u64,
    pub current_leader_epoch: Option<i32>,
    /// The epoch whose end is asked for.
    pub leader_epoch: i32,
}

/// The largest epoch not above the one asked for, and the offset after its last record. Both -1 where unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    pub leader_epoch: i32,
    pub end_offset: i64,
}

/// DeleteRecords (KIP-107): everything below an offset goes.
#[derive(Debug, Clone, Copy)]
pub struct RecordDeletion {
    pub journal: JournalId,
    pub partition: TopicPartition,
    pub revision: u64,
    /// The offset that becomes the log start; nothing for the high watermark.
    pub before: Option<i64>,
    /// How long to wait until no broker serves records below it any more.
    pub timeout: Duration,
}

/// What a broker asks of its one tail stream to a storage node.
#[derive(Debug, Clone)]
pub enum TailCommand {
    /// Send committed batches from `offset` on, as they are committed, up to `credit` bytes.
    Subscribe { journal: JournalId, partition: TopicPartition, revision: u64, offset: i64, credit: u64 },
    /// Send this many bytes more.
    Credit { partition: TopicPartition, bytes: u64 },
    /// Also the answer to [`TailEvent::Ended`]: from now on the broker serves nothing of the partition from memory.
    Unsubscribe { partition: TopicPartition },
    /// From now on the broker serves nothing below this log start from memory. Sent for the first bounds of a
    /// subscription, and whenever they tell of another log start.
    Seen { partition: TopicPartition, log_start_offset: i64 },
}

/// What a storage node answers on a tail stream.
#[derive(Debug, Clone)]
pub enum TailEvent {
    /// The next batches of a partition: offsets contiguous with what was sent before. Without batches: the bounds moved.
    Batches { partition: TopicPartition, bounds: Bounds, batches: Vec<Batch>, aborted: Vec<AbortedTransaction> },
    /// The subscription ended. Subscribe again after `reason` was dealt with: reading from `offset` by
    /// [`Storage::read`] when it is no longer in memory, following the new leader when the epoch changed.
    Ended { partition: TopicPartition, reason: StorageError },
}

/// Why a storage node did not do it, by what the caller does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// Another node leads this journal, or the append's route is an old one: follow the cluster state, then retry.
    #[error("not the leader: {0}")]
    NotLeader(String),
    /// The partition is not of this journal as of the caller's revision: tell the client.
    #[error("unknown partition {0}")]
    UnknownPartition(TopicPartition),
    /// The client's leader epoch is older than the partition's: it refreshes its metadata.
    #[error("leader epoch is older than {0}")]
    FencedEpoch(i32),
    /// The client's leader epoch is newer than the partition's: it retries.
    #[error("leader epoch is newer than {0}")]
    UnknownEpoch(i32),
    /// The offset is below the log start or above the high watermark: the client resets.
    #[error("offset is outside {log_start_offset}..={high_watermark}")]
    OffsetOutOfRange { log_start_offset: i64, high_watermark: i64 },
    /// The batch's sequence is not the next, nor is it one of the last five batches (KIP-98): the client decides.
    #[error("sequence {got} of producer {producer_id} where {expected} was expected")]
    OutOfOrderSequence { producer_id: i64, expected: i32, got: i32 },
    /// A newer epoch of the producer has written (KIP-98): the client stops or raises its epoch.
    #[error("producer {producer_id} epoch {got} is older than {current}")]
    InvalidProducerEpoch { producer_id: i64, current: i16, got: i16 },
    /// Too few replicas are in sync: nothing was appended, retry later.
    #[error("{0} in-sync replicas are too few")]
    NotEnoughReplicas(usize),
    /// It was appended but not confirmed in time: retry, an idempotent producer's batch will not be doubled.
    #[error("timed out: {0}")]
    TimedOut(String),
    /// No room in the write-ahead log or on its disk, or too much is in flight: nothing was appended, retry later.
    #[error("no room: {0}")]
    Full(String),
    /// The node is starting, stopping, unreachable or its disk failed: retry after a while.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// Stored bytes do not match their checksum: tell the operator and the client.
    #[error("corrupt: {0}")]
    Corrupt(String),
}

/// The log itself: orders, makes durable, tiers, and gives back.
#[async_trait]
pub trait Storage: Send + Sync {
    /// Appends to a journal, answering each append in its place.
    ///
    /// A call takes its place in the order when it is made, not when its future is first polled: calls of one caller
    /// for one partition are appended in the order they were made. Dropping the future does not undo the append.
    fn append(&self, request: AppendRequest) -> BoxFuture<'static, Vec<Result<Appended, StorageError>>>;

    /// Reads committed batches that are still in the write-ahead log, or tells where they were tiered to.
    async fn read(&self, request: ReadRequest) -> Result<Read, StorageError>;

    /// Finds offsets, answering each query in its place.
    async fn list_offsets(&self, queries: Vec<OffsetQuery>) -> Vec<Result<FoundOffset, StorageError>>;

    /// Finds where leader epochs ended, answering each query in its place.
    async fn epoch_ends(&self, queries: Vec<EpochQuery>) -> Vec<Result<EpochEnd, StorageError>>;

    /// Deletes records, answering each deletion in its place with the log start there is then. The answer comes when it is
    /// durable and no broker that follows the partition serves anything below it.
    async fn delete_records(&self, deletions: Vec<RecordDeletion>) -> Vec<Result<i64, StorageError>>;

    /// A broker's tail stream. It ends with the commands, or with an error when the node cannot go on.
    fn tail(&self, commands: BoxStream<'static, TailCommand>) -> BoxStream<'static, Result<TailEvent, StorageError>>;
}
