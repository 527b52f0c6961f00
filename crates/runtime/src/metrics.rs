//! The process's metrics recorder, and the events that the runtime itself counts.

use std::sync::OnceLock;

use metrics::{counter, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::process;

/// Seconds: from a memory copy to a stalled disk, three a decade.
const SECONDS: &[f64] =
    &[0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
/// Bytes: from one record to the largest frame.
const BYTES: &[f64] =
    &[256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0];
/// Counts: how many of something went together.
const COUNTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 4_096.0];

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Installs the recorder behind the `metrics` macros, once for the process: the four services of a standalone share it.
///
/// A histogram's buckets follow its name's unit: `…_seconds`, `…_bytes`, otherwise counts.
pub fn install() -> PrometheusHandle {
    RECORDER
        .get_or_init(|| {
            let recorder = PrometheusBuilder::new()
                .set_buckets(COUNTS)
                .and_then(|b| b.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS))
                .and_then(|b| b.set_buckets_for_metric(Matcher::Suffix("_bytes".into()), BYTES))
                .expect("the tables of buckets are not empty")
                .build_recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::error!("another metrics recorder is installed: /metrics will be empty");
            }
            describe();
            handle
        })
        .clone()
}

/// The metrics as Prometheus scrapes them, with the process's own memory, CPU and files as of now.
pub fn render(handle: &PrometheusHandle) -> String {
    if let Some(usage) = process::usage() {
        gauge!("process_resident_memory_bytes").set(usage.resident_bytes as f64);
        gauge!("process_cpu_seconds_total").set(usage.cpu_seconds);
        gauge!("process_open_fds").set(usage.open_files as f64);
        gauge!("process_threads").set(usage.threads as f64);
    }
    handle.render()
}

/// A service of this process started.
pub(crate) fn service_started(service: &'static str) {
    gauge!("tidemark_build_info", "service" => service, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// The cluster state moved on.
pub(crate) fn cluster_revision_applied(role: &'static str, revision: u64) {
    gauge!("tidemark_cluster_revision", "role" => role).set(revision as f64);
}

/// The stream to the coordinator stands, or does not any more.
pub(crate) fn cluster_connected(role: &'static str, connected: bool) {
    gauge!("tidemark_cluster_connected", "role" => role).set(if connected { 1.0 } else { 0.0 });
}

/// The stream to the coordinator broke or could not be opened.
pub(crate) fn cluster_stream_failed(role: &'static str) {
    counter!("tidemark_cluster_stream_failures_total", "role" => role).increment(1);
}

fn describe() {
    metrics::describe_gauge!("process_resident_memory_bytes", "Resident memory of the process");
    metrics::describe_gauge!("process_cpu_seconds_total", "CPU time of the process, user and system");
    metrics::describe_gauge!("process_open_fds", "Open file descriptors of the process");
    metrics::describe_gauge!("process_threads", "Threads of the process");
    metrics::describe_gauge!("tidemark_build_info", "1, labelled with what runs");
    metrics::describe_gauge!("tidemark_cluster_revision", "Revision of the cluster state that the service follows");
    metrics::describe_gauge!("tidemark_cluster_connected", "Whether the stream to the coordinator stands");
    metrics::describe_counter!("tidemark_cluster_stream_failures_total", "Times the stream to the coordinator failed");
}
