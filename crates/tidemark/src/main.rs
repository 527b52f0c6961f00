//! The `tidemark` command.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tidemark::{Config, inspect, rebuild, standalone};
use tidemark_runtime::config::{self, Sources};
use tidemark_runtime::{memory, service};

/// Exit code for a configuration that cannot be used, as of the services.
const EXIT_CONFIG: u8 = 2;

/// Kafka-compatible event streaming on object storage.
#[derive(Debug, Parser)]
#[command(name = "tidemark", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs all four services in this process, with all state in one directory.
    Standalone(Standalone),
    /// Looks at what storage nodes keep.
    #[command(subcommand)]
    Storage(Storage),
}

#[derive(Debug, Subcommand)]
enum Storage {
    /// Shows a file of the write-ahead log, or an object of the bucket (a segment, an index object, a checkpoint with the manifest
    /// in it, a metadata snapshot, a claim), and checks it.
    Inspect(Inspect),
    /// Makes a cluster again from its bucket, when its metadata store is lost, with the write-ahead logs that are still there.
    ///
    /// Stop everything of the cluster first. Tells what comes back and what is lost.
    Rebuild(Rebuild),
}

#[derive(Debug, Args)]
struct Inspect {
    /// A file, or the URL of an object: s3://bucket/prefix/…/name.segment, with credentials as for the services.
    #[arg(value_name = "FILE|URL")]
    what: String,
    /// Shows every line of every list.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
struct Rebuild {
    /// Of a standalone: its data directory, of which something may be left.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["metadata", "wal_dir", "wal_of"])]
    data_dir: Option<String>,
    /// The bucket's URL, with credentials as for the services: s3://bucket/prefix. Of a standalone, where it has one.
    #[arg(long, value_name = "URL", required_unless_present = "data_dir")]
    object_store: Option<String>,
    /// The new metadata store, without a cluster in it: etcd://host:port[/cluster].
    #[arg(long, value_name = "URL", required_unless_present = "data_dir")]
    metadata: Option<String>,
    /// The data directory of a storage node that is still there. May be given more than once.
    #[arg(long, value_name = "DIR")]
    wal_dir: Vec<PathBuf>,
    /// A journal whose log is still there, on another machine. May be given more than once.
    #[arg(long, value_name = "NUMBER")]
    wal_of: Vec<u32>,
    /// Which cluster, where the bucket has several and does not say whose it is.
    #[arg(long, value_name = "ID")]
    cluster_id: Option<String>,
    /// Tells what would come back and what is lost, and changes nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Flags win over the environment (TIDEMARK_LISTEN sets `listen`), the environment over the file.
#[derive(Debug, Args)]
struct Standalone {
    /// Where everything that lasts is; ./tidemark-data when not given.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where Kafka clients connect; 127.0.0.1:9092 when not given.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where /livez, /readyz and /metrics are served; 127.0.0.1:9102 when not given.
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// Reads the configuration from a TOML file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Prints the configuration that results, and exits.
    #[arg(long)]
    print_config: bool,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Standalone(args) => run_standalone(args),
        Command::Storage(Storage::Inspect(args)) => match inspect::shown(&args.what, args.all) {
            Ok(text) => {
                print(&text);
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("tidemark: {}: {error}", args.what);
                ExitCode::FAILURE
            }
        },
        Command::Storage(Storage::Rebuild(args)) => match run_rebuild(args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("tidemark: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn run_rebuild(args: Rebuild) -> anyhow::Result<()> {
    let Rebuild { data_dir, object_store, metadata, wal_dir, wal_of, cluster_id, dry_run } = args;
    let request = match (data_dir, metadata) {
        (Some(dir), _) => {
            // What else the standalone is configured with says where its bucket is.
            let flags = [("data_dir", Some(dir)), ("object_store", object_store)];
            let flags = flags.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
            let config: Config = Sources { file: None, env: config::process_env(), flags }.resolve()?;
            rebuild::Request::standalone(&config)?
        }
        (None, metadata) => rebuild::Request {
            bucket: object_store.unwrap_or_default(),
            metadata: metadata.unwrap_or_default(),
            wal_dirs: wal_dir,
            wals_of: wal_of,
            ..rebuild::Request::default()
        },
    };
    let request = rebuild::Request { cluster_id, dry_run, ..request };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(rebuild::run(request, &mut print))
}

fn run_standalone(args: Standalone) -> ExitCode {
    match prepare(args) {
        Ok(Some(config)) => {
            // Beside everything else on a machine, it is to be small.
            memory::give_back_soon();
            let dir = config.shown_dir().to_string();
            service::start("tidemark", config, |config, host| {
                standalone::run(config, host, move |address| announce(address, &dir))
            })
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidemark: {error}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

/// The configuration to run with; nothing when it was only to be printed.
fn prepare(args: Standalone) -> Result<Option<Config>, config::ConfigError> {
    let Standalone { data_dir, listen, http, config: file, print_config } = args;
    let flags = [("data_dir", data_dir), ("listen", listen), ("http", http)];
    let flags = flags.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    let config: Config = Sources { file, env: config::process_env(), flags }.resolve()?;
    if print_config {
        print(&config::to_toml(&config)?);
        return Ok(None);
    }
    Ok(Some(config))
}

fn announce(address: &str, dir: &str) {
    print(&format!(
        "Tidemark is ready on {address}, with its data in {dir}. Try: \
         echo hello | kcat -b {address} -P -t greetings && kcat -b {address} -C -t greetings -o beginning -e\n"
    ));
}

fn print(text: &str) {
    // Nobody is left to tell when standard output is gone.
    let _ = io::stdout().write_all(text.as_bytes());
}
