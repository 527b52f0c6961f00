//! What must hold of a group, whatever breaks, and is checked as things happen.
//!
//! - A partition has one owner in a generation, or at a member epoch. Processes with one instance id are one member.
//! - Who is given a partition that another member still reads takes it from one that has lost it, and does not know it yet:
//!   that one is never again told that all is well. Where generations do not tell who that is, it is one or the other.
//! - A committed offset that is fetched is one that somebody committed, and not below one that was acknowledged before the
//!   question.
//! - What was committed was delivered, so that whoever begins there leaves nothing out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemark_segment::testing::sim::Trace;
use tokio::time::Instant;

use crate::coordinators::LEASE;

/// A group, with the topic that it reads. Clones share it.
#[derive(Debug, Clone)]
pub struct Group {
    pub name: Arc<str>,
    pub trace: Trace,
    /// Where somebody of another protocol comes when nobody is in it, it is deleted, and the next one of its name counts from
    /// one again, as in Kafka. So a generation tells nothing of who came first.
    begins_anew: bool,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    partitions: BTreeMap<i32, Partition>,
    /// By generation and partition.
    owners: BTreeMap<(i32, i32), String>,
    /// The last generation that somebody was in.
    generation: i32,
    /// How many partitions a leader has assigned last.
    assigned: i32,
    /// The members that the processes of static ones are.
    identities: BTreeMap<String, String>,
    /// The partitions that each member reads.
    readers: BTreeMap<String, BTreeMap<i32, Reads>>,
}

#[derive(Debug, Default)]
struct Partition {
    /// Records are there up to this offset.
    end: i64,
    /// And were delivered up to this one.
    delivered: i64,
    /// Offsets of commits that were begun.
    begun: BTreeSet<i64>,
    /// The highest that was acknowledged.
    acknowledged: i64,
}

#[derive(Debug, Default)]
struct Reads {
    /// The generation, or epoch, in which it was last told so.
    generation: i32,
    /// Who was given the partition meanwhile, and when.
    taken: Option<Taken>,
    /// Who else was given it, where only the coordinator knows who of them came last: another process of this static member
    /// in the same generation, or anybody of a group that begins anew. And when that was known.
    rival: Option<Taken>,
    /// When the last request was sent in answer to which all was well.
    well: Option<Instant>,
}

/// Who was given a partition, and when that was known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Taken {
    by: String,
    at: Instant,
    /// By another process of the static member that has it, which nobody waits for. The one before may then be told that all
    /// is well by an owner of the group that is not yet told of its own end: for a heartbeat its lease is enough.
    is_same: bool,
}

impl Taken {
    /// Whether all can be well for who sent a request then.
    fn is_known(&self, since: Instant) -> bool {
        since > self.at + if self.is_same { LEASE } else { Duration::ZERO }
    }
}

impl Group {
    pub fn new(name: &str, begins_anew: bool, trace: &Trace) -> Self {
        Self { name: name.into(), trace: trace.clone(), begins_anew, inner: Arc::default() }
    }

    /// Records are written.
    pub fn grow(&self, partition: i32, records: i64) {
        self.inner().partitions.entry(partition).or_default().end += records;
    }

    pub fn end(&self, partition: i32) -> i64 {
        self.inner().partitions.get(&partition).map_or(0, |partition| partition.end)
    }

    pub fn partitions(&self) -> Vec<i32> {
        self.inner().partitions.keys().copied().collect()
    }

    pub fn generation(&self) -> i32 {
        self.inner().generation
    }

    /// A leader has assigned so many partitions.
    pub fn assigns(&self, partitions: i32) {
        self.inner().assigned = partitions;
    }

    pub fn assigned(&self) -> i32 {
        self.inner().assigned
    }

    /// Whether every partition is read by somebody.
    pub fn is_read(&self) -> bool {
        let inner = self.inner();
        inner.partitions.keys().all(|partition| inner.readers.values().any(|reads| reads.contains_key(partition)))
    }

    /// All that a member owns in a generation, or at an epoch. It reads it from now on.
    pub fn owns(&self, member: &str, instance: Option<&str>, generation: i32, partitions: &BTreeSet<i32>) {
        self.trace.note(format_args!("{}/{member}: owns {partitions:?} in {generation}", self.name));
        self.trace.count("assignments");
        let mut guard = self.inner();
        let inner = &mut *guard;
        inner.generation = inner.generation.max(generation);
        let identity = instance.unwrap_or(member);
        inner.identities.insert(member.to_owned(), identity.to_owned());
        for partition in partitions {
            let owner = inner.owners.entry((generation, *partition)).or_insert_with(|| identity.to_owned());
            if owner != identity && self.begins_anew {
                identity.clone_into(owner);
            } else if owner != identity {
                let wrong = format!("{identity} and {owner} both own partition {partition} in {generation}");
                drop(guard);
                return self.wrong(&wrong);
            }
            // Whose it is in a later generation already: this answer was late.
            let now = Instant::now();
            let (mut later, mut rival) = (None, None);
            let identities = &inner.identities;
            for (other, reads) in &mut inner.readers {
                if other != member
                    && let Some(reads) = reads.get_mut(partition)
                {
                    self.trace.count("partitions taken from who has not heard of it");
                    let is_same = identities.get(other).is_some_and(|of| of == identity);
                    let taken = |by: &str| Some(Taken { by: by.to_owned(), at: now, is_same });
                    if reads.generation == generation || self.begins_anew {
                        (reads.rival, rival) = (taken(member), taken(other));
                    } else if reads.generation > generation {
                        later = taken(other);
                    } else if reads.taken.is_none() {
                        reads.taken = taken(member);
                    }
                }
            }
            let reads = inner.readers.entry(member.to_owned()).or_default().entry(*partition).or_default();
            (reads.generation, reads.rival) = (generation, rival);
            if later.is_some() {
                reads.taken = later;
            }
        }
    }

    /// It reads these no more.
    pub fn gives_back(&self, member: &str, partitions: &BTreeSet<i32>) {
        if let Some(reads) = self.inner().readers.get_mut(member) {
            reads.retain(|partition, _| !partitions.contains(partition));
        }
    }

    /// It reads nothing any more.
    pub fn stops(&self, member: &str) {
        self.inner().readers.remove(member);
    }

    /// A member has been told that it is one, by the answer to a request that it sent `since` then.
    pub fn is_well(&self, member: &str, since: Instant) {
        let mut wrong = None;
        let mut inner = self.inner();
        let mut rivals = Vec::new();
        for (partition, reads) in inner.readers.get_mut(member).into_iter().flatten() {
            reads.well = reads.well.max(Some(since));
            if let Some(taken) = reads.taken.as_ref().filter(|taken| taken.is_known(since)) {
                let other = &taken.by;
                wrong = Some(format!("partition {partition} is {other}'s, and {member} is told that all is well"));
            }
            rivals.extend(reads.rival.clone().filter(|rival| rival.is_known(since)).map(|rival| (rival, *partition)));
        }
        for (Taken { by: other, at, .. }, partition) in rivals {
            let reads = inner.readers.get(&other).and_then(|reads| reads.get(&partition));
            // It may have been given the partition once more since.
            let rival =
                reads.and_then(|reads| reads.rival.as_ref().filter(|rival| rival.by == member && rival.at == at));
            if rival.zip(reads).is_some_and(|(rival, reads)| reads.well.is_some_and(|well| rival.is_known(well))) {
                wrong = Some(format!(
                    "partition {partition} is {member}'s and {other}'s, and both are told that all is well"
                ));
            }
        }
        drop(inner);
        if let Some(wrong) = wrong {
            self.wrong(&wrong);
        }
    }

    /// A member is given records.
    pub fn delivered(&self, partition: i32, from: i64, to: i64) {
        let mut inner = self.inner();
        let known = inner.partitions.entry(partition).or_default();
        let gap = from > known.delivered;
        let delivered = known.delivered;
        known.delivered = known.delivered.max(to);
        drop(inner);
        if gap {
            self.wrong(&format!("partition {partition} is read from {from}, and delivered to {delivered} only"));
        }
    }

    pub fn committing(&self, offsets: &BTreeMap<i32, i64>) {
        let mut inner = self.inner();
        for (partition, offset) in offsets {
            inner.partitions.entry(*partition).or_default().begun.insert(*offset);
        }
    }

    pub fn committed(&self, partition: i32, offset: i64) {
        self.trace.count("commits acknowledged");
        let mut inner = self.inner();
        let known = inner.partitions.entry(partition).or_default();
        known.acknowledged = known.acknowledged.max(offset);
    }

    /// What a fetch that begins now must find at least.
    pub fn floor(&self, partition: i32) -> i64 {
        self.inner().partitions.get(&partition).map_or(0, |partition| partition.acknowledged)
    }

    /// An offset was fetched, when no less than `floor` was acknowledged.
    pub fn fetched(&self, who: &str, partition: i32, floor: i64, offset: Option<i64>) {
        self.trace.note(format_args!("{}/{who}: partition {partition} is committed to {offset:?}", self.name));
        self.trace.count("committed offsets fetched");
        let inner = self.inner();
        let known = inner.partitions.get(&partition);
        let begun = offset.is_none_or(|offset| known.is_some_and(|known| known.begun.contains(&offset)));
        let delivered = known.map_or(0, |known| known.delivered);
        drop(inner);
        let at = offset.unwrap_or(0);
        if at < floor {
            self.wrong(&format!("{who} is told {offset:?} of partition {partition}, where {floor} was acknowledged"));
        } else if !begun {
            self.wrong(&format!("{who} is told {offset:?} of partition {partition}, which nobody has committed"));
        } else if at > delivered {
            self.wrong(&format!("partition {partition} is committed to {at} and delivered to {delivered}"));
        }
    }

    pub fn wrong(&self, what: &str) {
        self.trace.wrong(format!("group {}: {what}", self.name));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
