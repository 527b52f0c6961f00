//! `cargo xtask bench`: Apache Kafka 4.2 and Tidemark in one run, on one disk, by turns, with one client.

mod cold;
mod groups;
mod measure;
mod raw_disk;
mod system;
mod table;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use xtask::sh;

use super::test::need_build_tools;
use measure::{Volumes, What as Measured};
use system::Kind;
use table::Results;

/// The packages whose binaries cargo is told to build.
pub(super) const TIDEMARK_PACKAGES: [&str; 10] = [
    "--package",
    "tidemark",
    "--package",
    "tidemark-gateway",
    "--package",
    "tidemark-broker",
    "--package",
    "tidemark-storage",
    "--package",
    "tidemark-coordinator",
];

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// How often each system is measured; the table has the medians.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Megabytes of each measurement with 1 KiB and 16 KiB records. A fifth of it for 100 B.
    #[arg(long, default_value_t = 2000)]
    megabytes: u64,
    /// Megabytes that are produced before anything is measured, for the JVM's sake.
    #[arg(long, default_value_t = 1000)]
    warm_up_megabytes: u64,
    /// Seconds of each latency measurement.
    #[arg(long, default_value_t = 10)]
    latency_seconds: u32,
    /// Seconds of the sustained load.
    #[arg(long, default_value_t = 300)]
    sustained_seconds: u32,
    /// Only these measurements; `sustained` only where it is asked for.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Measured::Throughput, Measured::Partitions, Measured::Latency, Measured::Fanout])]
    measure: Vec<Measured>,
    /// Only to see that everything works: one round of little. Its figures mean nothing.
    #[arg(long, conflicts_with_all = ["rounds", "megabytes", "warm_up_megabytes", "latency_seconds", "sustained_seconds"])]
    quick: bool,
    /// The profile Tidemark is built with.
    #[arg(long, default_value = "dist")]
    profile: String,
    /// Only these systems.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Kafka, Kind::Standalone, Kind::Services])]
    only: Vec<Kind>,
    /// Where all of them keep their data; on the disk to be measured.
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Groups instead of records: thousands of members on one coordinator, their commits, and how long a rebalance takes.
    Groups(groups::Args),
    /// History instead of the tail: one consumer beside a plain loop of ranged GETs from the same object store.
    Cold(cold::Args),
}

/// `cargo build` with a profile.
fn build(profile: &str) -> Command {
    let mut cargo = sh::cargo();
    cargo.args(["build", "--profile", profile]);
    cargo
}

/// Where that puts binaries: cargo keeps what `dev` builds in `debug`.
fn built(profile: &str) -> PathBuf {
    sh::target_dir().join(if profile == "dev" { "debug" } else { profile })
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.what {
        Some(What::Groups(args)) => return groups::run(args),
        Some(What::Cold(args)) => return cold::run(args),
        None => {}
    }
    need_build_tools()?;
    sh::step("build");
    sh::run(sh::cargo().args(["build", "--release", "--package", "tidemark-tests", "--bin", "bench-client"]))?;
    if args.only.iter().any(|kind| *kind != Kind::Kafka) {
        sh::run(build(&args.profile).arg("--bins").args(TIDEMARK_PACKAGES))?;
    }
    let binaries = built(&args.profile);
    let dir = args.dir.clone().unwrap_or_else(|| sh::target_dir().join("bench"));
    std::fs::create_dir_all(&dir)?;
    let (rounds, volumes) = if args.quick {
        (1, Volumes { megabytes: 200, warm_up_megabytes: 100, latency_seconds: 3, sustained_seconds: 5 })
    } else {
        let Args { megabytes, warm_up_megabytes, latency_seconds, sustained_seconds, .. } = *args;
        (args.rounds, Volumes { megabytes, warm_up_megabytes, latency_seconds, sustained_seconds })
    };

    let mut results = Results::default();
    let mut failed = Vec::new();
    for round in 1..=rounds {
        // Nobody pays for what the one before left to be written.
        sh::quietly(&mut Command::new("sync"))?;
        results.add_disk(raw_disk::measure(&dir)?);
        for kind in args.only.iter().copied() {
            if failed.contains(&kind) {
                continue;
            }
            sh::step(&format!("round {round} of {rounds}: {kind}"));
            let place = tempfile::Builder::new().prefix("run-").tempdir_in(&dir)?;
            let outcome = measure::all(&args.measure, &volumes, kind, &binaries, place.path(), &mut |row, value| {
                eprintln!("{row}: {value:.2}");
                results.add(kind, row, value);
            });
            // The others' figures are worth having all the same.
            if let Err(error) = outcome {
                eprintln!("{kind}: FAILED: {error:#}");
                results.note(format!("{kind} failed in round {round} after what the table has: {error}"));
                failed.push(kind);
            }
            drop(place);
            sh::quietly(&mut Command::new("sync"))?;
        }
    }
    results.note(format!(
        "Medians of {rounds} round(s), by turns; {} MB of 1 KiB and of 16 KiB records a round, {} MB of 100 B records, each \
         to 6 partitions but where it says so, with acks=all, after {} MB to warm up. Tidemark acknowledges after fdatasync; Kafka, but for \
         the row that says so, does not. Client and servers share {} cores.",
        volumes.megabytes,
        volumes.megabytes / 5,
        volumes.warm_up_megabytes,
        std::thread::available_parallelism()?,
    ));
    println!("{}", results.markdown());
    if failed.is_empty() { Ok(()) } else { bail!("not everything could be measured") }
}
