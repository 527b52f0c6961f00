//! A fake service in this process, or behind a gRPC hop over loopback with a proxy that can be cut.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidemark_model::{Broker, Coordinator, Dial, Entropy, GroupCoordinator, NodeId, Storage};
use tidemark_rpc::{
    RemoteBrokers, RemoteCoordinator, RemoteGroupCoordinators, RemoteStorages, serve_broker, serve_coordinator,
    serve_storage,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fakes::Fake;
use crate::group::Groups;

/// Longer than anything here takes. Tests wait for what they want to see, and fail after this.
const PATIENCE: Duration = Duration::from_secs(20);

/// Counts, so that every run is the same.
#[derive(Debug, Default)]
pub struct Counting(AtomicU64);

impl Entropy for Counting {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

pub fn entropy() -> Arc<dyn Entropy> {
    Arc::new(Counting::default())
}

/// Waits until `condition` holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within(what, waited).await;
}

/// What `work` gives, which has to come.
pub async fn within<F: Future>(what: &str, work: F) -> F::Output {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

pub async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Where nobody listens, nor ever will: a port that was just free may be another test's by now.
pub fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

/// A server that stops when this is dropped.
pub struct Served {
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
    pub ended: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.ended.abort();
    }
}

pub async fn broker_server(broker: Arc<dyn Broker>) -> Served {
    let (listener, address) = listen().await;
    let shutdown = CancellationToken::new();
    let serving = serve_broker(listener, broker, shutdown.clone());
    Served { address, shutdown, ended: tokio::spawn(async { serving.await.unwrap() }) }
}

pub async fn storage_server(storage: Arc<dyn Storage>) -> Served {
    let (listener, address) = listen().await;
    let shutdown = CancellationToken::new();
    let serving = serve_storage(listener, storage, shutdown.clone());
    Served { address, shutdown, ended: tokio::spawn(async { serving.await.unwrap() }) }
}

pub async fn coordinator_server(coordinator: Arc<Fake>) -> Served {
    coordinators_server(coordinator, Groups::new()).await
}

pub async fn groups_server(groups: Arc<dyn GroupCoordinator>) -> Served {
    coordinators_server(Fake::new(), groups).await
}

async fn coordinators_server(coordinator: Arc<dyn Coordinator>, groups: Arc<dyn GroupCoordinator>) -> Served {
    let (listener, address) = listen().await;
    let shutdown = CancellationToken::new();
    let serving = serve_coordinator(listener, coordinator, groups, shutdown.clone());
    Served { address, shutdown, ended: tokio::spawn(async { serving.await.unwrap() }) }
}

pub fn broker_at(address: impl ToString) -> Arc<dyn Broker> {
    RemoteBrokers::new(entropy()).dial(NodeId(1), &address.to_string())
}

pub fn storage_at(address: impl ToString) -> Arc<dyn Storage> {
    RemoteStorages::new(entropy()).dial(NodeId(1), &address.to_string())
}

pub fn groups_at(address: impl ToString) -> Arc<dyn GroupCoordinator> {
    RemoteGroupCoordinators::new(entropy()).dial(NodeId(1), &address.to_string())
}

pub fn coordinator_at(addresses: &[SocketAddr]) -> RemoteCoordinator {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    RemoteCoordinator::new(&addresses, entropy()).unwrap()
}

/// Forwards connections until they are cut. New ones are forwarded again.
pub struct Proxy {
    pub address: SocketAddr,
    cuts: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn to(target: SocketAddr) -> Self {
        let (listener, address) = listen().await;
        let (cuts, cut) = watch::channel(0);
        let task = tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut cut = cut.clone();
                cut.mark_unchanged();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { address, cuts, task }
    }

    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
