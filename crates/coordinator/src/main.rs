//! The `tidemark-coordinator` process.

use std::process::ExitCode;
use std::sync::Arc;

use tidemark_coordinator::{Config, Metadata, Service};
use tidemark_rpc::serve_coordinator;
use tidemark_runtime::{Host, bind, service};

fn main() -> ExitCode {
    service::main::<Config, _, _>("tidemark-coordinator", run)
}

async fn run(config: Config, host: Host) -> anyhow::Result<()> {
    let loaded = host.health.condition("cluster-state");
    loaded.not_ready("reading the state from the metadata store");
    let metadata = Metadata::parse(&config.metadata)?;
    let listener = bind::listen("listen", &config.listen).await?;
    let address = bind::advertised(&config.advertise, listener.local_addr()?)?;
    let store = metadata.open().await?;
    let settings = config.settings(&metadata, address);
    let service = Service::start(store, settings, host.clock, host.entropy, host.shutdown.clone());

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
