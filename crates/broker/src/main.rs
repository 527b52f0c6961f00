//! The `tidemark-broker` process.

use std::process::ExitCode;
use std::sync::Arc;

use tidemark_broker::{Config, Dependencies, Service};
use tidemark_model::{Registration, Role};
use tidemark_rpc::{RemoteCoordinator, RemoteStorages, serve_broker};
use tidemark_runtime::{Host, bind, cluster, service};
use tidemark_segment::{Bucket, StoreError, bucket::Access};

fn main() -> ExitCode {
    service::main::<Config, _, _>("tidemark-broker", run)
}

async fn run(config: Config, host: Host) -> anyhow::Result<()> {
    let serving = host.health.condition("serving");
    serving.not_ready("joining the cluster");
    let listener = bind::listen("listen", &config.listen).await?;
    let address = bind::advertised(&config.advertise, listener.local_addr()?)?;
    let bucket = Bucket::open(&config.object_store, std::env::vars(), host.entropy.clone())?;
    match bucket.check(Access::Read).await {
        Err(error @ StoreError::Unavailable(_)) => tracing::warn!(%error, "cold reads will fail until it is back"),
        checked => checked?,
    }

    let coordinator = Arc::new(RemoteCoordinator::new(&config.coordinators, host.entropy.clone())?);
    let incarnation = host.entropy.next_u64();
    let registration = Registration {
        role: Role::Broker,
        // A broker keeps nothing, so that each start is a new node.
        name: format!("{incarnation:016x}"),
        incarnation,
        address,
        rack: (!config.rack.is_empty()).then(|| config.rack.clone()),
    };
    let (view, follower) = cluster::follow(coordinator, registration, host.entropy.clone(), host.shutdown.clone());
    let mut follower = tokio::spawn(follower.run());
    let Some(joined) = host.shutdown.run_until_cancelled(view.joined()).await else {
        follower.await??;
        return Ok(());
    };
    let deps = Dependencies {
        node: joined?,
        view: view.subscribe(),
        storages: Arc::new(RemoteStorages::new(host.entropy.clone())),
        bucket,
        clock: host.clock.clone(),
        shutdown: host.shutdown.clone(),
    };
    let broker = Service::start(&config, deps).await?;
    serving.ready();
    let served = serve_broker(listener, broker, host.shutdown.clone());
    tokio::pin!(served);
    tokio::select! {
        biased;
        // A follower that ends before shutdown was fenced: this process must not go on.
        followed = &mut follower => {
            followed??;
            served.await?;
        }
        ended = &mut served => {
            ended?;
            follower.await??;
        }
    }
    Ok(())
}
