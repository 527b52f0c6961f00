//! The smallest service there is: it has a listener and a configuration, and waits. `tests/process.rs` runs it.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use tidemark_runtime::telemetry::Telemetry;
use tidemark_runtime::{Host, ServiceConfig, bind, service};

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    listen: String,
    http: String,
    /// Never ends after shutdown was asked for.
    hang: bool,
    telemetry: Telemetry,
}

impl Default for Config {
    fn default() -> Self {
        let telemetry = Telemetry::default();
        Self { listen: "127.0.0.1:0".into(), http: "127.0.0.1:0".into(), hang: false, telemetry }
    }
}

impl ServiceConfig for Config {
    fn http(&self) -> &str {
        &self.http
    }

    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}

fn main() -> ExitCode {
    service::main("tidemark-idle", run)
}

async fn run(config: Config, host: Host) -> anyhow::Result<()> {
    let _listener = bind::listen("listen", &config.listen).await?;
    host.health.condition("idle").ready();
    tracing::debug_span!(target: "tidemark_idle", "idling").in_scope(|| tracing::info!("ready"));
    host.shutdown.cancelled().await;
    if config.hang {
        std::future::pending::<()>().await;
    }
    Ok(())
}
