//! The task of a slot.

mod load;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use tidemark_model::group::{GroupCall, GroupRequest};
use tidemark_model::{ClusterState, GroupError, RecordKey, TopicId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use super::answers::{Answers, STORE_PATIENCE};
use super::hosted::Hosted;
use super::wheel::Wheel;
use super::{Env, Outcome, Request};
use crate::groups::{Event, Gate, Group, Ticket};
use crate::metrics;
use crate::slots::{NotWritten, Owned, Unconfirmed};
use crate::state::Revisions;
use crate::store::{Operation, Snapshot};

/// How often expired offsets are looked for. Kafka's `offsets.retention.check.interval.ms`.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// A deadline that is seen this late was slept through, by the whole process or by a machine that was stopped.
const OVERSLEPT: Duration = Duration::from_secs(1);

/// How long members may then take to be heard: what they said meanwhile is still on its way.
const GRACE: Duration = Duration::from_secs(2);

/// Calls that are taken together: what they change is written together.
const MAX_BATCH: usize = 256;

pub(super) struct Slot {
    env: Arc<Env>,
    owned: Owned,
    requests: mpsc::Receiver<Request>,
    batch: Vec<Request>,
    /// Nothing more comes.
    closed: bool,
    groups: BTreeMap<Arc<str>, Hosted>,
    /// Groups that a newer version has written, or that are damaged: left alone.
    unreadable: BTreeSet<String>,
    cluster: Arc<ClusterState>,
    revisions: Revisions,
    sweep: Interval,
    wheel: Wheel,
    /// Until then nobody is removed, after this task has overslept.
    grace: Option<Instant>,
    answers: Answers,
    /// Answers that may be given once the ownership is confirmed.
    unconfirmed: Vec<(Ticket, Outcome)>,
    /// Groups that were stepped since the last flush.
    touched: BTreeSet<Arc<str>>,
    jobs: FuturesUnordered<BoxFuture<'static, Job>>,
}

/// What was waited for.
enum Job {
    Written(Arc<str>, u64, Result<(), NotWritten>),
    Confirmed(Vec<(Ticket, Outcome)>, Result<(), Unconfirmed>),
    /// Topics of which the store says that there are none.
    Gone(Vec<TopicId>),
}

enum Input {
    Lost,
    Due,
    Done(Job),
    State,
    Sweep,
    Requests(usize),
}

impl Slot {
    /// The groups as they are stored.
    pub(super) fn load(env: Arc<Env>, owned: Owned, stored: Snapshot, requests: mpsc::Receiver<Request>) -> Self {
        let mut sweep = interval_at(Instant::now() + SWEEP_INTERVAL, SWEEP_INTERVAL);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let cluster = env.cluster();
        let (groups, unreadable) = load::groups(&env, &cluster, owned.id(), stored);
        metrics::groups_loaded(groups.len());
        Self {
            revisions: env.shared.state.revisions(),
            touched: groups.keys().cloned().collect(),
            env,
            owned,
            requests,
            batch: Vec::with_capacity(MAX_BATCH),
            closed: false,
            groups,
            unreadable,
            cluster,
            sweep,
            wheel: Wheel::default(),
            grace: None,
            answers: Answers::default(),
            unconfirmed: Vec::new(),
            jobs: FuturesUnordered::new(),
        }
    }

    /// Serves the groups until the slot is lost.
    pub(super) async fn run(mut self) {
        self.look_for_gone_topics();
        self.flush(false);
        loop {
            match self.next().await {
                Input::Lost => break,
                Input::Due => self.due(),
                Input::Done(job) => {
                    if self.done(job).is_break() {
                        break;
                    }
                }
                Input::State => self.state_changed(),
                Input::Sweep => {
                    self.step_all(|| Event::Sweep);
                    self.look_for_gone_topics();
                }
                Input::Requests(count) => {
                    self.closed = count == 0;
                    // Given back, for its memory.
                    let mut batch = std::mem::take(&mut self.batch);
                    batch.drain(..).for_each(|request| self.serve(request));
                    self.batch = batch;
                }
            }
            self.flush(false);
        }
        let written: Vec<Ticket> = self.groups.values().flat_map(Hosted::waiting).collect();
        self.answers.dismiss(&written);
        // What is still in the queue meets a closed one, and is answered so.
    }

    async fn next(&mut self) -> Input {
        // While the slot is handed over nothing is done about deadlines, and those that are past are not waited for.
        let next = self.wheel.next().filter(|_| !self.requests.is_closed());
        let deadline = next.map(|deadline| self.grace.map_or(deadline, |grace| deadline.max(grace)));
        let due = deadline.into_iter().chain(self.answers.next_out_of_patience()).min();
        let lost = self.owned.lost();
        tokio::select! {
            biased;
            () = lost.cancelled() => Input::Lost,
            () = until(due) => Input::Due,
            Some(job) = self.jobs.next() => Input::Done(job),
            () = self.revisions.changed() => Input::State,
            _ = self.sweep.tick() => Input::Sweep,
            count = self.requests.recv_many(&mut self.batch, MAX_BATCH), if !self.closed => Input::Requests(count),
        }
    }

    fn serve(&mut self, request: Request) {
        match request {
            Request::Call(call, answer) => self.call(call, answer),
            Request::List(answer) => {
                let listed = self.groups.values().filter_map(|hosted| hosted.group.listed()).collect();
                let _ = answer.send(listed);
            }
            Request::Drain(drained) => {
                // Also those whose writes waited for others.
                let changed = self.groups.iter().filter(|(_, hosted)| hosted.group.has_changes());
                self.touched.extend(changed.map(|(id, _)| Arc::clone(id)));
                self.flush(true);
                self.requests.close();
                let written: Vec<Ticket> = self.groups.values().flat_map(Hosted::waiting).collect();
                self.answers.dismiss_all_but(&written);
                let _ = drained.send(());
            }
        }
    }

    fn call(&mut self, call: Box<GroupCall>, answer: oneshot::Sender<Outcome>) {
        let busy = || Err(GroupError::Unavailable("too much waits for the metadata store".into()));
        if self.unreadable.contains(&call.group) {
            let _ = answer.send(Err(GroupError::Unavailable("the group was stored by a newer version".into())));
            return;
        }
        let writes = matches!(call.request, GroupRequest::CommitOffsets(_) | GroupRequest::DeleteOffsets(_));
        if writes && self.owned.congested() {
            let _ = answer.send(busy());
            return;
        }
        let ticket = match self.answers.expect(answer) {
            Ok(ticket) => ticket,
            Err(answer) => {
                let _ = answer.send(busy());
                return;
            }
        };
        let id = match self.groups.get_key_value(call.group.as_str()) {
            Some((id, _)) => Arc::clone(id),
            None => {
                let id: Arc<str> = call.group.as_str().into();
                self.groups.insert(Arc::clone(&id), Hosted::new(Group::new(&id)));
                id
            }
        };
        self.step(&id, Event::Call(ticket, call));
    }

    fn due(&mut self) {
        let now = Instant::now();
        self.answers.give_up(now);
        match self.grace {
            Some(grace) if now < grace => return,
            Some(_) => self.grace = None,
            None if self.wheel.next().is_some_and(|deadline| now > deadline + OVERSLEPT) => {
                self.grace = Some(now + GRACE);
                return;
            }
            None => {}
        }
        while let Some(id) = self.wheel.pop(now) {
            let Some(hosted) = self.groups.get_mut(&id) else { continue };
            hosted.armed = None;
            let due = hosted.group.deadline().is_some_and(|deadline| deadline <= now);
            if due && !self.requests.is_closed() {
                self.step(&id, Event::Deadline);
            }
            self.touched.insert(id);
        }
    }

    fn done(&mut self, job: Job) -> std::ops::ControlFlow<()> {
        match job {
            Job::Written(_, _, Err(NotWritten::Lost)) => return std::ops::ControlFlow::Break(()),
            Job::Written(id, number, result) => {
                if result == Err(NotWritten::TooLarge) {
                    tracing::error!(group = &*id, "a record is too large for the metadata store");
                }
                let Some(hosted) = self.groups.get_mut(&id) else { return std::ops::ControlFlow::Continue(()) };
                if hosted.stored(number) {
                    while let Some((ticket, outcome)) = hosted.settled() {
                        let outcome = match result {
                            Ok(()) => outcome,
                            Err(error) => Err(GroupError::TooLarge(error.to_string())),
                        };
                        self.answers.give(ticket, outcome);
                    }
                    self.step(&id, Event::Stored(number));
                }
                self.touched.insert(id);
            }
            Job::Confirmed(answers, Ok(())) => {
                answers.into_iter().for_each(|(ticket, outcome)| self.answers.give(ticket, outcome));
            }
            Job::Confirmed(answers, Err(error)) => {
                let error = match error {
                    Unconfirmed::Lost => GroupError::NotCoordinator,
                    Unconfirmed::Unavailable(reason) => GroupError::Unavailable(reason),
                };
                answers.into_iter().for_each(|(ticket, _)| self.answers.give(ticket, Err(error.clone())));
            }
            Job::Gone(topics) => self.topics_gone(topics),
        }
        std::ops::ControlFlow::Continue(())
    }

    /// Tells the groups what has become of topics.
    fn state_changed(&mut self) {
        let now = self.env.cluster();
        let before = std::mem::replace(&mut self.cluster, now);
        if same_topics(&before, &self.cluster) {
            return;
        }
        let gone = before.topics().map(|topic| topic.id).filter(|id| self.cluster.topic(*id).is_none());
        let removed: Arc<[TopicId]> = gone.collect();
        self.step_all(|| Event::Topics { removed: Arc::clone(&removed) });
    }

    fn topics_gone(&mut self, removed: Vec<TopicId>) {
        let removed: Arc<[TopicId]> = removed.into();
        if !removed.is_empty() {
            self.step_all(|| Event::Topics { removed: Arc::clone(&removed) });
        }
    }

    /// Offsets of topics that this coordinator does not know: they may be gone, or too new for it. The store knows.
    fn look_for_gone_topics(&mut self) {
        let unknown = |id: &TopicId| self.cluster.topic(*id).is_none();
        let topics: BTreeSet<TopicId> =
            self.groups.values().flat_map(|hosted| hosted.group.topics_with_offsets()).filter(unknown).collect();
        if topics.is_empty() {
            return;
        }
        let env = Arc::clone(&self.env);
        let looking = async move {
            let mut gone = Vec::new();
            for topic in topics {
                let key = env.shared.keys.record(RecordKey::Topic(topic));
                // Else the next sweep looks again.
                if let Ok(None) = env.shared.store.get(&key).await {
                    gone.push(topic);
                }
            }
            Job::Gone(gone)
        };
        self.jobs.push(looking.boxed());
    }

    fn step_all(&mut self, event: impl Fn() -> Event) {
        if self.requests.is_closed() {
            return;
        }
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        ids.iter().for_each(|id| self.step(id, event()));
    }

    fn step(&mut self, id: &Arc<str>, event: Event) {
        let Some(hosted) = self.groups.get_mut(id) else { return };
        let context = self.env.context(&self.cluster);
        for answer in hosted.group.step(event, &context) {
            let (ticket, outcome) = (answer.ticket, answer.result);
            match answer.gate {
                Gate::Open if self.owned.leased() => self.answers.give(ticket, outcome),
                Gate::Open => self.unconfirmed.push((ticket, outcome)),
                Gate::Stored(write) => match hosted.hold_for(write, ticket, outcome) {
                    Some(outcome) if self.owned.leased() => self.answers.give(ticket, outcome),
                    Some(outcome) => self.unconfirmed.push((ticket, outcome)),
                    None => self.answers.begin_patience(ticket, context.now),
                },
                Gate::Settled => match hosted.hold(ticket, outcome) {
                    Some(outcome) => self.unconfirmed.push((ticket, outcome)),
                    None => self.answers.begin_patience(ticket, context.now),
                },
            }
        }
        self.touched.insert(Arc::clone(id));
    }

    /// Has what changed written, and what is to be confirmed confirmed.
    fn flush(&mut self, at_once: bool) {
        for id in std::mem::take(&mut self.touched) {
            let Some(hosted) = self.groups.get_mut(&id) else { continue };
            if let Some((writes, urgency)) = hosted.take_writes(at_once) {
                let slot = self.owned.id();
                let operations = writes.records.into_iter().map(|(key, value)| {
                    let key = self.env.shared.keys.group(slot, &id, &key);
                    match value {
                        Some(value) => Operation::Put { key, value, lease: None },
                        None => Operation::Delete { key },
                    }
                });
                let (written, id) = (self.owned.write(&id, operations.collect(), urgency), Arc::clone(&id));
                self.jobs.push(async move { Job::Written(id, writes.number, written.await) }.boxed());
            }
            self.wheel.arm(&id, &mut hosted.armed, hosted.group.deadline());
            if hosted.is_gone() {
                self.wheel.disarm(&id, hosted.armed);
                self.groups.remove(&id);
            }
        }
        if !self.unconfirmed.is_empty() {
            let (answers, confirmed) = (std::mem::take(&mut self.unconfirmed), self.owned.confirm());
            let confirming = async move {
                let confirmed = tokio::time::timeout(STORE_PATIENCE, confirmed).await;
                let late = || Err(Unconfirmed::Unavailable("the metadata store does not answer".into()));
                Job::Confirmed(answers, confirmed.unwrap_or_else(|_| late()))
            };
            self.jobs.push(confirming.boxed());
        }
    }
}

/// Only topics matter to groups.
fn same_topics(one: &ClusterState, other: &ClusterState) -> bool {
    let (mut one, mut other) = (one.topics(), other.topics());
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if Arc::ptr_eq(a, b) => {}
            _ => return false,
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
