//! `cargo xtask chaos groups`: members of groups come, go, die and are paused, coordinators are killed, and the checker
//! looks at what became of partitions, commits and records.

#![allow(clippy::print_stdout, reason = "its output is its result")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use tidemark_tests::groups::chaos::{Plan, Random, run};
use tidemark_tests::groups::member::Protocol;
use tidemark_tests::target::binaries;
use xtask::cluster::{Kafka, Options, Services, Standalone};

/// From the start of a coordinator to the next kill, in milliseconds. Each move of a group begins its session timers anew,
/// so that a dead member is missed between the kills that are further apart than its session.
const BETWEEN_KILLS: std::ops::Range<u64> = 1_000..12_000;
/// Until a killed one is started again.
const AWAY: Duration = Duration::from_secs(2);

/// A member of KIP-848 that is dead is missed as soon as one of the classic protocol.
const COORDINATOR: &str = "group_consumer_session_timeout_ms = 6000\ngroup_consumer_heartbeat_interval_ms = 1000\n";

#[derive(Debug, Parser)]
struct Cli {
    #[arg(long, value_enum)]
    on: On,
    /// Coordinators of the four services.
    #[arg(long, default_value_t = 3)]
    coordinators: usize,
    #[arg(long)]
    seconds: u64,
    /// By which everything but the machine's timing is decided.
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Protocol::Range, Protocol::Cooperative, Protocol::Consumer])]
    protocols: Vec<Protocol>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum On {
    /// Apache Kafka 4.2, which is left alone.
    Kafka,
    Standalone,
    /// The four services, whose coordinators are killed one after the other.
    Services,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let dir = tempfile::Builder::new().prefix("tidemark-chaos-").tempdir()?;
    let seed = cli.seed.unwrap_or_else(tidemark_tests::groups::history::now);
    let plan = |bootstrap: &str| -> Result<Plan> {
        Ok(Plan {
            bootstrap: bootstrap.to_owned(),
            time: Duration::from_secs(cli.seconds),
            seed,
            member: std::env::current_exe()?.parent().context("a program lies somewhere")?.join("group-member"),
            dir: dir.path().to_owned(),
            protocols: cli.protocols.clone(),
        })
    };
    eprintln!("seed {seed}");
    let result = match cli.on {
        On::Kafka => {
            let kafka = Kafka::start(&dir.path().join("kafka"))?;
            run(&plan(&kafka.bootstrap)?, |_| None)
        }
        On::Standalone => {
            let standalone = Standalone::start(&binaries()?.join("tidemark"), &dir.path().join("standalone"))?;
            run(&plan(&standalone.bootstrap)?, |_| None)
        }
        On::Services => {
            let coordinator = COORDINATOR.to_owned();
            let options = Options { coordinators: cli.coordinators, coordinator, ..Options::default() };
            let services = Services::start(&binaries()?, &dir.path().join("services"), &options)?;
            let bootstrap = services.bootstrap.clone();
            let (random, due) = (Random(seed), Instant::now());
            let mut killer = Killer { services, random, coordinators: cli.coordinators, killed: 0, away: None, due };
            run(&plan(&bootstrap)?, |peace| killer.tick(peace)).inspect_err(|_| eprintln!("{}", killer.services.logs()))
        }
    };
    if result.is_err() {
        // The histories are worth more than the room.
        let _ = dir.keep();
    }
    println!("{}", result?);
    Ok(())
}

/// Kills coordinators by turns.
struct Killer {
    services: Services,
    random: Random,
    coordinators: usize,
    killed: usize,
    away: Option<(String, Instant)>,
    due: Instant,
}

impl Killer {
    fn tick(&mut self, peace: bool) -> Option<String> {
        if let Some((name, since)) = self.away.take() {
            if since.elapsed() < AWAY {
                self.away = Some((name, since));
                return None;
            }
            self.services.start_unready(&name).unwrap_or_else(|error| panic!("{error:#}"));
            self.due = Instant::now() + self.random.within(&BETWEEN_KILLS);
            return None;
        }
        if peace || Instant::now() < self.due {
            return None;
        }
        let name = format!("coordinator-{}", self.killed % self.coordinators);
        self.killed += 1;
        self.services.kill(&name).unwrap_or_else(|error| panic!("{error:#}"));
        self.away = Some((name, Instant::now()));
        Some("coordinator killed".to_owned())
    }
}
