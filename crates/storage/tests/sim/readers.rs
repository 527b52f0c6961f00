//! Readers: by offset, from wherever the records are, and at the tail; and who deletes what they read.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tidemark_model::storage::{Bounds, Read, ReadRequest, RecordDeletion, Records, TailCommand, TailEvent};
use tidemark_model::{Batch, Storage as _, StorageError, TieredRun, TopicPartition};
use tidemark_segment::testing::sim::Chance;
use tidemark_segment::{Bucket, SegmentIndex, StoreError};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::model::{Checked, Floor};
use crate::world::{JOURNAL, Life, World};

/// Bytes that a subscription may have under way.
const CREDIT: u64 = 20_000;
/// How long a reader waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Reads here and there.
#[derive(Debug)]
pub struct Reader {
    pub world: Arc<World>,
    pub chance: Chance,
}

impl Reader {
    pub async fn run(self) -> Checked {
        while !self.world.closing.is_cancelled() {
            tokio::time::sleep(self.chance.up_to(Duration::from_secs(1))).await;
            let all = self.world.partitions();
            if all.is_empty() {
                continue;
            }
            let at = self.chance.pick(&all);
            let floor = self.world.model().floor(at);
            if floor.log_start > 0 && self.chance.one_in(4) {
                self.below_log_start(at, floor).await?;
            }
            let span = (floor.high_watermark - floor.log_start) as u64;
            let mut offset = floor.log_start + self.chance.below(span + 1) as i64;
            let life = self.world.alive().await;
            let bucket = self.world.faulty_bucket(&self.chance);
            for _ in 0..1 + self.chance.below(4) {
                let Some((batches, _)) = read(&self.world, &life, &bucket, at, offset).await? else { break };
                offset = batches.last().map_or(offset, Batch::next_offset);
            }
        }
        Ok(())
    }
}

impl Reader {
    /// What was deleted is never there again.
    async fn below_log_start(&self, at: TopicPartition, floor: Floor) -> Checked {
        let offset = self.chance.below(floor.log_start as u64) as i64;
        let life = self.world.alive().await;
        match life.answer(PATIENCE, life.service.read(request(&self.world, at, offset))).await {
            Some(Ok(read)) => Err(format!("{at}: {offset} is read, below {floor:?}: {read:?}")),
            Some(Err(StorageError::OffsetOutOfRange { .. })) => {
                self.world.trace.count("reads below the log start");
                Ok(())
            }
            Some(Err(StorageError::Unavailable(_) | StorageError::NotLeader(_))) | None => Ok(()),
            Some(Err(StorageError::UnknownPartition(_))) if self.world.model().is_deleted(at) => Ok(()),
            Some(Err(error)) => Err(format!("{at}: a reader at {offset}, below {floor:?}, is told: {error}")),
        }
    }
}

fn request(world: &World, partition: TopicPartition, offset: i64) -> ReadRequest {
    let revision = world.view.borrow().revision;
    ReadRequest { journal: JOURNAL, partition, revision, offset, max_bytes: 10_000, current_leader_epoch: None }
}

/// Reads on from an offset, and checks what is there. Nothing when something failed that may.
pub async fn read(
    world: &World,
    life: &Life,
    bucket: &Bucket,
    at: TopicPartition,
    offset: i64,
) -> Checked<Option<(Vec<Batch>, Bounds)>> {
    let floor = world.model().floor(at);
    let answer = life.answer(PATIENCE, life.service.read(request(world, at, offset))).await;
    let Some(answer) = answer else { return Ok(None) };
    let Read { bounds, records, .. } = match answer {
        Ok(read) => read,
        Err(error) => {
            world.trace.note(format_args!("reader: {at} at {offset}: {error}"));
            return match error {
                StorageError::Unavailable(_) | StorageError::NotLeader(_) => Ok(None),
                StorageError::UnknownPartition(_) if world.model().is_deleted(at) => Ok(None),
                // It moved since the reader was told of it.
                StorageError::OffsetOutOfRange { log_start_offset, .. } if offset < log_start_offset => {
                    world.model().log_start(at, log_start_offset).map(|()| None)
                }
                error => Err(format!("{at}: a reader at {offset}, with {floor:?}, is told: {error}")),
            };
        }
    };
    world.model().bounds(at, floor, bounds)?;
    let batches = match records {
        Records::Batches(batches) => batches,
        Records::Tiered(runs) => {
            let read = life.answer(PATIENCE, read_runs(bucket, at, offset, &runs)).await;
            match read {
                None => return Ok(None),
                Some(Ok(batches)) if batches.is_empty() => {
                    return Err(format!("{at}: the runs for offset {offset} do not have it: {runs:?}"));
                }
                Some(Ok(batches)) => batches,
                Some(Err(error)) => {
                    world.trace.note(format_args!("reader: {at} at {offset}: {error}"));
                    return match error {
                        StoreError::Unavailable(_) => Ok(None),
                        // It was deleted since, with the partition or because it was merged into another.
                        StoreError::NotFound(_) if !still_named(world, life, at, offset, &runs).await => Ok(None),
                        error => Err(format!("{at}: a reader of {runs:?} is told: {error}")),
                    };
                }
            }
        }
    };
    if batches.is_empty() && offset < bounds.high_watermark {
        return Err(format!("{at}: nothing at {offset}, with {bounds:?}"));
    }
    if !batches.is_empty() {
        world.model().read(at, offset, &batches)?;
        world.trace.count("reads");
    }
    let (first, last) = (batches.first().map(|batch| batch.base_offset), batches.last().map(Batch::last_offset));
    world.trace.note(format_args!("reader: {at} at {offset}: {first:?} to {last:?}"));
    Ok(Some((batches, bounds)))
}

/// Whether a run that a reader could not find is still said to be there.
async fn still_named(world: &World, life: &Life, at: TopicPartition, offset: i64, runs: &[TieredRun]) -> bool {
    match life.answer(PATIENCE, life.service.read(request(world, at, offset))).await {
        Some(Ok(Read { records: Records::Tiered(now), .. })) => now.first() == runs.first(),
        _ => false,
    }
}

async fn read_runs(
    bucket: &Bucket,
    at: TopicPartition,
    offset: i64,
    runs: &[TieredRun],
) -> Result<Vec<Batch>, StoreError> {
    let mut batches: Vec<Batch> = Vec::new();
    for run in runs {
        let index = SegmentIndex::read(bucket, &run.object, run.object_size).await?;
        let lacks = |what: &str| StoreError::Corrupt { key: run.object.clone(), why: format!("it lacks {what}") };
        let indexed = index.run(at).ok_or_else(|| lacks("the partition"))?;
        let span = indexed.blocks_span(0..indexed.blocks.len()).ok_or_else(|| lacks("blocks"))?;
        let bytes = bucket.get_range(&run.object, span.bytes.clone()).await?;
        let read = indexed.decode(&span, &bytes).map_err(|error| lacks(&error.to_string()))?;
        let next = batches.last().map_or(offset, Batch::next_offset);
        batches.extend(read.into_iter().filter(|batch| batch.last_offset() >= next));
    }
    Ok(batches)
}

/// Follows a partition, as a broker does.
#[derive(Debug)]
pub struct Tail {
    pub world: Arc<World>,
    pub chance: Chance,
}

impl Tail {
    pub async fn run(self) -> Checked {
        while !self.world.closing.is_cancelled() {
            tokio::time::sleep(self.chance.up_to(Duration::from_millis(500))).await;
            let all = self.world.partitions();
            if !all.is_empty() {
                let life = self.world.alive().await;
                self.follow(&life, self.chance.pick(&all)).await?;
            }
        }
        Ok(())
    }

    async fn follow(&self, life: &Life, at: TopicPartition) -> Checked {
        let floor = self.world.model().floor(at);
        // At the end, or behind the memory.
        let behind = floor.high_watermark.saturating_sub(floor.log_start) as u64;
        let mut offset =
            floor.high_watermark - if self.chance.one_in(2) { self.chance.below(behind + 1) as i64 } else { 0 };
        let (commands, receiver) = mpsc::unbounded_channel();
        let commands_in = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
        let mut events = life.service.tail(commands_in.boxed());
        let revision = self.world.view.borrow().revision;
        let subscribe = TailCommand::Subscribe { journal: JOURNAL, partition: at, revision, offset, credit: CREDIT };
        // The stream holds the receiver.
        let _ = commands.send(subscribe);
        let until = self.chance.up_to(Duration::from_secs(10));
        let mut seen = None;
        loop {
            let floor = self.world.model().floor(at);
            let event = tokio::select! {
                biased;
                () = self.world.closing.cancelled() => return Ok(()),
                event = life.answer(until, events.next()) => event,
            };
            match event {
                None | Some(None | Some(Err(_))) => return Ok(()),
                Some(Some(Ok(TailEvent::Ended { reason, .. }))) => {
                    self.world.trace.note(format_args!("tail: {at} at {offset}: ended: {reason}"));
                    return Ok(());
                }
                Some(Some(Ok(TailEvent::Batches { bounds, batches, .. }))) => {
                    // What was sent before another reader learned more comes after it.
                    let floor = Floor { high_watermark: offset, ..floor };
                    self.world.model().bounds(at, floor, bounds)?;
                    if seen != Some(bounds.log_start_offset) {
                        // DeleteRecords waits for it.
                        sleep(self.chance.up_to(Duration::from_millis(50))).await;
                        let log_start_offset = bounds.log_start_offset;
                        let _ = commands.send(TailCommand::Seen { partition: at, log_start_offset });
                        seen = Some(log_start_offset);
                    }
                    if let Some(last) = batches.last() {
                        self.world.model().read(at, offset, &batches)?;
                        offset = last.next_offset();
                        self.world.trace.count("tail events");
                        let bytes = batches.iter().map(Batch::wire_len).sum::<usize>() as u64;
                        let _ = commands.send(TailCommand::Credit { partition: at, bytes });
                    }
                    self.world.trace.note(format_args!("tail: {at} to {offset}"));
                }
            }
        }
    }
}

/// Deletes records.
#[derive(Debug)]
pub struct Deleter {
    pub world: Arc<World>,
    pub chance: Chance,
}

impl Deleter {
    pub async fn run(self) -> Checked {
        while !self.world.closing.is_cancelled() {
            sleep(self.chance.up_to(Duration::from_secs(6))).await;
            let all = self.world.partitions();
            if !all.is_empty() {
                self.delete(self.chance.pick(&all)).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, at: TopicPartition) -> Checked {
        let floor = self.world.model().floor(at);
        let before = self.chance.below(floor.high_watermark as u64 + 1) as i64;
        // To the end, wherever that is when it comes there.
        let all = self.chance.one_in(8);
        self.world.model().asks_for_log_start(at, if all { i64::MAX } else { before });
        let life = self.world.alive().await;
        let deletion = RecordDeletion {
            journal: JOURNAL,
            partition: at,
            revision: self.world.view.borrow().revision,
            before: (!all).then_some(before),
            timeout: Duration::from_secs(2),
        };
        let answer = life.answer(PATIENCE, life.service.delete_records(vec![deletion])).await;
        let answer = answer.and_then(|mut all| all.pop());
        self.world.trace.note(format_args!("deleter: {at} before {before}: {answer:?}"));
        match answer {
            Some(Ok(log_start)) if log_start < before.max(floor.log_start) => {
                Err(format!("{at}: deleted before {before}, and it starts at {log_start}"))
            }
            Some(Ok(log_start)) => {
                self.world.trace.count("deletions of records");
                self.world.model().log_start(at, log_start)
            }
            Some(Err(StorageError::UnknownPartition(_))) if self.world.model().is_deleted(at) => Ok(()),
            Some(Err(
                StorageError::Unavailable(_)
                | StorageError::NotLeader(_)
                | StorageError::TimedOut(_)
                | StorageError::Full(_),
            ))
            | None => Ok(()),
            Some(Err(error)) => Err(format!("{at}: deleting before {before}, with {floor:?}: {error}")),
        }
    }
}
