//! Producers: idempotent ones, which send a batch again until they know that it is there; and plain ones, which do not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tidemark_model::storage::{Acks, Append, AppendRequest, Appended};
use tidemark_model::{Batch, Storage as _, StorageError, TopicPartition};
use tidemark_segment::testing::sim::Chance;

use crate::batches::{NOBODY, Producer, batch, number};
use crate::model::Checked;
use crate::world::{JOURNAL, Life, World};

/// Batches that a producer has under way at most, of one partition.
const IN_FLIGHT: usize = 5;
/// Batches that the storage remembers of a producer.
const REMEMBERED: usize = 5;

type Answer = Option<Result<Appended, StorageError>>;

/// An idempotent producer of one partition at a time.
#[derive(Debug)]
pub struct Idempotent {
    world: Arc<World>,
    chance: Chance,
    name: u32,
    epoch: i16,
    sequence: i32,
    at: Option<TopicPartition>,
    /// Nothing of it is acknowledged in this partition. There it may begin anywhere, as in Kafka: also with its second
    /// batch, where the first was refused.
    unknown: bool,
    /// The batches from the first that is not acknowledged on, with the offsets of those that are.
    window: VecDeque<(Batch, Option<i64>)>,
    /// The last that were acknowledged, with their offsets.
    recent: VecDeque<(Batch, i64)>,
}

impl Idempotent {
    pub fn new(world: Arc<World>, chance: Chance, name: u32) -> Self {
        // Some soon come to where sequences begin anew.
        let sequence = if chance.one_in(4) { i32::MAX - 20 } else { 0 };
        let (window, recent) = (VecDeque::new(), VecDeque::new());
        Self { world, chance, name, epoch: 0, sequence, at: None, unknown: true, window, recent }
    }

    pub async fn run(mut self) -> Checked {
        loop {
            let closing = self.world.closing.is_cancelled();
            if closing && self.window.is_empty() {
                return Ok(());
            }
            if let Some(at) = self.choose() {
                if !closing {
                    self.make(at);
                }
                let life = self.world.alive().await;
                self.round(&life, at).await?;
            }
            tokio::time::sleep(self.chance.up_to(Duration::from_millis(600))).await;
        }
    }

    /// The partition to produce to; another one when its topic is gone.
    fn choose(&mut self) -> Option<TopicPartition> {
        if self.at.is_none_or(|at| self.world.model().is_deleted(at)) {
            let all = self.world.partitions();
            self.at = (!all.is_empty()).then(|| self.chance.pick(&all));
            // In another partition it is a producer that was never seen.
            self.unknown = true;
            self.window.clear();
            self.recent.clear();
            self.epoch += 1;
            self.sequence = 0;
        }
        self.at
    }

    fn make(&mut self, at: TopicPartition) {
        if self.window.is_empty() && self.chance.one_in(20) {
            self.epoch += 1;
            self.sequence = 0;
            self.recent.clear();
        }
        let in_flight = if self.unknown { 1 } else { IN_FLIGHT };
        let wanted = self.chance.below(in_flight as u64 + 1) as usize;
        while self.window.len() < wanted {
            let count = 1 + self.chance.below(5) as i32;
            let made = made(&self.world, &self.chance, self.producer(), count);
            self.world.model().sends(at, self.name, &made);
            self.sequence = (i64::from(self.sequence) + i64::from(count)).rem_euclid(1 << 31) as i32;
            self.window.push_back((made, None));
        }
    }

    fn producer(&self) -> Producer {
        Producer { id: 1_000 + i64::from(self.name), epoch: self.epoch, sequence: self.sequence }
    }

    /// Sends everything that is not acknowledged, in order, and hears what becomes of it.
    async fn round(&mut self, life: &Life, at: TopicPartition) -> Checked {
        let again = self.sent_again();
        let mut under_way = Vec::new();
        if let Some((batch, offset)) = again {
            under_way.push((None, Some(offset), send_one(&self.world, life, at, batch)));
        }
        for (n, (batch, _)) in self.window.iter().enumerate().filter(|(_, (_, offset))| offset.is_none()) {
            under_way.push((Some(n), None, send_one(&self.world, life, at, batch.clone())));
            if self.chance.one_in(4) {
                tokio::time::sleep(self.chance.up_to(Duration::from_millis(5))).await;
            }
        }
        let patience = patience(&self.chance);
        let mut known = Vec::new();
        let mut sure = true;
        for (n, offset, answer) in under_way {
            let answer: Answer = life.answer(patience, answer).await.and_then(|mut all| all.pop());
            match (answer, offset) {
                (Some(Ok(appended)), Some(offset)) if appended.base_offset != offset => {
                    return Err(format!("{at}: a duplicate of the batch at {offset} got {}", appended.base_offset));
                }
                (Some(Ok(appended)), _) => known.extend(n.map(|n| (n, appended.base_offset))),
                (Some(Err(error)), _) => {
                    self.may_refuse(at, &error, n.is_some() && !sure)?;
                    sure = false;
                }
                (None, _) => sure = false,
            }
        }
        for (n, offset) in known {
            let (batch, acknowledged) = &mut self.window[n];
            *acknowledged = Some(offset);
            self.unknown = false;
            self.world.model().acknowledged(at, batch, offset)?;
            self.world.trace.note(format_args!("producer {}: {:?} at {offset}", self.name, number(batch.body())));
            self.world.trace.count("acknowledged");
        }
        while let Some((batch, Some(offset))) = self.window.front() {
            self.recent.push_back((batch.clone(), *offset));
            self.window.pop_front();
        }
        while self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
        Ok(())
    }

    /// A batch that was acknowledged, and is still among the last however many of those after it are there.
    fn sent_again(&self) -> Option<(Batch, i64)> {
        let remembered = REMEMBERED.saturating_sub(self.window.len()).min(self.recent.len());
        let at = self.recent.len() - remembered + self.chance.below(remembered as u64) as usize;
        self.recent.get(at).filter(|_| self.chance.one_in(5)).cloned()
    }

    /// Whether the storage may say so. `after_failure`: a batch that comes before this one was not appended, perhaps.
    fn may_refuse(&self, at: TopicPartition, error: &StorageError, after_failure: bool) -> Checked {
        self.world.trace.note(format_args!("producer {}: {error}", self.name));
        match error {
            StorageError::Full(_) | StorageError::Unavailable(_) | StorageError::NotLeader(_) => Ok(()),
            StorageError::OutOfOrderSequence { .. } if after_failure => Ok(()),
            StorageError::UnknownPartition(_) if self.world.model().is_deleted(at) => Ok(()),
            error => Err(format!("{at}: producer {} is told: {error}", self.name)),
        }
    }
}

/// A producer that does not care, of all partitions.
#[derive(Debug)]
pub struct Plain {
    world: Arc<World>,
    chance: Chance,
    name: u32,
}

impl Plain {
    pub fn new(world: Arc<World>, chance: Chance, name: u32) -> Self {
        Self { world, chance, name }
    }

    pub async fn run(self) -> Checked {
        while !self.world.closing.is_cancelled() {
            let life = self.world.alive().await;
            self.round(&life).await?;
            tokio::time::sleep(self.chance.up_to(Duration::from_millis(800))).await;
        }
        Ok(())
    }

    async fn round(&self, life: &Life) -> Checked {
        let mut under_way = Vec::new();
        for _ in 0..1 + self.chance.below(4) {
            let all = self.world.partitions();
            if all.is_empty() {
                return Ok(());
            }
            let appends: Vec<(TopicPartition, Batch)> = (0..1 + self.chance.below(3))
                .map(|_| {
                    let at = self.chance.pick(&all);
                    let made = made(&self.world, &self.chance, NOBODY, 1 + self.chance.below(10) as i32);
                    self.world.model().sends(at, self.name, &made);
                    (at, made)
                })
                .collect();
            under_way.push((appends.clone(), send(&self.world, life, appends)));
        }
        let patience = patience(&self.chance);
        for (appends, answer) in under_way {
            let Some(answers) = life.answer(patience, answer).await else { continue };
            for ((at, batch), answer) in appends.iter().zip(answers) {
                self.answered(*at, batch, answer)?;
            }
        }
        Ok(())
    }

    fn answered(&self, at: TopicPartition, batch: &Batch, answer: Result<Appended, StorageError>) -> Checked {
        let number = number(batch.body()).unwrap_or_default();
        match answer {
            Ok(appended) => {
                self.world.trace.note(format_args!("producer {}: {number} at {}", self.name, appended.base_offset));
                self.world.trace.count("acknowledged");
                self.world.model().acknowledged(at, batch, appended.base_offset)
            }
            Err(error) => {
                self.world.trace.note(format_args!("producer {}: {number}: {error}", self.name));
                match error {
                    StorageError::Full(_) => {
                        self.world.trace.count("refused for want of room");
                        self.world.model().refused(at, batch)
                    }
                    StorageError::Unavailable(_) | StorageError::NotLeader(_) => Ok(()),
                    StorageError::UnknownPartition(_) if self.world.model().is_deleted(at) => Ok(()),
                    error => Err(format!("{at}: producer {} is told: {error}", self.name)),
                }
            }
        }
    }
}

fn made(world: &World, chance: &Chance, producer: Producer, count: i32) -> Batch {
    let size = chance.pick(&[10, 100, 100, 1_000, 4_000]);
    let number = world.model().next_number();
    batch(number, producer, count, world.trace.now_ms(), size)
}

fn patience(chance: &Chance) -> Duration {
    // Some are in a hurry, and ask again while the first is under way.
    if chance.one_in(4) { chance.up_to(Duration::from_millis(30)) } else { Duration::from_secs(10) }
}

/// Called at once, whether or not its answer is waited for.
fn send_one(
    world: &World,
    life: &Life,
    at: TopicPartition,
    batch: Batch,
) -> impl Future<Output = Vec<Result<Appended, StorageError>>> + use<> {
    send(world, life, vec![(at, batch)])
}

fn send(
    world: &World,
    life: &Life,
    appends: Vec<(TopicPartition, Batch)>,
) -> impl Future<Output = Vec<Result<Appended, StorageError>>> + use<> {
    life.service.append(AppendRequest {
        journal: JOURNAL,
        route: world.route(),
        acks: Acks::All,
        timeout: Duration::from_secs(30),
        appends: appends.into_iter().map(|(partition, batch)| Append { partition, batch }).collect(),
    })
}
