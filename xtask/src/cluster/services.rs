//! Tidemark's four services as processes of their own, with etcd and an S3 server.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Etcd, S3, START, is_ready};
use crate::process::{Process, Signal, Usage, free_port};
use crate::sh;

/// How many of each service, and what their configuration says besides addresses.
#[derive(Debug, Clone)]
pub struct Options {
    pub coordinators: usize,
    pub brokers: usize,
    pub gateways: usize,
    /// Lines of TOML for the coordinators.
    pub coordinator: String,
    /// Lines of TOML for the storage service.
    pub storage: String,
    /// Where the storage service keeps its log, when not under the cluster's directory.
    pub storage_dir: Option<String>,
    /// Where segments go, when not to the S3 server.
    pub object_store: Option<String>,
    /// Where all of them export their traces to, when anywhere.
    pub otlp_endpoint: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            coordinators: 1,
            brokers: 2,
            gateways: 2,
            coordinator: String::new(),
            storage: String::new(),
            storage_dir: None,
            object_store: None,
            otlp_endpoint: None,
        }
    }
}

/// A running cluster. Dropping it kills everything.
#[derive(Debug)]
pub struct Services {
    pub bootstrap: String,
    pub etcd: Etcd,
    pub s3: S3,
    // In the order in which they start.
    services: Vec<Service>,
    dir: PathBuf,
    otlp_endpoint: Option<String>,
}

#[derive(Debug)]
struct Service {
    name: String,
    binary: PathBuf,
    config: PathBuf,
    http: String,
    process: Process,
}

impl Services {
    /// Starts everything from the binaries in `binaries`, with state, configuration and logs under `dir`.
    pub fn start(binaries: &Path, dir: &Path, options: &Options) -> Result<Self> {
        let etcd = Etcd::start(&dir.join("etcd"))?;
        let s3 = S3::start(&dir.join("s3"))?;
        let (services, dir_kept, otlp_endpoint) = (Vec::new(), dir.to_owned(), options.otlp_endpoint.clone());
        let mut cluster = Self { bootstrap: String::new(), etcd, s3, services, dir: dir_kept, otlp_endpoint };

        let local = || format!("127.0.0.1:{}", free_port());
        let listens: Vec<String> = (0..options.coordinators).map(|_| local()).collect();
        let metadata = format!("etcd://{}", cluster.etcd.address);
        let object_store = options.object_store.clone().unwrap_or_else(|| format!("s3://{}", S3::BUCKET));
        let urls: Vec<String> = listens.iter().map(|listen| quoted(&format!("http://{listen}"))).collect();
        let coordinators = format!("[{}]", urls.join(", "));
        for (index, listen) in listens.iter().enumerate() {
            let settings =
                [("listen", quoted(listen)), ("metadata", quoted(&metadata)), ("object_store", quoted(&object_store))];
            cluster.add(binaries, "coordinator", index, &settings, &options.coordinator)?;
        }
        let storage_dir = dir.join("storage-0").join("data").display().to_string();
        let storage_dir = quoted(options.storage_dir.as_ref().unwrap_or(&storage_dir));
        cluster.add(
            binaries,
            "storage",
            0,
            &[
                ("listen", quoted(&local())),
                ("coordinators", coordinators.clone()),
                ("object_store", quoted(&object_store)),
                ("data_dir", storage_dir),
            ],
            &options.storage,
        )?;
        for index in 0..options.brokers {
            let cache = quoted(&dir.join(format!("broker-{index}")).join("cache").display().to_string());
            cluster.add(
                binaries,
                "broker",
                index,
                &[
                    ("listen", quoted(&local())),
                    ("coordinators", coordinators.clone()),
                    ("object_store", quoted(&object_store)),
                    ("cache_dir", cache),
                ],
                "",
            )?;
        }
        let mut bootstrap = Vec::new();
        for index in 0..options.gateways {
            let listen = local();
            cluster.add(
                binaries,
                "gateway",
                index,
                &[("listen", quoted(&listen)), ("coordinators", coordinators.clone())],
                "",
            )?;
            bootstrap.push(listen);
        }
        cluster.bootstrap = bootstrap.join(",");
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// The names of all services, such as `broker-1`.
    pub fn names(&self) -> Vec<String> {
        self.services.iter().map(|service| service.name.clone()).collect()
    }

    /// Every process of the cluster, outside systems included.
    pub fn process_ids(&self) -> Vec<u32> {
        let outside = [self.etcd.process.id(), self.s3.process.id()];
        outside.into_iter().chain(self.services.iter().map(|service| service.process.id())).collect()
    }

    /// `kill -9`.
    pub fn kill(&mut self, name: &str) -> Result<()> {
        self.find(name)?.process.kill();
        Ok(())
    }

    /// Sends a signal, such as those to stop and to go on.
    pub fn signal(&mut self, name: &str, signal: Signal) -> Result<()> {
        self.find(name)?.process.signal(signal)
    }

    /// Starts a killed service again and waits until it is ready.
    pub fn start_again(&mut self, name: &str) -> Result<()> {
        self.start_unready(name)?;
        let service = self.find(name)?;
        service.process.wait_ready(START, || is_ready(&service.http))
    }

    /// Starts a killed service again, which may need others that are not there yet.
    pub fn start_unready(&mut self, name: &str) -> Result<()> {
        let (environment, log) = (self.s3.environment(), self.log_path(name));
        let service = self.find(name)?;
        service.process = spawn(name, &service.binary, &service.config, &log, environment)?;
        Ok(())
    }

    /// Everything that a service has on disk is gone, but for its configuration and its log. It must not run.
    pub fn lose_disk(&self, name: &str) -> Result<()> {
        for entry in fs::read_dir(self.dir.join(name))? {
            let path = entry?.path();
            if path.is_dir() {
                fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }

    /// Sets a key of a service's configuration, for its next start.
    pub fn configure(&mut self, name: &str, key: &str, value: &str) -> Result<()> {
        let config = self.find(name)?.config.clone();
        let lines = fs::read_to_string(&config)?;
        let is_key = |line: &&str| line.split_once(" = ").is_some_and(|(found, _)| found == key);
        let mut lines: Vec<&str> = lines.lines().filter(|line| !is_key(line)).collect();
        let set = format!("{key} = {}", quoted(value));
        // Before any section.
        lines.insert(0, &set);
        Ok(fs::write(&config, lines.join("\n") + "\n")?)
    }

    /// Where a service keeps what lasts, unless it was told another place.
    pub fn data_dir(&self, name: &str) -> PathBuf {
        self.dir.join(name).join("data")
    }

    /// Waits until all are ready.
    pub fn wait_ready(&mut self) -> Result<()> {
        for service in &mut self.services {
            service.process.wait_ready(START, || is_ready(&service.http))?;
        }
        Ok(())
    }

    /// SIGTERM; fails unless it exits by itself, with status 0.
    pub fn terminate(&mut self, name: &str) -> Result<()> {
        let status = self.find(name)?.process.terminate(START)?;
        anyhow::ensure!(status.success(), "{name} ended with {status} after SIGTERM");
        Ok(())
    }

    pub fn http(&self, name: &str) -> Option<&str> {
        self.services.iter().find(|service| service.name == name).map(|service| service.http.as_str())
    }

    /// What each process uses, outside systems apart.
    pub fn usage(&self) -> BTreeMap<String, Usage> {
        self.services.iter().map(|service| (service.name.clone(), service.process.usage())).collect()
    }

    /// The end of every log, for a failed test's output.
    pub fn logs(&self) -> String {
        let mut all = String::new();
        for service in &self.services {
            // Writing to a string cannot fail.
            let _ = writeln!(all, "--- {}\n{}", service.name, sh::last_lines(&service.process.log(), 40));
        }
        all
    }

    fn add(
        &mut self,
        binaries: &Path,
        kind: &str,
        index: usize,
        settings: &[(&str, String)],
        more: &str,
    ) -> Result<()> {
        let name = format!("{kind}-{index}");
        let dir = self.dir.join(&name);
        fs::create_dir_all(&dir)?;
        let http = format!("127.0.0.1:{}", free_port());
        let mut config = format!("http = {}\n", quoted(&http));
        for (key, value) in settings {
            let _ = writeln!(config, "{key} = {value}");
        }
        config.push_str(more);
        if let Some(endpoint) = &self.otlp_endpoint {
            let _ = writeln!(config, "\n[telemetry]\notlp_endpoint = {}", quoted(endpoint));
        }
        let config_file = dir.join("config.toml");
        fs::write(&config_file, config)?;
        let binary = binaries.join(format!("tidemark-{kind}"));
        let process = spawn(&name, &binary, &config_file, &self.log_path(&name), self.s3.environment())?;
        self.services.push(Service { name, binary, config: config_file, http, process });
        Ok(())
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.dir.join(name).join("log")
    }

    fn find(&mut self, name: &str) -> Result<&mut Service> {
        self.services.iter_mut().find(|service| service.name == name).with_context(|| format!("no service {name}"))
    }
}

fn spawn(
    name: &str,
    binary: &Path,
    config: &Path,
    log: &Path,
    environment: Vec<(&'static str, String)>,
) -> Result<Process> {
    let mut command = Command::new(binary);
    command.arg("--config").arg(config).envs(environment);
    Process::start(name, log, &mut command)
}

/// A TOML string. None of ours holds a quote.
fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}
