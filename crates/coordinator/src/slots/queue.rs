//! What waits to be written, and which of it goes into the next transaction. No I/O.
//!
//! Each slot is a lane. A transaction takes from the front of many lanes, and a lane has at most one transaction under
//! way, so that its writes keep their order however the store orders transactions.
//!
//! A transaction whose outcome is not known may still reach the store later, after writes that came after it. Its
//! writes are tried again in a transaction that puts the slot's record anew: what is conditional on the record as it was
//! before is void from then on.

use std::collections::{BTreeMap, VecDeque};

use tidemark_model::{RecordKey, Slot, SlotId};
use tokio::sync::oneshot;

use super::{MAX_WRITE_OPERATIONS, NotWritten};
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
    /// The lane after the last that was the first of a transaction: each has its turn.
    turn: u32,
    writes: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Lane {
    slot: Slot,
    tenure: u64,
    /// Of the slot's record, as its owner put it.
    revision: u64,
    writes: VecDeque<Write>,
    /// A transaction of this lane is under way.
    busy: bool,
    /// A transaction failed: the slot's record is to be read before the next.
    doubted: bool,
    /// A transaction of unknown outcome may still arrive: the next one puts the slot's record anew.
    fence: bool,
}

#[derive(Debug)]
struct Write {
    operations: Vec<Operation>,
    bytes: usize,
    /// None for all parts but the last of a write that was split.
    written: Option<Written>,
}

/// A transaction that is under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) txn: Txn,
    /// The lanes that it is of, and whether it puts their records anew.
    lanes: Vec<(SlotId, u64, bool)>,
    writes: Vec<(SlotId, u64, Write)>,
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
        let writes = VecDeque::new();
        let lane = Lane { slot, tenure, revision, writes, busy: false, doubted: false, fence: false };
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
        for write in lane.writes {
            self.forget(&write);
            write.answer(Err(NotWritten::Lost));
        }
    }

    pub(super) fn push(&mut self, slot: SlotId, tenure: u64, operations: Vec<Operation>, written: Written) {
        if self.lane(slot, tenure).is_none() {
            return written.answer(Err(NotWritten::Lost));
        }
        if operations.iter().any(|operation| operation.bytes() > MAX_WRITE_BYTES) {
            return written.answer(Err(NotWritten::TooLarge));
        }
        let mut parts = vec![Write { operations: Vec::new(), bytes: 0, written: None }];
        for operation in operations {
            let bytes = operation.bytes();
            if let Some(part) = parts.last_mut()
                && part.operations.len() < MAX_WRITE_OPERATIONS
                && part.bytes + bytes <= MAX_WRITE_BYTES
            {
                part.operations.push(operation);
                part.bytes += bytes;
            } else {
                parts.push(Write { operations: vec![operation], bytes, written: None });
            }
        }
        if let Some(last) = parts.last_mut() {
            last.written = Some(written);
        }
        self.writes += parts.len();
        self.bytes += parts.iter().map(Write::cost).sum::<usize>();
        if let Some(lane) = self.lane(slot, tenure) {
            lane.writes.extend(parts);
        }
    }

    /// Whether as much waits as goes into one transaction.
    pub(super) fn full(&self) -> bool {
        self.writes >= MAX_TXN_OPERATIONS || self.bytes >= MAX_TXN_BYTES
    }

    /// The next transaction, when there is anything that can go.
    pub(super) fn take(&mut self, keys: &Keys) -> Option<Flight> {
        let mut order: Vec<SlotId> = self.lanes.range(SlotId(self.turn)..).map(|(id, _)| *id).collect();
        order.extend(self.lanes.range(..SlotId(self.turn)).map(|(id, _)| *id));
        let mut packing = Packing::default();
        let mut flight = Flight { txn: Txn::new(), lanes: Vec::new(), writes: Vec::new() };
        // One write of each lane in turn, until nothing fits: a busy lane takes what the others leave.
        while !order.is_empty() {
            order.retain(|id| {
                let Some(lane) = self.lanes.get_mut(id).filter(|lane| !lane.busy && !lane.doubted) else {
                    return false;
                };
                let flying = flight.lanes.iter().any(|(flying, ..)| flying == id);
                let Some(write) = lane.writes.front() else { return false };
                let nothing = write.operations.is_empty();
                if !nothing && !packing.fits(write, lane.overhead(keys, flying)) {
                    return false;
                }
                let Some(write) = lane.writes.pop_front() else { return false };
                self.writes -= 1;
                self.bytes -= write.cost();
                if nothing && !flying {
                    write.answer(Ok(()));
                    return true;
                }
                packing.add(&write, lane.overhead(keys, flying));
                if !flying {
                    flight.lanes.push((*id, lane.tenure, lane.fence));
                }
                flight.writes.push((*id, lane.tenure, write));
                true
            });
        }
        let (first, ..) = flight.lanes.first()?;
        self.turn = first.0 + 1;
        for (id, _, fence) in &flight.lanes {
            let Some(lane) = self.lanes.get_mut(id) else { continue };
            lane.busy = true;
            let key = keys.record(RecordKey::Slot(*id));
            flight.txn.conditions.push(Condition::Unchanged(key.clone(), lane.revision));
            if *fence {
                flight.txn = flight.txn.put(key, encode_slot(lane.slot));
            }
        }
        flight.txn.operations.extend(packing.operations.into_values());
        Some(flight)
    }

    pub(super) fn finish(&mut self, flight: Flight, outcome: Outcome) {
        let Flight { lanes, writes, .. } = flight;
        for (id, tenure, fenced) in lanes {
            let Some(lane) = self.lane(id, tenure) else { continue };
            lane.busy = false;
            match outcome {
                Outcome::Done(revision) if fenced => (lane.revision, lane.fence) = (revision, false),
                Outcome::Done(_) => {}
                Outcome::Conflict => lane.doubted = true,
                Outcome::Unknown => (lane.doubted, lane.fence) = (true, true),
            }
        }
        if matches!(outcome, Outcome::Done(_)) {
            writes.into_iter().for_each(|(.., write)| write.answer(Ok(())));
            return;
        }
        for (id, tenure, write) in writes.into_iter().rev() {
            let cost = write.cost();
            match self.lane(id, tenure) {
                Some(lane) => {
                    lane.writes.push_front(write);
                    self.writes += 1;
                    self.bytes += cost;
                }
                None => write.answer(Err(NotWritten::Lost)),
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

    fn forget(&mut self, write: &Write) {
        self.writes -= 1;
        self.bytes -= write.cost();
    }
}

impl Lane {
    /// What its first write of a transaction adds: operations, and bytes.
    fn overhead(&self, keys: &Keys, flying: bool) -> (usize, usize) {
        let key = if flying { 0 } else { keys.record(RecordKey::Slot(self.slot.id)).len() };
        match (flying, self.fence) {
            (true, _) => (0, 0),
            (false, false) => (0, key),
            (false, true) => (1, 2 * key + encode_slot(self.slot).len()),
        }
    }
}

/// What a transaction has so far.
#[derive(Default)]
struct Packing {
    operations: BTreeMap<String, Operation>,
    overhead: usize,
    bytes: usize,
}

impl Packing {
    fn fits(&self, write: &Write, (operations, bytes): (usize, usize)) -> bool {
        let new = write.operations.iter().filter(|operation| !self.operations.contains_key(operation.key())).count();
        self.operations.len() + new + self.overhead + operations <= MAX_TXN_OPERATIONS
            && self.bytes + write.bytes + bytes <= MAX_TXN_BYTES
    }

    fn add(&mut self, write: &Write, (operations, bytes): (usize, usize)) {
        self.overhead += operations;
        self.bytes += bytes + write.bytes;
        for operation in &write.operations {
            if let Some(before) = self.operations.insert(operation.key().to_owned(), operation.clone()) {
                self.bytes -= before.bytes();
            }
        }
    }
}

impl Write {
    /// What it counts for while it waits.
    fn cost(&self) -> usize {
        self.bytes + size_of::<Self>() + self.operations.len() * size_of::<Operation>()
    }

    fn answer(self, result: Result<(), NotWritten>) {
        if let Some(written) = self.written {
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
