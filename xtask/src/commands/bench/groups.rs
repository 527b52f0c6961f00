//! `cargo xtask bench groups`: one coordinator with thousands of members, and one group that rebalances, on Apache Kafka
//! 4.2 and on Tidemark in the same run.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use xtask::process::Usage;
use xtask::sh;

use super::system::{Kind, System};
use super::table::Results;
use super::{TIDEMARK_PACKAGES, build, built, need_build_tools};

/// Each takes as long as the heartbeat interval of clients, and as long again until the tenth has left.
const CLIENT_ROUNDS: &str = "3";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Groups of each protocol, with ten members each.
    #[arg(long, default_value_t = 1000)]
    groups: usize,
    /// Of the members of the classic groups, all together.
    #[arg(long, default_value_t = 10_000)]
    commits_per_second: u32,
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// How often the tenth member comes.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// The profile everything is built with.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Only these systems.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Kafka, Kind::Services])]
    only: Vec<Kind>,
}

pub(super) fn run(args: &Args) -> Result<()> {
    need_build_tools()?;
    sh::step("build");
    let build = || build(&args.profile);
    sh::run(build().args(["--package", "tidemark-tests", "--bin", "group-load"]))?;
    if args.only.iter().any(|kind| *kind != Kind::Kafka) {
        sh::run(build().arg("--bins").args(TIDEMARK_PACKAGES))?;
    }
    let binaries = built(&args.profile);
    let mut results = Results::default();
    let mut failed = Vec::new();
    for kind in &args.only {
        sh::step(&kind.to_string());
        let dir = tempfile::Builder::new().prefix("tidemark-bench-").tempdir()?;
        let system = System::start(*kind, &binaries, dir.path())?;
        let load = Load { binary: binaries.join("group-load"), system: &system };
        if let Err(error) = measure(args, *kind, &load, &mut results) {
            eprintln!("{kind}: FAILED: {error:#}\n{}", sh::last_lines(&system.log(), 40));
            results.note(format!("{kind} failed after what the table has: {error}"));
            failed.push(*kind);
        }
    }
    results.note(format!(
        "{} groups of each protocol with 10 members each, heartbeats every 3 s (classic) and 5 s (KIP-848), {} commits/s of the \
         classic members, for {} s; latencies from when a request was due. The rebalance: 10th member of 900 partitions, {} \
         times, members that ask every 10 ms; and {CLIENT_ROUNDS} times, members that ask every 3 s, or as often as they are told. Client and servers share {} cores.",
        args.groups,
        args.commits_per_second,
        args.seconds,
        args.rounds,
        std::thread::available_parallelism()?,
    ));
    println!("{}", results.markdown());
    if failed.is_empty() { Ok(()) } else { bail!("not everything could be measured") }
}

/// What a run of the load has shown: what it printed, and what each server's process used while it was measured.
struct Shown {
    output: String,
    before: BTreeMap<String, Usage>,
    after: BTreeMap<String, Usage>,
}

struct Load<'a> {
    binary: PathBuf,
    system: &'a System,
}

impl Load<'_> {
    /// The load says when it begins to measure and when it ends.
    fn run(&self, arguments: &[&str]) -> Result<Shown> {
        let mut command = Command::new(&self.binary);
        command.env("TIDEMARK_E2E_BOOTSTRAP", self.system.bootstrap()).args(arguments).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run group-load")?;
        let mut shown = Shown { output: String::new(), before: BTreeMap::new(), after: BTreeMap::new() };
        for line in BufReader::new(child.stdout.take().context("it has an output")?).lines() {
            match line?.as_str() {
                "begin" => shown.before = self.system.usages(),
                "end" => shown.after = self.system.usages(),
                line => shown.output += &format!("{line}\n"),
            }
        }
        let status = child.wait()?;
        ensure!(status.success(), "group-load failed: {status}\n{}", shown.output);
        Ok(shown)
    }
}

fn measure(args: &Args, kind: Kind, load: &Load<'_>, results: &mut Results) -> Result<()> {
    let mut add = |row: &str, output: &str, name: &str, divisor: f64| {
        let value = output.lines().find_map(|line| line.split_once('=').filter(|(key, _)| *key == name));
        if let Some(value) = value.and_then(|(_, value)| value.parse::<f64>().ok()) {
            eprintln!("{row}: {:.2}", value / divisor);
            results.add(kind, row, value / divisor);
        }
    };
    for (protocol, label) in [("classic", "classic"), ("consumer", "KIP-848")] {
        let output = load.run(&["rebalance", "--protocol", protocol, "--rounds", &args.rounds.to_string()])?.output;
        add(&format!("rebalance {label}, p50 ms"), &output, "rebalance_p50_us", 1e3);
        add(&format!("rebalance {label}, p99 ms"), &output, "rebalance_p99_us", 1e3);
        let as_clients = ["rebalance", "--protocol", protocol, "--rounds", CLIENT_ROUNDS, "--as-clients"];
        let output = load.run(&as_clients)?.output;
        add(&format!("rebalance {label}, asking as clients do, p50 ms"), &output, "rebalance_p50_us", 1e3);
    }
    let (groups, commits) = (args.groups.to_string(), args.commits_per_second.to_string());
    let seconds = args.seconds.to_string();
    let mut crowd = vec!["crowd", "--groups", &groups, "--commits-per-second", &commits, "--seconds", &seconds];
    if let Some(etcd) = load.system.etcd() {
        crowd.extend(["--etcd", etcd]);
    }
    let Shown { output, before, after } = load.run(&crowd)?;
    let of_run = args.seconds as f64;
    add("setup of all groups, s", &output, "setup_ms", 1e3);
    add("heartbeats/s", &output, "heartbeat_count", of_run);
    add("heartbeat p50, ms", &output, "heartbeat_p50_us", 1e3);
    add("heartbeat p99, ms", &output, "heartbeat_p99_us", 1e3);
    add("commits/s", &output, "commit_count", of_run);
    add("commit p50, ms", &output, "commit_p50_us", 1e3);
    add("commit p99, ms", &output, "commit_p99_us", 1e3);
    add("one etcd put meanwhile p50, ms", &output, "etcd_put_p50_us", 1e3);
    add("one etcd put meanwhile p99, ms", &output, "etcd_put_p99_us", 1e3);
    add("etcd transactions/s", &output, "etcd_txn_per_s", 1.0);
    add("answers with errors", &output, "errors", 1.0);
    for (name, after) in after {
        let cpu = before.get(&name).map_or(after.cpu, |before| after.cpu.saturating_sub(before.cpu));
        let name = name.trim_end_matches("-0");
        results.add(kind, &format!("{name}: cores"), cpu.as_secs_f64() / of_run);
        results.add(kind, &format!("{name}: resident MiB"), after.resident_bytes as f64 / f64::from(1 << 20));
    }
    Ok(())
}
