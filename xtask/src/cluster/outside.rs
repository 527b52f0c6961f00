//! The outside systems that the four services stand on: etcd and an S3 server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::process::{Process, accepts, free_port, http_get};
use crate::tools::{etcd, versitygw};

/// One etcd that keeps its place when it is killed and started again.
#[derive(Debug)]
pub struct Etcd {
    pub address: String,
    pub process: Process,
    peer: String,
    dir: PathBuf,
}

impl Etcd {
    pub fn start(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let address = format!("127.0.0.1:{}", free_port());
        let peer = format!("127.0.0.1:{}", free_port());
        let process = Self::spawn(dir, &address, &peer)?;
        Ok(Self { address, process, peer, dir: dir.to_owned() })
    }

    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = Self::spawn(&self.dir, &self.address, &self.peer)?;
        Ok(())
    }

    /// Loses all that it has, and starts again with nothing.
    pub fn lose(&mut self) -> Result<()> {
        self.process.kill();
        fs::remove_dir_all(self.dir.join("data"))?;
        self.restart()
    }

    fn spawn(dir: &Path, address: &str, peer: &str) -> Result<Process> {
        let (client, peer) = (format!("http://{address}"), format!("http://{peer}"));
        let mut command = Command::new(etcd::binary()?);
        command.arg("--data-dir").arg(dir.join("data")).args(["--name", "one"]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("one={peer}"), "--log-level", "warn"]);
        let mut process = Process::start("etcd", &dir.join("etcd.log"), &mut command)?;
        process
            .wait_ready(super::START, || http_get(address, "/health").is_ok_and(|(_, body)| body.contains("true")))?;
        Ok(process)
    }
}

/// An S3 server over a directory, with one bucket.
#[derive(Debug)]
pub struct S3 {
    pub address: String,
    pub process: Process,
    dir: PathBuf,
}

impl S3 {
    pub const BUCKET: &str = "tidemark";
    pub const ACCESS_KEY: &str = "tidemark";
    pub const SECRET_KEY: &str = "tidemark-secret";
    pub const REGION: &str = "us-east-1";

    pub fn start(dir: &Path) -> Result<Self> {
        // A directory of the served one is a bucket.
        fs::create_dir_all(dir.join("buckets").join(Self::BUCKET))?;
        let address = format!("127.0.0.1:{}", free_port());
        let process = Self::spawn(dir, &address)?;
        Ok(Self { address, process, dir: dir.to_owned() })
    }

    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = Self::spawn(&self.dir, &self.address)?;
        Ok(())
    }

    /// What a service needs in its environment to reach the bucket.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT", format!("http://{}", self.address)),
            ("AWS_ACCESS_KEY_ID", Self::ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", Self::SECRET_KEY.to_owned()),
            ("AWS_REGION", Self::REGION.to_owned()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
        ]
    }

    /// How many objects the bucket holds.
    pub fn objects(&self) -> usize {
        fn count(dir: &Path) -> usize {
            let Ok(entries) = fs::read_dir(dir) else { return 0 };
            let entries = entries.filter_map(Result::ok);
            entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
        }
        count(&self.dir.join("buckets").join(Self::BUCKET))
    }

    fn spawn(dir: &Path, address: &str) -> Result<Process> {
        let mut command = Command::new(versitygw::binary()?);
        command.args(["--port", address, "--access", Self::ACCESS_KEY, "--secret", Self::SECRET_KEY]);
        command.args(["--region", Self::REGION, "--keep-alive", "--quiet"]);
        command.arg("posix").arg(dir.join("buckets"));
        let mut process = Process::start("versitygw", &dir.join("versitygw.log"), &mut command)?;
        process.wait_ready(super::START, || accepts(address))?;
        Ok(process)
    }
}
