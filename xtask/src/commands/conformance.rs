//! `cargo xtask conformance`: clients in other languages, each with its defaults, against one bootstrap address.

mod go;
mod java;
mod kcat;
mod python;

use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail, ensure};
use xtask::cluster::{Kafka, Standalone};
use xtask::process::Process;
use xtask::sh;
use xtask::tools::kafka::jars;

use super::test::need_build_tools;

/// A language and its check.
type Client = (&'static str, fn(&str) -> Result<Outcome>);

const CLIENTS: [Client; 4] =
    [("kcat", kcat::check), ("python", python::check), ("go", go::check), ("java", java::check)];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Tests what listens there. Without it `tidemark standalone` is built and started.
    #[arg(long)]
    bootstrap: Option<String>,
    /// Tests Apache Kafka 4.2: what fails there is a wrong test.
    #[arg(long, conflicts_with = "bootstrap")]
    kafka: bool,
    /// Only these languages: kcat, python, go, java.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// How a client's check ended, unless it failed.
enum Outcome {
    Passed,
    /// With the reason.
    Skipped(String),
}

pub(crate) fn run(args: &Args) -> Result<()> {
    for name in &args.only {
        ensure!(CLIENTS.iter().any(|(client, _)| client == name), "there is no client {name}");
    }
    let dir = tempfile::tempdir()?;
    let (mut kafka, mut standalone) = (None, None);
    let bootstrap = if let Some(bootstrap) = &args.bootstrap {
        bootstrap.clone()
    } else if args.kafka {
        kafka.insert(Kafka::start(dir.path())?).bootstrap.clone()
    } else {
        need_build_tools()?;
        sh::run(sh::cargo().args(["build", "--package", "tidemark"]))?;
        let binary = sh::target_dir().join("debug").join("tidemark");
        standalone.insert(Standalone::start(&binary, dir.path())?).bootstrap.clone()
    };

    let mut failed = Vec::new();
    for (name, check) in CLIENTS {
        if !args.only.is_empty() && !args.only.iter().any(|only| only == name) {
            continue;
        }
        sh::step(name);
        match check(&bootstrap) {
            Ok(Outcome::Passed) => println!("{name}: passed"),
            Ok(Outcome::Skipped(reason)) => println!("{name}: skipped, because {reason}"),
            Err(error) => {
                println!("{name}: failed: {error:#}");
                failed.push(name);
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    let of_kafka = kafka.as_ref().map(|kafka: &Kafka| &kafka.process);
    let of_standalone = standalone.as_ref().map(|standalone: &Standalone| &standalone.process);
    if let Some(log) = of_kafka.or(of_standalone).map(Process::log) {
        eprintln!("--- the end of the server's log\n{}", sh::last_lines(&log, 40));
    }
    bail!("failed: {}", failed.join(", "))
}

/// A topic name that no other run has.
fn topic(client: &str) -> String {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    format!("conformance-{client}-{:x}", since.as_millis())
}

/// For clients that cannot create topics themselves.
fn create_topic(bootstrap: &str, topic: &str, partitions: u32) -> Result<()> {
    let mut create = jars()?.java("256m", "org.apache.kafka.tools.TopicCommand");
    create.args(["--bootstrap-server", bootstrap, "--create", "--topic", topic]);
    sh::quietly(create.args(["--partitions", &partitions.to_string()])).context("creating the topic").map(drop)
}

/// Runs a step that fetches a client. Where that fails, the client is skipped.
fn available(command: &mut Command) -> Result<(), Outcome> {
    sh::quietly(command).map(drop).map_err(|error| Outcome::Skipped(format!("it cannot be had here: {error:#}")))
}
