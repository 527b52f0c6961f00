//! `cargo xtask chaos`

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use xtask::sh;
use xtask::tools::{etcd, versitygw};

use super::bench::TIDEMARK_PACKAGES;
use super::test::need_build_tools;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Members of groups of both protocols join, leave, are killed and paused, topics grow, coordinators are killed every
    /// few seconds; then a checker looks for partitions with two owners, lost commits and undelivered records.
    Groups(Groups),
    /// A standalone is killed at random moments under load, also between a PUT and the manifest, and what it acknowledged is
    /// verified after each round.
    Crash(Crash),
}

#[derive(Debug, clap::Args)]
struct Crash {
    #[arg(long, default_value_t = 50)]
    rounds: u32,
}

#[derive(Debug, clap::Args)]
struct Groups {
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Instead of minutes.
    #[arg(long)]
    seconds: Option<u64>,
    /// Apache Kafka 4.2, whose processes nobody kills: what is found there is wrong with the checker.
    #[arg(long, conflicts_with = "standalone")]
    kafka: bool,
    #[arg(long)]
    standalone: bool,
    /// How many coordinators the four services have.
    #[arg(long, default_value_t = 3)]
    coordinators: usize,
    /// The seed that an earlier run has told.
    #[arg(long)]
    seed: Option<u64>,
    /// Only these: range, cooperative (classic protocol), consumer (KIP-848).
    #[arg(long, value_delimiter = ',')]
    protocols: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let groups = match &args.what {
        What::Groups(groups) => groups,
        What::Crash(crash) => return run_crash(crash),
    };
    need_build_tools()?;
    sh::step("build");
    sh::run(sh::cargo().args(["build", "--package", "tidemark-tests", "--bins"]))?;
    let binaries = sh::target_dir().join("debug");
    let mut chaos = Command::new(binaries.join("group-chaos"));
    let on = if groups.kafka {
        "kafka"
    } else {
        sh::run(sh::cargo().args(["build", "--bins"]).args(TIDEMARK_PACKAGES))?;
        if groups.standalone {
            "standalone"
        } else {
            chaos.env("TIDEMARK_ETCD_BIN", etcd::binary()?).env("TIDEMARK_VERSITYGW_BIN", versitygw::binary()?);
            "services"
        }
    };
    let seconds = groups.seconds.unwrap_or(groups.minutes * 60);
    chaos.env("TIDEMARK_E2E_BIN_DIR", &binaries).args(["--on", on, "--seconds", &seconds.to_string()]);
    chaos.args(["--coordinators", &groups.coordinators.to_string()]);
    if let Some(seed) = groups.seed {
        chaos.args(["--seed", &seed.to_string()]);
    }
    if !groups.protocols.is_empty() {
        chaos.args(["--protocols", &groups.protocols.join(",")]);
    }
    sh::step("chaos");
    sh::run(&mut chaos)
}

/// Groups of all protocols on the four services with three coordinators, from the binaries in `binaries`.
pub(crate) fn on_services(binaries: &Path, time: Duration) -> Result<()> {
    let mut chaos = Command::new(binaries.join("group-chaos"));
    chaos.env("TIDEMARK_ETCD_BIN", etcd::binary()?).env("TIDEMARK_VERSITYGW_BIN", versitygw::binary()?);
    chaos.env("TIDEMARK_E2E_BIN_DIR", binaries).args(["--on", "services"]);
    sh::run(chaos.args(["--seconds", &time.as_secs().to_string()]))
}

fn run_crash(args: &Crash) -> Result<()> {
    need_build_tools()?;
    let mut test = sh::cargo();
    test.env("TIDEMARK_TEST_CRASH_ROUNDS", args.rounds.to_string());
    let name = "killed_under_load_at_any_moment_it_has_what_it_acknowledged";
    sh::run(test.args(["test", "--package", "tidemark-tests", "--test", "crash", "--", "--exact", "--nocapture", name]))
}
