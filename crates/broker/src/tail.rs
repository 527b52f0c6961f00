//! Tail reads: one stream to each storage node feeds the recent records of the partitions that are being read, so that
//! any number of readers costs the node one read.

mod ring;
mod stream;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tidemark_model::storage::{Bounds, TailCommand};
use tidemark_model::{Batch, NodeId, Storage, TopicPartition};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

pub(crate) use self::ring::Found;
use self::ring::{Ring, WINDOW};
use crate::locate::Located;
use crate::metrics;

/// The fewest bytes kept for each followed partition, however many there are.
const KEEP_AT_LEAST: u64 = 64 << 10;

/// The most bytes kept for one partition: enough for readers that are some seconds apart.
const KEEP_AT_MOST: u64 = 16 << 20;

/// Commands to one storage node that may wait to be sent. A partition has at most a few under way, so only a node that
/// takes nothing fills it: then its stream is dropped.
const COMMANDS: usize = 1 << 16;

/// Dead waiters of a partition are looked for when this many are registered, and at each doubling.
const WAITERS_BEFORE_PRUNING: usize = 16;

/// What the broker follows, shared by fetches and streams.
pub(crate) struct Tail {
    inner: Mutex<Inner>,
    /// Bytes kept over all partitions.
    budget: u64,
}

#[derive(Default)]
struct Inner {
    partitions: BTreeMap<TopicPartition, Followed>,
    streams: BTreeMap<NodeId, Stream>,
    last_stream: u64,
    last_subscription: u64,
}

struct Followed {
    ring: Ring,
    version: Version,
    /// The stream that feeds the ring.
    stream: u64,
    node: NodeId,
    /// The log start that the leader was last told of as seen.
    seen: Option<i64>,
    waiters: Vec<Weak<Notify>>,
    prune_at: usize,
    read_at: Instant,
}

struct Stream {
    id: u64,
    commands: mpsc::Sender<TailCommand>,
}

/// What memory has for a fetch, with the partition's bounds.
#[derive(Debug)]
pub(crate) struct FromMemory {
    pub(crate) bounds: Bounds,
    pub(crate) found: Found,
    /// Of what was read: [`Tail::wait`] waits for another.
    pub(crate) version: Version,
}

/// Tells one content of a partition's memory from any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    /// The subscription.
    subscription: u64,
    /// What it has delivered.
    pushes: u64,
}

impl Tail {
    pub(crate) fn new(budget: usize) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), budget: budget as u64 })
    }

    /// Reads from memory. Nothing when the partition is not followed in this leader epoch.
    pub(crate) fn read(
        &self,
        at: TopicPartition,
        leader_epoch: i32,
        offset: i64,
        committed_only: bool,
        max_bytes: usize,
    ) -> Option<FromMemory> {
        let mut inner = self.lock();
        let followed = inner.partitions.get_mut(&at)?;
        let bounds = followed.ring.bounds();
        if bounds.leader_epoch < leader_epoch {
            inner.forget(at);
            return None;
        }
        followed.read_at = Instant::now();
        let limit = if committed_only { bounds.last_stable_offset } else { bounds.high_watermark };
        let found = followed.ring.read(offset, limit, max_bytes);
        let (credit, node, version) = (followed.ring.take_credit(), followed.node, followed.version);
        if credit > 0 {
            inner.send(node, TailCommand::Credit { partition: at, bytes: credit });
        }
        Some(FromMemory { bounds, found, version })
    }

    /// Follows a partition from `next` on, unless it is followed from there or from further on already. The version is
    /// that of memory before the subscription delivered anything, and none when it was followed already.
    pub(crate) fn follow(
        self: &Arc<Self>,
        at: TopicPartition,
        located: &Located,
        bounds: Bounds,
        next: i64,
        revision: u64,
    ) -> Option<Version> {
        let mut inner = self.lock();
        if let Some(followed) = inner.partitions.get(&at) {
            let current = followed.ring.bounds().leader_epoch >= bounds.leader_epoch;
            if current && followed.ring.next() >= next {
                return (followed.ring.next() == next).then_some(followed.version);
            }
            inner.forget(at);
        }
        let stream = inner.stream_to(self, located.leader, &located.storage);
        inner.last_subscription += 1;
        let version = Version { subscription: inner.last_subscription, pushes: 0 };
        inner.partitions.insert(
            at,
            Followed {
                ring: Ring::new(next, bounds),
                version,
                stream,
                node: located.leader,
                seen: None,
                waiters: Vec::new(),
                prune_at: WAITERS_BEFORE_PRUNING,
                read_at: Instant::now(),
            },
        );
        metrics::observe_followed_partitions(inner.partitions.len());
        let journal = located.journal;
        inner.send(
            located.leader,
            TailCommand::Subscribe { journal, partition: at, revision, offset: next, credit: WINDOW },
        );
        Some(version)
    }

    /// Has `waiter` notified when the partition's memory is no longer of `version`: at once when it is not now. False
    /// when the partition is not followed, so that nothing would.
    pub(crate) fn wait(&self, at: TopicPartition, version: Version, waiter: &Arc<Notify>) -> bool {
        let mut inner = self.lock();
        let Some(followed) = inner.partitions.get_mut(&at) else { return false };
        if followed.version != version {
            waiter.notify_one();
            return true;
        }
        if followed.waiters.len() >= followed.prune_at {
            followed.waiters.retain(|waiter| waiter.strong_count() > 0);
            followed.prune_at = (followed.waiters.len() * 2).max(WAITERS_BEFORE_PRUNING);
        }
        followed.waiters.push(Arc::downgrade(waiter));
        true
    }

    /// Stops following what nobody has read since `before`.
    pub(crate) fn forget_unread(&self, before: Instant) {
        let mut inner = self.lock();
        let idle: Vec<TopicPartition> =
            inner.partitions.iter().filter(|(_, followed)| followed.read_at < before).map(|(at, _)| *at).collect();
        for at in idle {
            inner.forget(at);
        }
        metrics::observe_followed_partitions(inner.partitions.len());
    }

    fn push(
        &self,
        stream: u64,
        at: TopicPartition,
        bounds: Bounds,
        batches: Vec<Batch>,
        aborted: Vec<tidemark_model::storage::AbortedTransaction>,
    ) {
        let mut inner = self.lock();
        let keep = (self.budget / inner.partitions.len().max(1) as u64).clamp(KEEP_AT_LEAST, KEEP_AT_MOST);
        let Some(followed) = inner.partitions.get_mut(&at).filter(|followed| followed.stream == stream) else { return };
        match followed.ring.push(bounds, batches, aborted) {
            Ok(new) => {
                followed.ring.evict(keep);
                if new {
                    followed.version.pushes += 1;
                    wake(&mut followed.waiters);
                }
                let (credit, node) = (followed.ring.take_credit(), followed.node);
                // From here on nothing below it is read from the ring. Whoever deleted it waits for this word.
                let log_start_offset = bounds.log_start_offset;
                let told = followed.seen.replace(log_start_offset) == Some(log_start_offset);
                if !told {
                    inner.send(node, TailCommand::Seen { partition: at, log_start_offset });
                }
                if credit > 0 {
                    inner.send(node, TailCommand::Credit { partition: at, bytes: credit });
                }
            }
            Err(ring::Discontinuous) => {
                tracing::debug!(partition = %at, "the tail stream did not continue: starting over");
                inner.forget(at);
            }
        }
    }

    /// A subscription ended at the leader's side.
    fn ended(&self, stream: u64, at: TopicPartition) {
        let mut inner = self.lock();
        if inner.partitions.get(&at).is_some_and(|followed| followed.stream == stream) {
            // It also tells the leader that nothing of the partition is read from memory any more.
            inner.forget(at);
        }
    }

    /// A stream broke: everything it fed starts over from the leader.
    fn broken(&self, node: NodeId, stream: u64) {
        let mut inner = self.lock();
        if inner.streams.get(&node).is_some_and(|known| known.id == stream) {
            inner.streams.remove(&node);
        }
        inner.partitions.retain(|_, followed| {
            let keep = followed.stream != stream;
            if !keep {
                wake(&mut followed.waiters);
            }
            keep
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under the lock leaves the maps half changed, so a panic elsewhere does not make them wrong.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Stops following a partition and wakes those who wait for it, so that they ask its leader.
    fn forget(&mut self, at: TopicPartition) {
        if let Some(mut followed) = self.partitions.remove(&at) {
            wake(&mut followed.waiters);
            self.send(followed.node, TailCommand::Unsubscribe { partition: at });
        }
    }

    fn send(&mut self, node: NodeId, command: TailCommand) {
        let Some(stream) = self.streams.get(&node) else { return };
        if let Err(error) = stream.commands.try_send(command) {
            // Dropping the sender ends the stream, and with it everything it feeds.
            tracing::warn!(node = %node, %error, "the storage node takes no tail commands: dropping the stream");
            self.streams.remove(&node);
        }
    }

    fn stream_to(&mut self, tail: &Arc<Tail>, node: NodeId, storage: &Arc<dyn Storage>) -> u64 {
        if let Some(stream) = self.streams.get(&node) {
            return stream.id;
        }
        self.last_stream += 1;
        let id = self.last_stream;
        let (commands, receiver) = mpsc::channel(COMMANDS);
        self.streams.insert(node, Stream { id, commands });
        metrics::tail_stream_opened();
        stream::spawn(tail, node, id, storage, receiver);
        id
    }
}

fn wake(waiters: &mut Vec<Weak<Notify>>) {
    for waiter in waiters.drain(..) {
        if let Some(waiter) = waiter.upgrade() {
            waiter.notify_one();
        }
    }
}
