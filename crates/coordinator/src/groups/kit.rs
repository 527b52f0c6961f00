//! A group under test, with its time, its topics and what would be stored of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidemark_model::group::{
    CommitOffsets, FetchOffsets, FetchedOffset, GroupAnswer, GroupCall, GroupRequest, Join, Joined, Leaving, Member,
    OffsetToCommit, Protocol, Sync, Synced,
};
use tidemark_model::{ClusterState, Entropy, GroupError, JournalId, Partition, Record, Topic, TopicId, TopicPartition};
use tidemark_wire::consumer_protocol::Subscription;
use tokio::time::Instant;
use uuid::Uuid;

use super::event::Gate;
use super::{Answer, CONSUMER, Context, Event, Group, Ticket};
use crate::config::GroupSettings;
use crate::records::GroupKey;

pub(crate) type Outcome = Result<GroupAnswer, GroupError>;

/// Random enough, and the same in each run.
#[derive(Debug)]
pub(crate) struct Seeded(AtomicU64);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed.wrapping_mul(0xff51_afd7_ed55_8ccd)))
    }

    pub(crate) fn below(&self, bound: usize) -> usize {
        (self.next_u64() % bound.max(1) as u64) as usize
    }
}

impl Entropy for Seeded {
    fn next_u64(&self) -> u64 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 31)
    }
}

pub(crate) struct Kit {
    pub(crate) group: Group,
    pub(crate) now: Instant,
    pub(crate) wall_ms: i64,
    pub(crate) cluster: ClusterState,
    pub(crate) settings: GroupSettings,
    pub(crate) entropy: Seeded,
    /// What the store has, up to the writes that are held back.
    pub(crate) stored: BTreeMap<GroupKey, Bytes>,
    /// The store is away: writes are taken and not stored.
    pub(crate) away: bool,
    /// Numbers of writes that are not stored.
    unstored: Vec<super::Writes>,
    held: Vec<(u64, Answer)>,
    answers: BTreeMap<Ticket, Outcome>,
    given: BTreeMap<Ticket, Outcome>,
    next: u64,
}

impl Kit {
    pub(crate) fn new() -> Self {
        Self::seeded(1)
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        Self {
            group: Group::new("g"),
            now: Instant::now(),
            wall_ms: 1_760_000_000_000,
            cluster: ClusterState::new("c".into()),
            settings: GroupSettings::default(),
            entropy: Seeded::new(seed),
            stored: BTreeMap::new(),
            away: false,
            unstored: Vec::new(),
            held: Vec::new(),
            answers: BTreeMap::new(),
            given: BTreeMap::new(),
            next: 0,
        }
    }

    /// A topic that the cluster has, `n` times: its id is its number.
    pub(crate) fn topic(&mut self, id: u128, name: &str, partitions: usize) -> TopicId {
        let partition = Partition { journal: JournalId(1), epoch_base: 0 };
        let id = TopicId(Uuid::from_u128(id));
        self.cluster.upsert(Record::Topic(Topic {
            id,
            name: name.into(),
            replication_factor: 1,
            partitions: vec![partition; partitions],
            configs: BTreeMap::new(),
        }));
        id
    }

    pub(crate) fn step(&mut self, event: Event) {
        let context = Context {
            now: self.now,
            wall_ms: self.wall_ms,
            cluster: &self.cluster,
            settings: &self.settings,
            entropy: &self.entropy,
        };
        let answers = self.group.step(event, &context);
        let writes = self.group.take_writes();
        self.unstored.extend(writes);
        let last = self.unstored.last().map_or(0, |writes| writes.number);
        for answer in answers {
            let needs = match answer.gate {
                Gate::Open => 0,
                Gate::Stored(write) => write,
                Gate::Settled => last,
            };
            let is_stored = self.unstored.first().is_none_or(|writes| needs < writes.number);
            match is_stored && answer.gate != Gate::Settled {
                true => self.give(answer),
                false => self.held.push((needs, answer)),
            }
        }
        if !self.away {
            self.store_all();
        }
    }

    fn give(&mut self, answer: Answer) {
        let twice = self.given.insert(answer.ticket, answer.result.clone());
        assert_eq!(twice, None, "answered twice");
        self.answers.insert(answer.ticket, answer.result);
    }

    /// The store takes all that waits.
    pub(crate) fn store_all(&mut self) {
        for writes in std::mem::take(&mut self.unstored) {
            for (key, value) in writes.records {
                match value {
                    Some(value) => self.stored.insert(key, value),
                    None => self.stored.remove(&key),
                };
            }
            let context = Context {
                now: self.now,
                wall_ms: self.wall_ms,
                cluster: &self.cluster,
                settings: &self.settings,
                entropy: &self.entropy,
            };
            let answers = self.group.step(Event::Stored(writes.number), &context);
            assert_eq!(answers, []);
        }
        for (_, answer) in std::mem::take(&mut self.held) {
            self.give(answer);
        }
    }

    /// The owner is gone, with what was not stored. Another one loads the group.
    pub(crate) fn reload(&mut self) {
        self.unstored.clear();
        self.held.clear();
        let records = self.stored.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let context = Context {
            now: self.now,
            wall_ms: self.wall_ms,
            cluster: &self.cluster,
            settings: &self.settings,
            entropy: &self.entropy,
        };
        self.group = Group::load("g", records, &context).unwrap();
    }

    /// Time passes, and the group is woken whenever it wants.
    pub(crate) fn advance(&mut self, by: Duration) {
        let (end, mut idle) = (self.now + by, 0);
        while let Some(deadline) = self.group.deadline().filter(|deadline| *deadline <= end) {
            let deadline = deadline.max(self.now);
            self.wall_ms += (deadline - self.now).as_millis() as i64;
            self.now = deadline;
            self.step(Event::Deadline);
            // Something may be due at once; not for ever.
            idle = if self.group.deadline().is_some_and(|next| next <= self.now) { idle + 1 } else { 0 };
            assert!(idle < 5, "a deadline does nothing");
        }
        self.wall_ms += (end - self.now).as_millis() as i64;
        self.now = end;
    }

    pub(crate) fn call_from(&mut self, client_id: &str, request: GroupRequest) -> Ticket {
        self.next += 1;
        let ticket = Ticket(self.next);
        let (group, client_host) = ("g".to_owned(), "/127.0.0.1".to_owned());
        let call = GroupCall { group, client_id: client_id.to_owned(), client_host, request };
        self.step(Event::Call(ticket, Box::new(call)));
        ticket
    }

    pub(crate) fn call(&mut self, request: GroupRequest) -> Ticket {
        self.call_from("client", request)
    }

    /// Takes the answer, when there is one.
    pub(crate) fn answer(&mut self, ticket: Ticket) -> Option<Outcome> {
        self.answers.remove(&ticket)
    }

    /// Every call that is not answered yet.
    pub(crate) fn open(&self) -> usize {
        self.next as usize - self.given.len()
    }

    pub(crate) fn ask(&mut self, request: GroupRequest) -> Outcome {
        let ticket = self.call(request);
        self.answer(ticket).expect("it has to be answered at once")
    }

    pub(crate) fn is_held(&self, ticket: Ticket) -> bool {
        !self.given.contains_key(&ticket) && self.held.iter().all(|(_, answer)| answer.ticket != ticket)
    }

    /// Calls that wait for the group, not for the store.
    pub(crate) fn waiting(&self) -> usize {
        self.open() - self.held.len()
    }

    pub(crate) fn state(&self) -> String {
        self.group.listed().map_or_else(|| "Dead".to_owned(), |listed| listed.state)
    }

    pub(crate) fn joined(&mut self, ticket: Ticket) -> Joined {
        match self.answer(ticket) {
            Some(Ok(GroupAnswer::Join(joined))) => joined,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn synced(&mut self, ticket: Ticket) -> Synced {
        match self.answer(ticket) {
            Some(Ok(GroupAnswer::Sync(synced))) => synced,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn refused(&mut self, ticket: Ticket) -> GroupError {
        match self.answer(ticket) {
            Some(Err(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    /// What is committed for a partition, as a fetch finds it.
    pub(crate) fn committed(&mut self, at: TopicPartition) -> Option<i64> {
        let topics = vec![tidemark_model::group::TopicPartitions { topic: at.topic, partitions: vec![at.partition] }];
        let request = fetch(Some(topics));
        match self.ask(request) {
            Ok(GroupAnswer::FetchOffsets(fetched)) => match &fetched[..] {
                [FetchedOffset { result: Ok(committed), .. }] => committed.as_ref().map(|committed| committed.offset),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn subscription(topics: &[&str]) -> Bytes {
    let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
    Subscription { topics, ..Subscription::default() }.encode(1).unwrap()
}

pub(crate) fn protocol(name: &str, topics: &[&str]) -> Protocol {
    Protocol { name: name.to_owned(), metadata: subscription(topics) }
}

/// A join of a new consumer of version 3, which needs no id beforehand. Its session lasts 10 s, its rebalances 60 s.
pub(crate) fn join() -> Join {
    Join {
        member_id: String::new(),
        instance_id: None,
        protocol_type: CONSUMER.to_owned(),
        protocols: vec![protocol("range", &["orders"])],
        session_timeout: ms(10_000),
        rebalance_timeout: ms(60_000),
        requires_member_id: false,
        can_skip_assignment: false,
        reason: None,
    }
}

pub(crate) fn member(id: &str, generation: i32) -> Member {
    Member { member_id: id.to_owned(), instance_id: None, generation }
}

pub(crate) fn sync(id: &str, generation: i32, assignments: &[(&str, &str)]) -> GroupRequest {
    let assignments = assignments.iter().map(|(id, to)| ((*id).to_owned(), Bytes::copy_from_slice(to.as_bytes())));
    GroupRequest::Sync(Sync {
        member: member(id, generation),
        protocol_type: None,
        protocol_name: None,
        assignments: assignments.collect(),
    })
}

pub(crate) fn heartbeat(id: &str, generation: i32) -> GroupRequest {
    GroupRequest::Heartbeat(member(id, generation))
}

pub(crate) fn leaving(id: &str, instance_id: Option<&str>) -> Leaving {
    Leaving { member_id: id.to_owned(), instance_id: instance_id.map(str::to_owned), reason: None }
}

pub(crate) fn leave(id: &str) -> GroupRequest {
    GroupRequest::Leave(vec![leaving(id, None)])
}

pub(crate) fn at(topic: u128, partition: i32) -> TopicPartition {
    TopicPartition::new(TopicId(Uuid::from_u128(topic)), partition)
}

pub(crate) fn commit_as(member_id: &str, generation: i32, offsets: &[(TopicPartition, i64)]) -> CommitOffsets {
    let offsets = offsets.iter().map(|(partition, offset)| OffsetToCommit {
        partition: *partition,
        offset: *offset,
        leader_epoch: -1,
        metadata: String::new(),
    });
    CommitOffsets {
        member_id: member_id.to_owned(),
        instance_id: None,
        generation_or_epoch: generation,
        retention: None,
        understands_epochs: true,
        offsets: offsets.collect(),
    }
}

/// A commit by who is no member.
pub(crate) fn commit(offsets: &[(TopicPartition, i64)]) -> GroupRequest {
    GroupRequest::CommitOffsets(commit_as("", -1, offsets))
}

pub(crate) fn fetch(topics: Option<Vec<tidemark_model::group::TopicPartitions>>) -> GroupRequest {
    GroupRequest::FetchOffsets(FetchOffsets { member_id: None, member_epoch: -1, topics, require_stable: false })
}
