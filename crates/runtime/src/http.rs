//! `/livez`, `/readyz` and `/metrics`.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::metrics;

/// How often the recorder folds the samples it has gathered, so that they do not pile up where nobody scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The version of Prometheus's text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Debug, Clone)]
struct Pages {
    health: Health,
    metrics: PrometheusHandle,
}

/// Serves until `shutdown` is cancelled. A process cancels it last, so that `/readyz` can say that it is draining.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    metrics: PrometheusHandle,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let upkeep = keep_up(metrics.clone());
    let app = Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state(Pages { health, metrics });
    tokio::select! {
        biased;
        served = axum::serve(listener, app).with_graceful_shutdown(shutdown.cancelled_owned()).into_future() => served,
        () = upkeep => Ok(()),
    }
}

async fn readyz(State(pages): State<Pages>) -> impl IntoResponse {
    let (ready, report) = pages.health.report();
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, report)
}

async fn render(State(pages): State<Pages>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], metrics::render(&pages.metrics))
}

async fn keep_up(metrics: PrometheusHandle) {
    let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        metrics.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::health_check::check;

    async fn get(url: String) -> Result<String, String> {
        tokio::task::spawn_blocking(move || check(&url)).await.unwrap().map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn the_three_pages_answer_and_the_health_flag_reads_them() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (health, shutdown) = (Health::new(), CancellationToken::new());
        let disk = health.condition("disk");
        let server = tokio::spawn(serve(listener, health, metrics::install(), shutdown.clone()));

        assert_eq!(get(format!("{base}/livez")).await.unwrap(), "alive\n");
        let refusal = get(format!("{base}/readyz")).await.unwrap_err();
        assert!(refusal.contains("503") && refusal.contains("disk: starting"), "{refusal}");
        disk.ready();
        assert!(get(format!("{base}/readyz")).await.unwrap().contains("ok       disk"));
        ::metrics::counter!("tidemark_http_test_total").increment(3);
        let page = get(format!("{base}/metrics")).await.unwrap();
        assert!(
            page.contains("tidemark_http_test_total 3") && page.contains("process_resident_memory_bytes"),
            "{page}"
        );

        shutdown.cancel();
        server.await.unwrap().unwrap();
        assert!(get(format!("{base}/livez")).await.is_err());
    }
}
