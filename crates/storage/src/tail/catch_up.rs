//! Readers that are behind the memory: what they want next is read from the log's files, in one pass for all of a stream
//! that are behind in a journal.
//!
//! Partitions lie mixed in a file. So a scan takes what comes first in the log, of whichever partitions are behind and have
//! credit, and reads it in the order in which it lies there: neighbours of many partitions are one read of the disk. While
//! the events of one scan are sent, the next is read; a stream holds no more than these two of each journal.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tidemark_model::storage::TailEvent;
use tidemark_model::{Batch, JournalId, StorageError, TopicPartition};

use super::{MAX_EVENT_BYTES, Tail};
use crate::journal::Journal;
use crate::journal::core::Core;
use crate::read;
use crate::wal::read::{ReadError, Wanted};

/// Bytes that one scan reads, but for one batch that is larger: some milliseconds of a disk's time.
const SCAN_BYTES: usize = 4 * 1024 * 1024;

/// What of a stream is behind the memory.
#[derive(Default)]
pub(super) struct CatchUp {
    lanes: BTreeMap<JournalId, Lane>,
    running: FuturesUnordered<BoxFuture<'static, Scanned>>,
}

struct Lane {
    journal: Arc<Journal>,
    /// In the order of their turns.
    waiting: VecDeque<TopicPartition>,
    running: bool,
}

/// A scan that is done.
pub(super) struct Scanned {
    journal: Arc<Journal>,
    /// Each partition, its subscription, and which of the batches are its own.
    parts: Vec<(TopicPartition, u64, Vec<usize>)>,
    batches: Result<Vec<Batch>, ReadError>,
}

/// A partition that is behind: from which offset it wants how many bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) partition: TopicPartition,
    pub(crate) offset: i64,
    pub(crate) max_bytes: usize,
}

impl CatchUp {
    /// The partition is behind, and has its turn after those that are already.
    pub(super) fn wait(&mut self, journal: &Arc<Journal>, partition: TopicPartition) {
        let lane = self.lanes.entry(journal.id).or_insert_with(|| Lane {
            journal: journal.clone(),
            waiting: VecDeque::new(),
            running: false,
        });
        // An earlier subscription may have left it there.
        if !lane.waiting.contains(&partition) {
            lane.waiting.push_back(partition);
        }
    }

    /// A journal of which something is wanted and nothing is being read.
    pub(super) fn startable(&self) -> Option<Arc<Journal>> {
        let mut idle = self.lanes.values().filter(|lane| !lane.running && !lane.waiting.is_empty());
        idle.next().map(|lane| lane.journal.clone())
    }

    /// The next scan that is done. Waits for ever while there is none.
    pub(super) async fn next(&mut self) -> Scanned {
        match self.running.next().await {
            Some(scanned) => scanned,
            None => std::future::pending().await,
        }
    }
}

impl Tail {
    /// Begins a scan of the journal for those that are behind.
    pub(super) fn scan(&mut self, journal: &Arc<Journal>) {
        let Some(lane) = self.catch_up.lanes.get_mut(&journal.id).filter(|lane| !lane.running) else { return };
        let mut asks = Vec::with_capacity(lane.waiting.len());
        let subscriptions = &mut self.subscriptions;
        // One that ended meanwhile, or began anew, is not behind.
        lane.waiting.retain(|partition| {
            let Some(subscription) = subscriptions.get(partition).filter(|one| one.behind) else { return false };
            let max_bytes = usize::try_from(subscription.credit).unwrap_or(0).min(MAX_EVENT_BYTES);
            asks.push(Ask { partition: *partition, offset: subscription.offset, max_bytes });
            true
        });
        let Plan { wanted, not_behind } = journal.lock().plan_scan(&asks, SCAN_BYTES);
        let mut parts: BTreeMap<TopicPartition, Vec<usize>> = BTreeMap::new();
        for (place, (partition, _)) in wanted.iter().enumerate() {
            parts.entry(*partition).or_default().push(place);
        }
        for partition in not_behind {
            if let Some(subscription) = subscriptions.get_mut(&partition) {
                subscription.behind = false;
                self.mailbox.mark(partition);
            }
        }
        let still = |partition: &TopicPartition| subscriptions.get(partition).is_some_and(|one| one.behind);
        lane.waiting.retain(|partition| still(partition) && !parts.contains_key(partition));
        if parts.is_empty() {
            return;
        }
        let id = |partition: &TopicPartition| subscriptions.get(partition).map_or(0, |subscription| subscription.id);
        let parts = parts.into_iter().map(|(partition, places)| (partition, id(&partition), places)).collect();
        lane.running = true;
        let journal = journal.clone();
        let scan = async move {
            let batches = journal.read_wal(wanted.into_iter().map(|(_, wanted)| wanted).collect()).await;
            Scanned { journal, parts, batches }
        };
        self.catch_up.running.push(scan.boxed());
    }

    /// Makes events of what was read, and begins the next scan, so that it is done when these are sent.
    pub(super) fn scanned(&mut self, scanned: Scanned) {
        let Scanned { journal, parts, batches } = scanned;
        if let Some(lane) = self.catch_up.lanes.get_mut(&journal.id) {
            lane.running = false;
        }
        let (batches, failed) = match batches {
            Ok(batches) => (batches, None),
            // Whoever reads by offset finds where it is now.
            Err(ReadError::Gone) => (Vec::new(), Some(StorageError::Unavailable(ReadError::Gone.to_string()))),
            Err(error) => (Vec::new(), Some(read::refusal(&error))),
        };
        for (partition, id, places) in parts {
            let Some(subscription) = self.subscriptions.get_mut(&partition).filter(|one| one.id == id) else {
                continue;
            };
            let own: Vec<Batch> = places.iter().filter_map(|place| batches.get(*place).cloned()).collect();
            // The present bounds: they tell what was deleted meanwhile.
            let bounds = journal.lock().bounds(partition);
            let bounds = match failed.clone().map_or(bounds, Err) {
                Ok(bounds) => bounds,
                Err(reason) => {
                    let ended = self.end(partition, reason);
                    self.ready.extend(ended);
                    continue;
                }
            };
            subscription.credit -= own.iter().map(Batch::wire_len).sum::<usize>() as i64;
            subscription.offset = own.last().map_or(subscription.offset, Batch::next_offset);
            subscription.told = Some(bounds);
            self.catch_up.wait(&journal, partition);
            self.ready.push_back(TailEvent::Batches { partition, bounds, batches: own, aborted: Vec::new() });
        }
        self.scan(&journal);
    }
}

/// What a scan reads, in the order of the log, and who asked and is not behind, or may have nothing.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) wanted: Vec<(TopicPartition, Wanted)>,
    pub(crate) not_behind: Vec<TopicPartition>,
}

impl Core {
    /// What to read for partitions that are behind, in the order of the log: what comes first of all of them, about
    /// `max_bytes`, and at least one batch of the first of them, so that nobody waits for ever behind those that are
    /// further back.
    pub(crate) fn plan_scan(&self, asks: &[Ask], max_bytes: usize) -> Plan {
        let behind = |ask: &Ask| {
            let slot = self.slots.get(&ask.partition);
            let refs = slot.map(|slot| slot.log.starting_at(ask.offset)).into_iter().flatten();
            let mut bytes = 0;
            let limit = ask.max_bytes;
            let in_files = refs.take_while(move |batch| {
                bytes += batch.len();
                let fits = limit > 0 && (bytes <= limit || bytes == batch.len());
                fits && batch.batch.is_none() && batch.index > self.state.tiered_through
            });
            in_files.map(|batch| Wanted { index: batch.index, location: batch.location })
        };
        let mut sources: Vec<_> = asks.iter().map(behind).collect();
        let mut heads: Vec<Option<Wanted>> = sources.iter_mut().map(Iterator::next).collect();
        let nothing = asks.iter().zip(&heads).filter(|(_, head)| head.is_none());
        let not_behind: Vec<TopicPartition> = nothing.map(|(ask, _)| ask.partition).collect();
        let (mut wanted, mut bytes) = (Vec::new(), 0);
        let mut take = |place: usize, heads: &mut Vec<Option<Wanted>>| {
            let next = sources[place].next();
            std::mem::replace(&mut heads[place], next).map(|wanted| (asks[place].partition, wanted))
        };
        if let Some(first) = (!asks.is_empty()).then(|| take(0, &mut heads)).flatten() {
            bytes += first.1.location.length as usize;
            wanted.push(first);
        }
        let entry = |place: usize, head: &Option<Wanted>| head.map(|head| Reverse((head.index, place)));
        let mut nearest: BinaryHeap<_> = heads.iter().enumerate().filter_map(|(n, head)| entry(n, head)).collect();
        while let Some(Reverse((_, place))) = nearest.pop() {
            let Some(next) = take(place, &mut heads) else { continue };
            bytes += next.1.location.length as usize;
            if bytes > max_bytes && !wanted.is_empty() {
                break;
            }
            wanted.push(next);
            nearest.extend(entry(place, &heads[place]));
        }
        wanted.sort_unstable_by_key(|(_, wanted)| wanted.index);
        Plan { wanted, not_behind }
    }
}
