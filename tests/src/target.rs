//! What the suite runs against.
//!
//! `TIDEMARK_E2E_BOOTSTRAP` names a running cluster of any kind. Without it the suite starts `tidemark standalone`, or
//! the four services with `TIDEMARK_E2E_CLUSTER`, from the binaries in `TIDEMARK_E2E_BIN_DIR`, or else from those it
//! has cargo build. Logs and state are in `TIDEMARK_E2E_DIR` where that is set.

use std::io::PipeWriter;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use anyhow::{Context as _, Result};
use xtask::cluster::{Options, Services, Standalone};
use xtask::sh;

/// A cluster that all tests of a program share.
#[derive(Debug)]
pub struct Target {
    pub bootstrap: String,
    _running: Running,
}

#[derive(Debug)]
enum Running {
    Elsewhere,
    Standalone { _process: Box<Standalone>, _end: PipeWriter },
    Services { _processes: Box<Services>, _end: PipeWriter },
}

/// The cluster under test, started by whoever asks first.
pub fn target() -> &'static Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(|| start().unwrap_or_else(|error| panic!("nothing to test: {error:#}")))
}

/// A directory for the state and logs of a cluster; removed by its drop unless `TIDEMARK_E2E_DIR` keeps it.
pub fn directory(name: &str) -> Result<(PathBuf, Option<tempfile::TempDir>)> {
    if let Some(dir) = std::env::var_os("TIDEMARK_E2E_DIR") {
        let dir = PathBuf::from(dir).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        return Ok((dir, None));
    }
    let dir = tempfile::Builder::new().prefix("tidemark-e2e-").tempdir()?;
    Ok((dir.path().to_owned(), Some(dir)))
}

/// The directory that holds `tidemark` and the services.
pub fn binaries() -> Result<PathBuf> {
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut built = BUILT.lock().expect("no holder panics");
    if let Some(dir) = &*built {
        return Ok(dir.clone());
    }
    let dir = match std::env::var_os("TIDEMARK_E2E_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let packages =
                ["tidemark", "tidemark-gateway", "tidemark-broker", "tidemark-storage", "tidemark-coordinator"];
            let mut build = sh::cargo();
            build.args(["build", "--quiet", "--bins"]);
            sh::quietly(build.args(packages.iter().flat_map(|name| ["--package", *name])))?;
            sh::target_dir().join("debug")
        }
    };
    *built = Some(dir.clone());
    Ok(dir)
}

fn start() -> Result<Target> {
    if let Ok(bootstrap) = std::env::var("TIDEMARK_E2E_BOOTSTRAP") {
        return Ok(Target { bootstrap, _running: Running::Elsewhere });
    }
    let binaries = binaries()?;
    let (dir, temporary) = directory("shared")?;
    let (bootstrap, running) = if std::env::var_os("TIDEMARK_E2E_CLUSTER").is_some() {
        let services = Services::start(&binaries, &dir, &Options::default())?;
        let end = end_with_us(&services.process_ids(), temporary)?;
        (services.bootstrap.clone(), Running::Services { _processes: Box::new(services), _end: end })
    } else {
        let standalone = Standalone::start(&binaries.join("tidemark"), &dir)?;
        let end = end_with_us(&[standalone.process.id()], temporary)?;
        (standalone.bootstrap.clone(), Running::Standalone { _process: Box::new(standalone), _end: end })
    };
    Ok(Target { bootstrap, _running: running })
}

/// Kills processes and removes their directory when this process ends, however it ends: statics are never dropped. The
/// shell reads from a pipe whose other end is the returned one, and so sees our end.
fn end_with_us(processes: &[u32], dir: Option<tempfile::TempDir>) -> Result<PipeWriter> {
    let (read, write) = std::io::pipe()?;
    let mut shell = Command::new("sh");
    let script = r#"trap '' INT TERM; read -r _; kill -9 $1; [ -z "$2" ] || rm -rf "$2""#;
    let ids = processes.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    let dir = dir.map(|dir| dir.keep().into_os_string()).unwrap_or_default();
    let shell = shell.args(["-c", script, "end-with-tests", &ids]).arg(dir);
    shell.stdin(read).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    // It outlives us, so nobody here can wait for it.
    let _ = shell.spawn().context("cannot run sh")?;
    Ok(write)
}
