//! What only the embedded store has: a file, and faults of the disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::InMemoryBackend;
use redb::{Builder, StorageBackend};
use tempfile::TempDir;

use super::*;
use crate::store::Txn;

fn value(bytes: &'static str) -> bytes::Bytes {
    bytes::Bytes::from_static(bytes.as_bytes())
}

async fn put(store: &Embedded, key: &str, text: &'static str) -> u64 {
    match store.commit(Txn::new().put(key, value(text))).await.unwrap() {
        Commit::Done(revision) => revision,
        Commit::Conflict => panic!("nobody else writes"),
    }
}

#[tokio::test]
async fn a_reopened_file_has_everything_but_leased_keys_and_gives_no_revision_twice() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("metadata");
    let store = Embedded::open(&path).await.unwrap();
    put(&store, "/a", "1").await;
    let lease = store.grant(Duration::from_secs(3_600)).await.unwrap();
    let Commit::Done(last) = store.commit(Txn::new().put_leased("/node", value(""), lease)).await.unwrap() else {
        panic!("nobody else writes")
    };
    drop(store);

    // The file's lock is free once the expiry task has seen that the store is gone.
    let store = loop {
        match Embedded::open(&path).await {
            Ok(store) => break store,
            Err(StoreError::Failed(message)) if message.contains("in use") => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    let snapshot = store.range("/").await.unwrap();
    assert_eq!(snapshot.entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["/a"]);
    assert!(snapshot.revision > last, "the deletion of leased keys is a revision");
    assert!(put(&store, "/a", "2").await > snapshot.revision);
    let mut old = store.watch("/", last);
    assert_eq!(old.next().await, Some(Err(StoreError::Compacted)), "history does not outlive the process");
}

#[tokio::test]
async fn a_file_in_use_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("metadata");
    let _store = Embedded::open(&path).await.unwrap();
    let Err(StoreError::Failed(message)) = Embedded::open(&path).await else { panic!("opened twice") };
    assert!(message.contains("in use by another process"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_falls_behind_the_history_is_told() {
    let store = Embedded::in_memory().unwrap();
    let mut slow = store.watch("/", 0);
    for _ in 0..9_000 {
        put(&store, "/a", "v").await;
    }
    assert_eq!(slow.next().await, Some(Err(StoreError::Compacted)));
    assert_eq!(slow.next().await, None);
}

/// A disk that fails when told to. What was written stays over reopening, as on a real one.
#[derive(Debug, Clone)]
struct Disk {
    bytes: Arc<InMemoryBackend>,
    failing: Arc<AtomicBool>,
}

impl Disk {
    fn check(&self) -> Result<(), io::Error> {
        if self.failing.load(Ordering::Relaxed) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        self.bytes.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.bytes.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.check()?;
        self.bytes.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.check()?;
        self.bytes.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.check()?;
        self.bytes.write(offset, data)
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_fails_commits_and_all_recovers_by_itself() {
    let disk = Disk { bytes: Arc::new(InMemoryBackend::new()), failing: Arc::default() };
    let opened = disk.clone();
    let source = Source::new("disk".into(), Box::new(move || Builder::new().create_with_backend(opened.clone())));
    let store = Embedded::open_source(source).unwrap();
    let before = put(&store, "/a", "1").await;
    let mut watch = store.watch("/", before);

    disk.failing.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        let failed = store.commit(Txn::new().put("/a", value("2"))).await;
        assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
    }
    disk.failing.store(false, Ordering::Relaxed);
    let after = put(&store, "/a", "3").await;
    assert!(after > before);
    match watch.next().await.unwrap() {
        Ok(changes) => assert_eq!(changes.revision, after),
        Err(error) => assert_eq!(error, StoreError::Compacted, "a failed commit had reached the disk"),
    }
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, value("3"));
}
