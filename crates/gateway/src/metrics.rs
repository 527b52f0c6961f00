//! What the gateway counts: one function for each event.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, gauge, histogram};
use tidemark_wire::api::{APIS, ApiKey};
use tidemark_wire::error::ErrorCode;

/// The metrics of every API, looked up once.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    apis: Vec<(ApiKey, Arc<ApiMetrics>)>,
    other: Arc<ApiMetrics>,
}

/// The metrics of one API.
#[derive(Debug)]
pub(crate) struct ApiMetrics {
    requests: Counter,
    request_bytes: Counter,
    response_bytes: Counter,
    seconds: Histogram,
}

impl Metrics {
    /// Has to come after the recorder's installation.
    pub(crate) fn new() -> Self {
        let apis = APIS.iter().map(|api| (api.key, ApiMetrics::new(api.key.name()))).collect();
        Self { apis, other: ApiMetrics::new("other") }
    }

    pub(crate) fn api(&self, key: ApiKey) -> &Arc<ApiMetrics> {
        self.apis.iter().find(|(known, _)| *known == key).map_or(&self.other, |(_, metrics)| metrics)
    }
}

impl ApiMetrics {
    fn new(api: &'static str) -> Arc<Self> {
        Arc::new(Self {
            requests: counter!("tidemark_gateway_requests_total", "api" => api),
            request_bytes: counter!("tidemark_gateway_request_bytes_total", "api" => api),
            response_bytes: counter!("tidemark_gateway_response_bytes_total", "api" => api),
            seconds: histogram!("tidemark_gateway_request_seconds", "api" => api),
        })
    }

    pub(crate) fn started(&self, bytes: usize) {
        self.requests.increment(1);
        self.request_bytes.increment(bytes as u64);
    }

    /// `took` is the time from the request's dispatch to its answer.
    pub(crate) fn ended(&self, bytes: usize, took: Duration) {
        self.response_bytes.increment(bytes as u64);
        self.seconds.record(took);
    }
}

pub(crate) fn connection_opened() {
    counter!("tidemark_gateway_connections_total").increment(1);
    gauge!("tidemark_gateway_connections").increment(1.0);
}

/// `reason` is one of a few fixed words.
pub(crate) fn connection_closed(reason: &'static str) {
    gauge!("tidemark_gateway_connections").decrement(1.0);
    counter!("tidemark_gateway_connections_closed_total", "reason" => reason).increment(1);
}

pub(crate) fn connection_refused() {
    counter!("tidemark_gateway_connections_refused_total").increment(1);
}

pub(crate) fn error_answered(api: ApiKey, error: ErrorCode) {
    counter!("tidemark_gateway_errors_total", "api" => api.name(), "error" => error.name()).increment(1);
}

/// A call of a group's owner failed and is made again.
pub(crate) fn group_call_repeated() {
    counter!("tidemark_gateway_group_calls_repeated_total").increment(1);
}

/// A group's owner could not be asked for so long that the client was told.
pub(crate) fn group_call_given_up() {
    counter!("tidemark_gateway_group_calls_given_up_total").increment(1);
}

pub(crate) fn fetch_sessions(sessions: usize) {
    gauge!("tidemark_gateway_fetch_sessions").set(sessions as f64);
}

pub(crate) fn fetch_session_evicted() {
    counter!("tidemark_gateway_fetch_sessions_evicted_total").increment(1);
}

pub(crate) fn topic_auto_created() {
    counter!("tidemark_gateway_topics_auto_created_total").increment(1);
}
