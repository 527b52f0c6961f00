//! A real etcd, from `TIDEMARK_ETCD_BIN`, the project's tools or the path.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;

use crate::store::{Etcd as EtcdStore, EtcdOptions, MetadataStore};

pub(crate) struct Etcd {
    binary: PathBuf,
    data: TempDir,
    client: u16,
    peer: u16,
    process: Option<Child>,
}

impl Etcd {
    /// None where there is no etcd, with a line that says so: `cargo xtask test` provides one.
    pub(crate) async fn start(case: &str) -> Option<Self> {
        let Some(binary) = find() else {
            println!("{case}: skipped, there is no etcd (set TIDEMARK_ETCD_BIN, or run cargo xtask test)");
            return None;
        };
        let [client, peer] = free_ports();
        let mut etcd = Self { binary, data: TempDir::new().unwrap(), client, peer, process: None };
        etcd.resume().await;
        Some(etcd)
    }

    pub(crate) async fn store(&self) -> Arc<dyn MetadataStore> {
        let options = EtcdOptions { endpoints: vec![format!("127.0.0.1:{}", self.client)], user: None };
        Arc::new(EtcdStore::connect(options).await.unwrap())
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts it on what it left, and waits until it answers.
    pub(crate) async fn resume(&mut self) {
        let client = format!("http://127.0.0.1:{}", self.client);
        let peer = format!("http://127.0.0.1:{}", self.peer);
        let process = Command::new(&self.binary)
            .args(["--name", "test", "--data-dir"])
            .arg(self.data.path())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("test={peer}"), "--logger", "zap", "--log-level", "error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
        let store = self.store().await;
        let answers = async { while store.get("ready?").await.is_err() {} };
        tokio::time::timeout(super::PATIENCE, answers).await.expect("etcd does not start");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

fn find() -> Option<PathBuf> {
    if let Some(binary) = std::env::var_os("TIDEMARK_ETCD_BIN") {
        return Some(binary.into());
    }
    let tools = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/tools");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = [tools.join("etcd"), tools.join("etcd/etcd")].into_iter();
    places.chain(std::env::split_paths(&path).map(|dir| dir.join("etcd"))).find(|file| file.is_file())
}

/// Ports that were free a moment ago, held together so that they differ.
fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
