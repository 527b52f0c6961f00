//! Logs to the console, as lines for people or as JSON, and traces to an OpenTelemetry collector.
//!
//! A service opens its spans at borders, at level `debug`: without a collector, and with the default filter, they then
//! cost nothing; with one, they are exported whatever the console's filter says.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, LevelFilter, ParseError, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer, Registry};

/// How long a process waits at its end for its last spans to reach the collector.
const FLUSH_DEADLINE: Duration = Duration::from_secs(3);

/// How long one export may take before the collector counts as not answering.
const EXPORT_DEADLINE: Duration = Duration::from_secs(5);

/// The `telemetry` section that every service's configuration has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// What is logged, in the syntax of `tracing`'s `EnvFilter`: `info`, `info,tidemark_storage=debug`, ….
    pub log: String,
    pub log_format: LogFormat,
    /// A collector's OTLP gRPC endpoint, such as `http://localhost:4317`; empty exports nothing. What share of the
    /// traces is kept is OpenTelemetry's own to say, by `OTEL_TRACES_SAMPLER`.
    pub otlp_endpoint: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Human,
    Json,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log: "info,foyer=warn".into(), log_format: LogFormat::Human, otlp_endpoint: String::new() }
    }
}

/// Why telemetry cannot start. The caller prints it and exits.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("`telemetry.log` (TIDEMARK_TELEMETRY__LOG) is no log filter: {0}")]
    Filter(#[from] ParseError),
    #[error("`telemetry.otlp_endpoint` (TIDEMARK_TELEMETRY__OTLP_ENDPOINT) is no OTLP endpoint: {0}")]
    Endpoint(#[from] opentelemetry_otlp::ExporterBuildError),
    /// A process starts its telemetry once.
    #[error("{0}")]
    AlreadyStarted(#[from] TryInitError),
}

/// Holds what is still to be exported. [`Guard::flush`] it when the process ends.
#[derive(Debug)]
#[must_use = "spans that are not flushed are lost"]
pub struct Guard {
    provider: Option<SdkTracerProvider>,
}

/// Starts logging and, with an endpoint, tracing, for the whole process. Needs a tokio runtime around it, for the
/// exporter's connection.
pub fn init(service: &'static str, config: &Telemetry) -> Result<Guard, TelemetryError> {
    let console = console(config)?;
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let provider = match config.otlp_endpoint.as_str() {
        "" => None,
        endpoint => Some(provider(service, endpoint)?),
    };
    let export = provider.as_ref().map(|provider| exporting(provider, service));
    tracing_subscriber::registry().with(console).with(export).try_init()?;
    Ok(Guard { provider })
}

impl Guard {
    /// Sends what is still to be exported, for a few seconds at most.
    pub async fn flush(self) {
        let Some(provider) = self.provider else { return };
        // The exporter blocks its thread while the runtime's threads send.
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_DEADLINE)).await;
        match flushed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last spans were not exported"),
            Err(error) => tracing::warn!(%error, "the last spans were not exported"),
        }
    }
}

fn console(config: &Telemetry) -> Result<Box<dyn Layer<Registry> + Send + Sync>, ParseError> {
    // Standard output belongs to what a command is asked to print.
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    let filter = EnvFilter::builder().parse(&config.log)?;
    Ok(match config.log_format {
        LogFormat::Human => layer.with_filter(filter).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
    })
}

fn provider(service: &'static str, endpoint: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter =
        SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT_DEADLINE).build()?;
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_service_name(service).with_attribute(version).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

fn exporting<S>(provider: &SdkTracerProvider, service: &'static str) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer(service));
    layer.with_filter(filter_fn(is_exported).with_max_level_hint(LevelFilter::DEBUG))
}

/// Our own spans, and what we log inside them. The exporter's own libraries would trace themselves for ever.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("tidemark")
        && *metadata.level() <= if metadata.is_span() { Level::DEBUG } else { Level::INFO }
}

#[cfg(test)]
mod tests;
