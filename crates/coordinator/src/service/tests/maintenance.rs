//! The history and the file of a real etcd.

use bytes::Bytes;

use super::harness::*;
use crate::maintenance::Upkeep;
use crate::store::contract::etcd::Etcd;
use crate::store::{Commit, Txn};

const MIB: u64 = 1 << 20;

/// Puts so many mebibytes, each over the one before.
async fn write(store: &Store, mebibytes: u64) {
    for n in 0..mebibytes {
        let value = Bytes::from(vec![n as u8; MIB as usize]);
        assert!(matches!(store.commit(Txn::new().put("/churn", value)).await, Ok(Commit::Done(_))));
    }
}

#[tokio::test]
async fn history_is_forgotten_by_what_was_written_and_what_is_free_is_given_back() {
    let Some(etcd) = Etcd::start("history_by_size").await else { return };
    let store = etcd.store().await;
    let (a, b) = (coordinator(&store).await, coordinator(&store).await);
    let (mut one, mut other) = (Upkeep::new(8 * MIB, 16 * MIB), Upkeep::new(8 * MIB, u64::MAX));
    let mut most = 0;
    // In real time, and far less than what any interval takes.
    for _ in 0..20 {
        write(&store, 8).await;
        one.look(&a.shared).await.unwrap();
        other.look(&b.shared).await.unwrap();
        most = most.max(store.usage().await.unwrap().file);
    }
    assert!(most < 96 * MIB, "160 MiB were written, and the file has {}", most / MIB);

    // A burst that nobody looks after.
    write(&store, 64).await;
    let large = store.usage().await.unwrap().file;
    assert!(large >= 64 * MIB, "{large}");
    let given_back = async {
        while store.usage().await.unwrap().file > large / 2 {
            write(&store, 8).await;
            one.look(&a.shared).await.unwrap();
        }
    };
    within(given_back).await;
    assert!(store.get("/churn").await.unwrap().is_some_and(|entry| entry.value.len() == MIB as usize));
    assert!(store.get("/tidemark/main/defragmentation").await.unwrap().is_none());
}
