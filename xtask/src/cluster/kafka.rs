//! Apache Kafka as one process that is broker and controller.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::process::{Process, accepts, free_port};
use crate::sh;
use crate::tools::kafka;

/// Any 16 bytes in URL-safe base64 will do.
const CLUSTER_ID: &str = "dGlkZW1hcmstb3JhY2xlMQ";

#[derive(Debug)]
pub struct Kafka {
    pub bootstrap: String,
    pub process: Process,
    /// From the start of the process until it accepted connections.
    pub started_in: Duration,
}

impl Kafka {
    /// Formats `dir` and starts a broker on it, with Kafka's own defaults but for what one node needs.
    pub fn start(dir: &Path) -> Result<Self> {
        Self::start_with(dir, "")
    }

    /// The same with more lines of `server.properties`.
    pub fn start_with(dir: &Path, more: &str) -> Result<Self> {
        let jars = kafka::jars()?;
        let (port, controller) = (free_port(), free_port());
        let bootstrap = format!("127.0.0.1:{port}");
        let properties = dir.join("server.properties");
        fs::create_dir_all(dir)?;
        fs::write(&properties, server_properties(&dir.join("data"), port, controller) + more)?;
        let mut format = jars.java("256m", "kafka.tools.StorageTool");
        sh::quietly(format.args(["format", "-t", CLUSTER_ID, "-c"]).arg(&properties))?;

        // 1 GiB is what Kafka's own start script gives the broker.
        let mut command = jars.java("1g", "kafka.Kafka");
        let began = Instant::now();
        let mut process = Process::start("kafka", &dir.join("kafka.log"), command.arg(&properties))?;
        process.wait_ready(super::START, || accepts(&bootstrap))?;
        Ok(Self { bootstrap, process, started_in: began.elapsed() })
    }
}

fn server_properties(data: &Path, port: u16, controller: u16) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
",
        data.display()
    )
}
