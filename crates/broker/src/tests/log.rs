//! A storage node whose log is in memory: what it acknowledges is committed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use tidemark_model::storage::{
    AppendRequest, Appended, Bounds, EpochEnd, EpochQuery, FoundOffset, OffsetQuery, Read, ReadRequest, RecordDeletion,
    Records, TailCommand, TailEvent,
};
use tidemark_model::{Batch, JournalId, Storage, StorageError, TieredRun, TopicPartition};
use tidemark_segment::{Bucket, SegmentName, SegmentWriter};
use tokio::sync::{mpsc, watch};

pub(super) struct Log {
    state: Arc<Mutex<State>>,
    /// Raised at every subscription.
    subscriptions: watch::Sender<BTreeMap<TopicPartition, u64>>,
    seen: Mutex<BTreeMap<TopicPartition, u64>>,
}

type Events = mpsc::UnboundedSender<Result<TailEvent, StorageError>>;

struct State {
    epoch: i32,
    batches: BTreeMap<TopicPartition, Vec<Batch>>,
    log_starts: BTreeMap<TopicPartition, i64>,
    appended: Vec<TopicPartition>,
    reads: usize,
    commands: Vec<TailCommand>,
    /// What was tiered, by partition: reads below its end are sent there.
    tiered: BTreeMap<TopicPartition, TieredRun>,
    subscribers: Vec<(TopicPartition, i64, Events)>,
    /// Subscriptions get nothing.
    held: bool,
}

/// The records field of a Produce request: one batch of one record of `size` bytes that nobody looks into.
pub(super) fn records(size: usize) -> Bytes {
    let mut wire = BytesMut::new();
    wire.put_i64(0);
    wire.put_i32(61 - 12 + size as i32);
    wire.put_i32(-1);
    wire.put_u8(2);
    wire.put_u32(0);
    wire.put_i16(0);
    wire.put_i32(0);
    wire.put_i64(1_000_000);
    wire.put_i64(1_000_000);
    wire.put_i64(-1);
    wire.put_i16(-1);
    wire.put_i32(-1);
    wire.put_i32(1);
    wire.put_bytes(7, size);
    let crc = crc32c::crc32c(&wire[21..]);
    wire[17..21].copy_from_slice(&crc.to_be_bytes());
    wire.freeze()
}

impl State {
    fn end(&self, at: TopicPartition) -> i64 {
        self.batches.get(&at).and_then(|b| b.last()).map_or(0, Batch::next_offset)
    }

    fn bounds(&self, at: TopicPartition) -> Bounds {
        let end = self.end(at);
        let log_start_offset = self.log_starts.get(&at).copied().unwrap_or(0);
        Bounds { leader_epoch: self.epoch, log_start_offset, high_watermark: end, last_stable_offset: end }
    }

    fn from(&self, at: TopicPartition, offset: i64) -> Vec<Batch> {
        let all = self.batches.get(&at).map(Vec::as_slice).unwrap_or_default();
        all.iter().filter(|b| b.last_offset() >= offset).cloned().collect()
    }

    fn publish(&mut self, at: TopicPartition) {
        let (bounds, end) = (self.bounds(at), self.end(at));
        for n in 0..self.subscribers.len() {
            let (partition, from, _) = self.subscribers[n];
            if partition == at && from < end {
                let batches = self.from(at, from);
                self.subscribers[n].1 = end;
                let _ = self.subscribers[n].2.send(Ok(TailEvent::Batches {
                    partition: at,
                    bounds,
                    batches,
                    aborted: vec![],
                }));
            }
        }
    }
}

impl Log {
    pub(super) fn new(epoch: i32) -> Arc<Self> {
        let state = State {
            epoch,
            batches: BTreeMap::new(),
            log_starts: BTreeMap::new(),
            appended: vec![],
            reads: 0,
            commands: vec![],
            tiered: BTreeMap::new(),
            subscribers: vec![],
            held: false,
        };
        let subscriptions = watch::channel(BTreeMap::new()).0;
        Arc::new(Self { state: Arc::new(Mutex::new(state)), subscriptions, seen: Mutex::default() })
    }

    pub(super) fn reads(&self) -> usize {
        self.state.lock().unwrap().reads
    }

    pub(super) fn appended(&self) -> Vec<TopicPartition> {
        self.state.lock().unwrap().appended.clone()
    }

    pub(super) fn tail_commands(&self) -> Vec<TailCommand> {
        self.state.lock().unwrap().commands.clone()
    }

    pub(super) fn batches(&self, at: TopicPartition) -> Vec<Batch> {
        self.state.lock().unwrap().from(at, 0)
    }

    pub(super) fn raise_epoch(&self, epoch: i32) {
        self.state.lock().unwrap().epoch = epoch;
    }

    /// Tiers all that is there.
    pub(super) async fn tier(&self, bucket: &Bucket, at: TopicPartition) {
        let batches = self.state.lock().unwrap().from(at, 0);
        let name = SegmentName { epoch: 1, first_index: 1, last_index: 9, attempt: 0 };
        let mut writer = SegmentWriter::new(JournalId(1), name);
        writer.run(at, batches, vec![]).unwrap();
        let segment = writer.finish().unwrap();
        bucket.put_new("segment", segment.chunks.clone()).await.unwrap();
        let run = segment.tiered_runs("segment").remove(0);
        self.state.lock().unwrap().tiered.insert(at, run);
    }

    /// Moves the log start and tells those who follow.
    pub(super) fn delete_before(&self, at: TopicPartition, log_start: i64) {
        let mut state = self.state.lock().unwrap();
        state.log_starts.insert(at, log_start);
        let bounds = state.bounds(at);
        for (_, _, subscriber) in state.subscribers.iter().filter(|(partition, _, _)| *partition == at) {
            let news = TailEvent::Batches { partition: at, bounds, batches: vec![], aborted: vec![] };
            let _ = subscriber.send(Ok(news));
        }
    }

    /// Ends the subscriptions there are, though their readers do not know yet.
    pub(super) fn end_subscriptions(&self) {
        for (partition, _, subscriber) in self.state.lock().unwrap().subscribers.drain(..) {
            let reason = StorageError::Unavailable("not in memory any more".into());
            let _ = subscriber.send(Ok(TailEvent::Ended { partition, reason }));
        }
    }

    /// Waits until a command was sent.
    pub(super) async fn told(&self, is_it: impl Fn(&TailCommand) -> bool) {
        while !self.tail_commands().iter().any(&is_it) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    /// Sends nothing more to any subscription, there is or will be, and leaves the streams open.
    pub(super) fn hold_tail(&self) {
        let mut state = self.state.lock().unwrap();
        state.subscribers.clear();
        state.held = true;
    }

    pub(super) fn cut_streams(&self) {
        for (_, _, subscriber) in self.state.lock().unwrap().subscribers.drain(..) {
            let _ = subscriber.send(Err(StorageError::Unavailable("cut".into())));
        }
    }

    /// Waits for a subscription that no earlier call has returned for.
    pub(super) async fn subscribed(&self, at: TopicPartition) {
        let seen = self.seen.lock().unwrap().get(&at).copied().unwrap_or(0);
        let mut subscriptions = self.subscriptions.subscribe();
        let now = subscriptions.wait_for(|all| all.get(&at).is_some_and(|n| *n > seen)).await.unwrap()[&at];
        self.seen.lock().unwrap().insert(at, now);
    }
}

#[async_trait]
impl Storage for Log {
    fn append(&self, request: AppendRequest) -> BoxFuture<'static, Vec<Result<Appended, StorageError>>> {
        let mut state = self.state.lock().unwrap();
        let epoch = state.epoch;
        let answers = request.appends.into_iter().map(|append| {
            let base_offset = state.end(append.partition);
            let batch = Batch::from_body(base_offset, epoch, append.batch.body().clone()).unwrap();
            state.batches.entry(append.partition).or_default().push(batch);
            state.appended.push(append.partition);
            state.publish(append.partition);
            Ok(Appended { base_offset, log_append_time_ms: -1, log_start_offset: 0 })
        });
        futures::future::ready(answers.collect()).boxed()
    }

    async fn read(&self, request: ReadRequest) -> Result<Read, StorageError> {
        // Others may ask meanwhile.
        tokio::task::yield_now().await;
        let mut state = self.state.lock().unwrap();
        state.reads += 1;
        let bounds = state.bounds(request.partition);
        let Bounds { log_start_offset, high_watermark, .. } = bounds;
        if !(log_start_offset..=high_watermark).contains(&request.offset) {
            return Err(StorageError::OffsetOutOfRange { log_start_offset, high_watermark });
        }
        let records = match state.tiered.get(&request.partition) {
            Some(run) if request.offset <= run.last_offset => Records::Tiered(vec![run.clone()]),
            Some(_) | None => {
                let mut bytes = 0;
                let mut batches = state.from(request.partition, request.offset);
                batches.retain(|batch| {
                    let first = bytes == 0;
                    bytes += batch.wire_len();
                    first || bytes <= request.max_bytes
                });
                Records::Batches(batches)
            }
        };
        Ok(Read { bounds, records, aborted: vec![] })
    }

    async fn list_offsets(&self, _: Vec<OffsetQuery>) -> Vec<Result<FoundOffset, StorageError>> {
        vec![]
    }

    async fn epoch_ends(&self, _: Vec<EpochQuery>) -> Vec<Result<EpochEnd, StorageError>> {
        vec![]
    }

    async fn delete_records(&self, _: Vec<RecordDeletion>) -> Vec<Result<i64, StorageError>> {
        vec![]
    }

    fn tail(&self, commands: BoxStream<'static, TailCommand>) -> BoxStream<'static, Result<TailEvent, StorageError>> {
        let (events, receiver) = mpsc::unbounded_channel();
        tokio::spawn(take(self.state.clone(), self.subscriptions.clone(), commands, events));
        events_of(receiver)
    }
}

async fn take(
    state: Arc<Mutex<State>>,
    subscriptions: watch::Sender<BTreeMap<TopicPartition, u64>>,
    mut commands: BoxStream<'static, TailCommand>,
    events: Events,
) {
    while let Some(command) = commands.next().await {
        let mut state = state.lock().unwrap();
        state.commands.push(command.clone());
        match command {
            TailCommand::Subscribe { partition, offset, .. } => {
                if !state.held {
                    state.subscribers.push((partition, offset, events.clone()));
                    state.publish(partition);
                }
                subscriptions.send_modify(|all| *all.entry(partition).or_insert(0) += 1);
            }
            TailCommand::Credit { .. } | TailCommand::Seen { .. } => {}
            TailCommand::Unsubscribe { partition } => {
                let of_this = |at: &TopicPartition, to: &Events| *at == partition && to.same_channel(&events);
                state.subscribers.retain(|(at, _, to)| !of_this(at, to));
            }
        }
    }
}

fn events_of(
    receiver: mpsc::UnboundedReceiver<Result<TailEvent, StorageError>>,
) -> BoxStream<'static, Result<TailEvent, StorageError>> {
    futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) }).boxed()
}
