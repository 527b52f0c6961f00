//! What can be tested and measured: Apache Kafka, Tidemark in one process, and Tidemark's four services.

mod kafka;
mod outside;
mod services;
mod standalone;

pub use kafka::Kafka;
pub use outside::{Etcd, S3};
pub use services::{Options, Services};
pub use standalone::Standalone;

use std::time::Duration;

use crate::process::http_get;

/// How long a server may take until it is ready. Debug builds on two busy cores are slow.
const START: Duration = Duration::from_secs(60);

/// Whether `/readyz` says yes.
fn is_ready(http: &str) -> bool {
    http_get(http, "/readyz").is_ok_and(|(status, _)| status == 200)
}
