//! What an operator may set on a broker.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tidemark_runtime::ServiceConfig;
use tidemark_runtime::telemetry::Telemetry;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where gateways reach this broker by gRPC, `host:port`.
    pub listen: String,
    /// What is told to gateways instead of `listen`, where that is not an address they can reach.
    pub advertise: String,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub http: String,
    /// The coordinators' gRPC addresses, `http://host:port`.
    pub coordinators: Vec<String>,
    /// The rack or availability zone this broker is in; empty for none.
    pub rack: String,
    /// The object store that the storage nodes tier to: `s3://bucket/prefix`, `file:///directory`.
    pub object_store: String,
    /// A directory for the disk tier of the cache of cold reads; empty keeps it in memory only.
    pub cache_dir: PathBuf,
    /// Bytes of recent records that are kept in memory for readers at the tail.
    pub tail_bytes: usize,
    /// Bytes of memory for what was read from the object store.
    pub cache_memory_bytes: usize,
    /// Bytes of disk under `cache_dir` for what was read from the object store.
    pub cache_disk_bytes: usize,
    pub telemetry: Telemetry,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9201".into(),
            advertise: String::new(),
            http: "127.0.0.1:9202".into(),
            coordinators: vec!["http://127.0.0.1:9401".into()],
            rack: String::new(),
            object_store: String::new(),
            cache_dir: PathBuf::new(),
            tail_bytes: 128 << 20,
            cache_memory_bytes: 64 << 20,
            cache_disk_bytes: 4 << 30,
            telemetry: Telemetry::default(),
        }
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
