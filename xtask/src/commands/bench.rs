//! `cargo xtask bench`: Apache Kafka 4.2 and Tidemark in one run, on one disk, by turns, with one client.

mod raw_disk;
mod system;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use xtask::sh;

use super::test::need_build_tools;
use system::{Kind, System};
use table::Results;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often each system is measured; the table has the medians.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Megabytes of each measurement with 1 KiB and 16 KiB records. A fifth of it for 100 B.
    #[arg(long, default_value_t = 2000)]
    megabytes: u64,
    /// Megabytes that are produced before anything is measured, for the JVM's sake.
    #[arg(long, default_value_t = 500)]
    warm_up_megabytes: u64,
    /// Seconds of each latency measurement.
    #[arg(long, default_value_t = 10)]
    latency_seconds: u32,
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

pub(crate) fn run(args: &Args) -> Result<()> {
    need_build_tools()?;
    sh::step("build");
    sh::run(sh::cargo().args(["build", "--release", "--package", "tidemark-tests", "--bin", "bench-client"]))?;
    if args.only.iter().any(|kind| *kind != Kind::Kafka) {
        sh::run(sh::cargo().args(["build", "--profile", &args.profile, "--bins"]).args(system::PACKAGES))?;
    }
    let binaries = sh::target_dir().join(&args.profile);
    let dir = args.dir.clone().unwrap_or_else(|| sh::target_dir().join("bench"));
    std::fs::create_dir_all(&dir)?;

    let mut results = Results::default();
    results.note(format!("disk alone: {:.0} MB/s written with an fdatasync every 8 MB", raw_disk::measure(&dir)?));
    for round in 1..=args.rounds {
        for kind in &args.only {
            sh::step(&format!("round {round} of {}: {kind}", args.rounds));
            let place = tempfile::Builder::new().prefix("run-").tempdir_in(&dir)?;
            let measured = measure(args, *kind, &binaries, place.path());
            measured.with_context(|| kind.to_string())?.into_iter().for_each(|(name, value)| {
                eprintln!("{name}: {value:.1}");
                results.add(*kind, &name, value);
            });
        }
    }
    println!("{}", results.markdown());
    Ok(())
}

/// Everything about one system, from its start on an empty directory to its end.
fn measure(args: &Args, kind: Kind, binaries: &Path, dir: &Path) -> Result<Vec<(String, f64)>> {
    let system = System::start(kind, binaries, dir)?;
    let mut all = vec![("start, ms".to_owned(), system.started_in().as_secs_f64() * 1e3)];
    all.push(("RSS idle, MB".to_owned(), system.resident() / 1e6));
    let messages = |megabytes: u64, size: u64| (megabytes * 1_000_000 / size).to_string();

    let produce = |topic: &str, size: u64, megabytes: u64| {
        let (size_text, count) = (size.to_string(), messages(megabytes, size));
        client(&system, topic, &["produce", "--size", &size_text, "--messages", &count])
    };
    if args.warm_up_megabytes > 0 {
        produce("warm-up", 1024, args.warm_up_megabytes)?;
    }
    for (label, size, megabytes) in
        [("1 KiB", 1024, args.megabytes), ("16 KiB", 16 * 1024, args.megabytes), ("100 B", 100, args.megabytes / 5)]
    {
        let topic = format!("produce-{size}");
        let before = system.cpu();
        let produced = produce(&topic, size, megabytes)?;
        let cpu = (system.cpu() - before).as_secs_f64() / (megabytes as f64 / 1000.0);
        all.push((format!("produce {label}, MB/s"), number(&produced, "mb_per_s")?));
        all.push((format!("produce {label}, CPU-s per GB"), cpu));
        let before = system.cpu();
        let consumed = client(&system, &topic, &["consume"])?;
        let cpu = (system.cpu() - before).as_secs_f64() / (megabytes as f64 / 1000.0);
        all.push((format!("consume {label}, MB/s"), number(&consumed, "mb_per_s")?));
        all.push((format!("consume {label}, CPU-s per GB"), cpu));
    }
    let seconds = args.latency_seconds.to_string();
    let latency = client(&system, "latency", &["latency", "--rate", "1000", "--seconds", &seconds])?;
    for (label, name) in [("ack", "ack"), ("end to end", "end_to_end")] {
        for percentile in ["p50", "p99", "p999"] {
            let micros = number(&latency, &format!("{name}_{percentile}_us"))?;
            all.push((format!("{label} at 1,000/s, {percentile} ms"), micros / 1e3));
        }
    }
    all.push(("RSS peak, MB".to_owned(), system.peak_resident() / 1e6));
    Ok(all)
}

fn client(system: &System, topic: &str, measure: &[&str]) -> Result<String> {
    let mut client = Command::new(sh::target_dir().join("release").join("bench-client"));
    client.args(["--bootstrap", system.bootstrap(), "--topic", topic]).args(measure);
    sh::quietly(&mut client).inspect_err(|_| eprintln!("{}", system.log()))
}

/// A value of the client's `name=value` lines.
fn number(output: &str, name: &str) -> Result<f64> {
    let value = output.lines().find_map(|line| line.split_once('=').filter(|(key, _)| *key == name));
    Ok(value.with_context(|| format!("no {name} in {output}"))?.1.parse()?)
}
