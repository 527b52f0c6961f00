//! KIP-848: ConsumerGroupHeartbeat and ConsumerGroupDescribe.

use std::collections::{BTreeMap, BTreeSet};

use super::{Commit, Identity, coordinator};
use crate::clients::unique;
use crate::raw::{Connection, Form, Parts, Writer, code};

/// The newest version of each.
pub const CONSUMER_HEARTBEAT: (i16, i16) = (68, 1);
pub const CONSUMER_DESCRIBE: (i16, i16) = (69, 1);

/// Partitions by the topic's id.
pub type Partitions = BTreeMap<[u8; 16], BTreeSet<i32>>;

/// A heartbeat. What is `None` has not changed.
#[derive(Debug, Clone, Default)]
pub struct ConsumerHeartbeat {
    pub group: String,
    pub member: String,
    pub epoch: i32,
    pub instance: Option<String>,
    pub rack: Option<String>,
    pub rebalance_ms: i32,
    pub topics: Option<Vec<String>>,
    pub regex: Option<String>,
    pub assignor: Option<String>,
    pub owned: Option<Partitions>,
}

impl ConsumerHeartbeat {
    pub fn body(&self, version: i16) -> Writer {
        let form = Form::new(CONSUMER_HEARTBEAT.0, version).text(&self.group).text(&self.member).i32(self.epoch);
        let form = form.nullable(self.instance.as_deref()).nullable(self.rack.as_deref()).i32(self.rebalance_ms);
        let mut form = form.list(self.topics.as_deref(), |form, topic| form.text(topic));
        if version >= 1 {
            form = form.nullable(self.regex.as_deref());
        }
        let owned: Option<Vec<_>> = self.owned.as_ref().map(|owned| owned.iter().collect());
        let form = form.nullable(self.assignor.as_deref()).list(owned.as_deref(), |form, (id, partitions)| {
            let partitions: Vec<i32> = partitions.iter().copied().collect();
            form.raw(*id).list(Some(&partitions), |form, partition| form.i32(*partition)).end()
        });
        form.end().writer()
    }

    pub fn call(&self, connection: &mut Connection, version: i16) -> ConsumerHeartbeatAnswer {
        let answer = connection.call(CONSUMER_HEARTBEAT.0, version, &self.body(version));
        consumer_heartbeat_answer(&answer, version)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerHeartbeatAnswer {
    pub error: i16,
    pub message: Option<String>,
    pub member: Option<String>,
    pub epoch: i32,
    pub interval_ms: i32,
    pub assignment: Option<Partitions>,
}

pub fn consumer_heartbeat_answer(answer: &[u8], version: i16) -> ConsumerHeartbeatAnswer {
    let mut parts = Parts::new(CONSUMER_HEARTBEAT.0, version, answer);
    parts.i32();
    let mut answer = ConsumerHeartbeatAnswer { error: parts.i16(), ..ConsumerHeartbeatAnswer::default() };
    answer.message = parts.nullable();
    answer.member = parts.nullable();
    answer.epoch = parts.i32();
    answer.interval_ms = parts.i32();
    // A structure that may be null.
    if parts.i8() >= 0 {
        let topics = parts.list(|parts| {
            let topic = (parts.uuid(), parts.list(Parts::i32).into_iter().collect());
            parts.end();
            topic
        });
        parts.end();
        answer.assignment = Some(topics.into_iter().collect());
    }
    parts.done();
    answer
}

/// A member that does what it is told, on a connection of its own.
#[derive(Debug)]
pub struct Consumer {
    pub connection: Connection,
    /// What it says with its next join.
    pub first: ConsumerHeartbeat,
    pub epoch: i32,
    /// What it owns.
    pub owned: Partitions,
    /// What it has not told the coordinator yet.
    news: bool,
}

impl Consumer {
    /// A member that subscribes to topics.
    pub fn new(group: &str, topics: &[&str]) -> Self {
        let topics = Some(topics.iter().map(|topic| (*topic).to_owned()).collect());
        Self::with(ConsumerHeartbeat { topics, ..Self::joining(group) })
    }

    /// A member that subscribes to what matches.
    pub fn matching(group: &str, regex: &str) -> Self {
        Self::with(ConsumerHeartbeat { regex: Some(regex.to_owned()), ..Self::joining(group) })
    }

    pub fn with(first: ConsumerHeartbeat) -> Self {
        Self::on(coordinator(&first.group), first)
    }

    /// A member on a connection to the group's coordinator.
    pub fn on(connection: Connection, first: ConsumerHeartbeat) -> Self {
        Self { connection, first, epoch: 0, owned: Partitions::new(), news: true }
    }

    /// A first heartbeat without a subscription.
    pub fn joining(group: &str) -> ConsumerHeartbeat {
        ConsumerHeartbeat {
            group: group.to_owned(),
            member: unique("member"),
            rebalance_ms: 60_000,
            owned: Some(Partitions::new()),
            ..ConsumerHeartbeat::default()
        }
    }

    /// The heartbeat of a member that has nothing to say.
    pub fn quiet(&self) -> ConsumerHeartbeat {
        ConsumerHeartbeat {
            group: self.first.group.clone(),
            member: self.first.member.clone(),
            epoch: self.epoch,
            instance: self.first.instance.clone(),
            rebalance_ms: -1,
            ..ConsumerHeartbeat::default()
        }
    }

    /// Sends a heartbeat and takes what it is assigned: what it has lost it revokes at once, and says so next time.
    pub fn beat(&mut self) -> ConsumerHeartbeatAnswer {
        let request = if self.epoch == 0 {
            self.first.clone()
        } else {
            ConsumerHeartbeat { owned: self.news.then(|| self.owned.clone()), ..self.quiet() }
        };
        self.news = false;
        self.say(&request)
    }

    /// Sends a heartbeat of one's own making and takes what the answer assigns.
    pub fn say(&mut self, request: &ConsumerHeartbeat) -> ConsumerHeartbeatAnswer {
        let answer = request.call(&mut self.connection, CONSUMER_HEARTBEAT.1);
        if answer.error == code::NONE {
            self.epoch = answer.epoch;
            if let Some(assignment) = &answer.assignment {
                self.news |= *assignment != self.owned;
                self.owned.clone_from(assignment);
            }
        }
        answer
    }

    /// A heartbeat that must go well.
    pub fn beat_well(&mut self) {
        let answer = self.beat();
        assert_eq!(answer.error, code::NONE, "{answer:?}");
    }

    /// Leaves, for good (-1) or as a static member that will come back (-2).
    pub fn leave(&mut self, epoch: i32) -> ConsumerHeartbeatAnswer {
        let answer = ConsumerHeartbeat { epoch, ..self.quiet() }.call(&mut self.connection, CONSUMER_HEARTBEAT.1);
        self.epoch = 0;
        self.owned.clear();
        self.news = true;
        answer
    }

    /// A commit as this member.
    pub fn commit(&self) -> Commit {
        let who = Identity {
            group: self.first.group.clone(),
            member: self.first.member.clone(),
            instance: self.first.instance.clone(),
            generation: self.epoch,
        };
        Commit { who, topics: Vec::new() }
    }

    /// How many partitions it owns.
    pub fn count(&self) -> usize {
        self.owned.values().map(BTreeSet::len).sum()
    }
}

/// A group as ConsumerGroupDescribe tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DescribedConsumers {
    pub error: i16,
    pub group: String,
    pub state: String,
    pub epoch: i32,
    pub assignment_epoch: i32,
    pub assignor: String,
    pub members: Vec<DescribedConsumer>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DescribedConsumer {
    pub member: String,
    pub instance: Option<String>,
    pub rack: Option<String>,
    pub epoch: i32,
    pub client_id: String,
    pub client_host: String,
    pub topics: Vec<String>,
    pub regex: Option<String>,
    /// By the topic's name.
    pub assignment: Vec<(String, Vec<i32>)>,
    pub target: Vec<(String, Vec<i32>)>,
    /// 0 classic, 1 consumer, -1 where the version does not tell.
    pub kind: i8,
}

pub fn describe_consumers(connection: &mut Connection, version: i16, groups: &[&str]) -> Vec<DescribedConsumers> {
    let form = Form::new(CONSUMER_DESCRIBE.0, version).list(Some(groups), |form, group| form.text(group)).i8(0);
    let answer = connection.call(CONSUMER_DESCRIBE.0, version, &form.end().writer());
    let mut parts = Parts::new(CONSUMER_DESCRIBE.0, version, &answer);
    parts.i32();
    let described = parts.list(|parts| {
        let mut group = DescribedConsumers { error: parts.i16(), ..DescribedConsumers::default() };
        parts.nullable();
        group.group = parts.text();
        group.state = parts.text();
        group.epoch = parts.i32();
        group.assignment_epoch = parts.i32();
        group.assignor = parts.text();
        group.members = parts.list(|parts| described_consumer(parts, version));
        parts.i32();
        parts.end();
        group
    });
    parts.done();
    described
}

fn described_consumer(parts: &mut Parts<'_>, version: i16) -> DescribedConsumer {
    let mut member = DescribedConsumer { member: parts.text(), kind: -1, ..DescribedConsumer::default() };
    member.instance = parts.nullable();
    member.rack = parts.nullable();
    member.epoch = parts.i32();
    member.client_id = parts.text();
    member.client_host = parts.text();
    member.topics = parts.list(Parts::text);
    member.regex = parts.nullable();
    let assignment = |parts: &mut Parts<'_>| {
        let topics = parts.list(|parts| {
            parts.uuid();
            let topic = (parts.text(), parts.list(Parts::i32));
            parts.end();
            topic
        });
        parts.end();
        topics
    };
    member.assignment = assignment(parts);
    member.target = assignment(parts);
    if version >= 1 {
        member.kind = parts.i8();
    }
    parts.end();
    member
}
