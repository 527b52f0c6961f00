//! A coordinator as the owner of groups, which answers what a test tells it to.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tidemark_model::group::{GroupAnswer, GroupCall, GroupRequest, ListedGroup};
use tidemark_model::{GroupCoordinator, GroupError};
use tokio::sync::{oneshot, watch};

pub(crate) type Outcome = Result<GroupAnswer, GroupError>;

pub(crate) struct FakeGroups {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    calls: Vec<GroupCall>,
    /// What the next calls are answered, and after that what all are.
    next: VecDeque<oneshot::Receiver<Outcome>>,
    always: Option<Outcome>,
    listed: Vec<ListedGroup>,
    list_fails: VecDeque<GroupError>,
}

impl Default for FakeGroups {
    fn default() -> Self {
        Self { state: Mutex::default(), changes: watch::channel(0).0 }
    }
}

impl FakeGroups {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The next call that nothing was said of yet is answered when something is sent to this. Dropped, it never is.
    pub(crate) fn hold(&self) -> oneshot::Sender<Outcome> {
        let (sender, held) = oneshot::channel();
        self.state().next.push_back(held);
        sender
    }

    /// The next call that nothing was said of yet is answered this.
    pub(crate) fn answer(&self, outcome: Outcome) {
        self.hold().send(outcome).unwrap();
    }

    /// Every call of which nothing else was said is answered this.
    pub(crate) fn always(&self, outcome: Outcome) {
        self.state().always = Some(outcome);
    }

    pub(crate) fn list(&self, groups: Vec<ListedGroup>) {
        self.state().listed = groups;
    }

    pub(crate) fn fail_list(&self, error: GroupError) {
        self.state().list_fails.push_back(error);
    }

    pub(crate) fn calls(&self) -> Vec<GroupCall> {
        self.state().calls.clone()
    }

    pub(crate) fn requests(&self) -> Vec<GroupRequest> {
        self.calls().into_iter().map(|call| call.request).collect()
    }

    /// Waits until something that was called makes `is_so` true.
    pub(crate) async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        self.changes.subscribe().wait_for(|_| is_so(self)).await.unwrap();
    }
}

#[async_trait]
impl GroupCoordinator for FakeGroups {
    fn call(&self, call: GroupCall) -> BoxFuture<'static, Outcome> {
        let mut state = self.state();
        let group = call.group.clone();
        state.calls.push(call);
        let (held, always) = (state.next.pop_front(), state.always.clone());
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
        async move {
            match (held, always) {
                (Some(held), _) => match held.await {
                    Ok(outcome) => outcome,
                    Err(_) => std::future::pending().await,
                },
                (None, Some(outcome)) => outcome,
                (None, None) => Err(GroupError::GroupIdNotFound(format!("Group {group} not found."))),
            }
        }
        .boxed()
    }

    async fn list(&self) -> Result<Vec<ListedGroup>, GroupError> {
        let mut state = self.state();
        state.list_fails.pop_front().map_or_else(|| Ok(state.listed.clone()), Err)
    }
}
