//! `cargo xtask conformance`: clients in other languages, each with its defaults, against one bootstrap address.
//!
//! The cases are written once, in `cases`; what must hold of what was read is in `rules`. A client is a program of
//! `tests/conformance` behind `driver`, or a command line tool.

mod cases;
mod client;
mod console;
mod driver;
mod groups;
mod kcat;
mod killer;
mod languages;
mod report;
mod rules;
mod tool;

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use anyhow::{Result, bail, ensure};
use xtask::cluster::{Kafka, Options, Services, Standalone};
use xtask::sh;

use super::bench::TIDEMARK_PACKAGES;
use super::test::need_build_tools;
use client::Client;
use groups::Delivery;
use killer::Killer;
use languages::Available;
use report::Report;

/// A client's name, and what gets it.
type Named = (&'static str, fn(&str) -> Result<Available>);

const CLIENTS: [Named; 7] = [
    ("kcat", kcat::install),
    ("librdkafka", languages::librdkafka),
    ("java", languages::java),
    ("java-console", java_console),
    ("franz-go", languages::franz_go),
    ("kafka-python", languages::kafka_python),
    ("kafkajs", languages::kafkajs),
];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Tests what listens there. Without it `tidemark standalone` is built and started.
    #[arg(long)]
    bootstrap: Option<String>,
    /// Tests Apache Kafka 4.2: what fails there is a wrong case.
    #[arg(long, conflicts_with = "bootstrap")]
    kafka: bool,
    /// Tests the four services as processes, two gateways and two brokers among them, with etcd and an S3 server.
    #[arg(long, conflicts_with_all = ["bootstrap", "kafka"])]
    services: bool,
    /// How many coordinators the four services have.
    #[arg(long, requires = "services", default_value_t = 1)]
    coordinators: usize,
    /// Kills one coordinator after the other, every few seconds.
    #[arg(long, requires = "services")]
    kill_coordinators: bool,
    /// Consumer groups alone.
    #[arg(long)]
    groups: bool,
    /// Only these clients: kcat, librdkafka, java, java-console, franz-go, kafka-python, kafkajs.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    for name in &args.only {
        ensure!(CLIENTS.iter().any(|(known, _)| known == name), "there is no client {name}");
    }
    let dir = tempfile::Builder::new().prefix("tidemark-conformance-").tempdir()?;
    let server = Server::start(args, dir.path())?;
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);

    let mut report = Report::default();
    let mut clients: Vec<(&'static str, Box<dyn Client>)> = Vec::new();
    for (name, install) in CLIENTS.into_iter().filter(|(name, _)| wanted(name)) {
        report.client(name);
        match install(server.bootstrap())? {
            Available::Yes(client) => clients.push((name, client)),
            Available::No(reason) => report.without(&format!("skipped: {reason}")),
        }
    }
    // Topics that no other run has.
    let prefix = format!("conformance-{:x}", SystemTime::UNIX_EPOCH.elapsed()?.as_millis());
    let delivery = if args.kill_coordinators { Delivery::AtLeastOnce } else { Delivery::Once };
    let mut written = Vec::new();
    for (name, client) in &mut clients {
        sh::step(name);
        if args.groups {
            report.client(name);
            groups::run(client.as_mut(), &format!("{prefix}-{name}"), delivery, &mut report);
            continue;
        }
        written.extend(cases::run(client.as_mut(), name, &prefix, delivery, &mut report));
    }
    sh::step("reading what the others wrote");
    for (name, client) in clients.iter_mut().filter(|_| !args.groups) {
        cases::read_others(client.as_mut(), name, &written, &mut report);
    }

    if let Server::Services { killer: Some(killer), .. } = &server {
        println!("coordinators were killed {} times", killer.killed());
    }
    println!("{}", report.text());
    match report.failures() {
        0 => Ok(()),
        failed => {
            eprintln!("--- the end of the server's log\n{}", server.log());
            bail!("{failed} steps failed")
        }
    }
}

fn java_console(bootstrap: &str) -> Result<Available> {
    Ok(match console::Console::new(bootstrap) {
        Ok(console) => Available::Yes(Box::new(console)),
        Err(error) => Available::No(format!("{error:#}")),
    })
}

enum Server {
    Elsewhere(String),
    Kafka(Kafka),
    Standalone(Standalone),
    Services { bootstrap: String, services: Arc<Mutex<Services>>, killer: Option<Killer> },
}

impl Server {
    fn start(args: &Args, dir: &std::path::Path) -> Result<Self> {
        if let Some(bootstrap) = &args.bootstrap {
            return Ok(Self::Elsewhere(bootstrap.clone()));
        }
        if args.kafka {
            return Ok(Self::Kafka(Kafka::start(dir)?));
        }
        need_build_tools()?;
        sh::run(sh::cargo().args(["build", "--bins"]).args(TIDEMARK_PACKAGES))?;
        let binaries = sh::target_dir().join("debug");
        Ok(if args.services {
            let options = Options { coordinators: args.coordinators, ..Options::default() };
            let services = Services::start(&binaries, dir, &options)?;
            let (bootstrap, services) = (services.bootstrap.clone(), Arc::new(Mutex::new(services)));
            let killer = args.kill_coordinators.then(|| Killer::start(&services, args.coordinators));
            Self::Services { bootstrap, services, killer }
        } else {
            Self::Standalone(Standalone::start(&binaries.join("tidemark"), dir)?)
        })
    }

    fn bootstrap(&self) -> &str {
        match self {
            Self::Elsewhere(bootstrap) => bootstrap,
            Self::Kafka(kafka) => &kafka.bootstrap,
            Self::Standalone(standalone) => &standalone.bootstrap,
            Self::Services { bootstrap, .. } => bootstrap,
        }
    }

    fn log(&self) -> String {
        match self {
            Self::Elsewhere(_) => String::new(),
            Self::Kafka(kafka) => sh::last_lines(&kafka.process.log(), 40),
            Self::Standalone(standalone) => sh::last_lines(&standalone.process.log(), 40),
            Self::Services { services, .. } => killer::locked(services).logs(),
        }
    }
}
