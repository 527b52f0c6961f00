//! Tail reads: one stream to each storage node feeds the recent records of the partitions that are being read, so that
//! any number of readers costs the node one read.

mod ring;
mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tidemark_model::storage::{Bounds, TailCommand};
use tidemark_model::{Batch, NodeId, Storage, TopicPartition};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

pub(crate) use self::ring::Found;
use self::ring::{Ring, WINDOW};
use crate::locate::Located;
use crate::metrics;

/// The least that a stream may run ahead of the readers of a partition, however many are followed: one of Java's batches.
const SMALLEST_WINDOW: u64 = 16 << 10;

/// The part of the memory that may be taken by what is ahead of its readers; the rest is for those who come later.
const AHEAD: u64 = 2;

/// A reader that is behind the others takes the place of one that has not read for this long.
const STALLED: Duration = Duration::from_secs(1);

/// A stream that has brought nothing for this long of what is known to be there is not waited for any longer: its reader
/// asks the leader, and follows anew.
pub(crate) const OVERDUE: Duration = Duration::from_secs(2);

/// Commands to one storage node that may wait to be sent. A partition has at most a few under way, so only a node that
/// takes nothing fills it: then its stream is dropped.
const COMMANDS: usize = 1 << 16;

/// Dead waiters of a partition are looked for when this many are registered, and at each doubling.
const WAITERS_BEFORE_PRUNING: usize = 16;

/// Arrivals of what is no longer in memory are looked for when there are this many, and at each doubling.
const ARRIVALS_BEFORE_PRUNING: usize = 4096;

/// What the broker follows, shared by fetches and streams.
pub(crate) struct Tail {
    inner: Mutex<Inner>,
    /// Bytes kept over all partitions.
    budget: u64,
    /// Whether it also goes back, for a reader that is behind one that stopped.
    follows_back: bool,
}

#[derive(Default)]
struct Inner {
    partitions: BTreeMap<TopicPartition, Followed>,
    streams: BTreeMap<NodeId, Stream>,
    last_stream: u64,
    last_subscription: u64,
    /// Bytes that all rings take together.
    bytes: u64,
    /// What came, oldest first: in this order it leaves, of whichever partition it is. So what came in one message leaves
    /// together, and no message is kept by a partition that gets little.
    arrivals: VecDeque<Arrival>,
    prune_arrivals_at: usize,
}

/// What an event brought to a ring.
struct Arrival {
    partition: TopicPartition,
    subscription: u64,
    /// Bytes that the ring had received then.
    end: u64,
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
    /// When the stream last brought something, or was asked to.
    fed_at: Instant,
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
    /// Whose memory it is of: see [`Tail::behind`].
    behind: bool,
    /// The subscription.
    subscription: u64,
    /// What it has delivered.
    pushes: u64,
}

impl Tail {
    pub(crate) fn new(budget: usize) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), budget: budget as u64, follows_back: false })
    }

    /// For those who are behind the furthest readers: a second place in each partition.
    pub(crate) fn behind(budget: usize) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), budget: budget as u64, follows_back: true })
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
        let limit = if committed_only { bounds.last_stable_offset } else { bounds.high_watermark };
        let found = followed.ring.read(offset, limit, max_bytes);
        let overdue = offset == followed.ring.next() && !followed.ring.caught_up();
        if overdue && followed.fed_at.elapsed() >= OVERDUE {
            tracing::warn!(partition = %at, offset, "the tail stream brings nothing of what there is: starting over");
            inner.forget(at);
            return None;
        }
        if !matches!(found, Found::Elsewhere) {
            followed.read_at = Instant::now();
        }
        let (node, version) = (followed.node, followed.version);
        let credit = inner.take_credit(at, self.budget);
        if credit > 0 {
            inner.send(node, TailCommand::Credit { partition: at, bytes: credit });
        }
        Some(FromMemory { bounds, found, version })
    }

    /// Follows a partition from `next` on, unless it is followed from there or from further on already; from further on by
    /// somebody who still reads, if it `follows_back`. The version is that of memory before the subscription delivered
    /// anything, and none when it was followed already.
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
            if current && followed.ring.next() == next {
                return Some(followed.version);
            }
            let given_up = self.follows_back && followed.read_at.elapsed() > STALLED;
            if current && followed.ring.next() > next && !given_up {
                return None;
            }
            inner.forget(at);
        }
        let stream = inner.stream_to(self, located.leader, &located.storage);
        inner.last_subscription += 1;
        let version = Version { behind: self.follows_back, subscription: inner.last_subscription, pushes: 0 };
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
                fed_at: Instant::now(),
            },
        );
        metrics::observe_followed_partitions(inner.partitions.len());
        let journal = located.journal;
        let credit = inner.take_credit(at, self.budget);
        inner.send(located.leader, TailCommand::Subscribe { journal, partition: at, revision, offset: next, credit });
        Some(version)
    }

    /// Has `waiter` notified when the partition's memory is no longer of `version`: at once when it is not now. False
    /// when the partition is not followed, so that nothing would.
    pub(crate) fn wait(&self, at: TopicPartition, version: Version, waiter: &Arc<Notify>) -> bool {
        let mut inner = self.lock();
        let own = version.behind == self.follows_back;
        let Some(followed) = inner.partitions.get_mut(&at).filter(|_| own) else { return false };
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
        // Before the lock: it may copy.
        let batches = batches.into_iter().map(ring::settled).collect();
        let mut inner = self.lock();
        let Some(followed) = inner.partitions.get_mut(&at).filter(|followed| followed.stream == stream) else { return };
        let (before, received) = (followed.ring.bytes(), followed.ring.received());
        let pushed = followed.ring.push(bounds, batches, aborted);
        let (after, end) = (followed.ring.bytes(), followed.ring.received());
        let (subscription, node) = (followed.version.subscription, followed.node);
        followed.fed_at = Instant::now();
        if pushed == Ok(true) {
            followed.version.pushes += 1;
            wake(&mut followed.waiters);
        }
        // From here on nothing below it is read from the ring. Whoever deleted it waits for this word.
        let log_start_offset = bounds.log_start_offset;
        let told = followed.seen.replace(log_start_offset) == Some(log_start_offset);
        inner.bytes = inner.bytes + after - before;
        if let Err(ring::Discontinuous) = pushed {
            tracing::debug!(partition = %at, "the tail stream did not continue: starting over");
            inner.forget(at);
            return;
        }
        if !told {
            inner.send(node, TailCommand::Seen { partition: at, log_start_offset });
        }
        if end > received {
            inner.arrived(Arrival { partition: at, subscription, end });
        }
        inner.make_room(self.budget);
        let credit = inner.take_credit(at, self.budget);
        if credit > 0 {
            inner.send(node, TailCommand::Credit { partition: at, bytes: credit });
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
        let mut freed = 0;
        inner.partitions.retain(|_, followed| {
            let keep = followed.stream != stream;
            if !keep {
                freed += followed.ring.bytes();
                wake(&mut followed.waiters);
            }
            keep
        });
        inner.bytes -= freed;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under the lock leaves the maps half changed, so a panic elsewhere does not make them wrong.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Credit to give for a partition, which has its share of what may be ahead of readers.
    fn take_credit(&mut self, at: TopicPartition, budget: u64) -> u64 {
        let share = budget / AHEAD / self.partitions.len().max(1) as u64;
        let most = share.clamp(SMALLEST_WINDOW, WINDOW);
        self.partitions.get_mut(&at).map_or(0, |followed| followed.ring.take_credit(most))
    }

    fn arrived(&mut self, arrival: Arrival) {
        if self.arrivals.len() >= self.prune_arrivals_at {
            let partitions = &self.partitions;
            let lives = |one: &Arrival| {
                let followed = partitions.get(&one.partition);
                followed.is_some_and(|followed| followed.version.subscription == one.subscription)
            };
            self.arrivals.retain(lives);
            self.prune_arrivals_at = (self.arrivals.len() * 2).max(ARRIVALS_BEFORE_PRUNING);
        }
        self.arrivals.push_back(arrival);
    }

    /// Lets go of what came first, until all takes no more than `budget`. A partition of which something goes that its
    /// readers are about to read starts over, from its leader.
    fn make_room(&mut self, budget: u64) {
        while self.bytes > budget {
            let Some(Arrival { partition, subscription, end }) = self.arrivals.pop_front() else { return };
            let followed = self.partitions.get_mut(&partition);
            let Some(followed) = followed.filter(|followed| followed.version.subscription == subscription) else {
                continue;
            };
            let before = followed.ring.bytes();
            let were_read = followed.ring.evict_through(end);
            let after = followed.ring.bytes();
            self.bytes -= before - after;
            if !were_read {
                self.forget(partition);
            }
        }
    }

    /// Stops following a partition and wakes those who wait for it, so that they ask its leader.
    fn forget(&mut self, at: TopicPartition) {
        if let Some(mut followed) = self.partitions.remove(&at) {
            self.bytes -= followed.ring.bytes();
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
