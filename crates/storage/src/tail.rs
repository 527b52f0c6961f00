//! Tail streams: committed batches to brokers, as they are committed.
//!
//! A stream keeps no records. It knows for each subscription the next offset and the credit left; a commit only marks the
//! partition in the stream's [`Mailbox`], once however often it happens, and the stream takes the batches from the
//! journal's memory when its reader asks for more. So a slow reader holds nothing, and stalls nobody. What has left the
//! memory comes from the log's files, for all that are behind together ([`catch_up`]); of what is only in the object store
//! the reader is told to read by offset.

mod catch_up;
mod mailbox;

use std::collections::{BTreeMap, VecDeque};
use std::pin::{Pin, pin};
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use tidemark_model::storage::{Bounds, TailCommand, TailEvent};
use tidemark_model::{Batch, JournalId, StorageError, TopicPartition};
use tokio::time::{Instant, timeout_at};

use self::catch_up::{CatchUp, Scanned};
pub(crate) use self::mailbox::Mailbox;
use crate::journal::core::Core;
use crate::journal::{Journal, VIEW_DEADLINE};

/// Bytes of batches in one event, but for one batch that is larger: a stream's partitions take turns.
const MAX_EVENT_BYTES: usize = 1024 * 1024;
/// Subscriptions that one stream may have: those of a broker that serves every partition of a large journal.
const MAX_SUBSCRIPTIONS: usize = 100_000;

/// One broker's stream.
struct Tail {
    journals: Arc<dyn Fn(JournalId) -> Option<Arc<Journal>> + Send + Sync>,
    commands: BoxStream<'static, TailCommand>,
    mailbox: Arc<Mailbox>,
    subscriptions: BTreeMap<TopicPartition, Subscription>,
    /// Subscriptions that are over, until the broker says that it knows.
    leaving: BTreeMap<TopicPartition, Arc<Journal>>,
    /// Subscriptions that wait for the view to have their partition, with the revision that has it.
    waiting: BTreeMap<TopicPartition, (u64, Instant)>,
    catch_up: CatchUp,
    /// Events that came of one scan, to be sent before anything else is read.
    ready: VecDeque<TailEvent>,
    last_subscription: u64,
}

struct Subscription {
    /// Tells it from an earlier one of the partition.
    id: u64,
    journal: Arc<Journal>,
    offset: i64,
    /// Below zero after a batch that was larger than what was left.
    credit: i64,
    /// What the reader was last told of the bounds.
    told: Option<Bounds>,
    /// Its next batches are being read from the log's files, or wait for that.
    behind: bool,
}

/// The next of a partition for a reader.
pub(crate) enum Taken {
    Batches {
        bounds: Bounds,
        batches: Vec<Batch>,
        more: bool,
    },
    /// In the log's files, not in memory.
    Behind,
    Ended(StorageError),
}

/// What a stream wakes up for.
enum Event {
    Command(Option<TailCommand>),
    News,
    /// Some are behind in this journal, and nobody wants anything else now.
    Scan(Arc<Journal>),
    Scanned(Scanned),
    /// Time or the view went on for a subscription that waits.
    Retry,
}

/// Serves one broker's stream of commands. It ends with them.
pub(crate) fn serve(
    journals: Arc<dyn Fn(JournalId) -> Option<Arc<Journal>> + Send + Sync>,
    commands: BoxStream<'static, TailCommand>,
) -> BoxStream<'static, Result<TailEvent, StorageError>> {
    let tail = Tail {
        journals,
        commands,
        mailbox: Arc::default(),
        subscriptions: BTreeMap::new(),
        leaving: BTreeMap::new(),
        waiting: BTreeMap::new(),
        catch_up: CatchUp::default(),
        ready: VecDeque::new(),
        last_subscription: 0,
    };
    stream::unfold(tail, |mut tail| async move {
        let event = tail.next().await?;
        Some((Ok(event), tail))
    })
    .boxed()
}

impl Tail {
    async fn next(&mut self) -> Option<TailEvent> {
        loop {
            while let Some((partition, reason)) = self.mailbox.take_ended() {
                if let Some(subscription) = self.subscriptions.remove(&partition) {
                    self.leaving.insert(partition, subscription.journal);
                    return Some(TailEvent::Ended { partition, reason });
                }
            }
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            while let Some(partition) = self.mailbox.take_turn() {
                if let Some(event) = self.turn(partition) {
                    return Some(event);
                }
            }
            match self.wait().await {
                Event::Command(Some(command)) => {
                    if let Some(event) = self.command(command) {
                        return Some(event);
                    }
                }
                Event::Command(None) => return None,
                Event::News => {}
                Event::Scan(journal) => self.scan(&journal),
                Event::Scanned(scanned) => self.scanned(scanned),
                Event::Retry => {
                    if let Some(event) = self.retry() {
                        return Some(event);
                    }
                }
            }
        }
    }

    async fn wait(&mut self) -> Event {
        let waiting = self.waiting.iter().next();
        let journal = waiting.and_then(|(at, _)| Some(self.subscriptions.get(at)?.journal.clone()));
        let wanted = waiting.map(|(_, wanted)| *wanted);
        let retry = async {
            match (journal, wanted) {
                (Some(journal), Some((revision, until))) => {
                    let mut moved = pin!(journal.view_moved.notified());
                    moved.as_mut().enable();
                    if journal.lock().view.revision < revision {
                        // A view that nobody moves any more is as good as it gets.
                        let _ = timeout_at(until, moved).await;
                    }
                }
                _ => std::future::pending().await,
            }
        };
        let startable = self.catch_up.startable();
        let idle = startable.is_some();
        let scan = std::future::ready(startable);
        tokio::select! {
            biased;
            command = self.commands.next() => Event::Command(command),
            Some(journal) = scan, if idle => Event::Scan(journal),
            () = self.mailbox.woken.notified() => Event::News,
            scanned = self.catch_up.next() => Event::Scanned(scanned),
            () = retry => Event::Retry,
        }
    }

    fn command(&mut self, command: TailCommand) -> Option<TailEvent> {
        match command {
            TailCommand::Subscribe { journal, partition, revision, offset, credit } => {
                self.unsubscribe(partition);
                let ended = |reason| Some(TailEvent::Ended { partition, reason });
                let Some(journal) = (self.journals)(journal) else {
                    return ended(StorageError::NotLeader(format!("this node does not lead journal {journal}")));
                };
                if self.subscriptions.len() >= MAX_SUBSCRIPTIONS {
                    return ended(StorageError::Full(format!("{MAX_SUBSCRIPTIONS} partitions are followed")));
                }
                let behind = journal.lock().view_is_behind(partition, revision);
                let credit = i64::try_from(credit).unwrap_or(i64::MAX);
                self.last_subscription += 1;
                let id = self.last_subscription;
                let subscription = Subscription { id, journal, offset, credit, told: None, behind: false };
                self.subscriptions.insert(partition, subscription);
                if behind {
                    self.waiting.insert(partition, (revision, Instant::now() + VIEW_DEADLINE));
                } else {
                    self.begin(partition);
                }
            }
            TailCommand::Credit { partition, bytes } => {
                if let Some(subscription) = self.subscriptions.get_mut(&partition) {
                    let more = i64::try_from(bytes).unwrap_or(i64::MAX);
                    subscription.credit = subscription.credit.saturating_add(more);
                    self.mailbox.mark(partition);
                }
            }
            TailCommand::Unsubscribe { partition } => self.unsubscribe(partition),
            TailCommand::Seen { partition, log_start_offset } => {
                if let Some(subscription) = self.subscriptions.get(&partition) {
                    self.mailbox.saw(partition, log_start_offset);
                    subscription.journal.seen.notify_waiters();
                }
            }
        }
        None
    }

    /// Lets commits tell of the partition, and gives it a first turn, which tells the bounds.
    fn begin(&mut self, partition: TopicPartition) {
        if let Some(subscription) = self.subscriptions.get(&partition) {
            subscription.journal.lock().add_reader(partition, &self.mailbox);
            self.mailbox.mark(partition);
        }
    }

    /// The subscription that waits first: its view has come, or its time.
    fn retry(&mut self) -> Option<TailEvent> {
        let (partition, _) = self.waiting.pop_first()?;
        self.subscriptions.get(&partition)?.journal.view_changed();
        self.begin(partition);
        None
    }

    fn turn(&mut self, partition: TopicPartition) -> Option<TailEvent> {
        if self.waiting.contains_key(&partition) {
            return None;
        }
        let subscription = self.subscriptions.get_mut(&partition).filter(|subscription| !subscription.behind)?;
        let max_bytes = usize::try_from(subscription.credit).unwrap_or(0).min(MAX_EVENT_BYTES);
        let taken = subscription.journal.lock().take_tail(partition, subscription.offset, max_bytes);
        match taken {
            Taken::Batches { bounds, batches, more } => {
                let sent: usize = batches.iter().map(Batch::wire_len).sum();
                subscription.credit -= sent as i64;
                subscription.offset = batches.last().map_or(subscription.offset, Batch::next_offset);
                let news = !batches.is_empty() || moved(subscription.told, bounds);
                if more && subscription.credit > 0 {
                    self.mailbox.mark(partition);
                }
                if !news {
                    return None;
                }
                subscription.told = Some(bounds);
                Some(TailEvent::Batches { partition, bounds, batches, aborted: Vec::new() })
            }
            Taken::Behind => {
                subscription.behind = true;
                self.catch_up.wait(&subscription.journal, partition);
                None
            }
            Taken::Ended(reason) => self.end(partition, reason),
        }
    }

    /// Ends a subscription, and is what its reader is told.
    fn end(&mut self, partition: TopicPartition, reason: StorageError) -> Option<TailEvent> {
        let journal = self.subscriptions.remove(&partition)?.journal;
        journal.lock().reader_leaves(partition, &self.mailbox);
        self.leaving.insert(partition, journal);
        Some(TailEvent::Ended { partition, reason })
    }

    fn unsubscribe(&mut self, partition: TopicPartition) {
        self.waiting.remove(&partition);
        self.mailbox.forget(partition);
        let followed = self.subscriptions.remove(&partition).map(|subscription| subscription.journal);
        for journal in followed.into_iter().chain(self.leaving.remove(&partition)) {
            journal.lock().remove_reader(partition, &self.mailbox);
            journal.seen.notify_waiters();
        }
    }
}

/// Whether bounds moved that no batch tells of. A high watermark that moved comes with its batches, as credit allows.
fn moved(told: Option<Bounds>, now: Bounds) -> bool {
    told.is_none_or(|told| (told.leader_epoch, told.log_start_offset) != (now.leader_epoch, now.log_start_offset))
}

impl Drop for Tail {
    fn drop(&mut self) {
        let all: Vec<TopicPartition> = self.subscriptions.keys().chain(self.leaving.keys()).copied().collect();
        all.into_iter().for_each(|partition| self.unsubscribe(partition));
    }
}

impl Core {
    fn add_reader(&mut self, at: TopicPartition, mailbox: &Arc<Mailbox>) {
        self.slots.entry(at).or_default().readers.push(mailbox.clone());
    }

    fn remove_reader(&mut self, at: TopicPartition, mailbox: &Arc<Mailbox>) {
        if let Some(slot) = self.slots.get_mut(&at) {
            slot.readers.retain(|reader| !Arc::ptr_eq(reader, mailbox));
            slot.leaving.retain(|reader| !Arc::ptr_eq(reader, mailbox));
        }
    }

    /// The reader is told that its subscription is over.
    fn reader_leaves(&mut self, at: TopicPartition, mailbox: &Arc<Mailbox>) {
        self.remove_reader(at, mailbox);
        if let Some(slot) = self.slots.get_mut(&at) {
            slot.leaving.push(mailbox.clone());
        }
    }

    /// Whether no reader can still be serving anything below `log_start` from its memory.
    pub(crate) fn all_have_seen(&self, at: TopicPartition, log_start: i64) -> bool {
        self.slots.get(&at).is_none_or(|slot| {
            slot.leaving.is_empty() && slot.readers.iter().all(|reader| reader.has_seen(at, log_start))
        })
    }

    /// Committed batches in memory from `offset` on. With any room at all at least one, however large it is.
    fn take_tail(&self, at: TopicPartition, offset: i64, max_bytes: usize) -> Taken {
        let bounds = match self.bounds(at) {
            Ok(bounds) => bounds,
            Err(reason) => return Taken::Ended(reason),
        };
        let Bounds { log_start_offset, high_watermark, .. } = bounds;
        if offset < log_start_offset || offset > high_watermark {
            return Taken::Ended(StorageError::OffsetOutOfRange { log_start_offset, high_watermark });
        }
        let mut batches = Vec::new();
        if offset == high_watermark || max_bytes == 0 {
            return Taken::Batches { bounds, batches, more: false };
        }
        let elsewhere =
            || Taken::Ended(StorageError::Unavailable(format!("offset {offset} of {at} is not in the log")));
        let Some(slot) = self.slots.get(&at) else { return elsewhere() };
        let mut bytes = 0;
        let mut more = false;
        for batch in slot.log.starting_at(offset) {
            let Some(batch) = &batch.batch else {
                // Batches leave memory in their order, so this is the first.
                return if batch.index > self.state.tiered_through { Taken::Behind } else { elsewhere() };
            };
            if !batches.is_empty() && bytes + batch.wire_len() > max_bytes {
                more = true;
                break;
            }
            bytes += batch.wire_len();
            batches.push(batch.clone());
        }
        if batches.is_empty() { elsewhere() } else { Taken::Batches { bounds, batches, more } }
    }
}

/// A stream may be moved between threads while it waits.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Pin<Box<Tail>>>();
};
