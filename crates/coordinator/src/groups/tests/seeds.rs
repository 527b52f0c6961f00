//! A classic group through thousands of random lives: members that join, lead, sync, beat, leave and crash, time that
//! passes, stores that are away, owners that are lost. Whatever happens, some things hold.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidemark_model::group::{GroupAnswer, GroupRequest, Join, Member, Sync};
use tidemark_model::{Entropy, GroupError};

use super::super::kit::{Kit, at, commit_as, join, leaving, ms, protocol};
use super::super::{Event, Ticket};

const SEEDS: u64 = 3_000;
const STEPS: usize = 120;
const CLIENTS: usize = 5;
const PARTITIONS: i32 = 4;

/// A consumer as it should be.
#[derive(Debug, Default, Clone)]
struct Client {
    instance_id: Option<String>,
    member_id: String,
    generation: i32,
    /// Whom it assigns to, when it leads.
    leads: Option<Vec<String>>,
    waits: Option<(Ticket, Waits)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    Join,
    Sync,
    Other,
}

struct Life {
    seed: u64,
    kit: Kit,
    clients: Vec<Client>,
    /// By generation and partition: whose it is. A static member keeps what it had.
    owners: BTreeMap<(i32, u8), String>,
    /// How many there were before the group was forgotten.
    assignments: usize,
    /// The last offset of each partition that was acknowledged.
    acknowledged: BTreeMap<i32, i64>,
    commits: Vec<(Ticket, i32, i64)>,
    next_offset: i64,
    /// Calls that were lost with their owner.
    forgotten: usize,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut kit = Kit::seeded(seed);
        kit.settings.initial_rebalance_delay = ms([0, 50, 3_000][kit.entropy.below(3)]);
        if kit.entropy.below(4) == 0 {
            kit.settings.max_size = 3;
        }
        let statics = kit.entropy.below(CLIENTS);
        let clients = (0..CLIENTS)
            .map(|n| Client { instance_id: (n < statics).then(|| format!("static-{}", n % 3)), ..Client::default() });
        let clients = clients.collect();
        Self {
            seed,
            kit,
            clients,
            owners: BTreeMap::new(),
            assignments: 0,
            acknowledged: BTreeMap::new(),
            commits: Vec::new(),
            next_offset: 0,
            forgotten: 0,
        }
    }

    fn chance(&self, of: usize) -> bool {
        self.kit.entropy.below(of) == 0
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            self.step();
            self.collect();
            self.check();
            if self.kit.state() == "Dead" {
                // The next group of this name is another one.
                self.assignments += self.owners.len();
                self.owners.clear();
            }
        }
        self.end();
    }

    fn step(&mut self) {
        let n = self.kit.entropy.below(CLIENTS);
        match self.kit.entropy.below(20) {
            0 => self.clients[n] = Client { instance_id: self.clients[n].instance_id.clone(), ..Client::default() },
            1 => self.leave(n),
            2 | 3 => self.commit(n),
            4 => self.kit.advance(ms(self.kit.entropy.next_u64() % 30_000)),
            5 | 6 => self.kit.advance(ms(self.kit.entropy.next_u64() % 500)),
            7 if self.chance(3) => self.lose_owner(),
            8 if self.chance(3) => self.kit.away = true,
            7..=9 => {
                self.kit.away = false;
                self.kit.store_all();
            }
            10 => self.garbage(n),
            11 => self.kit.step(Event::Sweep),
            _ => self.go_on(n),
        }
    }

    /// What a consumer does next.
    fn go_on(&mut self, n: usize) {
        let client = self.clients[n].clone();
        if client.waits.is_some() && !self.chance(10) {
            return;
        }
        let member = Member {
            member_id: client.member_id.clone(),
            instance_id: client.instance_id.clone(),
            generation: client.generation,
        };
        if client.member_id.is_empty() || client.generation == 0 || self.chance(8) {
            let names: &[&str] =
                [&["range"][..], &["range", "sticky"], &["sticky", "range"]][self.kit.entropy.below(3)];
            let request = Join {
                member_id: client.member_id,
                instance_id: client.instance_id,
                protocols: names.iter().map(|name| protocol(name, &["orders"])).collect(),
                requires_member_id: self.chance(2),
                can_skip_assignment: self.chance(2),
                ..join()
            };
            return self.ask(n, Waits::Join, GroupRequest::Join(request));
        }
        if let Some(members) = client.leads {
            let assignments = members.iter().enumerate().map(|(at, id)| {
                let shares = (0..PARTITIONS).filter(|partition| *partition as usize % members.len() == at);
                (id.clone(), Bytes::from_iter(shares.map(|partition| partition as u8)))
            });
            let assignments = assignments.collect();
            let request = Sync { member, protocol_type: None, protocol_name: None, assignments };
            return self.ask(n, Waits::Sync, GroupRequest::Sync(request));
        }
        if self.chance(2) {
            let request = Sync { member, protocol_type: None, protocol_name: None, assignments: vec![] };
            return self.ask(n, Waits::Sync, GroupRequest::Sync(request));
        }
        self.ask(n, Waits::Other, GroupRequest::Heartbeat(member));
    }

    fn ask(&mut self, n: usize, waits: Waits, request: GroupRequest) {
        let ticket = self.kit.call_from(&format!("client-{n}"), request);
        self.clients[n].waits = Some((ticket, waits));
    }

    fn leave(&mut self, n: usize) {
        let Client { member_id, instance_id, .. } = self.clients[n].clone();
        self.kit.call(GroupRequest::Leave(vec![leaving(&member_id, instance_id.as_deref())]));
        self.clients[n] = Client { instance_id, ..Client::default() };
    }

    fn commit(&mut self, n: usize) {
        let Client { member_id, generation, .. } = &self.clients[n];
        let generation = if member_id.is_empty() { -1 } else { *generation };
        let partition = self.kit.entropy.below(PARTITIONS as usize) as i32;
        self.next_offset += 1;
        let request = commit_as(member_id, generation, &[(at(1, partition), self.next_offset)]);
        let ticket = self.kit.call(GroupRequest::CommitOffsets(request));
        self.commits.push((ticket, partition, self.next_offset));
    }

    /// A member that lies.
    fn garbage(&mut self, n: usize) {
        let other = self.clients[(n + 1) % CLIENTS].clone();
        let generation = self.kit.entropy.next_u64() as i32;
        let member = Member { member_id: other.member_id.clone(), instance_id: Some("static-9".into()), generation };
        let all = vec![("nobody".to_owned(), Bytes::from_static(&[0, 1, 2, 3]))];
        let sync = Sync { member: member.clone(), protocol_type: None, protocol_name: None, assignments: all };
        let request = match self.kit.entropy.below(4) {
            0 => GroupRequest::Sync(sync),
            1 => GroupRequest::Heartbeat(member),
            2 => GroupRequest::CommitOffsets(commit_as(&other.member_id, generation | 1, &[(at(1, 0), i64::MAX)])),
            _ => GroupRequest::Join(Join { protocol_type: "other".into(), ..join() }),
        };
        let is_commit = matches!(request, GroupRequest::CommitOffsets(_));
        let ticket = self.kit.call(request);
        if is_commit {
            // An empty group takes it, as one from outside.
            self.commits.push((ticket, 0, i64::MAX));
        }
    }

    fn lose_owner(&mut self) {
        self.kit.reload();
        self.forgotten = self.kit.open();
        self.commits.clear();
        self.clients.iter_mut().for_each(|client| client.waits = None);
    }

    /// Takes the answers that are there.
    fn collect(&mut self) {
        let commits = std::mem::take(&mut self.commits);
        for (ticket, partition, offset) in commits {
            match self.kit.answer(ticket) {
                None => self.commits.push((ticket, partition, offset)),
                Some(Ok(_)) => {
                    self.acknowledged.insert(partition, offset);
                }
                Some(Err(_)) => {}
            }
        }
        for n in 0..CLIENTS {
            let Some((ticket, waits)) = self.clients[n].waits else { continue };
            let Some(outcome) = self.kit.answer(ticket) else { continue };
            self.clients[n].waits = None;
            self.answered(n, waits, outcome);
        }
    }

    fn answered(&mut self, n: usize, waits: Waits, outcome: Result<GroupAnswer, GroupError>) {
        let client = &mut self.clients[n];
        match outcome {
            Ok(GroupAnswer::Join(joined)) => {
                let leads = joined.member_id == joined.leader && !joined.skip_assignment;
                let members = joined.members.iter().map(|member| member.member_id.clone()).collect();
                client.leads = leads.then_some(members);
                (client.member_id, client.generation) = (joined.member_id, joined.generation);
            }
            Ok(GroupAnswer::Sync(synced)) => {
                client.leads = None;
                let whose = client.instance_id.clone().unwrap_or_else(|| client.member_id.clone());
                for partition in synced.assignment {
                    let owner = self.owners.entry((client.generation, partition)).or_insert_with(|| whose.clone());
                    assert_eq!(*owner, whose, "seed {}: two owners of {partition}", self.seed);
                }
            }
            Ok(_) => {}
            Err(GroupError::MemberIdRequired(id)) => (client.member_id, client.generation) = (id, 0),
            Err(GroupError::UnknownMemberId(_) | GroupError::FencedInstanceId) => {
                *client = Client { instance_id: client.instance_id.clone(), ..Client::default() };
            }
            Err(GroupError::RebalanceInProgress | GroupError::IllegalGeneration) => {
                (client.generation, client.leads) = (0, None);
            }
            Err(GroupError::GroupMaxSizeReached | GroupError::InconsistentGroupProtocol) if waits == Waits::Join => {
                client.member_id.clear();
            }
            Err(error) => panic!("seed {}: {error:?}", self.seed),
        }
    }

    fn check(&mut self) {
        let seed = self.seed;
        let waiting = self.kit.waiting() - self.forgotten.min(self.kit.waiting());
        assert!(waiting == 0 || self.kit.group.deadline().is_some(), "seed {seed}: a wait without an end");
        if self.kit.away {
            return;
        }
        assert!(self.commits.is_empty(), "seed {seed}: a commit is not answered");
        for (partition, offset) in self.acknowledged.clone() {
            let committed = self.kit.committed(at(1, partition));
            assert_eq!(committed, Some(offset), "seed {seed}: a lost commit of {partition}");
        }
    }

    /// All clients are gone, and so is the group in the end.
    fn end(&mut self) {
        let seed = self.seed;
        self.kit.away = false;
        self.kit.store_all();
        self.collect();
        self.kit.advance(ms(3_600_000));
        self.collect();
        self.check();
        assert_eq!(self.kit.open(), self.forgotten, "seed {seed}: not answered");
        assert!(["Empty", "Dead"].contains(&&*self.kit.state()), "seed {seed}: {}", self.kit.state());
        self.kit.wall_ms += 8 * 86_400_000;
        self.kit.step(Event::Sweep);
        assert!(self.kit.group.is_gone(), "seed {seed}: {:?}", self.kit.group);
        assert!(self.kit.stored.is_empty(), "seed {seed}: {:?}", self.kit.stored.keys());
    }
}

#[test]
fn whatever_happens_to_a_classic_group_some_things_hold() {
    let (mut assignments, mut commits) = (0, 0);
    for seed in 0..SEEDS {
        let mut life = Life::new(seed);
        life.run();
        assignments += life.assignments + life.owners.len();
        commits += life.acknowledged.len();
    }
    // Else nothing was tested.
    assert!(assignments > SEEDS as usize && commits > SEEDS as usize, "{assignments} assignments, {commits} commits");
}
