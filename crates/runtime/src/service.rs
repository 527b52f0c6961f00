//! The `main` of a service: everything around its `run`.

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemark_model::{Clock, Entropy};
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::shutdown::DRAIN_DEADLINE;
use crate::telemetry::Telemetry;
use crate::{OsEntropy, SystemClock, bind, config, http, memory, metrics, shutdown, telemetry};

/// Exit code for a configuration that cannot be used, as opposed to a service that failed.
const EXIT_CONFIG: u8 = 2;

/// How long the last answers of the HTTP pages may take. A scraper that does not read must not hold the process.
const PAGES_DEADLINE: Duration = Duration::from_secs(1);

/// What every service's configuration has.
pub trait ServiceConfig: Default + Serialize + DeserializeOwned + Send + 'static {
    /// Where `/livez`, `/readyz` and `/metrics` are served, `host:port`.
    fn http(&self) -> &str;
    fn telemetry(&self) -> &Telemetry;
}

/// What the process gives the service that it hosts.
#[derive(Debug, Clone)]
pub struct Host {
    /// Cancelled by SIGTERM or SIGINT: finish what is under way and return.
    pub shutdown: CancellationToken,
    pub health: Health,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

/// Reads the configuration, starts telemetry and the HTTP pages, and runs the service until it returns.
///
/// It has to return after [`Host::shutdown`] is cancelled, within [`DRAIN_DEADLINE`]. The process then exits 0; 1 when
/// the service failed or did not drain in time; 2 when the configuration cannot be used.
pub fn main<C, F, Fut>(service: &'static str, run: F) -> ExitCode
where
    C: ServiceConfig,
    F: FnOnce(C, Host) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let config = match config::load::<C>(service, std::env::args_os()) {
        Ok(config) => config,
        Err(error) => return refuse(service, &error.into(), EXIT_CONFIG),
    };
    start(service, config, run)
}

/// What [`main`] does with a configuration that it has read.
pub fn start<C, F, Fut>(service: &'static str, config: C, run: F) -> ExitCode
where
    C: ServiceConfig,
    F: FnOnce(C, Host) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    memory::use_small_pages();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(blocking_threads()).build();
    match runtime.context("starting the runtime").and_then(|runtime| runtime.block_on(host(service, config, run))) {
        Ok(code) => code,
        Err(error) => refuse(service, &error, 1),
    }
}

/// Threads for what blocks: files, and the names of peers. With as many as there is work for at some moment nothing is faster,
/// and each keeps memory of its own from the allocator, half-filled, for as long as anything in it is in use.
fn blocking_threads() -> usize {
    const PER_CORE: usize = 4;
    const LEAST: usize = 8;
    thread::available_parallelism().map_or(LEAST, |cores| (PER_CORE * cores.get()).max(LEAST))
}

/// Everything up to the service's own start fails by an error, which nobody has logged yet.
async fn host<C, F, Fut>(service: &'static str, config: C, run: F) -> anyhow::Result<ExitCode>
where
    C: ServiceConfig,
    F: FnOnce(C, Host) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let telemetry = telemetry::init(service, config.telemetry())?;
    let recorder = metrics::install();
    metrics::service_started(service);
    let shutdown = shutdown::on_signals().context("handling signals")?;
    let listener = bind::listen("http", config.http()).await?;
    let address = listener.local_addr()?;
    tracing::info!(service, version = env!("CARGO_PKG_VERSION"), http = %address, "starting");

    let health = Health::new();
    let draining = health.condition("not-draining");
    draining.ready();
    let pages_end = CancellationToken::new();
    let pages = tokio::spawn(http::serve(listener, health.clone(), recorder, pages_end.clone()));
    let signalled = shutdown.clone();
    tokio::spawn(async move {
        signalled.cancelled().await;
        draining.not_ready("shutting down");
    });

    let host = Host { shutdown: shutdown.clone(), health, clock: Arc::new(SystemClock), entropy: Arc::new(OsEntropy) };
    let ended = shutdown::drained(&shutdown, DRAIN_DEADLINE, Box::pin(run(config, host))).await;
    let code = match ended {
        Ok(Ok(())) => {
            tracing::info!(service, "stopped");
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => {
            tracing::error!(service, "failed: {error:#}");
            ExitCode::FAILURE
        }
        Err(error) => {
            tracing::error!(service, %error, "gave up draining");
            ExitCode::FAILURE
        }
    };
    pages_end.cancel();
    match tokio::time::timeout(PAGES_DEADLINE, pages).await {
        Ok(Ok(Err(error))) => tracing::warn!(%error, "the HTTP pages ended early"),
        Ok(_) => {}
        Err(_) => tracing::warn!("a client of the HTTP pages was cut off"),
    }
    telemetry.flush().await;
    Ok(code)
}

fn refuse(service: &str, error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("{service}: {error:#}");
    ExitCode::from(code)
}
