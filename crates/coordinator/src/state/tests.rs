use std::collections::BTreeMap;

use tidemark_model::{Journal, Partition, Topic, TopicId};
use uuid::Uuid;

use super::*;
use crate::records::{encode_journal, encode_topic};

fn keys() -> Keys {
    Keys::new("main")
}

fn topic(id: u128, partitions: usize) -> Topic {
    Topic {
        id: TopicId(Uuid::from_u128(id)),
        name: format!("t{id}"),
        replication_factor: 1,
        partitions: vec![Partition { journal: JournalId(1), epoch_base: 0 }; partitions],
        configs: BTreeMap::new(),
    }
}

fn entry(topic: &Topic, revision: u64) -> Entry {
    Entry { key: keys().record(RecordKey::Topic(topic.id)), value: encode_topic(topic), revision, lease: None }
}

fn put(topic: &Topic, revision: u64) -> Changes {
    Changes { revision, events: vec![Event::Put(entry(topic, revision))] }
}

fn journal() -> Entry {
    let journal = Journal { id: JournalId(1), epoch: 1, leader: NodeId(1), replicas: vec![], isr: vec![] };
    Entry {
        key: keys().record(RecordKey::Journal(journal.id)),
        value: encode_journal(&journal),
        revision: 1,
        lease: None,
    }
}

fn loaded(revision: u64, entries: Vec<Entry>) -> State {
    let state = State::new(keys());
    assert_eq!(state.revision(), None);
    state.replace("c", None, &Snapshot { revision, entries });
    state
}

fn deltas(state: &State, after: u64) -> Vec<Arc<Delta>> {
    match state.after(after) {
        Next::Deltas(deltas) => deltas,
        Next::Nothing => Vec::new(),
        next => panic!("{next:?}"),
    }
}

#[test]
fn a_follower_gets_each_change_once_and_none_from_before_the_state_was_loaded() {
    let state = loaded(10, vec![]);
    state.apply(&put(&topic(1, 1), 12));
    state.apply(&put(&topic(2, 1), 15));
    assert!(matches!(state.after(9), Next::TooOld));
    assert!(matches!(state.after(16), Next::Ahead));
    assert!(matches!(state.after(15), Next::Nothing));
    let revisions = |after| deltas(&state, after).iter().map(|delta| delta.revision).collect::<Vec<_>>();
    assert_eq!(revisions(10), [12, 15]);
    assert_eq!(revisions(12), [15]);
    assert_eq!(revisions(13), [15]);
}

#[test]
fn history_is_bounded_and_who_missed_more_is_told() {
    let state = loaded(0, vec![]);
    let last = MAX_HISTORY as u64 + 5;
    for revision in 1..=last {
        state.apply(&put(&topic(1, 1), revision));
    }
    assert!(matches!(state.after(4), Next::TooOld));
    assert_eq!(deltas(&state, 5).len(), MAX_HISTORY);
}

#[test]
fn a_state_that_was_read_again_reaches_followers_as_one_delta() {
    let (kept, changed, gone) = (topic(1, 1), topic(2, 1), topic(3, 1));
    let entries = [&kept, &changed, &gone].map(|topic| entry(topic, 5)).to_vec();
    let state = loaded(5, entries);
    let (changed, new) = (topic(2, 4), topic(4, 1));
    let entries = [&kept, &changed, &new].map(|topic| entry(topic, 20)).to_vec();
    state.replace("c", None, &Snapshot { revision: 20, entries });
    let expected = Delta {
        revision: 20,
        differs_from: Some(5),
        upserts: vec![Record::Topic(changed), Record::Topic(new)],
        removals: vec![RecordKey::Topic(gone.id)],
    };
    assert_eq!(deltas(&state, 5), [Arc::new(expected)]);
    // It may have seen a topic that came and went.
    assert!(matches!(state.after(12), Next::TooOld));
    assert!(matches!(state.after(20), Next::Nothing));
    state.replace("c", None, &Snapshot { revision: 19, entries: vec![] });
    assert_eq!(state.cluster().topics().count(), 3, "an older snapshot changes nothing");
}

#[test]
fn a_record_that_cannot_be_read_stays_as_it_was() {
    let state = loaded(5, vec![entry(&topic(1, 2), 5)]);
    let newer = Entry { value: bytes::Bytes::from_static(b"[9,{}]"), ..entry(&topic(1, 2), 6) };
    state.apply(&Changes { revision: 6, events: vec![Event::Put(newer.clone())] });
    state.replace("c", None, &Snapshot { revision: 7, entries: vec![newer] });
    assert_eq!(state.cluster().topics().map(|topic| topic.partitions.len()).collect::<Vec<_>>(), [2]);
    assert_eq!(state.revision(), Some(7));
}

#[test]
fn loads_follow_what_topics_have_on_journals() {
    let state = loaded(1, vec![journal()]);
    let load = || state.journals()[0].partitions;
    assert_eq!(load(), 0);
    state.apply(&put(&topic(1, 3), 2));
    state.apply(&put(&topic(2, 1), 3));
    assert_eq!(load(), 4);
    state.apply(&put(&topic(1, 5), 4));
    assert_eq!(load(), 6);
    let key = keys().record(RecordKey::Topic(topic(1, 0).id));
    state.apply(&Changes { revision: 5, events: vec![Event::Delete(key)] });
    assert_eq!(load(), 1);
}
