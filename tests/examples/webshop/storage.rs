//! Every event into a file, by a group of the newer protocol (KIP-848): a file for each member.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rdkafka::Message as _;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};

use crate::event::Shop;
use crate::wait_until;

pub(crate) struct Group {
    dir: tempfile::TempDir,
    written: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    members: Vec<JoinHandle<Result<()>>>,
}

impl Group {
    pub(crate) fn start(shop: &Shop, count: usize) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("webshop-").tempdir()?;
        let (written, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let member = |number: usize| {
            let (shop, file) = (shop.clone(), dir.path().join(format!("events-{number}")));
            let (written, stop) = (Arc::clone(&written), Arc::clone(&stop));
            std::thread::spawn(move || store(&shop, &file, &written, &stop))
        };
        let members = (0..count).map(member).collect();
        Ok(Self { dir, written, stop, members })
    }

    pub(crate) fn wait_for(&self, count: usize, patience: Duration) -> Result<()> {
        wait_until("storage", patience, || self.written.load(Ordering::Relaxed) >= count)
    }

    /// The ids of all events in the files.
    pub(crate) fn finish(self) -> Result<BTreeSet<String>> {
        self.stop.store(true, Ordering::Relaxed);
        for member in self.members {
            member.join().map_err(|_| anyhow!("a member has panicked"))??;
        }
        let files: Vec<PathBuf> =
            std::fs::read_dir(self.dir.path())?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        let mut ids = BTreeSet::new();
        for file in files {
            for line in BufReader::new(File::open(file)?).lines() {
                let line = line?;
                ids.insert(line.split(' ').next().context("a line begins with an id")?.to_owned());
            }
        }
        Ok(ids)
    }
}

/// One member: writes first, commits then.
fn store(shop: &Shop, file: &Path, written: &AtomicUsize, stop: &AtomicBool) -> Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &shop.bootstrap)
        .set("group.id", shop.group("storage"))
        .set("group.protocol", "consumer")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()?;
    let topics = shop.topics();
    consumer.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())?;
    let mut file = File::create(file)?;
    while !stop.load(Ordering::Relaxed) {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message?;
        let text = message.payload_view::<str>().unwrap_or(Ok(""))?;
        file.write_all(format!("{text}\n").as_bytes())?;
        written.fetch_add(1, Ordering::Relaxed);
        consumer.commit_message(&message, CommitMode::Async)?;
    }
    Ok(())
}
