//! `cargo xtask bench cold`: one consumer that reads history from the object store, beside a plain loop of ranged GETs from
//! the same store, and what it does to somebody at the tail of another topic: beside what the same load of the machine does
//! to the tail of a server that reads no history.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
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

/// How much later the answers of a store come that is not on this machine, in milliseconds: about what S3 takes to the
/// first byte within its region.
const AWAY_MS: u32 = 15;

/// What is measured on.
struct Store<'a> {
    /// A topic's, too.
    name: &'a str,
    label: &'a str,
    bootstrap: &'a str,
    url: String,
    environment: Vec<(&'static str, String)>,
}

pub(super) fn run(args: &Args) -> Result<()> {
    need_build_tools()?;
    sh::step("build");
    let build = || build(&args.profile);
    sh::run(build().args(["--package", "tidemark-tests", "--bin", "bench-client", "--bin", "far-store"]))?;
    sh::run(build().args(["--package", "tidemark-segment", "--example", "get_loop"]))?;
    sh::run(build().arg("--bins").args(TIDEMARK_PACKAGES))?;
    let binaries = built(&args.profile);
    let dir = tempfile::Builder::new().prefix("tidemark-bench-").tempdir()?;

    let idle = Standalone::start_with(&binaries.join("tidemark"), &dir.path().join("idle"), &[])?;
    let measure = |store: &Store<'_>, idle: &str| measure(args, &binaries, store, idle);
    let settings = [("TIDEMARK_SEGMENT_BYTES", SEGMENT_BYTES), ("TIDEMARK_SEGMENT_MS", SEGMENT_MS)];
    let start = |name: &str, more: &[(&str, &str)]| {
        let settings = [&settings[..], more].concat();
        Standalone::start_with(&binaries.join("tidemark"), &dir.path().join(name), &settings)
    };
    let standalone = start("local", &[])?;
    let store = Store {
        name: "directory",
        label: "standalone, local directory",
        bootstrap: &standalone.bootstrap,
        url: format!("file://{}", standalone.data_dir().join("objects").display()),
        environment: Vec::new(),
    };
    measure(&store, &idle.bootstrap)?;
    drop(standalone);

    let s3 = S3::start(&dir.path().join("s3"))?;
    let far = Far::start(&binaries, &s3)?;
    let url = format!("s3://{}", S3::BUCKET);
    let mut environment = s3.environment();
    environment.retain(|(name, _)| *name != "AWS_ENDPOINT");
    environment.push(("AWS_ENDPOINT", format!("http://{}", far.address)));
    let mut more: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    more.push(("TIDEMARK_OBJECT_STORE", &url));
    let standalone = start("far", &more)?;
    let label = format!("standalone, S3 server {AWAY_MS} ms away");
    let store = Store {
        name: "far",
        label: &label,
        bootstrap: &standalone.bootstrap,
        url: url.clone(),
        environment: environment.clone(),
    };
    measure(&store, &idle.bootstrap)?;
    drop((standalone, far, s3, idle));

    let storage = format!("segment_bytes = {SEGMENT_BYTES}\nsegment_ms = {SEGMENT_MS}\n");
    let options = Options { brokers: 1, gateways: 1, storage, ..Options::default() };
    let idle = Services::start(&binaries, &dir.path().join("idle-services"), &options)?;
    let services = Services::start(&binaries, &dir.path().join("services"), &options)?;
    let store = Store {
        name: "services",
        label: "four processes, S3 server beside them",
        bootstrap: &services.bootstrap,
        url: format!("s3://{}", S3::BUCKET),
        environment: services.s3.environment(),
    };
    measure(&store, &idle.bootstrap)
}

/// A server that answers later than the one behind it.
struct Far {
    address: String,
    process: Child,
}

impl Far {
    fn start(binaries: &Path, s3: &S3) -> Result<Self> {
        let mut far = Command::new(binaries.join("far-store"));
        far.args([&s3.address, &AWAY_MS.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = far.spawn()?;
        let mut address = String::new();
        BufReader::new(process.stdout.take().context("it has no output")?).read_line(&mut address)?;
        Ok(Self { address: address.trim().to_owned(), process })
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // Whether it had ended by itself does not matter any more.
        let _ = self.process.kill().and_then(|()| self.process.wait());
    }
}

/// `idle`: where a server is that reads no history.
fn measure(args: &Args, binaries: &Path, store: &Store<'_>, idle: &str) -> Result<()> {
    let client_of = |bootstrap: &str, topic: &str, arguments: &[&str]| {
        let mut client = Command::new(binaries.join("bench-client"));
        client.args(["--bootstrap", bootstrap, "--topic", topic]).args(arguments);
        sh::quietly(&mut client)
    };
    let client = |topic: &str, arguments: &[&str]| client_of(store.bootstrap, topic, arguments);
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

    // What the store wrote through the page cache would otherwise be in the way of the log's writes.
    sh::quietly(&mut Command::new("sync"))?;
    let seconds = args.seconds.to_string();
    let latency = |bootstrap: &str, topic: &str| {
        number(&client_of(bootstrap, topic, &["latency", "--seconds", &seconds])?, "end_to_end_p99_us")
    };
    let alone = latency(store.bootstrap, "alone")?;
    let over = AtomicBool::new(false);
    let (beside, elsewhere) = std::thread::scope(|scope| {
        let reading = scope.spawn(|| -> Result<()> {
            while !over.load(Ordering::Relaxed) {
                consume()?;
            }
            Ok(())
        });
        let measured = latency(store.bootstrap, "beside").and_then(|beside| Ok((beside, latency(idle, store.name)?)));
        over.store(true, Ordering::Relaxed);
        reading.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
        measured
    })?;
    println!("| {} | |", store.label);
    println!("| --- | ---: |");
    println!("| plain loop of ranged GETs, MB/s | {plain:.0} |");
    println!("| one consumer of the same, MB/s | {consumed:.0} |");
    println!("| ratio | {:.2}x |", consumed / plain);
    println!("| end to end p99 at another topic's tail, alone, ms | {:.2} |", alone / 1e3);
    println!("| the same while history is read, ms | {:.2} |", beside / 1e3);
    println!("| the same at the tail of a server that reads no history, at that time, ms | {:.2} |", elsewhere / 1e3);
    println!("| ratio of the last two | {:.2}x |", beside / elsewhere);
    Ok(())
}
