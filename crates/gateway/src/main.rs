//! The `tidemark-gateway` process.

use std::process::ExitCode;
use std::sync::Arc;

use tidemark_gateway::{Config, Deps, Service, Settings};
use tidemark_model::{Registration, Role};
use tidemark_rpc::{RemoteBrokers, RemoteCoordinator, RemoteGroupCoordinators};
use tidemark_runtime::{Host, bind, cluster, service};

fn main() -> ExitCode {
    service::main::<Config, _, _>("tidemark-gateway", run)
}

async fn run(config: Config, host: Host) -> anyhow::Result<()> {
    let serving = host.health.condition("serving");
    serving.not_ready("joining the cluster");
    let listener = bind::listen("listen", &config.listen).await?;
    let address = bind::advertised(&config.advertise, listener.local_addr()?)?;

    let coordinator = Arc::new(RemoteCoordinator::new(&config.coordinators, host.entropy.clone())?);
    let registration = Registration {
        role: Role::Gateway,
        // Clients know a gateway by its address, so that is what keeps its id.
        name: address.clone(),
        incarnation: host.entropy.next_u64(),
        address: address.clone(),
        rack: (!config.rack.is_empty()).then(|| config.rack.clone()),
    };
    let (view, follower) =
        cluster::follow(coordinator.clone(), registration, host.entropy.clone(), host.shutdown.clone());
    let mut follower = tokio::spawn(follower.run());
    let Some(joined) = host.shutdown.run_until_cancelled(view.joined()).await else {
        follower.await??;
        return Ok(());
    };
    let Ok(node) = joined else {
        // The follower knows why.
        follower.await??;
        return Ok(());
    };
    let gateway = Service::start(Deps {
        settings: Settings::of(&config),
        listeners: vec![listener],
        coordinator,
        brokers: Arc::new(RemoteBrokers::new(host.entropy.clone())),
        groups: Arc::new(RemoteGroupCoordinators::new(host.entropy.clone())),
        cluster: view,
        node,
        entropy: host.entropy.clone(),
        shutdown: host.shutdown.clone(),
    });
    serving.ready();
    tracing::info!(%node, address, "serving Kafka clients");
    // At shutdown the follower takes this gateway out of the cluster, so that clients turn to others, while it drains.
    let drained = gateway.drained();
    tokio::pin!(drained);
    tokio::select! {
        biased;
        // A follower that ends before shutdown was fenced: this process must not go on.
        followed = &mut follower => {
            followed??;
            drained.await;
        }
        () = &mut drained => follower.await??,
    }
    Ok(())
}
