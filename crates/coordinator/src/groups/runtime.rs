//! The groups of the slots that this coordinator owns: calls go to a slot's task, which steps its groups one event at a
//! time, has the store write what they changed, and answers.
//!
//! A call takes its place in the slot's queue when it is made. Nothing of a group is shared between tasks; what all
//! groups decide by is in [`Env`].

mod answers;
mod hosted;
mod slot;
mod wheel;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::future::{BoxFuture, FutureExt};
use tidemark_model::group::{GroupAnswer, GroupCall, GroupRequest, ListedGroup};
use tidemark_model::{ClusterState, GroupCoordinator, GroupError, SlotId, route};
use tokio::sync::{mpsc, oneshot};

use self::slot::Slot;
use super::Context;
use crate::metrics;
use crate::records::MAX_GROUP_NAME;
use crate::service::Shared;
use crate::slots::{Owned, SlotUser};
use crate::store::Snapshot;

/// Calls that wait for a slot's task. It does no I/O, so that this many wait only where more come than it can serve.
const MAX_QUEUED: usize = 4_096;

type Outcome = Result<GroupAnswer, GroupError>;

pub(crate) struct Groups {
    env: Arc<Env>,
    slots: Mutex<BTreeMap<SlotId, Place>>,
}

/// What every slot's task needs.
pub(super) struct Env {
    pub(super) shared: Arc<Shared>,
    cluster: Mutex<Arc<ClusterState>>,
}

/// A slot that is this coordinator's.
enum Place {
    Loading,
    Serving(mpsc::Sender<Request>),
    /// It is handed over.
    Draining,
}

pub(super) enum Request {
    Call(Box<GroupCall>, oneshot::Sender<Outcome>),
    List(oneshot::Sender<Vec<ListedGroup>>),
    /// Take nothing more; answered when all that was changed is on its way to the store.
    Drain(oneshot::Sender<()>),
}

impl Env {
    /// The cluster state as this coordinator has it now: one copy for all slots.
    pub(super) fn cluster(&self) -> Arc<ClusterState> {
        let mut cached = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.state.revision().is_some_and(|revision| revision != cached.revision) {
            *cached = Arc::new(self.shared.state.cluster());
        }
        Arc::clone(&cached)
    }

    pub(super) fn context<'a>(&'a self, cluster: &'a ClusterState) -> Context<'a> {
        Context {
            now: tokio::time::Instant::now(),
            wall_ms: self.shared.clock.now_ms(),
            cluster,
            settings: &self.shared.settings.groups,
            entropy: &*self.shared.entropy,
        }
    }
}

impl Groups {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let cluster = Mutex::default();
        Self { env: Arc::new(Env { shared, cluster }), slots: Mutex::default() }
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<SlotId, Place>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a call into its slot's queue.
    fn enqueue(&self, call: GroupCall) -> Result<oneshot::Receiver<Outcome>, GroupError> {
        check_name(&call)?;
        let slot = route::slot_for(&call.group);
        let slots = self.slots();
        let queue = match slots.get(&slot) {
            None | Some(Place::Draining) => return Err(GroupError::NotCoordinator),
            Some(Place::Loading) => return Err(GroupError::LoadInProgress),
            Some(Place::Serving(queue)) => queue,
        };
        let (answer, answered) = oneshot::channel();
        match queue.try_send(Request::Call(Box::new(call), answer)) {
            Ok(()) => Ok(answered),
            Err(mpsc::error::TrySendError::Full(_)) => Err(GroupError::Unavailable("too many calls wait".into())),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(GroupError::NotCoordinator),
        }
    }
}

#[async_trait]
impl GroupCoordinator for Groups {
    fn call(&self, call: GroupCall) -> BoxFuture<'static, Result<GroupAnswer, GroupError>> {
        let kind = kind(&call.request);
        let queued = self.enqueue(call);
        async move {
            let outcome = match queued {
                // The slot's task ends when the slot is lost, and what it did not do is another's to do.
                Ok(answered) => answered.await.unwrap_or(Err(GroupError::NotCoordinator)),
                Err(error) => Err(error),
            };
            metrics::group_answered(kind, outcome.as_ref().err());
            outcome
        }
        .boxed()
    }

    async fn list(&self) -> Result<Vec<ListedGroup>, GroupError> {
        let mut queues = Vec::new();
        for place in self.slots().values() {
            match place {
                Place::Loading => return Err(GroupError::LoadInProgress),
                Place::Serving(queue) => queues.push(queue.clone()),
                Place::Draining => {}
            }
        }
        let mut listed = Vec::new();
        for queue in queues {
            let (answer, answered) = oneshot::channel();
            // A slot that is lost meanwhile is another's to list.
            if queue.send(Request::List(answer)).await.is_ok() {
                listed.extend(answered.await.unwrap_or_default());
            }
        }
        Ok(listed)
    }
}

#[async_trait]
impl SlotUser for Groups {
    fn loading(&self, slot: SlotId) {
        self.slots().insert(slot, Place::Loading);
    }

    fn acquired(&self, owned: Owned, stored: Snapshot) {
        let (queue, requests) = mpsc::channel(MAX_QUEUED);
        self.slots().insert(owned.id(), Place::Serving(queue));
        let env = Arc::clone(&self.env);
        tokio::spawn(async move { Slot::load(env, owned, stored, requests).run().await });
    }

    fn lost(&self, slot: SlotId) {
        self.slots().remove(&slot);
    }

    async fn drain(&self, slot: SlotId) {
        let before = self.slots().insert(slot, Place::Draining);
        let (drained, done) = oneshot::channel();
        if let Some(Place::Serving(queue)) = before
            && queue.send(Request::Drain(drained)).await.is_ok()
        {
            // The task may end first, when the slot is lost.
            let _ = done.await;
        }
    }
}

/// Kafka lets offsets be committed to the group without a name, from times when consumers had none.
fn check_name(call: &GroupCall) -> Result<(), GroupError> {
    let may_be_empty = match &call.request {
        GroupRequest::CommitOffsets(_)
        | GroupRequest::FetchOffsets(_)
        | GroupRequest::DeleteOffsets(_)
        | GroupRequest::Describe
        | GroupRequest::DescribeConsumer
        | GroupRequest::Delete
        // Has a code of its own for it.
        | GroupRequest::ConsumerHeartbeat(_) => true,
        GroupRequest::Join(_)
        | GroupRequest::Sync(_)
        | GroupRequest::Heartbeat(_)
        | GroupRequest::Leave(_)
        | GroupRequest::AlterConfigs { .. }
        | GroupRequest::DescribeConfigs => false,
    };
    let ok = call.group.len() <= MAX_GROUP_NAME && (may_be_empty || !call.group.is_empty());
    if ok { Ok(()) } else { Err(GroupError::InvalidGroupId) }
}

fn kind(request: &GroupRequest) -> &'static str {
    match request {
        GroupRequest::Join(_) => "join",
        GroupRequest::Sync(_) => "sync",
        GroupRequest::Heartbeat(_) => "heartbeat",
        GroupRequest::Leave(_) => "leave",
        GroupRequest::ConsumerHeartbeat(_) => "consumer_heartbeat",
        GroupRequest::CommitOffsets(_) => "commit_offsets",
        GroupRequest::FetchOffsets(_) => "fetch_offsets",
        GroupRequest::DeleteOffsets(_) => "delete_offsets",
        GroupRequest::Describe => "describe",
        GroupRequest::DescribeConsumer => "describe_consumer",
        GroupRequest::Delete => "delete",
        GroupRequest::AlterConfigs { .. } => "alter_configs",
        GroupRequest::DescribeConfigs => "describe_configs",
    }
}
