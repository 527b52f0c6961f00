//! Fetch: gathers what is there, and waits for more when that is too little.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::StreamExt as _;
use tidemark_model::broker::{FetchPartition, FetchRequest, Fetched, Isolation};
use tidemark_model::storage::{AbortedTransaction, Bounds, EpochEnd, EpochQuery, ReadRequest, Records};
use tidemark_model::{Batch, BrokerError, ClusterState, StorageError};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cold::Cold;
use crate::leader::Leader;
use crate::locate::{Located, Locator};
use crate::metrics;
use crate::tail::{Found, OVERDUE, Tail, Version};

/// Leaders and the object store are asked for this many partitions of a fetch at once.
const READS_AT_ONCE: usize = 16;

/// A read of less costs the leader about as much as one of this.
const SMALLEST_SHARE: usize = 256 << 10;

/// How long a fetch waits before it asks again for a partition that nothing will wake it for: one whose tail stream
/// broke just now.
const ASK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub(crate) struct Fetch {
    pub(crate) locator: Locator,
    pub(crate) tail: Arc<Tail>,
    /// The memory of readers that are behind those that `tail` serves.
    pub(crate) behind: Arc<Tail>,
    pub(crate) leader: Arc<Leader>,
    pub(crate) cold: Cold,
}

type Answer = Result<Fetched, BrokerError>;

/// A partition's answer, and what of the memory it was made from: what has to change for another one.
struct Gathered {
    answer: Answer,
    version: Option<Version>,
}

/// How much of a fetch's answer is left to fill.
#[derive(Default)]
struct Room {
    bytes: usize,
    /// Whether any partition has given something: the first may exceed the limit (KIP-74).
    begun: bool,
    /// Whether something was left out.
    full: bool,
}

impl Fetch {
    pub(crate) async fn call(&self, request: FetchRequest) -> Vec<Answer> {
        let deadline = Instant::now() + request.max_wait;
        let mut state = self.locator.caught_up(request.revision).await;
        // One waiter for all rounds: what arrives between a round and the wait is not missed.
        let waiter = Arc::new(Notify::new());
        loop {
            let (gathered, room) = self.gather(&state, &request).await;
            let done = room.full
                || request.max_bytes - room.bytes.min(request.max_bytes) >= request.min_bytes
                || gathered.iter().any(|one| one.answer.as_ref().map_or(true, |fetched| fetched.diverging.is_some()))
                || Instant::now() >= deadline;
            if done {
                return gathered.into_iter().map(|one| one.answer).collect();
            }
            let mut all_followed = true;
            for (asked, one) in request.partitions.iter().zip(&gathered) {
                let waits = |version| {
                    self.tail.wait(asked.partition, version, &waiter)
                        || self.behind.wait(asked.partition, version, &waiter)
                };
                // Partitions in the object store have something to give whenever they are asked.
                all_followed &= one.version.is_some_and(waits);
            }
            let is_owed = |(asked, one): (&FetchPartition, &Gathered)| {
                one.answer.as_ref().is_ok_and(|fetched| fetched.high_watermark > asked.offset)
            };
            let patience = match (all_followed, request.partitions.iter().zip(&gathered).any(is_owed)) {
                (false, _) => ASK_AGAIN,
                (true, true) => OVERDUE,
                (true, false) => request.max_wait,
            };
            drop(gathered);
            let until = deadline.min(Instant::now() + patience);
            // Whether it was woken or time is up, what is there now is the answer or the reason to wait on.
            let _ = tokio::time::timeout_at(until, waiter.notified()).await;
            state = self.locator.state();
        }
    }

    /// What every partition has now, within the request's byte limits, in the order of the request.
    async fn gather(&self, state: &ClusterState, request: &FetchRequest) -> (Vec<Gathered>, Room) {
        let mut room = Room { bytes: request.max_bytes, ..Room::default() };
        let mut gathered = Vec::with_capacity(request.partitions.len());
        let mut elsewhere = Vec::new();
        for (place, asked) in request.partitions.iter().enumerate() {
            gathered.push(match self.locator.locate(state, asked.partition) {
                Err(error) => Gathered { answer: Err(error), version: None },
                Ok(located) => self.read_memory(asked, &located, request, &mut room).unwrap_or_else(|| {
                    elsewhere.push((place, *asked, located));
                    Gathered { answer: Err(no_answer()), version: None }
                }),
            });
        }
        if !elsewhere.is_empty() {
            self.read_elsewhere(state.revision, request.isolation, elsewhere, &mut room, &mut gathered).await;
        }
        (gathered, room)
    }

    async fn read_elsewhere(
        &self,
        revision: u64,
        isolation: Isolation,
        asked: Vec<(usize, FetchPartition, Located)>,
        room: &mut Room,
        gathered: &mut [Gathered],
    ) {
        // Atomic only because the future may move between threads: reads begin and end in one task.
        let left = AtomicUsize::new(room.bytes);
        // Reads that go on side by side share what is left, so that little is read and then left out.
        let share = (room.bytes / asked.len().max(1)).max(SMALLEST_SHARE);
        let reads = futures::stream::iter(asked).map(|(place, asked, located)| {
            // Once the answer is full a read is only for the partition's bounds.
            let max_bytes = asked.max_bytes.min(share).min(left.load(Relaxed)).max(1);
            async move { (place, self.read_leader(&asked, &located, revision, isolation, max_bytes).await) }
        });
        let mut reads = std::pin::pin!(reads.buffered(READS_AT_ONCE));
        while let Some((place, read)) = reads.next().await {
            gathered[place] = match read {
                Ok((mut fetched, version)) => {
                    room.take(&mut fetched);
                    left.store(room.bytes, Relaxed);
                    Gathered { answer: Ok(fetched), version }
                }
                Err(error) => Gathered { answer: Err(error), version: None },
            };
        }
    }

    /// Nothing when memory does not have the offset, or when the leader has to judge it.
    fn read_memory(
        &self,
        asked: &FetchPartition,
        located: &Located,
        request: &FetchRequest,
        room: &mut Room,
    ) -> Option<Gathered> {
        if asked.last_fetched_epoch.is_some() || asked.current_leader_epoch.is_some_and(|e| e != located.leader_epoch) {
            return None;
        }
        let committed_only = request.isolation == Isolation::ReadCommitted;
        let max_bytes = asked.max_bytes.min(room.bytes);
        let read = |memory: &Tail| {
            let found = memory.read(asked.partition, located.leader_epoch, asked.offset, committed_only, max_bytes)?;
            (!matches!(found.found, Found::Elsewhere)).then_some(found)
        };
        let memory = read(&self.tail).or_else(|| read(&self.behind))?;
        let mut fetched = match memory.found {
            Found::Elsewhere => return None,
            // Nobody will wait for what is on its way here.
            Found::End if request.max_wait.is_zero() && request.min_bytes > 0 => return None,
            Found::End => fetched(memory.bounds, Vec::new(), Vec::new()),
            Found::Batches { batches, aborted } => fetched(memory.bounds, batches, aborted),
        };
        room.take(&mut fetched);
        metrics::served("memory", size(&fetched));
        Some(Gathered { answer: Ok(fetched), version: Some(memory.version) })
    }

    async fn read_leader(
        &self,
        asked: &FetchPartition,
        located: &Located,
        revision: u64,
        isolation: Isolation,
        max_bytes: usize,
    ) -> Result<(Fetched, Option<Version>), BrokerError> {
        if let Some(epoch) = asked.last_fetched_epoch
            && let Some(diverging) = diverging(asked, epoch, located, revision).await?
        {
            let mut answer = fetched(bounds_unknown(located), Vec::new(), Vec::new());
            answer.diverging = Some(diverging);
            return Ok((answer, None));
        }
        let read = ReadRequest {
            journal: located.journal,
            partition: asked.partition,
            revision,
            offset: asked.offset,
            max_bytes,
            current_leader_epoch: asked.current_leader_epoch,
        };
        let read = self.leader.read(&located.storage, read).await?;
        let (mut batches, tiered) = match &read.records {
            Records::Batches(batches) => {
                metrics::served("leader", batches.iter().map(Batch::wire_len).sum());
                (batches.clone(), false)
            }
            Records::Tiered(runs) => (self.cold.read(runs, asked.offset, max_bytes).await?, true),
        };
        if isolation == Isolation::ReadCommitted {
            batches.retain(|batch| batch.next_offset() <= read.bounds.last_stable_offset);
        }
        let next = batches.last().map_or(asked.offset, Batch::next_offset);
        let follow = |memory: &Arc<Tail>| memory.follow(asked.partition, located, read.bounds, next, revision);
        let at_end = next >= read.bounds.high_watermark;
        let version = match tiered {
            true => None,
            // At the end there is one place for all.
            false => follow(&self.tail).or_else(|| if at_end { None } else { follow(&self.behind) }),
        };
        Ok((fetched(read.bounds, batches, read.aborted.clone()), version))
    }
}

impl Room {
    /// Takes what fits of a partition's answer, and leaves the rest out of it.
    fn take(&mut self, fetched: &mut Fetched) {
        let all = fetched.batches.len();
        if self.begun {
            trim(fetched, self.bytes);
        }
        self.full |= fetched.batches.len() < all;
        self.bytes = self.bytes.saturating_sub(size(fetched));
        self.begun |= !fetched.batches.is_empty();
    }
}

/// Whether the client's log diverged before its fetch offset (KIP-595).
async fn diverging(
    asked: &FetchPartition,
    last_fetched_epoch: i32,
    located: &Located,
    revision: u64,
) -> Result<Option<EpochEnd>, BrokerError> {
    let query = EpochQuery {
        journal: located.journal,
        partition: asked.partition,
        revision,
        current_leader_epoch: asked.current_leader_epoch,
        leader_epoch: last_fetched_epoch,
    };
    let end = located.storage.epoch_ends(vec![query]).await.pop().ok_or_else(no_answer)??;
    let diverged = end.leader_epoch < last_fetched_epoch || end.end_offset < asked.offset;
    Ok(diverged.then_some(end))
}

fn fetched(bounds: Bounds, batches: Vec<Batch>, aborted: Vec<AbortedTransaction>) -> Fetched {
    Fetched {
        leader_epoch: bounds.leader_epoch,
        log_start_offset: bounds.log_start_offset,
        high_watermark: bounds.high_watermark,
        last_stable_offset: bounds.last_stable_offset,
        aborted,
        diverging: None,
        batches,
    }
}

/// Kafka answers a diverging log without bounds.
fn bounds_unknown(located: &Located) -> Bounds {
    Bounds { leader_epoch: located.leader_epoch, log_start_offset: -1, high_watermark: -1, last_stable_offset: -1 }
}

fn size(fetched: &Fetched) -> usize {
    fetched.batches.iter().map(Batch::wire_len).sum()
}

/// Keeps the batches that fit in `max_bytes`, none if the first does not.
fn trim(fetched: &mut Fetched, max_bytes: usize) {
    let mut bytes = 0;
    let fits = fetched.batches.iter().take_while(|batch| {
        bytes += batch.wire_len();
        bytes <= max_bytes
    });
    let keep = fits.count();
    fetched.batches.truncate(keep);
}

fn no_answer() -> BrokerError {
    StorageError::Unavailable("no answer from the journal's leader".into()).into()
}
