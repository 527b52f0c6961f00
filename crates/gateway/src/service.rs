//! The gateway as a service: what it is started with, and what its connections share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidemark_model::{Broker, Coordinator, Dial, Entropy, GroupCoordinator, NodeId};
use tidemark_runtime::ClusterView;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Config;
use crate::admission::{Admission, Answers};
use crate::fetch_session::{MAX_SESSIONS, Sessions};
use crate::handlers::init_producer_id::ProducerIds;
use crate::handlers::waiting;
use crate::metrics::Metrics;
use crate::route::Router;
use crate::{connection, listener};

/// How long connections may take to finish at shutdown. A little more than each of them allows itself.
const DRAIN_DEADLINE: Duration = Duration::from_secs(12);

/// What the gateway's behaviour depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub auto_create_topics: bool,
    pub max_request_bytes: usize,
    pub queued_max_request_bytes: usize,
    pub max_connections: usize,
}

/// What a gateway is started with.
pub struct Deps {
    pub settings: Settings,
    /// Where clients connect. All are served alike.
    pub listeners: Vec<TcpListener>,
    pub coordinator: Arc<dyn Coordinator>,
    pub brokers: Arc<dyn Dial<dyn Broker>>,
    /// The coordinators as owners of groups.
    pub groups: Arc<dyn Dial<dyn GroupCoordinator>>,
    /// The cluster state, which this gateway has joined as `node`.
    pub cluster: ClusterView,
    pub node: NodeId,
    pub entropy: Arc<dyn Entropy>,
    /// Cancelled to drain: no more connections and requests, and what is under way is finished.
    pub shutdown: CancellationToken,
}

/// A running gateway.
#[derive(Debug)]
pub struct Service {
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// What all connections of a gateway share.
pub(crate) struct Gateway {
    pub(crate) settings: Settings,
    pub(crate) coordinator: Arc<dyn Coordinator>,
    pub(crate) brokers: Arc<dyn Dial<dyn Broker>>,
    pub(crate) groups: Arc<dyn Dial<dyn GroupCoordinator>>,
    pub(crate) cluster: ClusterView,
    pub(crate) node: NodeId,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) sessions: Sessions,
    pub(crate) producer_ids: ProducerIds,
    /// Taken by a request that is large to decode.
    pub(crate) large_requests: Arc<Semaphore>,
    /// Taken, byte by byte, by requests that wait for other members of a group.
    pub(crate) waiting: Arc<Semaphore>,
    /// Taken by fetches, for what they answer.
    pub(crate) answers: Answers,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: CancellationToken,
}

impl Settings {
    pub fn of(config: &Config) -> Self {
        Self {
            auto_create_topics: config.auto_create_topics,
            max_request_bytes: config.max_request_bytes,
            queued_max_request_bytes: config.queued_max_request_bytes,
            max_connections: config.max_connections,
        }
    }
}

impl Service {
    /// Begins to serve. Connections are tasks of the present runtime.
    pub fn start(deps: Deps) -> Self {
        let Deps { settings, listeners, coordinator, brokers, groups, cluster, node, entropy, shutdown } = deps;
        let gateway = Arc::new(Gateway {
            settings,
            coordinator,
            brokers,
            groups,
            cluster,
            node,
            entropy: Arc::clone(&entropy),
            sessions: Sessions::new(entropy, MAX_SESSIONS),
            producer_ids: ProducerIds::default(),
            large_requests: Arc::new(Semaphore::new(1)),
            waiting: waiting::room(),
            answers: Answers::default(),
            metrics: Metrics::new(),
            shutdown: shutdown.clone(),
        });
        let admission = Admission::new(settings.max_connections, settings.queued_max_request_bytes);
        let tasks = TaskTracker::new();
        for listener in listeners {
            let (gateway, admission, connections) = (Arc::clone(&gateway), admission.clone(), tasks.clone());
            tasks.spawn(listener::accept(listener, admission, shutdown.clone(), move |place, read, write, peer| {
                connections.spawn(connection::serve(Arc::clone(&gateway), place, read, write, peer));
            }));
        }
        Self { tasks, shutdown }
    }

    /// Waits for shutdown and then until connections have finished, for a bounded time.
    pub async fn drained(self) {
        self.shutdown.cancelled().await;
        self.tasks.close();
        if tokio::time::timeout(DRAIN_DEADLINE, self.tasks.wait()).await.is_err() {
            tracing::warn!(connections = self.tasks.len(), "connections were cut off at shutdown");
        }
    }
}

impl Gateway {
    /// The cluster as it is known now.
    pub(crate) fn router(&self) -> Router {
        Router { state: self.cluster.current(), me: self.node }
    }
}

impl fmt::Debug for Deps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deps").field("settings", &self.settings).field("node", &self.node).finish_non_exhaustive()
    }
}
