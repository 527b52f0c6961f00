use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::etcd::Etcd;
use super::{PATIENCE, deleted, next};
use crate::store::{
    Changes, Commit, Entry, Event, LeaseId, MAX_TXN_BYTES, MAX_TXN_OPERATIONS, MetadataStore, StoreError, Txn,
};

type Store = Arc<dyn MetadataStore>;

/// The least that etcd grants with its default election timeout.
const TTL: Duration = Duration::from_secs(2);

async fn done(store: &Store, txn: Txn) -> u64 {
    match store.commit(txn).await.unwrap() {
        Commit::Done(revision) => revision,
        Commit::Conflict => panic!("nobody else writes"),
    }
}

async fn put(store: &Store, key: &str, value: &str) -> u64 {
    done(store, Txn::new().put(key, Bytes::copy_from_slice(value.as_bytes()))).await
}

fn value(bytes: &'static str) -> Bytes {
    Bytes::from_static(bytes.as_bytes())
}

pub(super) async fn what_was_put_is_read_until_it_is_deleted(store: Store) {
    assert_eq!(store.get("a").await.unwrap(), None);
    let first = put(&store, "a", "1").await;
    let second = put(&store, "a", "2").await;
    assert!(second > first);
    let entry = Entry { key: "a".into(), value: value("2"), revision: second, lease: None };
    assert_eq!(store.get("a").await.unwrap(), Some(entry));
    assert!(done(&store, Txn::new().delete("a")).await > second);
    assert_eq!(store.get("a").await.unwrap(), None);
}

pub(super) async fn a_range_has_the_keys_of_its_prefix_in_order_and_no_others(store: Store) {
    for key in ["/b/2", "/a", "/b/", "/b", "/b/1", "/c", "/b0"] {
        put(&store, key, key).await;
    }
    let last = put(&store, "/z", "").await;
    let snapshot = store.range("/b/").await.unwrap();
    assert_eq!(snapshot.revision, last);
    let keys: Vec<_> = snapshot.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["/b/", "/b/1", "/b/2"]);
    assert!(store.range("/nothing").await.unwrap().entries.is_empty());
}

pub(super) async fn a_range_of_many_pages_is_whole(store: Store) {
    let keys: Vec<String> = (0..700).map(|n| format!("/many/{n:04}")).collect();
    for chunk in keys.chunks(MAX_TXN_OPERATIONS) {
        done(&store, chunk.iter().fold(Txn::new(), |txn, key| txn.put(key, value("v")))).await;
    }
    let found: Vec<String> = store.range("/many/").await.unwrap().entries.into_iter().map(|entry| entry.key).collect();
    assert_eq!(found, keys);
}

pub(super) async fn a_transaction_whose_condition_fails_writes_nothing(store: Store) {
    let revision = put(&store, "/a", "1").await;
    let read = store.get("/a").await.unwrap();
    let refused = [
        Txn::new().if_absent("/a").put("/b", value("1")),
        Txn::new().if_still("/a", None).put("/b", value("1")),
        Txn::new().if_absent("/b").if_absent("/a").put("/b", value("1")).put("/a", value("2")),
    ];
    for txn in refused {
        assert_eq!(store.commit(txn).await.unwrap(), Commit::Conflict);
    }
    assert_eq!(store.range("/").await.unwrap().entries.len(), 1);

    let changed = done(&store, Txn::new().if_still("/a", read.as_ref()).if_absent("/b").put("/a", value("2"))).await;
    assert!(changed > revision);
    let again = Txn::new().if_still("/a", read.as_ref()).delete("/a");
    assert_eq!(store.commit(again).await.unwrap(), Commit::Conflict, "a has changed since it was read");
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, value("2"));
}

pub(super) async fn one_of_many_racing_writers_wins_each_revision(store: Store) {
    const WRITERS: u64 = 8;
    const EACH: u64 = 10;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..WRITERS {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let mut won = 0;
            while won < EACH {
                let read = store.get("counter").await.unwrap();
                let count: u64 =
                    read.as_ref().map_or(0, |entry| std::str::from_utf8(&entry.value).unwrap().parse().unwrap());
                let next = Bytes::from((count + 1).to_string());
                let txn = Txn::new().if_still("counter", read.as_ref()).put("counter", next);
                won += u64::from(store.commit(txn).await.unwrap() != Commit::Conflict);
            }
        });
    }
    writers.join_all().await;
    let last = store.get("counter").await.unwrap().unwrap();
    assert_eq!(last.value, Bytes::from((WRITERS * EACH).to_string()));
}

pub(super) async fn a_transaction_over_the_bounds_is_refused(store: Store) {
    let many = |count: usize| (0..count).fold(Txn::new(), |txn, n| txn.put(format!("/{n}"), value("v")));
    done(&store, many(MAX_TXN_OPERATIONS)).await;
    assert!(matches!(store.commit(many(MAX_TXN_OPERATIONS + 1)).await, Err(StoreError::TooLarge(_))));
    let large = |bytes: usize| Txn::new().put("large", Bytes::from(vec![7; bytes]));
    done(&store, large(MAX_TXN_BYTES - "large".len())).await;
    assert!(matches!(store.commit(large(MAX_TXN_BYTES)).await, Err(StoreError::TooLarge(_))));
    assert_eq!(store.get("large").await.unwrap().unwrap().value.len(), MAX_TXN_BYTES - "large".len());
}

pub(super) async fn a_watch_gives_each_revision_once_in_order_and_only_its_prefix(store: Store) {
    put(&store, "/w/before", "").await;
    let start = store.range("/w/").await.unwrap().revision;
    let mut watch = store.watch("/w/", start);
    let first = put(&store, "/w/a", "1").await;
    put(&store, "/x", "not watched").await;
    let second = done(&store, Txn::new().put("/w/a", value("2")).put("/w/b", value("1")).put("/x", value(""))).await;
    let third = done(&store, Txn::new().delete("/w/b").delete("/w/never was")).await;

    let entry =
        |key: &str, text, revision| Event::Put(Entry { key: key.into(), value: value(text), revision, lease: None });
    let expected = [
        Changes { revision: first, events: vec![entry("/w/a", "1", first)] },
        Changes { revision: second, events: vec![entry("/w/a", "2", second), entry("/w/b", "1", second)] },
        Changes { revision: third, events: vec![Event::Delete("/w/b".into())] },
    ];
    for changes in expected {
        assert_eq!(next(&mut watch).await.unwrap(), changes);
    }
}

pub(super) async fn a_watch_goes_on_after_any_revision_it_has_seen(store: Store) {
    let start = store.range("/").await.unwrap().revision;
    let mut revisions = Vec::new();
    for n in 0..20 {
        revisions.push(put(&store, "/k", &n.to_string()).await);
    }
    for (seen, after) in std::iter::once(start).chain(revisions.iter().copied()).enumerate().take(revisions.len()) {
        let mut watch = store.watch("/", after);
        for revision in &revisions[seen..] {
            assert_eq!(next(&mut watch).await.unwrap().revision, *revision);
        }
    }
}

pub(super) async fn a_watch_behind_the_compaction_says_so_and_ends(store: Store) {
    let start = store.range("/").await.unwrap().revision;
    let mut last = start;
    for n in 0..5 {
        last = put(&store, "/k", &n.to_string()).await;
    }
    store.compact(last - 1).await.unwrap();
    store.compact(last - 2).await.unwrap();
    let mut behind = store.watch("/", start);
    assert_eq!(next(&mut behind).await, Err(StoreError::Compacted));
    assert!(futures::StreamExt::next(&mut behind).await.is_none());
    let mut within = store.watch("/", last - 1);
    assert_eq!(next(&mut within).await.unwrap().revision, last);
    assert_eq!(store.get("/k").await.unwrap().unwrap().value, value("4"));
}

pub(super) async fn a_lease_that_is_kept_alive_keeps_its_keys_and_one_that_is_not_loses_them(store: Store) {
    let mut watch = store.watch("/", store.range("/").await.unwrap().revision);
    let kept = store.grant(TTL).await.unwrap();
    let left = store.grant(TTL).await.unwrap();
    done(&store, Txn::new().put_leased("/kept", value(""), kept).put_leased("/left", value(""), left)).await;
    assert_eq!(store.get("/left").await.unwrap().unwrap().lease, Some(left));

    let keeper = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut every = tokio::time::interval(TTL / 4);
            loop {
                every.tick().await;
                store.keep_alive(kept).await.unwrap();
            }
        })
    };
    deleted(&mut watch, "/left").await;
    assert_eq!(store.keep_alive(left).await, Err(StoreError::LeaseLost(left)));
    assert!(store.get("/kept").await.unwrap().is_some(), "it is as old, and was kept alive");
    keeper.abort();
    deleted(&mut watch, "/kept").await;
    assert_eq!(store.keep_alive(kept).await, Err(StoreError::LeaseLost(kept)));
}

pub(super) async fn a_revoked_lease_takes_its_keys_at_once(store: Store) {
    let lease = store.grant(Duration::from_secs(3_600)).await.unwrap();
    done(&store, Txn::new().put_leased("/a", value(""), lease).put_leased("/b", value(""), lease)).await;
    store.revoke(lease).await.unwrap();
    assert!(store.range("/").await.unwrap().entries.is_empty());
    store.revoke(lease).await.unwrap();
}

pub(super) async fn a_key_put_again_without_the_lease_stays(store: Store) {
    let (first, second) = (store.grant(TTL * 100).await.unwrap(), store.grant(TTL * 100).await.unwrap());
    for key in ["/freed", "/moved", "/leased"] {
        done(&store, Txn::new().put_leased(key, value(""), first)).await;
    }
    put(&store, "/freed", "").await;
    done(&store, Txn::new().put_leased("/moved", value(""), second)).await;
    store.revoke(first).await.unwrap();
    let left: Vec<_> = store.range("/").await.unwrap().entries.into_iter().map(|entry| entry.key).collect();
    assert_eq!(left, ["/freed", "/moved"]);
}

pub(super) async fn a_lease_that_is_gone_takes_no_keys(store: Store) {
    let lease = store.grant(TTL).await.unwrap();
    store.revoke(lease).await.unwrap();
    let txn = Txn::new().put_leased("/a", value(""), lease).put("/b", value(""));
    assert_eq!(store.commit(txn).await, Err(StoreError::LeaseLost(lease)));
    let never = LeaseId(123_456_789);
    assert_eq!(store.keep_alive(never).await, Err(StoreError::LeaseLost(never)));
    assert!(store.range("/").await.unwrap().entries.is_empty());
}

pub(super) async fn a_watch_goes_on_over_a_crash(etcd: &mut Etcd) {
    let store = etcd.store().await;
    let mut watch = store.watch("/", store.range("/").await.unwrap().revision);
    let first = put(&store, "/a", "1").await;
    assert_eq!(next(&mut watch).await.unwrap().revision, first);
    // Committed, and by chance handed out before the crash or after it.
    let second = put(&store, "/a", "2").await;
    etcd.kill();
    etcd.resume().await;
    let other = etcd.store().await;
    let third = put(&other, "/a", "3").await;
    for revision in [second, third] {
        assert_eq!(next(&mut watch).await.unwrap().revision, revision);
    }
    let fourth = put(&store, "/a", "4").await;
    assert_eq!(next(&mut watch).await.unwrap().revision, fourth, "the old client works as well");
}

pub(super) async fn a_cut_watch_is_told_of_a_compaction(etcd: &mut Etcd) {
    let store = etcd.store().await;
    let mut watch = store.watch("/", store.range("/").await.unwrap().revision);
    let first = put(&store, "/a", "1").await;
    assert_eq!(next(&mut watch).await.unwrap().revision, first);
    etcd.kill();
    etcd.resume().await;
    let other = etcd.store().await;
    // Nobody polls the watch meanwhile, so it cannot have connected again.
    put(&other, "/a", "2").await;
    let last = put(&other, "/a", "3").await;
    other.compact(last).await.unwrap();
    assert_eq!(next(&mut watch).await, Err(StoreError::Compacted));
    let snapshot = store.range("/").await.unwrap();
    let mut watch = store.watch("/", snapshot.revision);
    let next_one = put(&store, "/a", "4").await;
    assert_eq!(next(&mut watch).await.unwrap().revision, next_one);
}

pub(super) async fn requests_fail_while_it_is_away(etcd: &mut Etcd) {
    let store = etcd.store().await;
    let lease = store.grant(TTL * 30).await.unwrap();
    put(&store, "/a", "1").await;
    etcd.kill();
    assert!(matches!(store.get("/a").await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.commit(Txn::new().put("/a", value("2"))).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.keep_alive(lease).await, Err(StoreError::Unavailable(_))));
    etcd.resume().await;
    let answers = async { while store.get("/a").await.is_err() {} };
    tokio::time::timeout(PATIENCE, answers).await.expect("the client does not connect again");
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, value("1"));
    store.keep_alive(lease).await.expect("a lease outlives a crash of etcd");
}
