//! The `tidemark-storage` process.

use std::process::ExitCode;
use std::sync::Arc;

use tidemark_model::{Registration, Role};
use tidemark_rpc::{RemoteCoordinator, serve_storage};
use tidemark_runtime::{Host, bind, cluster, service};
use tidemark_segment::{Bucket, StoreError, bucket::Access};
use tidemark_storage::disk::RealDisk;
use tidemark_storage::{Config, DataDir, Dependencies, Service, claimed};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    service::main::<Config, _, _>("tidemark-storage", run)
}

async fn run(config: Config, host: Host) -> anyhow::Result<()> {
    let serving = host.health.condition("serving");
    serving.not_ready("opening the data directory");
    let data_dir = DataDir::open(Arc::new(RealDisk), &config.data_dir, &*host.entropy)?;
    let listener = bind::listen("listen", &config.listen).await?;
    let address = bind::advertised(&config.advertise, listener.local_addr()?)?;
    let bucket = Bucket::open(&config.object_store, std::env::vars(), host.entropy.clone())?;
    match bucket.check(Access::Write).await {
        Err(error @ StoreError::Unavailable(_)) => tracing::warn!(%error, "history stays local until it is back"),
        checked => checked?,
    }

    serving.not_ready("joining the cluster");
    let coordinator = Arc::new(RemoteCoordinator::new(&config.coordinators, host.entropy.clone())?);
    let registration = Registration {
        role: Role::Storage,
        name: data_dir.name(),
        incarnation: host.entropy.next_u64(),
        address,
        rack: (!config.rack.is_empty()).then(|| config.rack.clone()),
    };
    // The node leaves the cluster only after its last append was answered.
    let leave = CancellationToken::new();
    let (view, follower) = cluster::follow(coordinator.clone(), registration, host.entropy.clone(), leave.clone());
    let mut follower = tokio::spawn(follower.run());
    let joined = tokio::select! {
        biased;
        followed = &mut follower => return Ok(followed??),
        joined = host.shutdown.run_until_cancelled(view.joined()) => joined,
    };
    let Some(joined) = joined else {
        leave.cancel();
        return Ok(follower.await??);
    };
    let node = joined?;
    serving.not_ready("looking whose the bucket is");
    let Some(bucket) = host.shutdown.run_until_cancelled(claimed(&bucket, &view.current(), &*host.entropy)).await
    else {
        leave.cancel();
        return Ok(follower.await??);
    };
    let bucket = bucket?;
    serving.not_ready("recovering the write-ahead log");
    let deps = Dependencies {
        node,
        data_dir,
        bucket: bucket.clone(),
        coordinator,
        view: view.subscribe(),
        clock: host.clock.clone(),
        entropy: host.entropy.clone(),
        shutdown: host.shutdown.clone(),
    };
    let storage = Service::start(&config, deps).await?;
    tokio::spawn(host.health.condition("write-ahead log").follow(storage.wal_health()));
    tokio::spawn(host.health.condition("object store").follow(storage.tier_health()));
    serving.ready();

    let mut served = Box::pin(serve_storage(listener, storage.clone(), host.shutdown.clone()));
    tokio::select! {
        biased;
        // A follower that ends before it is told to was fenced: this process must not go on.
        followed = &mut follower => return Ok(followed??),
        lost = bucket.lost_claim() => return Err(lost.into()),
        ended = &mut served => ended?,
    }
    storage.shutdown().await;
    leave.cancel();
    Ok(follower.await??)
}
