use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use tidemark_model::{NodeId, RecordKey, Slot, SlotId};
use tokio::sync::oneshot;

use super::{Flight, Outcome, Queue, Ready, Urgency, Written};
use crate::records::Keys;
use crate::slots::NotWritten;
use crate::store::{Condition, MAX_TXN_BYTES, MAX_TXN_OPERATIONS, Operation, Txn};

const LANES: u32 = 3;
const GROUPS: u32 = 3;

type Answer = oneshot::Receiver<Result<(), NotWritten>>;

type Puts = BTreeMap<String, Bytes>;

struct Pushed {
    number: u64,
    answer: Answer,
    answered: Option<Result<(), NotWritten>>,
    puts: Puts,
}

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    /// A write of so many keys, from one on, to a group of a slot.
    Push { slot: u32, group: u32, key: u32, count: usize, urgency: Urgency },
    /// Somebody wants to know when all until now is written.
    Watch(u32),
    /// As much as can leaves.
    Take,
    /// One of the transactions under way arrives at the store, perhaps a second time or after it was given up.
    Arrive(usize),
    /// One that arrived is answered.
    Answer(usize),
    /// One is given up, and may arrive yet.
    Fail(usize),
    /// The records that are in doubt are read.
    Assure,
    /// Another coordinator takes a slot.
    Steal(u32),
}

fn urgency() -> impl Strategy<Value = Urgency> {
    prop_oneof![Just(Urgency::Patient), Just(Urgency::Urgent)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..LANES, 0..GROUPS, 0..6_u32, 1..200_usize, urgency())
            .prop_map(|(slot, group, key, count, urgency)| Step::Push { slot, group, key, count, urgency }),
        2 => (0..LANES).prop_map(Step::Watch),
        4 => Just(Step::Take),
        4 => any::<usize>().prop_map(Step::Arrive),
        4 => any::<usize>().prop_map(Step::Answer),
        2 => any::<usize>().prop_map(Step::Fail),
        3 => Just(Step::Assure),
        1 => (0..LANES * 8).prop_map(Step::Steal),
    ]
}

/// A store, and what an owner of slots knows and was told.
struct World {
    keys: Keys,
    queue: Queue,
    /// Key to revision and value.
    stored: BTreeMap<String, (u64, Bytes)>,
    revision: u64,
    /// Under way: the transaction, and how it ended in the store, once it did.
    flights: Vec<(Flight, Option<Outcome>)>,
    /// Given up, and perhaps still to arrive.
    strays: Vec<Txn>,
    stolen: Vec<u32>,
    /// By slot and group: the writes, with what each put.
    writes: BTreeMap<(u32, u32), Vec<Pushed>>,
    /// Who watches, the slot, and how many writes had been pushed.
    watchers: Vec<(Answer, u32, u64)>,
    pushed: u64,
}

fn slot(id: u32) -> Slot {
    Slot { id: SlotId(id), epoch: 1, owner: NodeId(1), incarnation: 1 }
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            keys: Keys::new("main"),
            queue: Queue::default(),
            stored: BTreeMap::new(),
            revision: 1,
            flights: Vec::new(),
            strays: Vec::new(),
            stolen: Vec::new(),
            writes: BTreeMap::new(),
            watchers: Vec::new(),
            pushed: 0,
        };
        for id in 0..LANES {
            world.stored.insert(world.record(id), (1, Bytes::new()));
            world.queue.open(slot(id), u64::from(id), 1);
        }
        world
    }

    fn record(&self, id: u32) -> String {
        self.keys.record(RecordKey::Slot(SlotId(id)))
    }

    fn commit(&mut self, txn: &Txn) -> Outcome {
        txn.check().unwrap();
        let holds = txn.conditions.iter().all(|condition| match condition {
            Condition::Absent(key) => !self.stored.contains_key(key),
            Condition::Unchanged(key, revision) => self.stored.get(key).is_some_and(|(now, _)| now == revision),
        });
        if !holds {
            return Outcome::Conflict;
        }
        self.revision += 1;
        for operation in &txn.operations {
            if let Operation::Put { key, value, .. } = operation {
                self.stored.insert(key.clone(), (self.revision, value.clone()));
            }
        }
        Outcome::Done(self.revision)
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Push { slot, group, key, count, urgency } => {
                self.pushed += 1;
                let (number, value) = (self.pushed, Bytes::from(self.pushed.to_string()));
                let prefix = self.keys.groups(SlotId(slot));
                let puts: BTreeMap<String, Bytes> =
                    (0..count).map(|n| (format!("{prefix}{group}/{}", key as usize + n), value.clone())).collect();
                let operations = puts.iter().map(|(key, value)| put(key, value.clone())).collect();
                let (written, answer) = oneshot::channel();
                let name = group.to_string().into();
                self.queue.push(SlotId(slot), u64::from(slot), &name, operations, urgency, Written(written));
                self.writes.entry((slot, group)).or_default().push(Pushed { number, answer, answered: None, puts });
            }
            Step::Watch(slot) => {
                let (written, answer) = oneshot::channel();
                self.queue.watch(SlotId(slot), u64::from(slot), Written(written));
                self.watchers.push((answer, slot, self.pushed));
            }
            Step::Take => {
                while let Some(flight) = self.queue.take(&self.keys) {
                    let under_way = |of: &Ready| {
                        let groups = self.flights.iter().flat_map(|(other, _)| &other.groups);
                        groups.into_iter().any(|other| (other.slot, &other.group) == (of.slot, &of.group))
                    };
                    assert!(!flight.groups.iter().any(under_way), "two transactions of one group are under way");
                    self.flights.push((flight, None));
                }
            }
            Step::Arrive(which) => {
                let count = self.flights.len() + self.strays.len();
                if count == 0 {
                    return;
                }
                let at = which % count;
                if let Some((flight, ended)) = self.flights.get(at)
                    && ended.is_none()
                {
                    let txn = flight.txn.clone();
                    self.flights[at].1 = Some(self.commit(&txn));
                } else if at >= self.flights.len() {
                    let txn = self.strays.remove(at - self.flights.len());
                    self.commit(&txn);
                }
            }
            Step::Answer(which) => {
                let arrived = self.flights.iter().filter(|(_, ended)| ended.is_some()).count();
                if arrived == 0 {
                    return;
                }
                let mut ended = self.flights.iter().enumerate().filter(|(_, (_, ended))| ended.is_some());
                let at = ended.nth(which % arrived).unwrap().0;
                let (flight, ended) = self.flights.remove(at);
                self.queue.finish(flight, ended.unwrap());
            }
            Step::Fail(which) => {
                if self.flights.is_empty() {
                    return;
                }
                let (flight, ended) = self.flights.remove(which % self.flights.len());
                if ended.is_none() {
                    self.strays.push(flight.txn.clone());
                }
                self.queue.finish(flight, Outcome::Unknown);
            }
            Step::Assure => {
                for (slot, tenure) in self.queue.doubted() {
                    if self.stolen.contains(&slot.id.0) {
                        self.queue.close(slot.id, tenure);
                    } else {
                        let revision = self.stored[&self.record(slot.id.0)].0;
                        self.queue.assured(slot.id, tenure, revision);
                    }
                }
            }
            Step::Steal(slot) if slot < LANES => {
                self.revision += 1;
                let (record, revision) = (self.record(slot), self.revision);
                self.stored.insert(record, (revision, Bytes::from_static(b"thief")));
                self.stolen.push(slot);
            }
            Step::Steal(_) => {}
        }
        self.look();
        assert_eq!(self.queue.is_urgent(), self.has_urgent(), "what is urgent waits, or what is not hurries");
    }

    /// Whether a group that has no transaction under way has something urgent.
    fn has_urgent(&self) -> bool {
        let lines = self.queue.lanes.values().flat_map(|lane| lane.groups.values());
        lines.filter(|line| !line.busy).flat_map(|line| &line.writes).any(|write| write.urgency == Urgency::Urgent)
    }

    /// Notes who was answered.
    fn look(&mut self) {
        for pushed in self.writes.values_mut().flatten() {
            if let Ok(answer) = pushed.answer.try_recv() {
                pushed.answered = Some(answer);
            }
        }
        let writes = &self.writes;
        self.watchers.retain_mut(|(answer, slot, until)| {
            let Ok(answer) = answer.try_recv() else { return true };
            let before = writes.iter().filter(|((of, _), _)| of == slot).flat_map(|(_, pushed)| pushed);
            let done = before.filter(|pushed| pushed.number <= *until).all(|pushed| pushed.answered == Some(Ok(())));
            assert!(answer.is_err() || done, "told that all was written when it was not");
            false
        });
    }

    /// Everything arrives, is answered and tried again, until nothing is left.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.run(Step::Assure);
            self.run(Step::Take);
            self.run(Step::Arrive(0));
            self.run(Step::Answer(0));
            while let Some(stray) = self.strays.pop() {
                self.commit(&stray);
            }
            if self.flights.is_empty() && self.queue.doubted().is_empty() && self.queue.writes == 0 {
                return;
            }
        }
        panic!("it does not end: {:?}", self.queue);
    }
}

fn put(key: &str, value: Bytes) -> Operation {
    Operation::Put { key: key.to_owned(), value, lease: None }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is lost, late or stolen: what was acknowledged is stored, unless something later was; of a slot that
    /// stays everything is, and the last write of each key wins.
    #[test]
    fn writes_are_stored_in_their_order_whatever_happens_to_transactions(steps in vec(step(), 0..80)) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.run(step));
        world.settle();
        prop_assert_eq!((world.queue.bytes(), world.queue.writes, world.queue.ready.iter().count()), (0, 0, 0));
        prop_assert!(world.queue.lanes.values().all(|lane| lane.groups.is_empty() && lane.undone.is_empty()));
        prop_assert!(world.watchers.is_empty(), "somebody was never told");
        for ((slot, _), writes) in std::mem::take(&mut world.writes) {
            let stolen = world.stolen.contains(&slot);
            let mut ended = false;
            let mut expected = BTreeMap::new();
            let mut allowed: BTreeMap<String, Vec<Bytes>> = BTreeMap::new();
            for Pushed { answered, puts, .. } in writes {
                let answer = answered.expect("each write is answered");
                prop_assert!(answer.is_ok() || stolen, "a slot that stayed lost a write");
                // After the first that failed nothing is acknowledged.
                prop_assert!(!(ended && answer.is_ok()));
                ended |= answer.is_err();
                for (key, value) in puts {
                    if answer.is_ok() {
                        expected.insert(key.clone(), value.clone());
                        allowed.insert(key, vec![value]);
                    } else {
                        allowed.entry(key).or_default().push(value);
                    }
                }
            }
            for (key, value) in &expected {
                let stored = world.stored.get(key).map(|(_, stored)| stored.clone());
                if stolen {
                    prop_assert!(stored.is_some_and(|stored| allowed[key].contains(&stored)), "{}", key);
                } else {
                    prop_assert_eq!(stored.as_ref(), Some(value), "{}", key);
                }
            }
        }
    }
}

#[test]
fn a_transaction_takes_of_all_groups_in_turn_and_no_more_than_it_may_have() {
    let mut world = World::new();
    for n in 0..400 {
        world.run(Step::Push { slot: 0, group: 0, key: n, count: 1, urgency: Urgency::Patient });
    }
    for slot in 1..LANES {
        world.run(Step::Push { slot, group: 0, key: 0, count: 2, urgency: Urgency::Patient });
    }
    let flight = world.queue.take(&world.keys).unwrap();
    assert_eq!((flight.lanes.len(), flight.txn.operations.len()), (LANES as usize, MAX_TXN_OPERATIONS));
    assert!(world.queue.take(&world.keys).is_none(), "every group with something left is busy");
    world.queue.finish(flight, Outcome::Done(2));
    assert_eq!(world.queue.take(&world.keys).unwrap().txn.operations.len(), MAX_TXN_OPERATIONS);
}

#[test]
fn groups_of_a_slot_do_not_wait_for_each_other_unless_its_record_is_put_anew() {
    let mut world = World::new();
    let take = |world: &mut World, group: u32| {
        world.run(Step::Push { slot: 0, group, key: 0, count: 1, urgency: Urgency::Patient });
        world.queue.take(&world.keys)
    };
    let one = take(&mut world, 0).unwrap();
    let two = take(&mut world, 1).unwrap();
    assert!(take(&mut world, 0).is_none(), "the group's earlier write is under way");
    world.queue.finish(one, Outcome::Unknown);
    world.run(Step::Assure);
    let anew = world.queue.take(&world.keys).unwrap();
    assert_eq!(anew.txn.operations.len(), 2, "the record, and the key of both writes");
    assert!(take(&mut world, 2).is_none(), "nothing leaves meanwhile");
    world.queue.finish(two, Outcome::Done(2));
    world.queue.finish(anew, Outcome::Done(3));
    assert_eq!(world.queue.take(&world.keys).unwrap().groups.len(), 1);
}

#[test]
fn bytes_bound_a_transaction_and_what_can_never_be_written_is_refused() {
    let mut world = World::new();
    let mut push = |bytes: usize| {
        let (written, answer) = oneshot::channel();
        let operation = put("k", Bytes::from(vec![0; bytes]));
        world.queue.push(SlotId(0), 0, &"g".into(), vec![operation], Urgency::Patient, Written(written));
        answer
    };
    assert_eq!(push(MAX_TXN_BYTES).try_recv().unwrap(), Err(NotWritten::TooLarge));
    push(MAX_TXN_BYTES - 5_000);
    push(MAX_TXN_BYTES - 5_000);
    assert!(world.queue.full());
    let flight = world.queue.take(&world.keys).unwrap();
    assert!(flight.txn.check().is_ok() && flight.writes.len() == 1);
}
