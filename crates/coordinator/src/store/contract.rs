//! What both stores must do. Each case runs on each of them.

mod cases;
pub(crate) mod etcd;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};

use super::{Changes, Commit, Counted, Embedded, Event, MetadataStore, StoreError, Txn};
use crate::records::{Revisions, encode_revisions};

/// Longer than anything here takes. A case that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

type Watch = BoxStream<'static, Result<Changes, StoreError>>;

/// Runs a case on the embedded store, in memory and with tokio's clock paused, on one that is counted from another number,
/// and on a real etcd.
macro_rules! on_both {
    ($($(#[$doc:meta])* $case:ident;)*) => {
        mod embedded {
            $(
                #[tokio::test(start_paused = true)]
                async fn $case() {
                    super::cases::$case(super::embedded_store()).await;
                }
            )*
        }
        mod counted {
            $(
                #[tokio::test(start_paused = true)]
                async fn $case() {
                    super::cases::$case(super::counted_store().await).await;
                }
            )*
        }
        mod real_etcd {
            $(
                #[tokio::test]
                async fn $case() {
                    let Some(etcd) = super::etcd::Etcd::start(stringify!($case)).await else { return };
                    super::cases::$case(etcd.store().await).await;
                }
            )*
        }
    };
}

on_both! {
    what_was_put_is_read_until_it_is_deleted;
    a_range_has_the_keys_of_its_prefix_in_order_and_no_others;
    a_range_of_many_pages_is_whole;
    a_transaction_whose_condition_fails_writes_nothing;
    one_of_many_racing_writers_wins_each_revision;
    a_transaction_over_the_bounds_is_refused;
    a_watch_gives_each_revision_once_in_order_and_only_its_prefix;
    a_watch_goes_on_after_any_revision_it_has_seen;
    a_watch_behind_the_compaction_says_so_and_ends;
    a_lease_that_is_kept_alive_keeps_its_keys_and_one_that_is_not_loses_them;
    a_revoked_lease_takes_its_keys_at_once;
    a_key_put_again_without_the_lease_stays;
    a_lease_that_is_gone_takes_no_keys;
}

fn embedded_store() -> Arc<dyn MetadataStore> {
    Arc::new(Embedded::in_memory().unwrap())
}

async fn counted_store() -> Arc<dyn MetadataStore> {
    let store = embedded_store();
    let value = encode_revisions(Revisions { base: 1 << 40, unfinished: false });
    assert!(matches!(store.commit(Txn::new().put("revisions", value)).await, Ok(Commit::Done(_))));
    let counted: Arc<dyn MetadataStore> = Arc::new(Counted::new(store, "revisions".into()));
    assert!(counted.get("revisions").await.unwrap().unwrap().revision > 1 << 40);
    counted
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_half_made_says_so() {
    let store = embedded_store();
    let value = encode_revisions(Revisions { base: 1 << 40, unfinished: true });
    assert!(matches!(store.commit(Txn::new().put("revisions", value)).await, Ok(Commit::Done(_))));
    let counted = Counted::new(store, "revisions".into());
    assert!(matches!(counted.get("/a").await, Err(StoreError::Failed(why)) if why.contains("storage rebuild")));
}

/// The next changes of a watch, within the case's patience.
async fn next(watch: &mut Watch) -> Result<Changes, StoreError> {
    tokio::time::timeout(PATIENCE, watch.next()).await.expect("the watch is silent").expect("the watch ended")
}

/// Waits until the watch says that `key` was deleted.
async fn deleted(watch: &mut Watch, key: &str) {
    while !next(watch).await.unwrap().events.contains(&Event::Delete(key.to_owned())) {}
}

/// etcd killed and started again on its data while a watch is open: nothing is missed and nothing comes twice.
#[tokio::test]
async fn an_etcd_watch_goes_on_over_a_crash_of_etcd() {
    let Some(mut etcd) = etcd::Etcd::start("watch_over_crash").await else { return };
    cases::a_watch_goes_on_over_a_crash(&mut etcd).await;
}

/// The revision that a watch would resume at is compacted while etcd is away: the caller is told, not left waiting.
#[tokio::test]
async fn an_etcd_watch_whose_history_was_compacted_while_it_was_cut_says_so() {
    let Some(mut etcd) = etcd::Etcd::start("compacted_while_cut").await else { return };
    cases::a_cut_watch_is_told_of_a_compaction(&mut etcd).await;
}

#[tokio::test]
async fn requests_to_an_etcd_that_is_away_end_by_their_deadline_and_work_again_after() {
    let Some(mut etcd) = etcd::Etcd::start("away").await else { return };
    cases::requests_fail_while_it_is_away(&mut etcd).await;
}
