//! What an operator may set on a gateway.

use serde::{Deserialize, Serialize};
use tidemark_runtime::ServiceConfig;
use tidemark_runtime::telemetry::Telemetry;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where Kafka clients connect, `host:port`.
    pub listen: String,
    /// What Kafka clients are told to connect to instead of `listen`, where they cannot reach that.
    pub advertise: String,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub http: String,
    /// The coordinators' gRPC addresses, `http://host:port`.
    pub coordinators: Vec<String>,
    /// The rack or availability zone this gateway is in; empty for none.
    pub rack: String,
    /// Whether a topic that does not exist is created when a client asks for it by name
    /// (`auto.create.topics.enable`).
    pub auto_create_topics: bool,
    /// The largest request that is accepted, in bytes (`socket.request.max.bytes`).
    pub max_request_bytes: usize,
    /// Bytes of requests that are held at once, of all connections, before they are not read any further
    /// (`queued.max.request.bytes`), at least 8 MiB. A request that is larger is taken alone.
    pub queued_max_request_bytes: usize,
    /// The most connections at once (`max.connections`).
    pub max_connections: usize,
    pub telemetry: Telemetry,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9092".into(),
            advertise: String::new(),
            http: "127.0.0.1:9102".into(),
            coordinators: vec!["http://127.0.0.1:9401".into()],
            rack: String::new(),
            auto_create_topics: true,
            max_request_bytes: 100 << 20,
            queued_max_request_bytes: 128 << 20,
            max_connections: 10_000,
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
