//! A group, its store, its clients, and what happens to them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidemark_model::group::{GroupCall, GroupRequest, Leaving};
use tidemark_model::{ClusterState, JournalId, Partition, Record, RecordKey, Topic, TopicId, TopicPartition};
use tokio::time::Instant;
use uuid::Uuid;

use super::clients::{Client, Side};
use crate::config::GroupSettings;
use crate::groups::consumer::tests::assert_nothing_leaks_in;
use crate::groups::event::Gate;
use crate::groups::kit::{Outcome, Seeded, ms};
use crate::groups::{Context, Event, Group, Kind, Ticket};
use crate::records::GroupKey;

pub(super) struct World {
    seed: u64,
    random: Seeded,
    entropy: Seeded,
    /// Members of the classic protocol come too.
    mixed: bool,
    group: Group,
    stored: BTreeMap<GroupKey, Bytes>,
    cluster: ClusterState,
    settings: GroupSettings,
    now: Instant,
    clients: Vec<Client>,
    /// Answers to those who wait, as they come.
    mail: BTreeMap<Ticket, Outcome>,
    tickets: u64,
    /// The number of the last write that is stored.
    writes: u64,
    serial: u128,
    /// Never goes down.
    epoch: i32,
}

/// What happens around a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    /// The answer does not arrive.
    Lost,
    /// The coordinator dies before it answers, and the request is sent to the next one.
    Twice,
    /// The coordinator dies before anything is stored.
    DiesAtOnce,
    /// It dies when some of the records are stored.
    DiesHalfway,
    /// It dies when all is stored, before it answers.
    DiesSilent,
    /// It dies before anything is stored, when it has answered what does not wait for that.
    DiesTelling,
}

impl World {
    pub(super) fn new(seed: u64, mixed: bool) -> Self {
        let mut world = Self {
            seed,
            random: Seeded::new(seed),
            entropy: Seeded::new(seed ^ 0x5eed),
            mixed,
            group: Group::new("g"),
            stored: BTreeMap::new(),
            cluster: ClusterState::new("c".into()),
            settings: GroupSettings { initial_rebalance_delay: ms(100), ..GroupSettings::default() },
            now: Instant::now(),
            clients: Vec::new(),
            mail: BTreeMap::new(),
            tickets: 0,
            writes: 0,
            serial: 0,
            epoch: 0,
        };
        (0..3).for_each(|_| world.topic());
        world
    }

    pub(super) fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            match self.random.below(100) {
                0..8 if self.alive().len() < 6 => self.starts(),
                8..11 => self.with_any(Client::dies),
                11..14 => self.stops(),
                14..17 => self.with_any(|client| client.paused = !client.paused),
                17..20 => self.subscribes(),
                20..23 => self.topic(),
                23..24 => self.topic_goes(),
                24..27 => self.restarts(),
                27..45 => self.with_any(Client::works),
                45..50 => self.time_passes(self.random.below(20_000) as u64),
                50..55 => self.time_passes(self.random.below(2_000) as u64),
                _ => self.any_speaks(),
            }
            self.check();
        }
    }

    /// Nothing more happens, and everybody does what it has to.
    pub(super) fn settle(&mut self) {
        self.clients.retain(|client| client.runs);
        for _ in 0..100 {
            for index in 0..self.clients.len() {
                self.clients[index].paused = false;
                self.speaks(index, Fate::Fine);
                self.clients[index].works();
                self.check();
            }
            self.time_passes(3_000);
        }
        let alive = self.alive();
        match &self.group.kind {
            Some(Kind::Consumer(group)) if !alive.is_empty() => {
                assert_eq!(group.state(), "Stable", "seed {}", self.seed);
                assert_eq!(group.members.len(), alive.len(), "seed {}", self.seed);
                for index in alive {
                    let client = &self.clients[index];
                    let member = &group.members[&*client.id];
                    assert_eq!(client.owned, member.target, "seed {}", self.seed);
                    assert_eq!(client.owned, member.current.assigned, "seed {}", self.seed);
                }
                self.assert_all_is_read();
            }
            Some(Kind::Classic(classic)) if !alive.is_empty() => {
                assert!(alive.iter().all(|index| !self.clients[*index].is_consumer()), "seed {}", self.seed);
                assert_eq!(classic.state().as_str(), "Stable", "seed {}", self.seed);
                assert_eq!(classic.members().len(), alive.len(), "seed {}", self.seed);
            }
            _ => assert!(alive.is_empty(), "seed {}", self.seed),
        }
    }

    /// Everybody leaves, and nothing is left.
    pub(super) fn end(&mut self) {
        for index in self.alive() {
            self.leaves(index);
        }
        let leaving: BTreeSet<&str> = self
            .stored
            .keys()
            .map(|key| match key {
                GroupKey::Consumer | GroupKey::Classic => "group",
                _ => "member",
            })
            .collect();
        assert!(leaving.iter().all(|kind| *kind == "group"), "seed {}: {:?}", self.seed, self.stored.keys());
        self.step(Event::Sweep);
        assert!(self.stored.is_empty(), "seed {}: {:?}", self.seed, self.stored.keys());
    }

    fn alive(&self) -> Vec<usize> {
        (0..self.clients.len()).filter(|index| self.clients[*index].runs).collect()
    }

    fn any(&self) -> Option<usize> {
        let alive = self.alive();
        (!alive.is_empty()).then(|| alive[self.random.below(alive.len())])
    }

    fn with_any(&mut self, act: impl FnOnce(&mut Client)) {
        if let Some(index) = self.any() {
            act(&mut self.clients[index]);
        }
    }

    fn starts(&mut self) {
        let instance = (self.random.below(3) == 0).then(|| format!("i{}", self.random.below(3)));
        let taken = |client: &Client| client.runs && client.instance.is_some() && client.instance == instance;
        if self.clients.iter().any(taken) {
            return;
        }
        let client = self.client(instance);
        self.clients.push(client);
    }

    fn client(&mut self, instance: Option<String>) -> Client {
        let topics = self.some_topics();
        if self.mixed && self.random.below(2) == 0 {
            return Client::classic(instance, topics);
        }
        self.serial += 1;
        Client::consumer(format!("c{}", self.serial), instance, topics, &self.random)
    }

    fn some_topics(&self) -> Vec<String> {
        (0..4).filter(|_| self.random.below(3) > 0).map(|number| format!("t{number}")).collect()
    }

    fn subscribes(&mut self) {
        let topics = self.some_topics();
        self.with_any(|client| client.topics = topics);
    }

    /// A process ends in order, and another takes its place.
    fn restarts(&mut self) {
        let Some(index) = self.any().filter(|index| self.clients[*index].instance.is_some()) else { return };
        let instance = self.clients[index].instance.clone();
        let in_group = matches!(&self.clients[index].side, Side::Consumer(consumer) if consumer.epoch > 0);
        // It does not wait for the answer to what it has asked before.
        self.clients[index].lost();
        if let Some(GroupRequest::ConsumerHeartbeat(mut leaves)) =
            self.clients[index].next_request().filter(|_| in_group)
        {
            leaves.member_epoch = -2;
            self.clients[index].owned.clear();
            self.ask(GroupRequest::ConsumerHeartbeat(leaves), Fate::Fine);
        }
        self.clients[index].dies();
        let client = self.client(instance);
        self.clients.push(client);
    }

    fn stops(&mut self) {
        if let Some(index) = self.any() {
            self.leaves(index);
        }
    }

    fn leaves(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.dies();
        if client.id.is_empty() {
            return;
        }
        let request = match &client.side {
            Side::Consumer(_) => match client.next_request() {
                Some(GroupRequest::ConsumerHeartbeat(mut heartbeat)) => {
                    heartbeat.member_epoch = -1;
                    GroupRequest::ConsumerHeartbeat(heartbeat)
                }
                other => panic!("{other:?}"),
            },
            Side::Classic(_) => GroupRequest::Leave(vec![Leaving {
                member_id: client.id.clone(),
                instance_id: client.instance.clone(),
                reason: None,
            }]),
        };
        self.ask(request, Fate::Fine);
    }

    fn any_speaks(&mut self) {
        let fate = match self.random.below(20) {
            0..2 => Fate::Lost,
            2..4 => Fate::Twice,
            4 => Fate::DiesAtOnce,
            5 => Fate::DiesHalfway,
            6 => Fate::DiesSilent,
            7 | 8 => Fate::DiesTelling,
            _ => Fate::Fine,
        };
        if let Some(index) = self.any().filter(|index| !self.clients[*index].paused) {
            self.speaks(index, fate);
        }
    }

    /// A client sends what it has to send, and hears the answer if there is one.
    fn speaks(&mut self, index: usize, fate: Fate) {
        let mut ticket = self.clients[index].waiting();
        if let Some(request) = self.clients[index].next_request().filter(|_| ticket.is_none()) {
            ticket = self.ask(request, fate);
            match ticket {
                Some(ticket) => self.clients[index].waits_for(ticket),
                None => self.clients[index].lost(),
            }
        }
        let Some(outcome) = ticket.and_then(|ticket| self.mail.remove(&ticket)) else { return };
        self.clients[index].heard(outcome, &self.cluster);
    }

    /// None where nobody will ever answer.
    fn ask(&mut self, request: GroupRequest, fate: Fate) -> Option<Ticket> {
        let again = (fate == Fate::Twice).then(|| request.clone());
        let first = if again.is_some() { Fate::DiesSilent } else { fate };
        let first = self.send(request, first);
        let ticket = again.map_or(first, |request| self.send(request, Fate::Fine));
        match fate {
            Fate::Fine | Fate::Twice => Some(ticket),
            Fate::DiesTelling => Some(ticket).filter(|ticket| self.mail.contains_key(ticket)),
            Fate::Lost | Fate::DiesAtOnce | Fate::DiesHalfway | Fate::DiesSilent => None,
        }
    }

    fn send(&mut self, request: GroupRequest, fate: Fate) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let (client_id, client_host) = ("client".to_owned(), "/127.0.0.1".to_owned());
        let call = GroupCall { group: "g".to_owned(), client_id, client_host, request };
        match fate {
            Fate::Fine | Fate::Lost | Fate::Twice => self.step(Event::Call(ticket, Box::new(call))),
            Fate::DiesAtOnce | Fate::DiesHalfway | Fate::DiesSilent | Fate::DiesTelling => {
                let mut answers = self.group.step(
                    Event::Call(ticket, Box::new(call)),
                    &context(self.now, &self.cluster, &self.settings, &self.entropy),
                );
                let stored = self.writes;
                answers.retain(|answer| match answer.gate {
                    Gate::Open => fate == Fate::DiesTelling,
                    Gate::Stored(write) => fate == Fate::DiesTelling && write <= stored,
                    Gate::Settled => false,
                });
                self.store(fate);
                self.reload();
                // Others who waited have given up.
                answers.retain(|answer| answer.ticket == ticket);
                self.mail.extend(answers.into_iter().map(|answer| (answer.ticket, answer.result)));
            }
        }
        ticket
    }

    fn step(&mut self, event: Event) {
        let context = context(self.now, &self.cluster, &self.settings, &self.entropy);
        let answers = self.group.step(event, &context);
        self.store(Fate::Fine);
        for answer in answers {
            if answer.gate == Gate::Open {
                let given = format!("{:?}", answer.result);
                assert!(!given.contains("assignment: Some"), "seed {}: {given} is not confirmed", self.seed);
            }
            self.mail.insert(answer.ticket, answer.result);
        }
    }

    fn store(&mut self, fate: Fate) {
        let Some(writes) = self.group.take_writes() else { return };
        self.writes = writes.number;
        let count = match fate {
            Fate::DiesAtOnce | Fate::DiesTelling => 0,
            Fate::DiesHalfway => self.random.below(writes.records.len() + 1),
            Fate::Fine | Fate::Lost | Fate::Twice | Fate::DiesSilent => writes.records.len(),
        };
        for (key, value) in writes.records.into_iter().take(count) {
            match value {
                Some(value) => self.stored.insert(key, value),
                None => self.stored.remove(&key),
            };
        }
    }

    /// Another coordinator takes over. Who waits learns that its connection is gone.
    fn reload(&mut self) {
        let records = self.stored.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let context = context(self.now, &self.cluster, &self.settings, &self.entropy);
        self.group = Group::load("g", records, &context).unwrap();
        self.writes = 0;
        for client in self.clients.iter_mut().filter(|client| client.waiting().is_some()) {
            client.lost();
        }
        self.mail.clear();
        self.epoch = 0;
    }

    fn time_passes(&mut self, millis: u64) {
        let end = self.now + ms(millis);
        while let Some(deadline) = self.group.deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.step(Event::Deadline);
        }
        self.now = end;
    }

    /// A topic comes, or grows.
    fn topic(&mut self) {
        let name = format!("t{}", self.random.below(5));
        self.serial += 1;
        let old = self.cluster.topic_named(&name).cloned();
        let (id, count) =
            old.map_or((TopicId(Uuid::from_u128(self.serial)), 0), |topic| (topic.id, topic.partitions.len()));
        let partition = Partition { journal: JournalId(1), epoch_base: 0 };
        let partitions = vec![partition; (count + 1 + self.random.below(4)).min(12)];
        let (replication_factor, configs) = (1, BTreeMap::new());
        self.cluster.upsert(Record::Topic(Topic { id, name, replication_factor, partitions, configs }));
        self.step(Event::Topics { removed: [].into() });
    }

    fn topic_goes(&mut self) {
        let name = format!("t{}", self.random.below(5));
        let Some(id) = self.cluster.topic_named(&name).map(|topic| topic.id) else { return };
        self.cluster.remove(RecordKey::Topic(id));
        self.step(Event::Topics { removed: [id].into() });
        // Nobody reads what is not there.
        self.clients.iter_mut().for_each(|client| drop(client.owned.remove(&id)));
    }

    /// No partition is read by two members that the group counts.
    fn check(&mut self) {
        let counted: BTreeSet<&str> = match &self.group.kind {
            Some(Kind::Consumer(group)) => {
                assert!(group.epoch >= self.epoch, "seed {}", self.seed);
                self.epoch = group.epoch;
                assert_nothing_leaks_in(group);
                group.members.keys().map(|id| &**id).collect()
            }
            Some(Kind::Classic(classic)) => {
                self.epoch = 0;
                classic.members().keys().map(String::as_str).collect()
            }
            None => {
                self.epoch = 0;
                BTreeSet::new()
            }
        };
        let mut readers = BTreeMap::new();
        for client in self.clients.iter().filter(|client| client.runs && counted.contains(client.id.as_str())) {
            for (topic, partitions) in &client.owned {
                for partition in partitions {
                    let at = TopicPartition::new(*topic, *partition);
                    let other = readers.insert(at, &client.id);
                    assert_eq!(other, None, "seed {}: {at} is read by {} too", self.seed, client.id);
                }
            }
        }
    }

    fn assert_all_is_read(&self) {
        let mut wanted = BTreeSet::new();
        let mut read = BTreeSet::new();
        for client in self.clients.iter().filter(|client| client.runs) {
            let by_pattern = match &client.side {
                Side::Consumer(consumer) => consumer.regex.is_some(),
                Side::Classic(_) => false,
            };
            let topics = self.cluster.topics().filter(|topic| by_pattern || client.topics.contains(&topic.name));
            wanted.extend(
                topics.flat_map(|topic| (0..topic.partitions.len() as i32).map(|partition| (topic.id, partition))),
            );
            let owned = client.owned.iter();
            read.extend(owned.flat_map(|(topic, partitions)| partitions.iter().map(|partition| (*topic, *partition))));
        }
        assert_eq!(read, wanted, "seed {}", self.seed);
    }
}

fn context<'a>(
    now: Instant,
    cluster: &'a ClusterState,
    settings: &'a GroupSettings,
    entropy: &'a Seeded,
) -> Context<'a> {
    Context { now, wall_ms: 1_760_000_000_000, cluster, settings, entropy }
}
