//! A broker with logs in memory, whose calls a test can hold back and make fail.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tidemark_model::broker::{
    FetchPartition, FetchRequest, Fetched, PartitionEpochQuery, PartitionOffsetQuery, PartitionRecordDeletion,
    ProduceRequest,
};
use tidemark_model::storage::{Appended, EpochEnd, FoundOffset, OffsetSpec};
use tidemark_model::{Batch, Broker, BrokerError, StorageError, TopicPartition};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

/// The leader epoch of every partition.
pub(crate) const EPOCH: i32 = 5;

pub(crate) struct FakeBroker {
    state: Arc<Mutex<State>>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    logs: BTreeMap<TopicPartition, Vec<Batch>>,
    failures: BTreeMap<TopicPartition, BrokerError>,
    gates: VecDeque<oneshot::Receiver<()>>,
    /// Appended by a call that is held back: nobody sees them yet.
    uncommitted: BTreeSet<(TopicPartition, i64)>,
    produced: Vec<ProduceRequest>,
    fetches: Vec<FetchRequest>,
    /// The span in which each call was made.
    spans: Vec<Option<&'static str>>,
}

impl Default for FakeBroker {
    fn default() -> Self {
        Self { state: Arc::default(), changes: watch::channel(0).0 }
    }
}

impl FakeBroker {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// The next produce without a gate is answered when what this returns is dropped or sent to.
    pub(crate) fn hold_produce(&self) -> oneshot::Sender<()> {
        let (sender, gate) = oneshot::channel();
        self.state().gates.push_back(gate);
        sender
    }

    /// Every call for a partition fails from now on.
    pub(crate) fn fail(&self, at: TopicPartition, error: impl Into<BrokerError>) {
        self.state().failures.insert(at, error.into());
        self.changed();
    }

    /// Appends a batch past every client.
    pub(crate) fn append(&self, at: TopicPartition, wire: bytes::Bytes) -> i64 {
        let offset = self.state().append(at, wire);
        self.changed();
        offset
    }

    pub(crate) fn produced(&self) -> Vec<ProduceRequest> {
        self.state().produced.clone()
    }

    pub(crate) fn fetches(&self) -> Vec<FetchRequest> {
        self.state().fetches.clone()
    }

    pub(crate) fn spans(&self) -> Vec<Option<&'static str>> {
        self.state().spans.clone()
    }

    /// Waits until something that was called makes `is_so` true.
    pub(crate) async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        self.changes.subscribe().wait_for(|_| is_so(self)).await.unwrap();
    }
}

impl State {
    fn end(&self, at: TopicPartition) -> i64 {
        self.logs.get(&at).and_then(|log| log.last()).map_or(0, Batch::next_offset)
    }

    fn high_watermark(&self, at: TopicPartition) -> i64 {
        let first = self.uncommitted.range((at, 0)..=(at, i64::MAX)).next();
        first.map_or_else(|| self.end(at), |(_, offset)| *offset)
    }

    fn append(&mut self, at: TopicPartition, mut wire: bytes::Bytes) -> i64 {
        let mut batch = Batch::split_from(&mut wire).unwrap();
        batch.base_offset = self.end(at);
        batch.leader_epoch = EPOCH;
        let offset = batch.base_offset;
        self.logs.entry(at).or_default().push(batch);
        offset
    }

    fn check(&self, at: TopicPartition) -> Result<(), BrokerError> {
        self.failures.get(&at).cloned().map_or(Ok(()), Err)
    }

    fn read(&self, asked: &FetchPartition, left: &mut usize, first: &mut bool) -> Result<Fetched, BrokerError> {
        self.check(asked.partition)?;
        let high_watermark = self.high_watermark(asked.partition);
        if !(0..=high_watermark).contains(&asked.offset) {
            return Err(StorageError::OffsetOutOfRange { log_start_offset: 0, high_watermark }.into());
        }
        let log = self.logs.get(&asked.partition).into_iter().flatten();
        let mut batches = Vec::new();
        for batch in log.filter(|b| b.next_offset() > asked.offset && b.next_offset() <= high_watermark) {
            if batch.wire_len() > *left && !*first {
                break;
            }
            *left = left.saturating_sub(batch.wire_len());
            *first = false;
            batches.push(batch.clone());
        }
        Ok(Fetched {
            leader_epoch: EPOCH,
            log_start_offset: 0,
            high_watermark,
            last_stable_offset: high_watermark,
            aborted: Vec::new(),
            diverging: None,
            batches,
        })
    }

    fn read_all(&self, request: &FetchRequest) -> Vec<Result<Fetched, BrokerError>> {
        let (mut left, mut first) = (request.max_bytes, true);
        request.partitions.iter().map(|asked| self.read(asked, &mut left, &mut first)).collect()
    }
}

fn span() -> Option<&'static str> {
    tracing::Span::current().metadata().map(tracing::Metadata::name)
}

#[async_trait]
impl Broker for FakeBroker {
    fn produce(&self, request: ProduceRequest) -> BoxFuture<'static, Vec<Result<Appended, BrokerError>>> {
        let mut state = self.state();
        let results: Vec<_> = request
            .partitions
            .iter()
            .map(|partition| {
                state.check(partition.partition)?;
                let base_offset = state.append(partition.partition, partition.records.clone());
                Ok(Appended { base_offset, log_append_time_ms: -1, log_start_offset: 0 })
            })
            .collect();
        let appended = request.partitions.iter().zip(&results);
        let held: Vec<(TopicPartition, i64)> =
            appended.filter_map(|(p, r)| Some((p.partition, r.as_ref().ok()?.base_offset))).collect();
        state.spans.push(span());
        state.produced.push(request);
        let gate = state.gates.pop_front();
        if gate.is_some() {
            state.uncommitted.extend(held.iter().copied());
        }
        drop(state);
        self.changed();
        let state = Arc::clone(&self.state);
        async move {
            if let Some(gate) = gate {
                let _ = gate.await;
                state.lock().unwrap().uncommitted.retain(|batch| !held.contains(batch));
            }
            results
        }
        .boxed()
    }

    async fn fetch(&self, request: FetchRequest) -> Vec<Result<Fetched, BrokerError>> {
        let deadline = Instant::now() + request.max_wait;
        let mut changes = self.changes.subscribe();
        self.state().spans.push(span());
        self.state().fetches.push(request.clone());
        self.changed();
        loop {
            changes.borrow_and_update();
            let results = self.state().read_all(&request);
            let bytes: usize = results.iter().flatten().flat_map(|f| &f.batches).map(Batch::wire_len).sum();
            let enough = bytes >= request.min_bytes || results.iter().any(Result::is_err);
            if enough || request.max_wait == Duration::ZERO {
                return results;
            }
            if timeout_at(deadline, changes.changed()).await.is_err() {
                return results;
            }
        }
    }

    async fn list_offsets(&self, queries: Vec<PartitionOffsetQuery>) -> Vec<Result<FoundOffset, BrokerError>> {
        let state = self.state();
        let find = |query: &PartitionOffsetQuery| {
            state.check(query.partition)?;
            let (offset, timestamp) = match query.spec {
                OffsetSpec::Latest | OffsetSpec::LastStable => (state.high_watermark(query.partition), -1),
                OffsetSpec::Timestamp(timestamp) => (1, timestamp),
                _ => (0, -1),
            };
            Ok(FoundOffset { leader_epoch: EPOCH, offset, timestamp })
        };
        queries.iter().map(find).collect()
    }

    async fn epoch_ends(&self, queries: Vec<PartitionEpochQuery>) -> Vec<Result<EpochEnd, BrokerError>> {
        let state = self.state();
        let end = |query: &PartitionEpochQuery| {
            state.check(query.partition)?;
            Ok(EpochEnd { leader_epoch: query.leader_epoch, end_offset: state.end(query.partition) })
        };
        queries.iter().map(end).collect()
    }

    async fn delete_records(&self, deletions: Vec<PartitionRecordDeletion>) -> Vec<Result<i64, BrokerError>> {
        let state = self.state();
        let delete = |deletion: &PartitionRecordDeletion| {
            state.check(deletion.partition)?;
            let high_watermark = state.high_watermark(deletion.partition);
            let before = deletion.before.unwrap_or(high_watermark);
            if !(0..=high_watermark).contains(&before) {
                return Err(StorageError::OffsetOutOfRange { log_start_offset: 0, high_watermark }.into());
            }
            Ok(before)
        };
        deletions.iter().map(delete).collect()
    }
}
