use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidemark_model::{NodeId, RecordKey, Role, Slot, SlotId, route};
use tokio::time::Instant;

use super::kit::*;
use crate::records::{decode_slot, encode_slot};
use crate::service::tests::harness::{Store, settings, within};
use crate::slots::{NotWritten, Unconfirmed};
use crate::store::{Commit, Operation, Txn};
use crate::{Error, Settings};

const ALL: usize = route::SLOTS as usize;

fn unending() -> Settings {
    // With such a lease nothing goes by expiry.
    Settings { coordinator_lease: HOUR, ..settings() }
}

async fn record(store: &Store, slot: u32) -> (String, crate::store::Entry, Slot) {
    let key = format!("/tidemark/main/state/slots/{slot}");
    let entry = store.get(&key).await.unwrap().unwrap();
    let slot = decode_slot(&entry.value).unwrap();
    (key, entry, slot)
}

pub(super) async fn one_coordinator_owns_all_slots_and_can_be_found(store: Store) {
    let member = Member::start_as(&store, Settings { rack: Some("a".into()), ..unending() });
    member.holds(ALL).await;
    member.finds_all_at(1).await;
    let state = member.state();
    let node = route::coordinator_for(&state, SlotId(7)).unwrap();
    assert!(node.address.ends_with(":1") && node.rack.as_deref() == Some("a"), "{node:?}");
    for slot in 0..route::SLOTS {
        let owned = member.owned(slot).unwrap();
        assert_eq!((owned.id(), owned.epoch()), (SlotId(slot), 0));
        assert!(owned.leased() && !owned.congested());
        within(owned.confirm()).await.unwrap();
    }
}

pub(super) async fn slots_spread_over_coordinators_as_they_come_and_go(store: Store) {
    let a = Member::start_as(&store, unending());
    a.holds(ALL).await;
    let first = a.owned(0).unwrap();
    *a.user.last_words.lock().unwrap() = Some("from a");
    let b = Member::start_as(&store, unending());
    b.holds(ALL / 2).await;
    a.holds(ALL / 2).await;
    let c = Member::start_as(&store, unending());
    for (member, share) in [(&a, 22), (&b, 21), (&c, 21)] {
        member.holds(share).await;
    }
    for member in [&a, &b, &c] {
        member.finds_all_at(3).await;
    }
    // What moved was drained first, has a higher epoch, and nothing moved that need not.
    for slot in 0..route::SLOTS {
        let (_, _, record) = record(&store, slot).await;
        let at_a = a.owned(slot).is_some();
        let words = value(&stored(&store, slot).await, "last-words");
        assert_eq!((at_a, words.is_none()), (record.epoch == 0, record.epoch == 0), "{record:?} {words:?}");
        assert!(record.epoch < 3);
    }
    assert!(first.lost().is_cancelled() == a.owned(0).is_none());
    c.shutdown.cancel();
    within(c.service.stopped()).await;
    a.holds(ALL / 2).await;
    b.holds(ALL / 2).await;
    a.finds_all_at(2).await;
}

pub(super) async fn a_clean_shutdown_hands_everything_over_at_once(store: Store) {
    let (a, b) = (Member::start_as(&store, unending()), Member::start_as(&store, unending()));
    a.holds(ALL / 2).await;
    b.holds(ALL / 2).await;
    *a.user.last_words.lock().unwrap() = Some("bye");
    let held: Vec<SlotId> = a.user.held.borrow().keys().copied().collect();
    a.shutdown.cancel();
    within(a.service.stopped()).await;
    assert!(a.user.held.borrow().is_empty());
    b.holds(ALL).await;
    for slot in held {
        let (owned, stored) = b.acquired(slot.0).await;
        assert_eq!(value(&stored, "last-words").as_deref(), Some("bye"), "what was queued at the end was written");
        within(owned.confirm()).await.unwrap();
    }
}

pub(super) async fn who_takes_a_slot_reads_all_that_was_acknowledged(store: Store) {
    let unsteady = Unsteady::new(&store);
    let a = Member::start(&(Arc::clone(&unsteady) as Store));
    a.holds(ALL).await;
    for slot in 0..route::SLOTS {
        let owned = a.owned(slot).unwrap();
        let operations = (0..300).map(|n| put(&owned, &format!("{n:03}"), "x")).collect();
        within(write(&owned, operations)).await.unwrap();
        within(write(&owned, vec![Operation::Delete { key: owned.prefix() + "007" }])).await.unwrap();
    }
    unsteady.paused.send_replace(true);
    let b = Member::start(&store);
    b.holds(ALL).await;
    for slot in 0..route::SLOTS {
        let (owned, stored) = b.acquired(slot).await;
        assert_eq!((owned.epoch(), stored.entries.len()), (1, 299), "{slot}");
        assert!(stored.entries.iter().all(|entry| entry.key.starts_with(&owned.prefix())));
    }
}

pub(super) async fn the_slots_of_a_dead_coordinator_are_taken_within_its_lease_and_a_second(store: Store) {
    let doomed = Unsteady::new(&store);
    let (a, b) = (Member::start(&(Arc::clone(&doomed) as Store)), Member::start(&store));
    let c = Member::start(&store);
    for (member, share) in [(&b, 21), (&c, 21)] {
        member.user.until(|held| held.len() >= share).await;
    }
    a.user.until(|held| (21..=22).contains(&held.len())).await;
    let killed = Instant::now();
    doomed.paused.send_replace(true);
    b.holds(ALL / 2).await;
    c.holds(ALL / 2).await;
    let took = killed.elapsed();
    assert!(took <= settings().coordinator_lease + Duration::from_secs(1), "{took:?}");
    b.finds_all_at(2).await;
}

pub(super) async fn a_woken_owner_writes_nothing_and_confirms_nothing(store: Store) {
    let unsteady = Unsteady::new(&store);
    let a = Member::start(&(Arc::clone(&unsteady) as Store));
    a.holds(ALL).await;
    let owned = a.owned(5).unwrap();
    within(write(&owned, vec![put(&owned, "k", "before")])).await.unwrap();

    unsteady.paused.send_replace(true);
    let (asleep, confirm) = (write(&owned, vec![put(&owned, "k", "asleep")]), owned.confirm());
    let b = Member::start(&store);
    let (taken, found) = b.acquired(5).await;
    assert_eq!(value(&found, "k").as_deref(), Some("before"));
    within(write(&taken, vec![put(&taken, "k", "after")])).await.unwrap();
    assert!(!owned.leased(), "its clock tells it already");
    assert!(!owned.lost().is_cancelled(), "it sees nothing, or this test tests nothing");

    unsteady.paused.send_replace(false);
    assert_eq!(within(asleep).await, Err(NotWritten::Lost));
    assert_eq!(within(confirm).await, Err(Unconfirmed::Lost));
    within(owned.lost().cancelled()).await;
    assert_eq!(within(write(&owned, vec![put(&owned, "k", "late")])).await, Err(NotWritten::Lost));
    assert_eq!(within(owned.confirm()).await, Err(Unconfirmed::Lost));
    assert_eq!(value(&stored(&store, 5).await, "k").as_deref(), Some("after"));
    // It lives, and gets its share again.
    a.holds(ALL / 2).await;
}

pub(super) async fn writes_of_one_slot_keep_their_order_and_go_together(store: Store) {
    let unsteady = Unsteady::new(&store);
    let a = Member::start_as(&(Arc::clone(&unsteady) as Store), unending());
    a.holds(ALL).await;
    let mut writes = Vec::new();
    for n in 0..2_000_u32 {
        let owned = a.owned(n % route::SLOTS).unwrap();
        let value = n.to_string();
        writes.push(write(&owned, vec![put(&owned, "last", &value), put(&owned, &format!("k{}", n % 50), &value)]));
    }
    for write in writes {
        within(write).await.unwrap();
    }
    for slot in 0..route::SLOTS {
        let last = (0..2_000).rev().find(|n| n % route::SLOTS == slot).unwrap();
        assert_eq!(value(&stored(&store, slot).await, "last"), Some(last.to_string()));
    }
    let transactions = unsteady.transactions.load(Ordering::Relaxed);
    assert!(transactions <= 60, "{transactions} transactions for 2000 writes");
}

pub(super) async fn one_lost_slot_fails_only_its_own_writes(store: Store) {
    let a = Member::start_as(&store, unending());
    a.holds(ALL).await;
    let slots: Vec<_> = (0..route::SLOTS).map(|slot| a.owned(slot).unwrap()).collect();
    // Taken behind its back, by nobody that there is.
    let (key, entry, slot) = record(&store, 9).await;
    let thief = Slot { epoch: slot.epoch + 1, owner: NodeId(99), incarnation: 99, ..slot };
    let theft = Txn::new().if_still(&key, Some(&entry)).put(&key, encode_slot(thief));
    assert!(matches!(store.commit(theft).await, Ok(Commit::Done(_))));
    let writes: Vec<_> = slots.iter().map(|owned| write(owned, vec![put(owned, "k", "v")])).collect();
    for (owned, write) in slots.iter().zip(writes) {
        let lost = owned.id() == SlotId(9);
        assert_eq!(within(write).await, if lost { Err(NotWritten::Lost) } else { Ok(()) }, "{owned:?}");
        assert_eq!(value(&stored(&store, owned.id().0).await, "k").is_none(), lost);
        assert_eq!(owned.lost().is_cancelled(), lost);
    }
    // There is no coordinator 99: the slot is taken again, in a higher epoch.
    let (again, _) = a.acquired(9).await;
    assert_eq!(again.epoch(), slot.epoch + 2);
    within(write(&again, vec![put(&again, "k", "v")])).await.unwrap();
}

pub(super) async fn a_transaction_that_arrives_late_changes_nothing(store: Store) {
    for late in [Late::Held, Late::Unheard] {
        let unsteady = Unsteady::new(&store);
        let a = Member::start_as(&(Arc::clone(&unsteady) as Store), unending());
        let owned = a.acquired(5).await.0;
        unsteady.late.send_replace(late);
        let first = write(&owned, vec![put(&owned, "offset", "100")]);
        let begun = unsteady.transactions.load(Ordering::Relaxed);
        while unsteady.transactions.load(Ordering::Relaxed) == begun {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Written by a second attempt, and overwritten, before the first attempt arrives.
        unsteady.late.send_replace(Late::No);
        within(first).await.unwrap();
        within(write(&owned, vec![put(&owned, "offset", "200")])).await.unwrap();
        let ends = unsteady.arrive().await;
        assert_eq!(ends.is_empty(), late == Late::Unheard);
        assert!(ends.iter().all(|end| *end == Commit::Conflict), "{ends:?}");
        assert_eq!(value(&stored(&store, 5).await, "offset").as_deref(), Some("200"));
        a.shutdown.cancel();
        within(a.service.stopped()).await;
    }
}

pub(super) async fn a_lost_lease_is_had_again_and_nothing_else_changes(store: Store) {
    let a = Member::start(&store);
    a.holds(ALL).await;
    let owned = a.owned(3).unwrap();
    let key = a.service.shared.keys.record(RecordKey::Node(Role::Coordinator, NodeId(1)));
    let lost = store.get(&key).await.unwrap().unwrap().lease.unwrap();
    store.revoke(lost).await.unwrap();
    let mut revisions = a.service.shared.state.revisions();
    let back = revisions.wait_for(|_| a.state().node(Role::Coordinator, NodeId(1)).is_some());
    within(back).await;
    within(write(&owned, vec![put(&owned, "k", "v")])).await.unwrap();
    within(owned.confirm()).await.unwrap();
    a.finds_all_at(1).await;
    assert_eq!(record(&store, 3).await.2.epoch, 0);
}

pub(super) async fn a_process_of_the_same_name_takes_its_place_for_good(store: Store) {
    let named = || Settings { name: "one".into(), ..unending() };
    let old = Member::start_as(&store, named());
    old.holds(ALL).await;
    let owned = old.owned(3).unwrap();
    let new = Member::start_as(&store, named());
    new.holds(ALL).await;
    assert_eq!(within(write(&owned, vec![put(&owned, "k", "v")])).await, Err(NotWritten::Lost));
    assert!(matches!(within(old.service.failed()).await, Error::Replaced(_)));
    assert!(old.user.held.borrow().is_empty());
    assert_eq!(new.acquired(3).await.0.epoch(), 1);
}
