//! The life of a standalone: starting the services in the order in which they need each other, and stopping them the
//! other way round.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tidemark_coordinator::store::Embedded;
use tidemark_model::{Coordinator, Entropy, NodeId, Registration, Role};
use tidemark_runtime::cluster::{self, FollowError};
use tidemark_runtime::{ClusterView, Host, bind};
use tidemark_segment::bucket::Access;
use tidemark_segment::{Bucket, StoreError};
use tidemark_storage::disk::RealDisk;
use tidemark_storage::{DataDir, claimed};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::local::Local;

/// The name under which the broker and the gateway register: there is one of each, and the data directory is theirs.
const NAME: &str = "standalone";

/// Runs until shutdown. `ready` is called once, with the address for Kafka clients, when they can be served.
pub async fn run(config: Config, host: Host, ready: impl FnOnce(&str)) -> anyhow::Result<()> {
    let serving = host.health.condition("serving");
    serving.not_ready("starting");
    let listener = bind::listen("listen", &config.listen).await?;
    let address = bind::advertised(&config.advertise, listener.local_addr()?)?;
    // Holds the whole data directory: what is beside it is used by nobody who does not hold it.
    let data_dir = DataDir::open(Arc::new(RealDisk), &config.storage_dir(), &*host.entropy)?;
    let control = Control::start(&config, &host).await?;
    let mut members = Members::new(control.service.clone(), host.entropy.clone());

    let starting = start(&config, &host, listener, &address, data_dir, &control, &mut members);
    let services = tokio::select! {
        biased;
        // Nothing has been promised to anybody yet.
        () = host.shutdown.cancelled() => return Ok(()),
        error = control.service.failed() => return Err(error.into()),
        started = starting => started?,
    };
    serving.ready();
    ready(&address);

    let Services { gateway, storage, bucket } = services;
    let mut drained = Box::pin(gateway.drained());
    tokio::select! {
        biased;
        error = control.service.failed() => return Err(error.into()),
        error = members.lost() => return Err(error.into()),
        lost = bucket.lost_claim() => return Err(lost.into()),
        () = &mut drained => {}
    }
    // From the front to the back: each has answered what the one before it still asked.
    storage.shutdown().await;
    members.leave().await?;
    control.stop.cancel();
    control.service.stopped().await;
    Ok(())
}

struct Services {
    gateway: tidemark_gateway::Service,
    storage: Arc<tidemark_storage::Service>,
    /// As the cluster holds it.
    bucket: Bucket,
}

/// The coordinator, which the others need before and after everything else.
struct Control {
    service: tidemark_coordinator::Service,
    bucket: Bucket,
    /// Stops what goes on in the background of the coordinator, the broker and the storage.
    stop: CancellationToken,
}

impl Control {
    async fn start(config: &Config, host: &Host) -> anyhow::Result<Self> {
        let path = config.metadata_file();
        if let Some(dir) = path.parent() {
            create_dir(dir)?;
        }
        let store = Embedded::open(&path).await.with_context(|| path.display().to_string())?;
        let bucket = bucket(config, &host.entropy)?;
        check(&bucket).await?;
        let stop = CancellationToken::new();
        let service = tidemark_coordinator::Service::start(
            Arc::new(store),
            Some(bucket.clone()),
            config.coordinator(),
            host.clock.clone(),
            host.entropy.clone(),
            stop.clone(),
        );
        tokio::spawn(host.health.condition("metadata snapshots").follow(service.backup_health()));
        Ok(Self { service, bucket, stop })
    }
}

async fn start(
    config: &Config,
    host: &Host,
    listener: TcpListener,
    address: &str,
    data_dir: DataDir,
    control: &Control,
    members: &mut Members,
) -> anyhow::Result<Services> {
    let coordinator: Arc<dyn Coordinator> = Arc::new(control.service.clone());
    let (view, node) = members.join(Role::Storage, data_dir.name(), NAME).await?;
    let bucket = claimed(&control.bucket, &view.current(), &*host.entropy).await?;
    let storage = tidemark_storage::Service::start(
        &config.storage(),
        tidemark_storage::Dependencies {
            node,
            data_dir,
            bucket: bucket.clone(),
            coordinator: coordinator.clone(),
            view: view.subscribe(),
            clock: host.clock.clone(),
            entropy: host.entropy.clone(),
            shutdown: control.stop.clone(),
        },
    )
    .await?;
    tokio::spawn(host.health.condition("write-ahead log").follow(storage.wal_health()));
    tokio::spawn(host.health.condition("object store").follow(storage.tier_health()));

    let (view, node) = members.join(Role::Broker, NAME.to_owned(), NAME).await?;
    let broker = tidemark_broker::Service::start(
        &config.broker(),
        tidemark_broker::Dependencies {
            node,
            view: view.subscribe(),
            storages: Arc::new(Local(storage.clone() as _)),
            bucket: bucket.clone(),
            clock: host.clock.clone(),
            shutdown: control.stop.clone(),
        },
    )
    .await?;

    let (view, node) = members.join(Role::Gateway, NAME.to_owned(), address).await?;
    let gateway = tidemark_gateway::Service::start(tidemark_gateway::Deps {
        settings: tidemark_gateway::Settings::of(&config.gateway()),
        listeners: vec![listener],
        coordinator,
        brokers: Arc::new(Local(broker as _)),
        groups: Arc::new(Local(Arc::new(control.service.clone()) as _)),
        cluster: view,
        node,
        entropy: host.entropy.clone(),
        shutdown: host.shutdown.clone(),
    });
    Ok(Services { gateway, storage, bucket })
}

fn bucket(config: &Config, entropy: &Arc<dyn Entropy>) -> anyhow::Result<Bucket> {
    if !config.object_store.is_empty() {
        return Bucket::open(&config.object_store, std::env::vars(), entropy.clone()).context("`object_store`");
    }
    let dir = config.objects_dir();
    let bucket = Bucket::in_directory(&dir, entropy.clone())?;
    let removed = Bucket::remove_unfinished(&dir).with_context(|| dir.display().to_string())?;
    if removed > 0 {
        tracing::info!(removed, "removed objects that a crash left unfinished");
    }
    Ok(bucket)
}

/// Says at once what an operator has to mend. An object store that is away is waited for.
async fn check(bucket: &Bucket) -> anyhow::Result<()> {
    match bucket.check(Access::Write).await {
        Err(error @ StoreError::Unavailable(_)) => tracing::warn!(%error, "waiting for the object store"),
        checked => checked?,
    }
    Ok(())
}

fn create_dir(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("the data directory {} cannot be created", dir.display()))
}

/// The nodes of this process, each with its own stream of the cluster state.
struct Members {
    coordinator: Arc<dyn Coordinator>,
    entropy: Arc<dyn Entropy>,
    followers: JoinSet<Result<(), FollowError>>,
    leave: CancellationToken,
}

impl Members {
    fn new(coordinator: tidemark_coordinator::Service, entropy: Arc<dyn Entropy>) -> Self {
        let leave = CancellationToken::new();
        Self { coordinator: Arc::new(coordinator), entropy, followers: JoinSet::new(), leave }
    }

    async fn join(&mut self, role: Role, name: String, address: &str) -> anyhow::Result<(ClusterView, NodeId)> {
        let incarnation = self.entropy.next_u64();
        let registration = Registration { role, name, incarnation, address: address.to_owned(), rack: None };
        let (view, follower) =
            cluster::follow(self.coordinator.clone(), registration, self.entropy.clone(), self.leave.clone());
        self.followers.spawn(follower.run());
        tokio::select! {
            biased;
            error = self.lost() => Err(error.into()),
            node = view.joined() => {
                let node = node?;
                Ok((view, node))
            }
        }
    }

    /// Returns when one of them cannot go on, with the reason. Does not return otherwise.
    async fn lost(&mut self) -> FollowError {
        loop {
            match self.followers.join_next().await {
                Some(Ok(Err(error))) => return error,
                Some(Ok(Ok(()))) => {}
                Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
                None => std::future::pending().await,
            }
        }
    }

    /// Takes all of them out of the cluster state.
    async fn leave(mut self) -> anyhow::Result<()> {
        self.leave.cancel();
        while let Some(left) = self.followers.join_next().await {
            left??;
        }
        Ok(())
    }
}
