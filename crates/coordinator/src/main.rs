//! The `tidemark-coordinator` process.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use tidemark_coordinator::{Config, Metadata, Service};
use tidemark_rpc::serve_coordinator;
use tidemark_runtime::{Host, bind, service};
use tidemark_segment::bucket::Access;
use tidemark_segment::{Bucket, StoreError as BucketError};

fn main() -> ExitCode {
    service::main::<Config, _, _>("tidemark-coordinator", run)
}

async fn run(config: Config, host: Host) -> anyhow::Result<()> {
    let loaded = host.health.condition("cluster-state");
    loaded.not_ready("reading the state from the metadata store");
    let metadata = Metadata::parse(&config.metadata)?;
    let listener = bind::listen("listen", &config.listen).await?;
    let address = bind::advertised(&config.advertise, listener.local_addr()?)?;
    let bucket =
        Bucket::open(&config.object_store, std::env::vars(), host.entropy.clone()).context("`object_store`")?;
    match bucket.check(Access::Write).await {
        Err(error @ BucketError::Unavailable(_)) => {
            tracing::warn!(%error, "no snapshots of the metadata until it is back");
        }
        checked => checked?,
    }
    let store = metadata.open().await?;
    let settings = config.settings(&metadata, address);
    let service = Service::start(store, Some(bucket), settings, host.clock, host.entropy, host.shutdown.clone());

    tokio::spawn(host.health.condition("object store").follow(service.backup_health()));
    let shared = Arc::new(service.clone());
    let served = serve_coordinator(listener, shared.clone(), shared, host.shutdown);
    tokio::pin!(served);
    tokio::select! {
        biased;
        error = service.failed() => return Err(error.into()),
        served = &mut served => {
            service.stopped().await;
            return Ok(served?);
        }
        () = service.ready() => loaded.ready(),
    }
    tokio::select! {
        biased;
        error = service.failed() => Err(error.into()),
        served = served => {
            service.stopped().await;
            Ok(served?)
        }
    }
}
