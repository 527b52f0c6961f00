//! What a user may set on a standalone, and what the four services in it get of that.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemark_runtime::ServiceConfig;
use tidemark_runtime::telemetry::Telemetry;

/// Records in memory for readers at the tail. Storage and broker are in one process and hold the same bytes, so that
/// each bound covers the other.
const TAIL_BYTES: usize = 64 << 20;
/// Requests in memory at once: as many as the log's groups, and what waits for them, on the disk of one machine.
const REQUEST_BYTES: usize = 64 << 20;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where everything that lasts is.
    pub data_dir: PathBuf,
    /// Where Kafka clients connect, `host:port`.
    pub listen: String,
    /// What Kafka clients are told to connect to instead of `listen`, where they cannot reach that.
    pub advertise: String,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub http: String,
    /// Whether a topic that does not exist is created when a client asks for it by name
    /// (`auto.create.topics.enable`).
    pub auto_create_topics: bool,
    /// Partitions of topics that are created without saying how many.
    pub num_partitions: i32,
    /// Where history goes: `s3://bucket/prefix`, `file:///directory`. Empty: a directory beside the rest, under `data_dir`.
    pub object_store: String,
    /// Milliseconds after which a change of the metadata is in the object store at the latest.
    pub metadata_snapshot_interval_ms: u64,
    /// Bytes of committed records that stay in the write-ahead log before the oldest of them become objects.
    pub segment_bytes: u64,
    /// Milliseconds after which they do, however few they are.
    pub segment_ms: u64,
    /// Bytes that the write-ahead log may take. When it has them, producers are told to wait.
    pub wal_max_bytes: u64,
    /// Milliseconds between two looks for records whose retention has ended (`log.retention.check.interval.ms`).
    pub retention_check_ms: u64,
    pub telemetry: Telemetry,
}

/// On one disk tiering is a second copy of every byte: it takes CPU and bandwidth from producers, and shortens nothing.
/// So it begins late, at a quarter of what the write-ahead log may take.
const SEGMENT_BYTES: u64 = 1 << 30;
/// What a start has to read of the log stays little where there is little to write.
const SEGMENT_MS: u64 = 300_000;

impl Default for Config {
    fn default() -> Self {
        let gateway = tidemark_gateway::Config::default();
        let storage = tidemark_storage::Config::default();
        let coordinator = tidemark_coordinator::Settings::default();
        Self {
            data_dir: "tidemark-data".into(),
            listen: gateway.listen,
            advertise: gateway.advertise,
            http: gateway.http,
            auto_create_topics: true,
            num_partitions: coordinator.num_partitions,
            object_store: String::new(),
            metadata_snapshot_interval_ms: coordinator.snapshot_interval.as_millis() as u64,
            segment_bytes: SEGMENT_BYTES,
            segment_ms: SEGMENT_MS,
            wal_max_bytes: storage.wal_max_bytes,
            retention_check_ms: storage.retention_check_ms,
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

impl Config {
    pub fn gateway(&self) -> tidemark_gateway::Config {
        tidemark_gateway::Config {
            auto_create_topics: self.auto_create_topics,
            queued_max_request_bytes: REQUEST_BYTES,
            ..tidemark_gateway::Config::default()
        }
    }

    pub fn broker(&self) -> tidemark_broker::Config {
        tidemark_broker::Config { tail_bytes: TAIL_BYTES, ..tidemark_broker::Config::default() }
    }

    pub fn storage(&self) -> tidemark_storage::Config {
        tidemark_storage::Config {
            segment_bytes: self.segment_bytes,
            segment_ms: self.segment_ms,
            wal_max_bytes: self.wal_max_bytes,
            retention_check_ms: self.retention_check_ms,
            memory_bytes: TAIL_BYTES as u64,
            ..tidemark_storage::Config::default()
        }
    }

    pub fn coordinator(&self) -> tidemark_coordinator::Settings {
        let defaults = tidemark_coordinator::Settings::default();
        // Its address is nobody's to call: the services of this process hold it.
        let address = self.listen.clone();
        tidemark_coordinator::Settings {
            address,
            num_partitions: self.num_partitions.max(1),
            snapshot_interval: Duration::from_millis(self.metadata_snapshot_interval_ms.max(1)),
            ..defaults
        }
    }

    /// The write-ahead log.
    pub fn storage_dir(&self) -> PathBuf {
        self.data_dir.join("storage")
    }

    /// What a bucket has elsewhere.
    pub fn objects_dir(&self) -> PathBuf {
        self.data_dir.join("objects")
    }

    /// What etcd has elsewhere.
    pub fn metadata_file(&self) -> PathBuf {
        self.data_dir.join("metadata").join("store.redb")
    }

    /// The data directory as it is told to people: as they gave it.
    pub fn shown_dir(&self) -> std::path::Display<'_> {
        Path::display(&self.data_dir)
    }
}
