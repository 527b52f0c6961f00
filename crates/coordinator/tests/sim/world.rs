//! The groups of a run and their members, who come and go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tidemark_coordinator::store::MetadataStore as _;
use tidemark_model::coordinator::{NewTopic, OpenJournal, TopicRef};
use tidemark_model::{Coordinator as _, NodeId, TopicId};
use tidemark_segment::testing::sim::{Chance, Trace};
use tokio::time::sleep;

use crate::classic::Classic;
use crate::consumer::Consumer;
use crate::coordinators::Coordinators;
use crate::gateway::{GATEWAYS, Gateway};
use crate::loner::Loner;
use crate::member::{Leave, Reader};
use crate::model::Group;
use crate::process::Process;

/// Partitions of a topic in the beginning, and at most.
const PARTITIONS: i32 = 4;
const MOST_PARTITIONS: i32 = 10;
/// Members of a group at most, and the instance ids of those that are static: so few that some have the same.
const MOST_MEMBERS: usize = 4;
const INSTANCES: u64 = 2;

/// What the members of a group are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Eager,
    Incremental,
    Consumer,
    /// A consumer that is no member of its group.
    Alone,
    /// Of both protocols: the group goes over to the newer one and back.
    Mixed,
}

pub struct World {
    pub trace: Trace,
    pub chance: Chance,
    pub coordinators: Arc<Coordinators>,
    pub gateways: Vec<Arc<Gateway>>,
    pub crews: Vec<Crew>,
    /// What those members of the mixed group are that speak the classic protocol.
    older: Kind,
    seed: u64,
}

/// A group and its members.
pub struct Crew {
    pub kind: Kind,
    pub group: Group,
    topic: TopicId,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    count: u64,
    running: BTreeMap<String, Arc<Member>>,
}

/// A member's process.
pub struct Member {
    pub process: Arc<Process>,
    /// Of a static one (KIP-345).
    pub instance: Option<String>,
    kind: Kind,
    leaves: OnceLock<Leave>,
}

impl World {
    /// Creates the topics, each of which one group reads. Its coordinators are there already.
    pub async fn new(seed: u64, coordinators: Arc<Coordinators>) -> Result<Arc<Self>, String> {
        let (trace, chance) = (coordinators.trace.clone(), Chance::of(seed, 1));
        let gateways: Vec<_> = (0..GATEWAYS).map(|index| Gateway::start(&coordinators, seed, index)).collect();
        let first = coordinators.alive().swap_remove(0);
        first.service.ready().await;
        let open = OpenJournal { node: NodeId(1), wal_incarnation: 1, logs: vec![1], succeeds: None };
        first.service.open_journal(open).await.map_err(|error| error.to_string())?;
        let mut crews = Vec::new();
        let kinds = [("eager", Kind::Eager), ("incremental", Kind::Incremental), ("consumer", Kind::Consumer)];
        for (name, kind) in kinds.into_iter().chain([("alone", Kind::Alone), ("mixed", Kind::Mixed)]) {
            let configs = BTreeMap::new();
            let topic = NewTopic { name: name.to_owned(), partitions: PARTITIONS, replication_factor: -1, configs };
            let created = first.service.create_topics(vec![topic], false).await.remove(0);
            let topic = created.map_err(|error| error.to_string())?.topic.id;
            let (group, members) = (Group::new(name, kind == Kind::Mixed, &trace), Mutex::default());
            crews.push(Crew { kind, group, topic, members });
        }
        for gateway in &gateways {
            gateway.until(|state| crews_known(state, &["eager", "incremental", "consumer", "alone", "mixed"])).await;
        }
        let older = if chance.one_in(2) { Kind::Eager } else { Kind::Incremental };
        Ok(Arc::new(Self { trace, chance, coordinators, gateways, crews, older, seed }))
    }

    /// Records come, for as long as they are asked for.
    pub async fn write(&self) {
        loop {
            for crew in &self.crews {
                for partition in 0..self.gateways[0].partitions(&crew.group.name) {
                    crew.group.grow(partition, self.chance.below(4) as i64);
                }
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// A member comes. Returns whether there was room for it.
    pub fn join(self: &Arc<Self>, crew: &Crew) -> bool {
        let most = if crew.kind == Kind::Alone { 1 } else { MOST_MEMBERS };
        if crew.members().running.len() >= most {
            return false;
        }
        let is_static = crew.kind != Kind::Alone && self.chance.one_in(3);
        let instance = is_static.then(|| format!("i{}", self.chance.below(INSTANCES)));
        self.join_as(crew, instance, self.any_kind(crew));
        true
    }

    pub fn any_gateway(&self) -> &Arc<Gateway> {
        &self.gateways[self.chance.below(GATEWAYS as u64) as usize]
    }

    /// What another member of the group may be.
    fn any_kind(&self, crew: &Crew) -> Kind {
        match crew.kind {
            Kind::Mixed if self.chance.one_in(2) => Kind::Consumer,
            Kind::Mixed => self.older,
            kind => kind,
        }
    }

    /// A static member comes back in a process of its own, whether the last one is still there or not.
    pub fn come_back(self: &Arc<Self>, crew: &Crew, member: &Member, as_it_was: bool) {
        let kind = if as_it_was { member.kind } else { self.any_kind(crew) };
        self.join_as(crew, member.instance.clone(), kind);
    }

    fn join_as(self: &Arc<Self>, crew: &Crew, instance: Option<String>, kind: Kind) {
        let mut members = crew.members();
        members.count += 1;
        let name = format!("m{}", members.count);
        let (process, leaves) = (Arc::default(), OnceLock::new());
        let member = Arc::new(Member { process, instance: instance.clone(), kind, leaves });
        self.trace.note(format_args!("{}/{name} comes, {kind:?}, as {instance:?}", crew.group.name));
        let part = 100_000 + 1_000 * crew.kind as u64 + members.count;
        let chance = Chance::of(self.seed, part);
        let (gateway, group) = (self.any_gateway(), &crew.group);
        let reader = Reader::new(gateway, &member.process, group, crew.topic, chance, name.clone(), instance);
        members.running.insert(name.clone(), Arc::clone(&member));
        let (world, of, group, count) = (Arc::clone(self), crew.kind, crew.group.clone(), members.count as i32);
        tokio::spawn(async move {
            let leaving = || member.leaves.get().copied();
            let life = async {
                match kind {
                    Kind::Eager => Classic::new(reader, false).run(leaving).await,
                    Kind::Incremental => Classic::new(reader, true).run(leaving).await,
                    Kind::Consumer | Kind::Mixed => Consumer::new(reader).run(leaving).await,
                    Kind::Alone => Loner::new(reader, count).run(leaving).await,
                }
            };
            tokio::select! {
                biased;
                () = member.process.dead.cancelled() => {}
                () = life => member.process.kill(),
            }
            group.stops(&name);
            if let Some(crew) = world.crews.iter().find(|crew| crew.kind == of) {
                crew.members().running.remove(&name);
            }
        });
    }

    /// Writes down who is registered in the store and who owns the slots, where that may tell what is wrong.
    pub async fn note_store(&self) {
        let Ok(stored) = self.coordinators.store.range("/").await else { return };
        for (index, gateway) in self.gateways.iter().enumerate() {
            let state = gateway.state();
            self.trace.note(format_args!("gateway {index} at {}, store at {}", state.revision, stored.revision));
            state.records().for_each(|record| self.trace.note(format_args!("gateway {index}: {record:?}")));
        }
        for entry in stored.entries {
            if entry.key.contains("/nodes/") || entry.key.contains("/slots/") {
                let value = String::from_utf8_lossy(&entry.value);
                self.trace.note(format_args!("{} {} {:?} {value}", entry.key, entry.revision, entry.lease));
            }
        }
    }

    /// A topic gets more partitions, if nothing prevents it now.
    pub async fn grow(&self, crew: &Crew) {
        let now = self.gateways[0].partitions(&crew.group.name);
        let mut alive = self.coordinators.alive();
        alive.retain(|life| !life.process.is_paused());
        if now == 0 || now >= MOST_PARTITIONS || alive.is_empty() {
            return;
        }
        let life = alive.swap_remove(self.chance.below(alive.len() as u64) as usize);
        let grown = life.service.create_partitions(TopicRef::Id(crew.topic), now + 1, false);
        match tokio::time::timeout(Duration::from_secs(1), grown).await {
            Ok(Ok(_)) => {
                self.trace.count("partitions added");
                self.trace.note(format_args!("{} has {} partitions", crew.group.name, now + 1));
            }
            Ok(Err(error)) => self.trace.note(format_args!("{} does not grow: {error}", crew.group.name)),
            Err(_) => self.trace.note(format_args!("{} may have grown", crew.group.name)),
        }
    }
}

impl Crew {
    /// The members that run and are not paused, by name.
    pub fn active(&self) -> Vec<Arc<Member>> {
        let members = self.members();
        members.running.values().filter(|member| !member.process.is_paused()).cloned().collect()
    }

    pub fn all(&self) -> Vec<Arc<Member>> {
        self.members().running.values().cloned().collect()
    }

    /// Whether nobody else says to be this static member.
    pub fn is_alone_with_its_id(&self, member: &Member) -> bool {
        self.members().running.values().filter(|other| other.instance == member.instance).count() == 1
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    pub fn leave(&self, how: Leave) {
        // It may be leaving already, in another way.
        let _ = self.leaves.set(how);
    }
}

fn crews_known(state: &tidemark_model::ClusterState, names: &[&str]) -> bool {
    names.iter().all(|name| state.topic_named(name).is_some())
}
