//! Finds a partition's journal and the storage node that leads it, as of this broker's cluster state.

use std::sync::Arc;
use std::time::Duration;

use tidemark_model::{
    BrokerError, ClusterState, Dial, JournalId, NodeId, Storage, StorageError, TopicPartition, route,
};
use tokio::sync::watch;

/// How long a request waits for this broker's cluster state to reach the caller's. Deltas take milliseconds; a broker
/// that is further behind than this cannot reach the coordinator.
const CATCH_UP: Duration = Duration::from_secs(1);

/// Where requests for a partition go.
pub(crate) struct Located {
    pub(crate) journal: JournalId,
    pub(crate) leader: NodeId,
    pub(crate) leader_epoch: i32,
    pub(crate) storage: Arc<dyn Storage>,
}

#[derive(Clone)]
pub(crate) struct Locator {
    view: watch::Receiver<Arc<ClusterState>>,
    storages: Arc<dyn Dial<dyn Storage>>,
}

impl Locator {
    pub(crate) fn new(view: watch::Receiver<Arc<ClusterState>>, storages: Arc<dyn Dial<dyn Storage>>) -> Self {
        Self { view, storages }
    }

    pub(crate) fn state(&self) -> Arc<ClusterState> {
        self.view.borrow().clone()
    }

    pub(crate) fn locate(&self, state: &ClusterState, at: TopicPartition) -> Result<Located, BrokerError> {
        let partition = state.partition(at).ok_or(StorageError::UnknownPartition(at))?;
        let leader = route::storage_for(state, partition.journal)
            .ok_or_else(|| StorageError::Unavailable(format!("journal {} has no live leader", partition.journal)))?;
        Ok(Located {
            journal: partition.journal,
            leader: leader.id,
            leader_epoch: state.leader_epoch(at).unwrap_or(-1),
            storage: self.storages.dial(leader.id, &leader.address),
        })
    }

    /// The state once it has reached `revision`, or as it is after [`CATCH_UP`].
    pub(crate) async fn caught_up(&self, revision: u64) -> Arc<ClusterState> {
        let mut view = self.view.clone();
        let reached = view.wait_for(|state| state.revision >= revision);
        match tokio::time::timeout(CATCH_UP, reached).await {
            Ok(Ok(state)) => state.clone(),
            Ok(Err(_)) | Err(_) => self.state(),
        }
    }
}
