//! `tidemark standalone` in a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::process::{Process, free_port};

#[derive(Debug)]
pub struct Standalone {
    pub bootstrap: String,
    pub http: String,
    pub process: Process,
    /// From the start of the process until it said that it is ready.
    pub started_in: Duration,
    binary: PathBuf,
    dir: PathBuf,
    settings: Vec<(String, String)>,
}

impl Standalone {
    /// Starts `binary` with its state and its log under `dir`.
    pub fn start(binary: &Path, dir: &Path) -> Result<Self> {
        Self::start_with(binary, dir, &[])
    }

    /// The same with settings by environment variables, also when it is restarted.
    pub fn start_with(binary: &Path, dir: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let bootstrap = format!("127.0.0.1:{}", free_port());
        let http = format!("127.0.0.1:{}", free_port());
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let settings: Vec<(String, String)> = settings.iter().map(owned).collect();
        let began = Instant::now();
        let process = spawn(binary, dir, &bootstrap, &http, &settings)?;
        let mut started = Self {
            bootstrap,
            http,
            process,
            started_in: Duration::ZERO,
            binary: binary.to_owned(),
            dir: dir.to_owned(),
            settings,
        };
        started.wait_ready()?;
        started.started_in = began.elapsed();
        Ok(started)
    }

    /// Where it keeps what lasts.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Starts it again, where it was and with what it had.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        let began = Instant::now();
        self.process = spawn(&self.binary, &self.dir, &self.bootstrap, &self.http, &self.settings)?;
        self.wait_ready()?;
        self.started_in = began.elapsed();
        Ok(())
    }

    fn wait_ready(&mut self) -> Result<()> {
        self.process.wait_ready(super::START, || super::is_ready(&self.http))
    }
}

fn spawn(binary: &Path, dir: &Path, bootstrap: &str, http: &str, settings: &[(String, String)]) -> Result<Process> {
    let mut command = Command::new(binary);
    command.current_dir(dir).arg("standalone").arg("--data-dir").arg(dir.join("data"));
    command.args(["--listen", bootstrap, "--http", http]).envs(settings.iter().map(|(key, value)| (key, value)));
    Process::start("tidemark standalone", &dir.join("standalone.log"), &mut command)
}
