use std::sync::{Arc, Mutex};

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::SpanData;

use super::*;

/// Remembers the names of the spans it is given.
#[derive(Debug, Clone, Default)]
struct Names(Arc<Mutex<Vec<String>>>);

impl opentelemetry_sdk::trace::SpanExporter for Names {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch.into_iter().map(|span| span.name.into_owned()));
        Ok(())
    }
}

#[test]
fn our_debug_spans_are_exported_and_nobody_elses() {
    let names = Names::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(names.clone()).build();
    let subscriber = tracing_subscriber::registry().with(exporting(&provider, "test"));
    tracing::subscriber::with_default(subscriber, || {
        tracing::debug_span!(target: "tidemark_gateway", "produce").in_scope(|| {
            tracing::debug_span!(target: "h2", "frame").in_scope(|| {});
            tracing::trace_span!(target: "tidemark_gateway", "record").in_scope(|| {});
        });
    });
    assert_eq!(*names.0.lock().unwrap(), ["produce"]);
}

#[test]
fn a_bad_filter_names_the_key() {
    let config = Telemetry { log: "tidemark=loud".into(), ..Telemetry::default() };
    let error = init("test", &config).unwrap_err().to_string();
    assert!(error.contains("telemetry.log") && error.contains("TIDEMARK_TELEMETRY__LOG"), "{error}");
}

#[tokio::test]
async fn a_bad_endpoint_names_the_key() {
    let config = Telemetry { otlp_endpoint: "not an endpoint".into(), ..Telemetry::default() };
    let error = init("test", &config).unwrap_err().to_string();
    assert!(error.contains("telemetry.otlp_endpoint"), "{error}");
}
