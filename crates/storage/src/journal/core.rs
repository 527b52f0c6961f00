//! Everything of a journal that changes together: its state, what is ahead of it, and who waits. Behind one lock, which is
//! never held over I/O.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tidemark_model::route::Route;
use tidemark_model::storage::{Appended, Bounds};
use tidemark_model::{Clock, ClusterState, JournalId, NodeId, StorageError, TopicId, TopicPartition};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::expire;
use super::log::{Memory, PartitionLog};
use super::parked::Parked;
use crate::entry::{Entry, EntryId};
use crate::metrics;
use crate::state::State;
use crate::state::producers::Producer;
use crate::tail::Mailbox;
use crate::wal::format::{align, entry_len};
use crate::wal::writer::Named;

/// The most that one write and one fdatasync take. More would not make the disk faster, and those waiting wait longer.
const MAX_GROUP_BYTES: u64 = 16 * 1024 * 1024;

pub(crate) type AppendResults = Vec<Result<Appended, StorageError>>;

pub(crate) struct Core {
    pub(crate) journal: JournalId,
    pub(crate) node: NodeId,
    pub(crate) wal_incarnation: u64,
    pub(crate) epoch: u32,
    pub(crate) phase: Phase,
    /// What is committed.
    pub(crate) state: State,
    pub(crate) slots: BTreeMap<TopicPartition, Slot>,
    pub(crate) view: Arc<ClusterState>,
    /// The index of the next entry.
    pub(super) next_index: u64,
    /// Entries that are named and not yet taken to be written.
    queue: VecDeque<Named>,
    /// Bytes of entries that are named and not committed.
    pub(super) ahead_bytes: u64,
    pub(super) waiters: VecDeque<Waiter>,
    pub(super) parked: Vec<Parked>,
    pub(super) memory: Memory,
    pub(super) untiered: Untiered,
    /// Topics whose deletion is named and not committed.
    pub(super) deleting: BTreeSet<TopicId>,
    pub(super) remembered: expire::Memory,
    /// The entry by which producers go that is named and not committed.
    pub(super) expiring: Option<u64>,
    /// How many times log starts moved.
    pub(crate) starts_moved: u64,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Whether appends are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// An append failed after something may have been written: a new epoch is needed.
    Reopening(StorageError),
    /// The log is at its end, or the node is stopping.
    Ended(StorageError),
}

/// What a leader keeps of a partition beside its state.
#[derive(Default)]
pub(crate) struct Slot {
    pub(crate) log: PartitionLog,
    pub(super) ahead: Option<Box<Ahead>>,
    pub(crate) readers: Vec<Arc<Mailbox>>,
    /// Readers that were told that their subscription is over and have not said yet that they know.
    pub(crate) leaving: Vec<Arc<Mailbox>>,
}

/// A partition as it will be when all that is named is committed. Undone by dropping it.
pub(super) struct Ahead {
    pub(super) next_offset: i64,
    pub(super) route: Route,
    pub(super) producers: BTreeMap<i64, Producer>,
    /// Entries of the partition that are named and not committed.
    pub(super) entries: u32,
}

/// Somebody who is answered when an index is committed.
pub(super) struct Waiter {
    pub(super) index: u64,
    /// By append, the index that it is committed with; 0 where it was refused.
    pub(super) indexes: Vec<u64>,
    pub(super) reply: Reply,
}

pub(super) enum Reply {
    Append(oneshot::Sender<AppendResults>, AppendResults),
    Entry(oneshot::Sender<Result<EntryId, StorageError>>, EntryId),
}

/// Who is told of something when the lock is free: woken while it is held, they would come to wait for it.
#[derive(Default)]
pub(crate) struct Answers {
    replies: Vec<(Reply, Option<StorageError>)>,
    readers: Vec<Arc<Mailbox>>,
}

/// Batches that are committed and not in the object store.
#[derive(Default)]
pub(super) struct Untiered {
    /// Index and length of each.
    batches: VecDeque<(u64, u32)>,
    bytes: u64,
    /// When the oldest was committed, or later.
    since: Option<Instant>,
}

/// Entries to be written together.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) entries: Vec<Named>,
    pub(crate) new_file: bool,
}

impl Core {
    pub(super) fn new(
        journal: JournalId,
        node: NodeId,
        wal_incarnation: u64,
        state: State,
        view: Arc<ClusterState>,
        (memory_bytes, remembered): (u64, expire::Memory),
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            journal,
            node,
            wal_incarnation,
            epoch: state.last.epoch,
            phase: Phase::Reopening(StorageError::Unavailable("the journal is being opened".into())),
            next_index: state.last.index + 1,
            state,
            slots: BTreeMap::new(),
            view,
            queue: VecDeque::new(),
            ahead_bytes: 0,
            waiters: VecDeque::new(),
            parked: Vec::new(),
            memory: Memory::new(memory_bytes),
            untiered: Untiered::default(),
            deleting: BTreeSet::new(),
            remembered,
            expiring: None,
            starts_moved: 0,
            clock,
        }
    }

    /// Names an entry and puts it in the queue.
    pub(super) fn name(&mut self, entry: Entry) -> EntryId {
        let id = EntryId { epoch: self.epoch, index: self.next_index };
        self.next_index += 1;
        self.ahead_bytes += entry_len(&entry) as u64;
        self.queue.push_back(Named { id, entry });
        id
    }

    /// Appends an entry of the journal's own. Answered when it is committed.
    pub(crate) fn append_entry(&mut self, entry: Entry) -> oneshot::Receiver<Result<EntryId, StorageError>> {
        let (reply, answer) = oneshot::channel();
        match &self.phase {
            Phase::Serving => {
                let id = self.name(entry);
                self.waiters.push_back(Waiter { index: id.index, indexes: Vec::new(), reply: Reply::Entry(reply, id) });
            }
            Phase::Reopening(error) | Phase::Ended(error) => {
                // Whoever asked may have stopped waiting.
                let _ = reply.send(Err(error.clone()));
            }
        }
        answer
    }

    /// Takes what is queued, as far as one write goes. `room`: bytes left in the present file, for batches and for others.
    pub(crate) fn take_group(&mut self, room: (u64, u64)) -> Group {
        let mut group = Group::default();
        let (mut for_batches, mut for_others) = room;
        let mut bytes = 0;
        while let Some(next) = self.queue.front() {
            let len = align(entry_len(&next.entry) as u64);
            let is_batch = matches!(next.entry, Entry::Batch(_));
            let fits = len <= if is_batch { for_batches } else { for_others };
            if group.entries.is_empty() {
                if !fits {
                    group.new_file = true;
                    (for_batches, for_others) = (MAX_GROUP_BYTES.max(len), MAX_GROUP_BYTES.max(len));
                }
            } else if !fits || bytes + len > MAX_GROUP_BYTES {
                break;
            }
            bytes += len;
            for_batches = for_batches.saturating_sub(len);
            for_others = for_others.saturating_sub(len);
            group.entries.extend(self.queue.pop_front());
        }
        group
    }

    /// Undoes everything that is named and not committed: offsets, sequences, indexes.
    pub(crate) fn fail(&mut self, phase: Phase, error: &StorageError) -> Answers {
        self.queue.clear();
        self.ahead_bytes = 0;
        self.next_index = self.state.last.index + 1;
        self.slots.values_mut().for_each(|slot| slot.ahead = None);
        self.deleting.clear();
        self.expiring = None;
        self.phase = match phase {
            // The first entry of this epoch is not in the log: it is not served in.
            Phase::Serving if self.state.last.epoch < self.epoch => Phase::Reopening(error.clone()),
            phase => phase,
        };
        let mut answers = Answers::default();
        let committed = self.state.last.index;
        for Waiter { reply, indexes, .. } in self.waiters.drain(..) {
            match reply {
                // What an earlier group committed of a request stays.
                Reply::Append(reply, results) => {
                    let outcome = |(index, result)| if index <= committed { result } else { Err(error.clone()) };
                    let results = indexes.into_iter().zip(results).map(outcome).collect();
                    answers.add(Reply::Append(reply, results), None);
                }
                reply => answers.add(reply, Some(error.clone())),
            }
        }
        if self.phase != Phase::Serving {
            self.refuse_parked(error, &mut answers);
        }
        metrics::appends_undone();
        answers
    }

    /// Goes on in a new epoch, whose first entry is queued. Answered when that is committed.
    pub(crate) fn reopen(&mut self, epoch: u32) -> oneshot::Receiver<Result<EntryId, StorageError>> {
        self.epoch = epoch;
        self.phase = Phase::Serving;
        let reason = StorageError::NotLeader(format!("journal {} is in epoch {epoch} now", self.journal));
        for (at, slot) in &mut self.slots {
            for reader in slot.readers.drain(..) {
                reader.end(*at, reason.clone());
                slot.leaving.push(reader);
            }
        }
        self.append_entry(Entry::EpochStarted { node: self.node, wal_incarnation: self.wal_incarnation })
    }

    /// The bounds of a partition that the view has, whether or not anything was ever appended to it.
    pub(crate) fn bounds(&self, at: TopicPartition) -> Result<Bounds, StorageError> {
        let leader_epoch = self.leader_epoch(at)?;
        let (log_start_offset, high_watermark) =
            self.state.partitions.get(&at).map_or((0, 0), |state| (state.log_start, state.high_watermark));
        Ok(Bounds { leader_epoch, log_start_offset, high_watermark, last_stable_offset: high_watermark })
    }

    /// The leader epoch that this journal writes a partition with. Unknown when the view does not have the partition.
    pub(crate) fn leader_epoch(&self, at: TopicPartition) -> Result<i32, StorageError> {
        let partition = self.view.partition(at).ok_or(StorageError::UnknownPartition(at))?;
        if partition.journal != self.journal {
            let why = format!("{at} is of journal {}, not of {}", partition.journal, self.journal);
            return Err(StorageError::NotLeader(why));
        }
        Ok(partition.epoch_base.saturating_add(i32::try_from(self.epoch).unwrap_or(i32::MAX)))
    }

    /// Answered when all that is named now is committed or failed; nothing when nothing is under way.
    pub(super) fn last_named(&mut self) -> Option<oneshot::Receiver<Result<EntryId, StorageError>>> {
        let last = self.next_index - 1;
        if last == self.state.last.index {
            return None;
        }
        let (reply, answer) = oneshot::channel();
        let id = EntryId { epoch: self.epoch, index: last };
        self.waiters.push_back(Waiter { index: last, indexes: Vec::new(), reply: Reply::Entry(reply, id) });
        Some(answer)
    }

    /// The index up to which there are about `max_bytes` of untiered batches.
    pub(crate) fn untiered_cut(&self, max_bytes: u64) -> Option<u64> {
        self.untiered.cut(max_bytes)
    }

    pub(super) fn serves(&self) -> bool {
        self.phase == Phase::Serving
    }

    pub(crate) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Bytes of batches that are not in the object store.
    pub(crate) fn untiered_bytes(&self) -> u64 {
        self.untiered.bytes()
    }

    /// When the oldest batch was committed that is not in the object store.
    pub(crate) fn untiered_since(&self) -> Option<Instant> {
        self.untiered.since()
    }

    /// Whether a caller whose view is of `revision` has to wait before this partition can be called unknown.
    pub(crate) fn view_is_behind(&self, at: TopicPartition, revision: u64) -> bool {
        self.view.revision < revision && self.leader_epoch(at).is_err()
    }
}

impl Answers {
    pub(super) fn add(&mut self, reply: Reply, error: Option<StorageError>) {
        self.replies.push((reply, error));
    }

    /// There is something new in the partition for its reader.
    pub(super) fn mark(&mut self, reader: &Arc<Mailbox>, at: TopicPartition) {
        if reader.put(at) {
            self.readers.push(reader.clone());
        }
    }

    /// To be called without the lock. Readers first, who have a longer way to the client.
    pub(crate) fn send(self) {
        self.readers.iter().for_each(|reader| reader.wake());
        for (reply, error) in self.replies {
            // Whoever asked may have stopped waiting.
            match (reply, error) {
                (Reply::Append(reply, results), None) => drop(reply.send(results)),
                (Reply::Append(reply, results), Some(error)) => drop(reply.send(vec![Err(error); results.len()])),
                (Reply::Entry(reply, id), None) => drop(reply.send(Ok(id))),
                (Reply::Entry(reply, _), Some(error)) => drop(reply.send(Err(error))),
            }
        }
    }
}

impl Untiered {
    pub(super) fn push(&mut self, index: u64, len: u32) {
        self.batches.push_back((index, len));
        self.bytes += u64::from(len);
        self.since.get_or_insert_with(Instant::now);
    }

    pub(super) fn tiered_through(&mut self, index: u64) {
        while self.batches.front().is_some_and(|(first, _)| *first <= index) {
            self.bytes -= self.batches.pop_front().map_or(0, |(_, len)| u64::from(len));
        }
        // Not exact for what is left: it is younger, and flushed a little late at worst.
        self.since = (!self.batches.is_empty()).then(Instant::now);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// The index up to which there are about `max_bytes`, at least one batch.
    pub(super) fn cut(&self, max_bytes: u64) -> Option<u64> {
        let mut bytes = 0;
        let mut cut = None;
        for (index, len) in &self.batches {
            bytes += u64::from(*len);
            if cut.is_some() && bytes > max_bytes {
                break;
            }
            cut = Some(*index);
        }
        cut
    }
}
