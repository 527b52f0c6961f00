//! Finds a peer's client, and keeps it for the next who asks.

mod unreachable;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tidemark_model::{Broker, Dial, Entropy, GroupCoordinator, NodeId, Storage};
use tokio::time::Instant;
use unreachable::Unreachable;

use crate::broker::RemoteBroker;
use crate::group::RemoteGroups;
use crate::limits::IDLE_CLIENT;
use crate::storage::RemoteStorage;

/// Brokers on other nodes.
pub struct RemoteBrokers {
    pool: Pool<dyn Broker>,
    entropy: Arc<dyn Entropy>,
}

/// Storage on other nodes.
pub struct RemoteStorages {
    pool: Pool<dyn Storage>,
    entropy: Arc<dyn Entropy>,
}

/// Coordinators on other nodes, as the owners of groups.
pub struct RemoteGroupCoordinators {
    pool: Pool<dyn GroupCoordinator>,
    entropy: Arc<dyn Entropy>,
}

impl RemoteBrokers {
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self { pool: Pool::default(), entropy }
    }
}

impl RemoteStorages {
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self { pool: Pool::default(), entropy }
    }
}

impl RemoteGroupCoordinators {
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self { pool: Pool::default(), entropy }
    }
}

impl Dial<dyn Broker> for RemoteBrokers {
    fn dial(&self, node: NodeId, address: &str) -> Arc<dyn Broker> {
        self.pool.client(node, address, || match RemoteBroker::new(address, Arc::clone(&self.entropy)) {
            Ok(broker) => Arc::new(broker),
            Err(error) => Arc::new(Unreachable::new(error)),
        })
    }
}

impl Dial<dyn Storage> for RemoteStorages {
    fn dial(&self, node: NodeId, address: &str) -> Arc<dyn Storage> {
        self.pool.client(node, address, || match RemoteStorage::new(address, Arc::clone(&self.entropy)) {
            Ok(storage) => Arc::new(storage),
            Err(error) => Arc::new(Unreachable::new(error)),
        })
    }
}

impl Dial<dyn GroupCoordinator> for RemoteGroupCoordinators {
    fn dial(&self, node: NodeId, address: &str) -> Arc<dyn GroupCoordinator> {
        self.pool.client(node, address, || match RemoteGroups::new(address, Arc::clone(&self.entropy)) {
            Ok(groups) => Arc::new(groups),
            Err(error) => Arc::new(Unreachable::new(error)),
        })
    }
}

/// One client for each node, at the address it was last dialled at. What nobody dials any more is dropped when the
/// next node comes.
struct Pool<T: ?Sized> {
    clients: Mutex<BTreeMap<NodeId, Pooled<T>>>,
}

struct Pooled<T: ?Sized> {
    address: String,
    client: Arc<T>,
    dialled: Instant,
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self { clients: Mutex::new(BTreeMap::new()) }
    }
}

impl<T: ?Sized> Pool<T> {
    fn client(&self, node: NodeId, address: &str, connect: impl FnOnce() -> Arc<T>) -> Arc<T> {
        let now = Instant::now();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pooled) = clients.get_mut(&node)
            && pooled.address == address
        {
            pooled.dialled = now;
            return Arc::clone(&pooled.client);
        }
        clients.retain(|_, pooled| now.duration_since(pooled.dialled) < IDLE_CLIENT);
        let client = connect();
        clients.insert(node, Pooled { address: address.to_owned(), client: Arc::clone(&client), dialled: now });
        client
    }
}

impl fmt::Debug for RemoteBrokers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteBrokers").finish_non_exhaustive()
    }
}

impl fmt::Debug for RemoteGroupCoordinators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteGroupCoordinators").finish_non_exhaustive()
    }
}

impl fmt::Debug for RemoteStorages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteStorages").finish_non_exhaustive()
    }
}
