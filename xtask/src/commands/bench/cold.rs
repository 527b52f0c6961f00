//! `cargo xtask bench cold`: one consumer that reads history from the object store, beside a plain loop of ranged GETs from
//! the same store, and what it does to somebody at the tail of another topic.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use xtask::cluster::{Options, S3, Services, Standalone};
use xtask::sh;

use super::measure::number;
use super::{TIDEMARK_PACKAGES, build, built, need_build_tools};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Megabytes of history. The last hundred or so are still in the storage node's memory.
    #[arg(long, default_value_t = 1000)]
    megabytes: u64,
    /// Seconds of each measurement of latency.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// The profile everything is built with.
    #[arg(long, default_value = "release")]
    profile: String,
}

/// History is tiered as soon as it can be.
const SEGMENT_BYTES: &str = "67108864";
const SEGMENT_MS: &str = "1000";
/// How long it may take until all is in the object store.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is measured on.
struct Store<'a> {
    label: &'a str,
    bootstrap: &'a str,
    url: String,
    environment: Vec<(&'static str, String)>,
}

pub(super) fn run(args: &Args) -> Result<()> {
    need_build_tools()?;
    sh::step("build");
    let build = || build(&args.profile);
    sh::run(build().args(["--package", "tidemark-tests", "--bin", "bench-client"]))?;
    sh::run(build().args(["--package", "tidemark-segment", "--example", "get_loop"]))?;
    sh::run(build().arg("--bins").args(TIDEMARK_PACKAGES))?;
    let binaries = built(&args.profile);
    let dir = tempfile::Builder::new().prefix("tidemark-bench-").tempdir()?;

    let settings = [("TIDEMARK_SEGMENT_BYTES", SEGMENT_BYTES), ("TIDEMARK_SEGMENT_MS", SEGMENT_MS)];
    let standalone = Standalone::start_with(&binaries.join("tidemark"), &dir.path().join("standalone"), &settings)?;
    let objects = dir.path().join("standalone").join("data").join("objects");
    let store = Store {
        label: "standalone, local directory",
        bootstrap: &standalone.bootstrap,
        url: format!("file://{}", objects.display()),
        environment: Vec::new(),
    };
    measure(args, &binaries, &store)?;
    drop(standalone);

    let storage = format!("segment_bytes = {SEGMENT_BYTES}\nsegment_ms = {SEGMENT_MS}\n");
    let options = Options { brokers: 1, gateways: 1, storage, ..Options::default() };
    let services = Services::start(&binaries, &dir.path().join("services"), &options)?;
    let store = Store {
        label: "four processes, S3 server",
        bootstrap: &services.bootstrap,
        url: format!("s3://{}", S3::BUCKET),
        environment: services.s3.environment(),
    };
    measure(args, &binaries, &store)
}

fn measure(args: &Args, binaries: &Path, store: &Store<'_>) -> Result<()> {
    let client = |topic: &str, arguments: &[&str]| {
        let mut client = Command::new(binaries.join("bench-client"));
        client.args(["--bootstrap", store.bootstrap, "--topic", topic]).args(arguments);
        sh::quietly(&mut client)
    };
    let get_loop = || {
        let mut get = Command::new(binaries.join("examples").join("get_loop"));
        sh::quietly(get.arg(&store.url).envs(store.environment.iter().map(|(name, value)| (*name, value.as_str()))))
    };
    sh::step(store.label);
    let messages = (args.megabytes * 1_000_000 / 1024).to_string();
    client("cold", &["produce", "--size", "1024", "--messages", &messages])?;
    let began = Instant::now();
    while number(&get_loop()?, "bytes")? < args.megabytes as f64 * 1e6 {
        if began.elapsed() > PATIENCE {
            bail!("{} MB are not in the object store after {PATIENCE:?}", args.megabytes);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    let plain = number(&get_loop()?, "mb_per_s")?;
    let consume = || client("cold", &["consume", "--messages", &messages]);
    let consumed = number(&consume()?, "mb_per_s")?;

    let seconds = args.seconds.to_string();
    let latency = |topic: &str| number(&client(topic, &["latency", "--seconds", &seconds])?, "end_to_end_p99_us");
    let alone = latency("alone")?;
    let over = AtomicBool::new(false);
    let beside = std::thread::scope(|scope| {
        let reading = scope.spawn(|| -> Result<()> {
            while !over.load(Ordering::Relaxed) {
                consume()?;
            }
            Ok(())
        });
        let beside = latency("beside");
        over.store(true, Ordering::Relaxed);
        reading.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
        beside
    })?;
    println!("| {} | |", store.label);
    println!("| --- | ---: |");
    println!("| plain loop of ranged GETs, MB/s | {plain:.0} |");
    println!("| one consumer of the same, MB/s | {consumed:.0} |");
    println!("| ratio | {:.2}x |", consumed / plain);
    println!("| end to end p99 at another topic's tail, alone, ms | {:.2} |", alone / 1e3);
    println!("| the same while history is read, ms | {:.2} |", beside / 1e3);
    println!("| ratio | {:.2}x |", beside / alone);
    Ok(())
}
