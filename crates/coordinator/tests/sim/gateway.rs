//! A gateway's part: it follows the cluster state, and asks the owner of a group as `gateway/src/owner.rs` does.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tidemark_model::coordinator::{Changed, ConfigChange, NewTopic, OpenJournal, TopicRef};
use tidemark_model::group::{GroupCall, GroupRequest};
use tidemark_model::{
    ClusterState, ClusterUpdate, Coordinator, CoordinatorError, GroupError, Journal, NodeId, Registration, Role, Slot,
    route,
};
use tidemark_runtime::cluster::{ClusterView, follow};
use tidemark_segment::testing::sim::Chance;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::coordinators::{Coordinators, Outcome};

const PATIENCE: Duration = Duration::from_secs(9);
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_LIMIT: Duration = Duration::from_millis(500);
const MOVE_GRACE: Duration = Duration::from_millis(500);

/// How many there are.
pub const GATEWAYS: usize = 2;

/// How late a gateway hears of a change, and how often: that one of them knows it does not mean that others do.
const LATE: Duration = Duration::from_millis(400);
const LATE_EVERY: Duration = Duration::from_secs(1);

pub struct Gateway {
    index: usize,
    pub coordinators: Arc<Coordinators>,
    view: ClusterView,
    /// The cluster state has changed. Those who wait are woken in the order in which they came.
    moved: Arc<Notify>,
    chance: Chance,
}

/// Any coordinator that runs.
struct Any {
    coordinators: Arc<Coordinators>,
    chance: Chance,
}

impl Gateway {
    pub fn start(coordinators: &Arc<Coordinators>, seed: u64, index: usize) -> Arc<Self> {
        let part = 10 * (1 + index as u64);
        let any = Any { coordinators: Arc::clone(coordinators), chance: Chance::of(seed, part) };
        let name = format!("gateway-{index}");
        let address = name.clone();
        let registration = Registration { role: Role::Gateway, name, incarnation: seed, address, rack: None };
        let entropy = Chance::of(seed, part + 1).entropy();
        let (view, follower) = follow(Arc::new(any), registration, entropy, CancellationToken::new());
        let trace = coordinators.trace.clone();
        tokio::spawn(async move {
            if let Err(error) = follower.run().await {
                trace.wrong(format!("gateway {index}: {error}"));
            }
        });
        let moved = Arc::new(Notify::new());
        {
            let (mut states, moved) = (view.subscribe(), Arc::clone(&moved));
            tokio::spawn(async move {
                while states.changed().await.is_ok() {
                    moved.notify_waiters();
                }
            });
        }
        let chance = Chance::of(seed, part + 2);
        Arc::new(Self { index, coordinators: Arc::clone(coordinators), view, moved, chance })
    }

    pub fn state(&self) -> Arc<ClusterState> {
        self.view.current()
    }

    /// As the partitions of a topic are known here.
    pub fn partitions(&self, topic: &str) -> i32 {
        self.state().topic_named(topic).map_or(0, |topic| topic.partitions.len() as i32)
    }

    pub async fn ask(&self, call: GroupCall) -> Outcome {
        let waits = matches!(call.request, GroupRequest::Join(_) | GroupRequest::Sync(_));
        let mut until = (!waits).then_some(Instant::now() + PATIENCE);
        let mut wait = RETRY_FIRST;
        loop {
            let slot = slot_of(&self.state(), &call.group);
            let deadline = async {
                match until {
                    Some(until) if !waits => tokio::time::sleep_until(until).await,
                    _ => std::future::pending().await,
                }
            };
            let outcome = tokio::select! {
                biased;
                outcome = self.attempt(&call) => outcome,
                () = deadline => Err(GroupError::TimedOut("the group's owner does not answer".to_owned())),
            };
            let error = match outcome {
                Err(error) if may_be_repeated(&error, &call.request) => error,
                outcome => return outcome,
            };
            let until = *until.get_or_insert_with(|| Instant::now() + PATIENCE);
            if Instant::now() + wait >= until {
                return Err(error);
            }
            let _ = tokio::time::timeout(wait / 2 + self.chance.up_to(wait / 2), self.moved(&call.group, slot)).await;
            wait = (wait * 2).min(RETRY_LIMIT);
        }
    }

    async fn attempt(&self, call: &GroupCall) -> Outcome {
        let state = self.state();
        let slot = slot_of(&state, &call.group);
        let owner = route::coordinator_for(&state, route::slot_for(&call.group));
        let life = owner.and_then(|owner| self.coordinators.life(&owner.address));
        let Some(life) = life else {
            return Err(GroupError::Unavailable("no coordinator owns the group".to_owned()));
        };
        let mut answer = life.call(self.index, call.clone());
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            () = self.moved(&call.group, slot) => {}
        }
        let late = || Err(GroupError::TimedOut("the group moved before its owner answered".to_owned()));
        tokio::time::timeout(MOVE_GRACE, answer).await.unwrap_or_else(|_| late())
    }

    async fn moved(&self, group: &str, slot: Option<Slot>) {
        loop {
            let moved = self.moved.notified();
            if slot_of(&self.state(), group) != slot {
                return;
            }
            moved.await;
        }
    }

    /// Waits until the state is so.
    pub async fn until(&self, is_so: impl Fn(&ClusterState) -> bool) {
        loop {
            let moved = self.moved.notified();
            if is_so(&self.state()) {
                return;
            }
            moved.await;
        }
    }
}

fn slot_of(state: &ClusterState, group: &str) -> Option<Slot> {
    let id = route::slot_for(group);
    route::coordinator_for(state, id).and_then(|_| state.slot(id)).copied()
}

fn may_be_repeated(error: &GroupError, request: &GroupRequest) -> bool {
    match error {
        GroupError::NotCoordinator | GroupError::LoadInProgress | GroupError::Unavailable(_) => true,
        GroupError::TimedOut(_) => match request {
            GroupRequest::Join(join) => {
                !join.member_id.is_empty() || join.instance_id.is_some() || join.requires_member_id
            }
            GroupRequest::Leave(_) | GroupRequest::Delete | GroupRequest::ConsumerHeartbeat(_) => false,
            _ => true,
        },
        _ => false,
    }
}

fn absent<T>() -> Result<T, CoordinatorError> {
    Err(CoordinatorError::Unavailable("nobody is asked for that here".to_owned()))
}

#[async_trait]
impl Coordinator for Any {
    fn join(
        &self,
        registration: Registration,
        resume: Option<u64>,
    ) -> BoxStream<'static, Result<ClusterUpdate, CoordinatorError>> {
        let mut running = self.coordinators.alive();
        running.retain(|life| !life.process.is_paused());
        if running.is_empty() {
            return futures::stream::iter([absent()]).boxed();
        }
        let life = running.swap_remove(self.chance.below(running.len() as u64) as usize);
        let (process, chance) = (Arc::clone(&life.process), self.chance.clone());
        let (mut again, mut until) = (Instant::now(), Instant::now());
        let late = move |update| {
            if again <= Instant::now() {
                (again, until) = (Instant::now() + LATE_EVERY, Instant::now() + chance.up_to(LATE));
            }
            async move {
                tokio::time::sleep_until(until).await;
                update
            }
        };
        // A connection that says nothing is given up.
        life.service.join(registration, resume).then(late).take_until(async move { process.is_gone().await }).boxed()
    }

    async fn leave(&self, _: Role, _: NodeId, _: u64) -> Result<(), CoordinatorError> {
        absent()
    }

    async fn open_journal(&self, _: OpenJournal) -> Result<Journal, CoordinatorError> {
        absent()
    }

    async fn create_topics(&self, _: Vec<NewTopic>, _: bool) -> Vec<Result<Changed, CoordinatorError>> {
        Vec::new()
    }

    async fn delete_topics(&self, _: Vec<TopicRef>) -> Vec<Result<Changed, CoordinatorError>> {
        Vec::new()
    }

    async fn create_partitions(&self, _: TopicRef, _: i32, _: bool) -> Result<Changed, CoordinatorError> {
        absent()
    }

    async fn alter_topic_configs(
        &self,
        _: TopicRef,
        _: Vec<ConfigChange>,
        _: bool,
    ) -> Result<Changed, CoordinatorError> {
        absent()
    }

    async fn allocate_producer_ids(&self, _: u32) -> Result<Range<i64>, CoordinatorError> {
        absent()
    }
}
