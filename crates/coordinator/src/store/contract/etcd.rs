//! A real etcd, from `TIDEMARK_ETCD_BIN`, the project's tools or the path.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
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
    name: String,
    /// Every member's name and peer address.
    cluster: String,
}

impl Etcd {
    /// None where there is no etcd, with a line that says so: `cargo xtask test` provides one.
    pub(crate) async fn start(case: &str) -> Option<Self> {
        let Some(binary) = find() else {
            println!("{case}: skipped, there is no etcd (set TIDEMARK_ETCD_BIN, or run cargo xtask test)");
            return None;
        };
        let mut members = Self::prepare(&binary, 1);
        let mut etcd = members.pop()?;
        etcd.resume().await;
        Some(etcd)
    }

    /// One etcd of three members.
    pub(crate) async fn start_three(case: &str) -> Option<Vec<Self>> {
        let Some(binary) = find() else {
            println!("{case}: skipped, there is no etcd (set TIDEMARK_ETCD_BIN, or run cargo xtask test)");
            return None;
        };
        let mut members = Self::prepare(&binary, 3);
        members.iter_mut().for_each(Self::spawn);
        for member in &members {
            member.answers().await;
        }
        Some(members)
    }

    fn prepare(binary: &Path, count: usize) -> Vec<Self> {
        let ports: Vec<[u16; 2]> = free_ports(count);
        let peer = |(at, [_, peer]): (usize, &[u16; 2])| format!("m{at}=http://127.0.0.1:{peer}");
        let cluster = ports.iter().enumerate().map(peer).collect::<Vec<_>>().join(",");
        let member = |(at, [client, peer]): (usize, [u16; 2])| Self {
            binary: binary.to_owned(),
            data: TempDir::new().unwrap(),
            client,
            peer,
            process: None,
            name: format!("m{at}"),
            cluster: cluster.clone(),
        };
        ports.into_iter().enumerate().map(member).collect()
    }

    /// A store that knows all of these members.
    pub(crate) async fn store_of(members: &[Self]) -> Arc<dyn MetadataStore> {
        let endpoints = members.iter().map(Self::endpoint).collect();
        Arc::new(EtcdStore::connect(EtcdOptions { endpoints, user: None }).await.unwrap())
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client)
    }

    /// Whether this member is the leader.
    pub(crate) async fn leads(&self) -> bool {
        let client = etcd_client::Client::connect([self.endpoint()], None).await.unwrap();
        let status = client.maintenance_client().status().await.unwrap();
        status.header().is_some_and(|header| header.member_id() == status.leader())
    }

    pub(crate) async fn store(&self) -> Arc<dyn MetadataStore> {
        Self::store_of(std::slice::from_ref(self)).await
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
        self.spawn();
        self.answers().await;
    }

    fn spawn(&mut self) {
        let client = format!("http://127.0.0.1:{}", self.client);
        let peer = format!("http://127.0.0.1:{}", self.peer);
        let process = Command::new(&self.binary)
            .args(["--name", &self.name, "--data-dir"])
            .arg(self.data.path())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &self.cluster, "--logger", "zap", "--log-level", "error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
    }

    async fn answers(&self) {
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
fn free_ports(pairs: usize) -> Vec<[u16; 2]> {
    let listeners: Vec<_> = (0..pairs).map(|_| [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap())).collect();
    let port = |listener: TcpListener| listener.local_addr().unwrap().port();
    listeners.into_iter().map(|pair| pair.map(port)).collect()
}
