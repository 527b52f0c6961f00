//! What an operator may set on a storage node.

use std::num::NonZero;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tidemark_runtime::ServiceConfig;
use tidemark_runtime::telemetry::Telemetry;

/// The most that are worth it on one disk.
const MOST_JOURNALS: usize = 4;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where brokers reach this node by gRPC, `host:port`.
    pub listen: String,
    /// What is told to brokers instead of `listen`, where that is not an address they can reach.
    pub advertise: String,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub http: String,
    /// The coordinators' gRPC addresses, `http://host:port`.
    pub coordinators: Vec<String>,
    /// The rack or availability zone this node is in; empty for none.
    pub rack: String,
    /// Where the write-ahead log is, and who this node is.
    pub data_dir: PathBuf,
    /// Where history goes: `s3://bucket/prefix`, `file:///directory`.
    pub object_store: String,
    /// Journals: write-ahead logs that are written side by side, each with its partitions. One more can be had at any time;
    /// those there are stay. What follows is for all of them together, but for the sizes of single files and objects.
    pub journals: usize,
    /// Bytes of committed records that go to the object store at once.
    pub segment_bytes: u64,
    /// Milliseconds after which fewer go.
    pub segment_ms: u64,
    /// Bytes that the write-ahead logs may take. When they have them, producers are told to wait.
    pub wal_max_bytes: u64,
    /// Bytes of a file of the write-ahead log.
    pub wal_file_bytes: u64,
    /// Bytes of recent records that are kept in memory for readers.
    pub memory_bytes: u64,
    /// Milliseconds after its last record, by that record's timestamp, at which a producer is forgotten: a batch that it
    /// sends again later is not known as one (`producer.id.expiration.ms`).
    pub producer_id_expiration_ms: u64,
    /// Milliseconds that an object stays after nothing refers to it any more.
    pub delete_grace_ms: u64,
    /// Milliseconds between two looks for records whose retention has ended (`log.retention.check.interval.ms`).
    pub retention_check_ms: u64,
    pub telemetry: Telemetry,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9301".into(),
            advertise: String::new(),
            http: "127.0.0.1:9302".into(),
            coordinators: vec!["http://127.0.0.1:9401".into()],
            rack: String::new(),
            data_dir: "tidemark-storage".into(),
            object_store: String::new(),
            journals: default_journals(),
            segment_bytes: 128 << 20,
            segment_ms: 30_000,
            wal_max_bytes: 4 << 30,
            wal_file_bytes: 64 << 20,
            memory_bytes: 128 << 20,
            producer_id_expiration_ms: 86_400_000,
            delete_grace_ms: 60_000,
            retention_check_ms: 300_000,
            telemetry: Telemetry::default(),
        }
    }
}

fn default_journals() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get).min(MOST_JOURNALS)
}

impl ServiceConfig for Config {
    fn http(&self) -> &str {
        &self.http
    }

    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}
