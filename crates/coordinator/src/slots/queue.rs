//! What waits to be written, and which of it goes into the next transaction. No I/O.
//!
//! The writes of one group keep their order, however the store orders transactions: a group has at most one transaction
//! under way. Groups of one slot do not wait for each other.
//!
//! A transaction whose outcome is not known may still reach the store later, after writes that came after it. Its
//! writes are tried again in a transaction that puts the slot's record anew: what is conditional on the record as it was
//! before is void from then on. While that one is under way nothing else of the slot leaves.

mod departures;
mod packing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tidemark_model::{RecordKey, Slot, SlotId};
use tokio::sync::oneshot;

use self::departures::{Departures, Ready};
use self::packing::Packing;
use super::{MAX_WRITE_OPERATIONS, NotWritten, Urgency};
use crate::records::{Keys, encode_slot};
use crate::store::{Condition, MAX_TXN_BYTES, MAX_TXN_OPERATIONS, Operation, Txn};

/// The most bytes of a write's operations, which leaves room for the slot's key and record.
const MAX_WRITE_BYTES: usize = MAX_TXN_BYTES - 4_096;

/// Where the outcome of a write goes.
#[derive(Debug)]
pub(super) struct Written(pub(super) oneshot::Sender<Result<(), NotWritten>>);

#[derive(Debug, Default)]
pub(super) struct Queue {
    lanes: BTreeMap<SlotId, Lane>,
    ready: Departures,
    writes: usize,
    bytes: usize,
}

/// A slot.
#[derive(Debug)]
struct Lane {
    slot: Slot,
    tenure: u64,
    /// Of the slot's record, as its owner put it.
    revision: u64,
    /// Those that have something to write or being written.
    groups: BTreeMap<Arc<str>, Line>,
    /// Counts writes.
    pushed: u64,
    /// Writes that are not done.
    undone: BTreeSet<u64>,
    /// Who waits until all writes up to a number are done.
    watchers: VecDeque<(u64, Written)>,
    /// A transaction failed: the slot's record is to be read before the next.
    doubted: bool,
    /// A transaction of unknown outcome may still arrive: the next one puts the slot's record anew.
    fence: bool,
    /// That one is under way.
    fencing: bool,
}

/// A group.
#[derive(Debug, Default)]
struct Line {
    writes: VecDeque<Write>,
    /// A transaction with writes of it is under way.
    busy: bool,
}

#[derive(Debug)]
struct Write {
    operations: Vec<Operation>,
    bytes: usize,
    urgency: Urgency,
    /// Its number and where the outcome goes; none for all parts but the last of a write that was split.
    written: Option<(u64, Written)>,
}

/// A transaction that is under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) txn: Txn,
    /// The lanes that it is of, and whether it puts their records anew.
    lanes: BTreeMap<SlotId, (u64, bool)>,
    groups: Vec<Ready>,
    /// In their order, with their places in `groups`.
    writes: Vec<(usize, Write)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// At this revision.
    Done(u64),
    /// Nothing was written, and one of the slots is no longer what it was.
    Conflict,
    /// It may have been written, or may be yet.
    Unknown,
}

impl Queue {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn open(&mut self, slot: Slot, tenure: u64, revision: u64) {
        let lane = Lane {
            slot,
            tenure,
            revision,
            groups: BTreeMap::new(),
            pushed: 0,
            undone: BTreeSet::new(),
            watchers: VecDeque::new(),
            doubted: false,
            fence: false,
            fencing: false,
        };
        if let Some(before) = self.lanes.insert(slot.id, lane) {
            self.fail(before);
        }
    }

    /// Fails what waits. What is under way may yet be done.
    pub(super) fn close(&mut self, slot: SlotId, tenure: u64) {
        if self.lane(slot, tenure).is_some()
            && let Some(lane) = self.lanes.remove(&slot)
        {
            self.fail(lane);
        }
    }

    fn fail(&mut self, lane: Lane) {
        for write in lane.groups.into_values().flat_map(|line| line.writes) {
            self.writes -= 1;
            self.bytes -= write.cost();
            write.answer(Err(NotWritten::Lost));
        }
        lane.watchers.into_iter().for_each(|(_, written)| written.answer(Err(NotWritten::Lost)));
        self.ready.forget(lane.slot.id, lane.tenure);
    }

    pub(super) fn push(
        &mut self,
        slot: SlotId,
        tenure: u64,
        group: &Arc<str>,
        operations: Vec<Operation>,
        urgency: Urgency,
        written: Written,
    ) {
        let Some(lane) = self.lane(slot, tenure) else { return written.answer(Err(NotWritten::Lost)) };
        if operations.iter().any(|operation| operation.bytes() > MAX_WRITE_BYTES) {
            return written.answer(Err(NotWritten::TooLarge));
        }
        if operations.is_empty() {
            return lane.watch(written);
        }
        let mut parts: Vec<Write> = Vec::with_capacity(1);
        let mut part = Write::new(urgency);
        let count = operations.len();
        for operation in operations {
            let bytes = operation.bytes();
            if part.operations.len() == MAX_WRITE_OPERATIONS || part.bytes + bytes > MAX_WRITE_BYTES {
                parts.push(std::mem::replace(&mut part, Write::new(urgency)));
            }
            if part.operations.is_empty() {
                part.operations.reserve_exact(count.min(MAX_WRITE_OPERATIONS));
            }
            part.operations.push(operation);
            part.bytes += bytes;
        }
        lane.pushed += 1;
        lane.undone.insert(lane.pushed);
        part.written = Some((lane.pushed, written));
        parts.push(part);
        let (count, cost) = (parts.len(), parts.iter().map(Write::cost).sum::<usize>());
        let line = lane.groups.entry(Arc::clone(group)).or_default();
        let was_ready = !line.busy && !line.writes.is_empty();
        let is_ready = !line.busy;
        line.writes.extend(parts);
        self.writes += count;
        self.bytes += cost;
        if was_ready && urgency == Urgency::Urgent {
            self.ready.hurry(slot, group);
        } else if is_ready && !was_ready {
            self.ready.push_back(Ready { slot, tenure, group: Arc::clone(group), urgency });
        }
    }

    /// Answers when all that was pushed to the slot before is written.
    pub(super) fn watch(&mut self, slot: SlotId, tenure: u64, written: Written) {
        match self.lane(slot, tenure) {
            Some(lane) => lane.watch(written),
            None => written.answer(Err(NotWritten::Lost)),
        }
    }

    /// Whether as much waits as goes into one transaction.
    pub(super) fn full(&self) -> bool {
        self.writes >= MAX_TXN_OPERATIONS || self.bytes >= MAX_TXN_BYTES
    }

    /// Whether something urgent may leave.
    pub(super) fn is_urgent(&self) -> bool {
        self.ready.any_urgent()
    }

    /// The next transaction, when there is anything that can go.
    pub(super) fn take(&mut self, keys: &Keys) -> Option<Flight> {
        let mut packing = Packing::default();
        let mut flight = Flight { txn: Txn::new(), lanes: BTreeMap::new(), groups: Vec::new(), writes: Vec::new() };
        // Groups that have more, with their places in the transaction.
        let mut again: VecDeque<usize> = VecDeque::new();
        // What stays first in the queue, since it came first.
        let mut passed = Vec::new();
        // One write of each group, until nothing fits.
        while packing.has_room()
            && let Some(ready) = self.ready.pop_front()
        {
            let at = flight.groups.len();
            match self.board(&ready, at, keys, &mut packing, &mut flight) {
                Some(more) => {
                    again.extend(more.then_some(at));
                    flight.groups.push(ready);
                }
                None => passed.push(ready),
            }
        }
        passed.into_iter().rev().for_each(|ready| self.ready.push_front(ready));
        // Then busy groups take in turn what the others have left.
        while packing.has_room()
            && let Some(at) = again.pop_front()
        {
            let ready = flight.groups[at].clone();
            let more = self.board(&ready, at, keys, &mut packing, &mut flight);
            again.extend(more.unwrap_or(false).then_some(at));
        }
        if flight.writes.is_empty() {
            return None;
        }
        for (id, (_, fence)) in &flight.lanes {
            let Some(lane) = self.lanes.get_mut(id) else { continue };
            let key = keys.record(RecordKey::Slot(*id));
            flight.txn.conditions.push(Condition::Unchanged(key.clone(), lane.revision));
            if *fence {
                lane.fencing = true;
                flight.txn = flight.txn.put(key, encode_slot(lane.slot));
            }
        }
        flight.txn.operations.extend(packing.operations.into_values());
        Some(flight)
    }

    /// Has the next write of a group leave, if it may, and says whether the group has more.
    fn board(
        &mut self,
        ready: &Ready,
        at: usize,
        keys: &Keys,
        packing: &mut Packing,
        flight: &mut Flight,
    ) -> Option<bool> {
        let lane = self.lanes.get_mut(&ready.slot).filter(|lane| !lane.doubted && !lane.fencing)?;
        let overhead = lane.overhead(keys, flight.lanes.contains_key(&ready.slot));
        let line = lane.groups.get_mut(&ready.group)?;
        line.writes.front().filter(|write| packing.fits(write, overhead))?;
        let write = line.writes.pop_front()?;
        line.busy = true;
        let more = !line.writes.is_empty();
        self.writes -= 1;
        self.bytes -= write.cost();
        packing.add(&write, overhead);
        flight.lanes.entry(ready.slot).or_insert((lane.tenure, lane.fence));
        flight.writes.push((at, write));
        Some(more)
    }

    pub(super) fn finish(&mut self, flight: Flight, outcome: Outcome) {
        let Flight { lanes, mut groups, mut writes, .. } = flight;
        for (id, (tenure, fenced)) in lanes {
            let Some(lane) = self.lane(id, tenure) else { continue };
            lane.fencing &= !fenced;
            match outcome {
                // What else was under way was conditional on the record before, so that it cannot arrive any more.
                Outcome::Done(revision) if fenced => (lane.revision, lane.fence) = (revision, false),
                Outcome::Done(_) => {}
                Outcome::Conflict => lane.doubted = true,
                Outcome::Unknown => (lane.doubted, lane.fence) = (true, true),
            }
        }
        let done = matches!(outcome, Outcome::Done(_));
        if !done {
            // Back to the front, the last first.
            writes.reverse();
        }
        for (at, write) in writes {
            let (of, cost) = (&groups[at], write.cost());
            let lane = self.lanes.get_mut(&of.slot).filter(|lane| lane.tenure == of.tenure);
            match (lane, done) {
                (None, false) => write.answer(Err(NotWritten::Lost)),
                (None, true) => write.answer(Ok(())),
                (Some(lane), true) => {
                    if let Some((number, _)) = &write.written {
                        lane.undone.remove(number);
                    }
                    write.answer(Ok(()));
                }
                (Some(lane), false) => {
                    lane.groups.entry(Arc::clone(&of.group)).or_default().writes.push_front(write);
                    self.writes += 1;
                    self.bytes += cost;
                }
            }
        }
        if !done {
            groups.reverse();
        }
        for mut of in groups {
            let Some(lane) = self.lane(of.slot, of.tenure) else { continue };
            lane.tell_watchers();
            let Some(line) = lane.groups.get_mut(&of.group) else { continue };
            line.busy = false;
            of.urgency = line.writes.iter().map(|write| write.urgency).max().unwrap_or_default();
            if line.writes.is_empty() {
                lane.groups.remove(&of.group);
            } else if done {
                self.ready.push_back(of);
            } else {
                self.ready.push_front(of);
            }
        }
    }

    /// The slots whose records are to be read.
    pub(super) fn doubted(&self) -> Vec<(Slot, u64)> {
        self.lanes.values().filter(|lane| lane.doubted).map(|lane| (lane.slot, lane.tenure)).collect()
    }

    /// The slot's record was read after it was doubted, is what its owner put, and has this revision.
    pub(super) fn assured(&mut self, slot: SlotId, tenure: u64, revision: u64) {
        if let Some(lane) = self.lane(slot, tenure) {
            (lane.doubted, lane.revision) = (false, revision);
        }
    }

    fn lane(&mut self, slot: SlotId, tenure: u64) -> Option<&mut Lane> {
        self.lanes.get_mut(&slot).filter(|lane| lane.tenure == tenure)
    }
}

impl Lane {
    /// What its first write of a transaction adds: operations, and bytes.
    fn overhead(&self, keys: &Keys, flying: bool) -> (usize, usize) {
        if flying {
            return (0, 0);
        }
        let key = keys.record(RecordKey::Slot(self.slot.id)).len();
        if self.fence { (1, 2 * key + encode_slot(self.slot).len()) } else { (0, key) }
    }

    fn watch(&mut self, written: Written) {
        self.watchers.push_back((self.pushed, written));
        self.tell_watchers();
    }

    fn tell_watchers(&mut self) {
        let undone = self.undone.first().copied().unwrap_or(u64::MAX);
        while self.watchers.front().is_some_and(|(number, _)| *number < undone)
            && let Some((_, written)) = self.watchers.pop_front()
        {
            written.answer(Ok(()));
        }
    }
}

impl Write {
    fn new(urgency: Urgency) -> Self {
        Self { operations: Vec::new(), bytes: 0, urgency, written: None }
    }

    /// What it counts for while it waits.
    fn cost(&self) -> usize {
        self.bytes + size_of::<Self>() + self.operations.len() * size_of::<Operation>()
    }

    fn answer(self, result: Result<(), NotWritten>) {
        if let Some((_, written)) = self.written {
            written.answer(result);
        }
    }
}

impl Written {
    fn answer(self, result: Result<(), NotWritten>) {
        // Who wrote it may not wait for it.
        let _ = self.0.send(result);
    }
}

#[cfg(test)]
mod tests;
