//! Follows the cluster state: one stream to the coordinator, which registers the node for as long as it stands.
//!
//! The state that is published only ever moves forward: at a reconnect the follower resumes after the last revision it
//! has, and what a coordinator that is behind says of older ones changes nothing. While no coordinator answers, the
//! last state stands, and the service goes on by it.

mod state;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tidemark_model::{Claim, ClusterState, Coordinator, CoordinatorError, Entropy, NodeId, Registration};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::metrics;
use state::{Applied, Following, OutOfTurn};

/// The first wait after a stream broke: a coordinator that restarted is back in about this time.
const RECONNECT_FIRST: Duration = Duration::from_millis(50);

/// The longest wait: how late a service may notice that coordinators are back.
const RECONNECT_LIMIT: Duration = Duration::from_secs(2);

/// How long a coordinator may take to say `Joined`. It writes the registration to the metadata store for that.
const JOIN_DEADLINE: Duration = Duration::from_secs(10);

/// How long a clean shutdown waits to be taken out of the cluster state. Without it the lease runs out.
const LEAVE_DEADLINE: Duration = Duration::from_secs(2);

/// The cluster state as this node has it. Clones see the same.
#[derive(Debug, Clone)]
pub struct ClusterView {
    state: watch::Receiver<Arc<ClusterState>>,
    node: watch::Receiver<Option<NodeId>>,
}

/// Keeps a [`ClusterView`] up to date while [`Follower::run`] runs.
pub struct Follower {
    coordinator: Arc<dyn Coordinator>,
    registration: Registration,
    entropy: Arc<dyn Entropy>,
    shutdown: CancellationToken,
    following: Following,
    state: watch::Sender<Arc<ClusterState>>,
    node: watch::Sender<Option<NodeId>>,
}

/// Why a node cannot follow its cluster any more. The caller stops the service: it would act on what is not so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// Somebody newer registered under this node's name.
    #[error("this node was replaced by a newer one of the same name: {0}")]
    Fenced(String),
    /// The coordinators are those of another cluster, or one that was rebuilt.
    #[error("joined as node {was} of cluster {cluster}, and now became node {now} of cluster {other}")]
    Moved { cluster: String, was: NodeId, other: String, now: NodeId },
    /// The metadata store is another one of the same cluster, made from the bucket. What this process knows is of the old one.
    #[error("cluster {cluster} was rebuilt: its claim to the bucket was {was:?}, and is {now:?}")]
    Rebuilt { cluster: String, was: Claim, now: Claim },
}

/// The state did not get as far as was waited for. The caller answers its client with a retriable error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the cluster state is at revision {have}, not yet at {wanted}")]
pub struct NotYet {
    pub wanted: u64,
    pub have: u64,
}

/// The follower ended, and with it the changes: the service is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody follows the cluster state any more")]
pub struct Gone;

/// Why one stream ended, when another may do better.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Coordinator(CoordinatorError),
    #[error("the coordinator ended the stream")]
    Ended,
    #[error("the coordinator did not answer in time")]
    Silent,
    #[error(transparent)]
    OutOfTurn(#[from] OutOfTurn),
}

/// Follows the cluster state through `coordinator`, as the node that `registration` tells of, until `shutdown`.
///
/// Nothing happens before the [`Follower`] runs. When `shutdown` is cancelled it takes the node out of the cluster.
pub fn follow(
    coordinator: Arc<dyn Coordinator>,
    registration: Registration,
    entropy: Arc<dyn Entropy>,
    shutdown: CancellationToken,
) -> (ClusterView, Follower) {
    let (state, state_view) = watch::channel(Arc::default());
    let (node, node_view) = watch::channel(None);
    let following = Following::default();
    let view = ClusterView { state: state_view, node: node_view };
    (view, Follower { coordinator, registration, entropy, shutdown, following, state, node })
}

impl ClusterView {
    /// A view that the holder of the sender moves, for a test of what reads it.
    pub fn of(state: ClusterState, node: NodeId) -> (watch::Sender<Arc<ClusterState>>, Self) {
        let (sender, state) = watch::channel(Arc::new(state));
        (sender, Self { state, node: watch::channel(Some(node)).1 })
    }

    /// The state as of now: empty, at revision 0, before the node has joined.
    pub fn current(&self) -> Arc<ClusterState> {
        self.state.borrow().clone()
    }

    /// The id that the coordinator gave this node, once it has joined and has the state.
    pub fn node(&self) -> Option<NodeId> {
        *self.node.borrow()
    }

    /// Waits until the node has joined and has the state.
    pub async fn joined(&self) -> Result<NodeId, Gone> {
        let mut node = self.node.clone();
        let joined = node.wait_for(Option::is_some).await.map_err(|_| Gone)?;
        joined.ok_or(Gone)
    }

    /// Waits for the state as of `revision` or later, for `deadline` at most.
    pub async fn wait_for_revision(&self, revision: u64, deadline: Duration) -> Result<Arc<ClusterState>, NotYet> {
        let mut state = self.state.clone();
        if let Ok(Ok(reached)) = timeout(deadline, state.wait_for(|state| state.revision >= revision)).await {
            return Ok(reached.clone());
        }
        Err(NotYet { wanted: revision, have: self.current().revision })
    }

    /// A receiver of its own, for a loop that acts on each change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<ClusterState>> {
        self.state.clone()
    }
}

impl Follower {
    /// Follows until shutdown. An error means that the service must stop.
    pub async fn run(mut self) -> Result<(), FollowError> {
        let shutdown = self.shutdown.clone();
        let mut backoff = Backoff::new(RECONNECT_FIRST, RECONNECT_LIMIT);
        while let Some(ended) = unless(&shutdown, self.follow_one_stream(&mut backoff)).await {
            let broken = ended?;
            let role = self.registration.role.as_str();
            metrics::cluster_connected(role, false);
            metrics::cluster_stream_failed(role);
            let wait = backoff.next(&*self.entropy);
            // An outage is told at its start, and then ever more rarely.
            if backoff.failures().is_power_of_two() {
                tracing::warn!(role, error = %broken, failures = backoff.failures(), "lost the coordinator, trying again");
            }
            if unless(&shutdown, tokio::time::sleep(wait)).await.is_none() {
                break;
            }
        }
        self.leave().await;
        Ok(())
    }

    /// Applies what one stream says until it breaks.
    async fn follow_one_stream(&mut self, backoff: &mut Backoff) -> Result<Broken, FollowError> {
        let mut updates = self.coordinator.join(self.registration.clone(), self.following.resume());
        self.following.begin_stream();
        let mut first = true;
        loop {
            let next = if first { timeout(JOIN_DEADLINE, updates.next()).await } else { Ok(updates.next().await) };
            let update = match next {
                Err(_) => return Ok(Broken::Silent),
                Ok(None) => return Ok(Broken::Ended),
                Ok(Some(Err(CoordinatorError::Fenced(reason)))) => return Err(FollowError::Fenced(reason)),
                Ok(Some(Err(error))) => return Ok(Broken::Coordinator(error)),
                Ok(Some(Ok(update))) => update,
            };
            first = false;
            match self.following.apply(update)? {
                Ok(applied) => self.publish(applied, backoff),
                Err(out_of_turn) => return Ok(out_of_turn.into()),
            }
        }
    }

    fn publish(&self, applied: Applied, backoff: &mut Backoff) {
        let role = self.registration.role.as_str();
        match applied {
            Applied::Nothing => {}
            Applied::Joined { cluster_id, node } => {
                tracing::info!(role, %node, cluster = cluster_id, "joined the cluster");
                metrics::cluster_connected(role, true);
                backoff.reset();
            }
            Applied::State { state, node } => {
                metrics::cluster_revision_applied(role, state.revision);
                self.state.send_replace(state);
                self.node.send_if_modified(|known| known.replace(node) != Some(node));
            }
        }
    }

    async fn leave(&self) {
        let Some(node) = self.following.node() else { return };
        let left = self.coordinator.leave(self.registration.role, node, self.registration.incarnation);
        match timeout(LEAVE_DEADLINE, left).await {
            Ok(Ok(())) => tracing::info!(role = self.registration.role.as_str(), %node, "left the cluster"),
            Ok(Err(error)) => tracing::warn!(%node, %error, "could not leave the cluster: the lease will run out"),
            Err(_) => tracing::warn!(%node, "leaving the cluster took too long: the lease will run out"),
        }
    }
}

/// What `work` gives, or nothing when shutdown comes first.
async fn unless<F: Future>(shutdown: &CancellationToken, work: F) -> Option<F::Output> {
    shutdown.run_until_cancelled(work).await
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("registration", &self.registration).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
