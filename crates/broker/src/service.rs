//! The broker service: the [`Broker`] trait on top of its rooms.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use tidemark_model::broker::{
    FetchRequest, Fetched, PartitionEpochQuery, PartitionOffsetQuery, PartitionRecordDeletion, ProduceRequest,
};
use tidemark_model::storage::{Appended, EpochEnd, FoundOffset};
use tidemark_model::{Broker, BrokerError, Clock, ClusterState, Dial, NodeId, Storage};
use tidemark_segment::Bucket;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cold::Cold;
use crate::config::Config;
use crate::error::StartError;
use crate::fetch::Fetch;
use crate::locate::Locator;
use crate::offsets;
use crate::produce::Produce;
use crate::tail::Tail;

/// A partition that nobody has read for this long is no longer followed.
const UNREAD: Duration = Duration::from_secs(60);

/// What a broker is given.
pub struct Dependencies {
    pub node: NodeId,
    /// The cluster state that this broker follows.
    pub view: watch::Receiver<Arc<ClusterState>>,
    pub storages: Arc<dyn Dial<dyn Storage>>,
    /// The object store that the storage nodes tier to.
    pub bucket: Bucket,
    pub clock: Arc<dyn Clock>,
    pub shutdown: CancellationToken,
}

impl std::fmt::Debug for Dependencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dependencies").field("node", &self.node).finish_non_exhaustive()
    }
}

/// A running broker.
pub struct Service {
    produce: Produce,
    fetch: Fetch,
    locator: Locator,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl Service {
    pub async fn start(config: &Config, deps: Dependencies) -> Result<Arc<Self>, StartError> {
        let Dependencies { node, view, storages, bucket, clock, shutdown } = deps;
        let locator = Locator::new(view, storages);
        let tail = Tail::new(config.tail_bytes / 2);
        let behind = Tail::behind(config.tail_bytes / 2);
        let cold = Cold::open(bucket, config).await?;
        tokio::spawn(sweep(tail.clone(), shutdown.clone()));
        tokio::spawn(sweep(behind.clone(), shutdown));
        Ok(Arc::new(Self {
            produce: Produce::start(node, locator.clone(), clock),
            fetch: Fetch { locator: locator.clone(), tail, behind, leader: Arc::default(), cold },
            locator,
        }))
    }
}

async fn sweep(tail: Arc<Tail>, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(UNREAD / 4);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Some(before) = Instant::now().checked_sub(UNREAD) {
            tail.forget_unread(before);
        }
    }
}

#[async_trait]
impl Broker for Service {
    fn produce(&self, request: ProduceRequest) -> BoxFuture<'static, Vec<Result<Appended, BrokerError>>> {
        self.produce.call(request)
    }

    #[tracing::instrument(name = "broker.fetch", level = "debug", skip_all, fields(partitions = request.partitions.len()))]
    async fn fetch(&self, request: FetchRequest) -> Vec<Result<Fetched, BrokerError>> {
        self.fetch.call(request).await
    }

    async fn list_offsets(&self, queries: Vec<PartitionOffsetQuery>) -> Vec<Result<FoundOffset, BrokerError>> {
        offsets::list_offsets(&self.locator, queries).await
    }

    async fn epoch_ends(&self, queries: Vec<PartitionEpochQuery>) -> Vec<Result<EpochEnd, BrokerError>> {
        offsets::epoch_ends(&self.locator, queries).await
    }

    async fn delete_records(&self, deletions: Vec<PartitionRecordDeletion>) -> Vec<Result<i64, BrokerError>> {
        offsets::delete_records(&self.locator, deletions).await
    }
}
