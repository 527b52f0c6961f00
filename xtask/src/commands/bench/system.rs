//! The systems that are compared, behind one face.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use xtask::cluster::{Kafka, Options, Services, Standalone};
use xtask::process::{self, Usage};

/// How often each looks for records whose retention has ended. With the five minutes that are everybody's default the
/// sustained load would need a hundred gigabytes first.
const RETENTION_CHECK_MS: &str = "30000";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Kind {
    Kafka,
    Standalone,
    Services,
    /// The four processes with their objects in a directory: an S3 server that stores them takes more of the machine than
    /// they do.
    ServicesDirectory,
}

impl Display for Kind {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Kafka => "Apache Kafka 4.2",
            Self::Standalone => "Tidemark standalone",
            Self::Services => "Tidemark, four processes",
            Self::ServicesDirectory => "Tidemark, four processes, objects in a directory",
        })
    }
}

pub(super) enum System {
    Kafka(Kafka),
    Standalone(Standalone),
    Services(Box<Services>, Duration),
}

impl System {
    pub(super) fn start(kind: Kind, binaries: &Path, dir: &Path) -> Result<Self> {
        Ok(match kind {
            Kind::Kafka => {
                let more = format!("log.retention.check.interval.ms={RETENTION_CHECK_MS}\n");
                Self::Kafka(Kafka::start_with(dir, &more)?)
            }
            Kind::Standalone => {
                let settings = [("TIDEMARK_RETENTION_CHECK_MS", RETENTION_CHECK_MS)];
                Self::Standalone(Standalone::start_with(&binaries.join("tidemark"), dir, &settings)?)
            }
            Kind::Services | Kind::ServicesDirectory => {
                // Kafka is started without it too.
                let coordinator = "group_initial_rebalance_delay_ms = 0\n".to_owned();
                let objects = dir.join("objects");
                let object_store = (kind == Kind::ServicesDirectory).then(|| format!("file://{}", objects.display()));
                let storage = format!("retention_check_ms = {RETENTION_CHECK_MS}\n");
                let options =
                    Options { brokers: 1, gateways: 1, coordinator, storage, object_store, ..Options::default() };
                let began = Instant::now();
                let services = Services::start(binaries, dir, &options)?;
                Self::Services(Box::new(services), began.elapsed())
            }
        })
    }

    pub(super) fn bootstrap(&self) -> &str {
        match self {
            Self::Kafka(kafka) => &kafka.bootstrap,
            Self::Standalone(standalone) => &standalone.bootstrap,
            Self::Services(services, _) => &services.bootstrap,
        }
    }

    /// For the four processes, etcd and the S3 server included.
    pub(super) fn started_in(&self) -> Duration {
        match self {
            Self::Kafka(kafka) => kafka.started_in,
            Self::Standalone(standalone) => standalone.started_in,
            Self::Services(_, started_in) => *started_in,
        }
    }

    /// User and system time of the servers so far. etcd and the S3 server are outside.
    pub(super) fn cpu(&self) -> Duration {
        self.usages().values().map(|usage| usage.cpu).sum()
    }

    /// Waits until the servers are done with what they do behind their clients' backs, within reason: a JVM and a
    /// Raft quorum are never quite idle.
    pub(super) fn settle(&self) {
        const LOOK: Duration = Duration::from_millis(250);
        const IDLE: Duration = Duration::from_millis(20);
        const PATIENCE: Duration = Duration::from_secs(5);
        let began = Instant::now();
        let mut before = self.cpu();
        while began.elapsed() < PATIENCE {
            std::thread::sleep(LOOK);
            let now = self.cpu();
            if now.saturating_sub(before) <= IDLE {
                return;
            }
            before = now;
        }
    }

    pub(super) fn resident(&self) -> f64 {
        self.usages().values().map(|usage| usage.resident_bytes as f64).sum()
    }

    pub(super) fn peak_resident(&self) -> f64 {
        self.usages().values().map(|usage| usage.peak_resident_bytes as f64).sum()
    }

    /// Where clients of etcd connect, where there is one.
    pub(super) fn etcd(&self) -> Option<&str> {
        match self {
            Self::Services(services, _) => Some(&services.etcd.address),
            Self::Kafka(_) | Self::Standalone(_) => None,
        }
    }

    pub(super) fn log(&self) -> String {
        match self {
            Self::Kafka(kafka) => kafka.process.log(),
            Self::Standalone(standalone) => standalone.process.log(),
            Self::Services(services, _) => services.logs(),
        }
    }

    /// What each process uses. etcd and the S3 server are outside.
    pub(super) fn usages(&self) -> BTreeMap<String, Usage> {
        let of = |name: &str, process: &process::Process| BTreeMap::from([(name.to_owned(), process.usage())]);
        match self {
            Self::Kafka(kafka) => of("kafka", &kafka.process),
            Self::Standalone(standalone) => of("standalone", &standalone.process),
            Self::Services(services, _) => services.usage(),
        }
    }
}
