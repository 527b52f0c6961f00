use std::sync::Arc;

use bytes::Bytes;
use tidemark_model::{Claim, Journal, NodeId, Partition, RecordKey, Replica, Role, Slot, SlotId, Topic, TopicId};
use tidemark_segment::MetadataSnapshot;
use uuid::Uuid;

use super::*;
use crate::records::{
    Compaction, Counter, Keys, NodeName, Revisions, StoredNode, TopicName, decode_counter, decode_journal,
    decode_node_name, decode_revisions, decode_slot, decode_topic, encode_compaction, encode_counter, encode_journal,
    encode_node, encode_node_name, encode_revisions, encode_slot, encode_topic, encode_topic_name,
};
use crate::store::{Embedded, MetadataStore, Txn};

fn keys() -> Keys {
    Keys::new("main")
}

fn topic_id(n: u128) -> TopicId {
    TopicId(Uuid::from_u128(n))
}

fn topic(n: u128, name: &str, journals: &[u32]) -> Topic {
    let partitions = journals.iter().map(|id| Partition { journal: JournalId(*id), epoch_base: 0 }).collect();
    let configs = BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]);
    Topic { id: topic_id(n), name: name.into(), replication_factor: 1, partitions, configs }
}

fn journal(id: u32, epoch: u32) -> Journal {
    let replicas = vec![Replica { node: NodeId(3), incarnation: u64::from(id) }];
    Journal { id: JournalId(id), epoch, leader: NodeId(3), replicas: replicas.clone(), isr: replicas }
}

/// Of a store at revision 1000 with two journals and a topic on both.
fn snapshot() -> MetadataSnapshot {
    let keys = keys();
    let orders = topic(1, "orders", &[1, 2]);
    let node = StoredNode {
        node: tidemark_model::Node {
            role: Role::Broker,
            id: NodeId(1),
            incarnation: 1,
            address: "x:1".into(),
            rack: None,
        },
        name: "b".into(),
    };
    let name = NodeName { id: 3, incarnation: 9, replaced: vec![4] };
    let slot = Slot { id: SlotId(5), epoch: 7, owner: NodeId(1), incarnation: 8 };
    let mut entries = vec![
        (keys.cluster_id(), Bytes::from_static(b"the-id")),
        (keys.record(RecordKey::Journal(JournalId(1))), encode_journal(&journal(1, 4))),
        (keys.record(RecordKey::Journal(JournalId(2))), encode_journal(&journal(2, 6))),
        (keys.record(RecordKey::Topic(orders.id)), encode_topic(&orders)),
        (keys.record(RecordKey::Slot(slot.id)), encode_slot(slot)),
        (keys.record(RecordKey::Node(Role::Broker, NodeId(1))), encode_node(&node)),
        (keys.compaction(), encode_compaction(Compaction { revision: 900 })),
        (keys.topic_name("orders"), encode_topic_name(&TopicName { name: "orders".into(), id: orders.id.0 })),
        (keys.node_name(Role::Storage, "s"), encode_node_name(&name)),
        (keys.node_name(Role::Broker, "b"), encode_node_name(&name)),
        (keys.counter(Counter::Producers), encode_counter(5_000)),
        (keys.counter(Counter::Journals), encode_counter(3)),
        (keys.counter(Counter::Nodes(Role::Storage)), encode_counter(4)),
        (format!("{}groups/5/billing/classic", keys.root()), Bytes::from_static(b"a group")),
        (format!("{}groups/5/billing/offsets/x/0", keys.root()), Bytes::from_static(b"offsets")),
    ];
    entries.sort();
    let entries = entries.into_iter().map(|(key, value)| (key[keys.root().len()..].to_owned(), value)).collect();
    MetadataSnapshot { revision: 1_000, taken_ms: 0, entries }
}

fn at(n: u128, partition: i32) -> PartitionFound {
    PartitionFound { partition: TopicPartition::new(topic_id(n), partition), leader_epoch: 4, revision: Some(10) }
}

fn found(journals: &[(u32, JournalFound)]) -> Journals {
    let journals = journals.iter().map(|(id, found)| (JournalId(*id), found.clone())).collect();
    Journals { journals, producer_id: Some(9_999), revision: 1_200 }
}

fn value<'a>(plan: &'a Plan, key: &str) -> &'a Bytes {
    &plan.entries[&key[keys().root().len()..]]
}

fn planned_journal(plan: &Plan, id: u32) -> Journal {
    decode_journal(value(plan, &keys().record(RecordKey::Journal(JournalId(id))))).unwrap()
}

#[test]
fn what_lasts_comes_back_and_every_number_goes_on_above_what_was_seen() {
    let saved = Saved::read(&snapshot()).unwrap();
    assert_eq!((saved.journals.len(), saved.topics.len(), saved.groups), (2, 1, 1));
    let of_first = JournalFound { epoch: 5, log: Log::Lost, partitions: vec![at(1, 0)] };
    let of_second = JournalFound { epoch: 2, log: Log::Kept, partitions: vec![at(1, 1)] };
    let plan = Plan::of(&saved, &found(&[(1, of_first), (2, of_second)]));

    let (first, second) = (planned_journal(&plan, 1), planned_journal(&plan, 2));
    assert_eq!(plan.epochs, BTreeMap::from([(JournalId(1), first.epoch), (JournalId(2), second.epoch)]));
    assert!(first.epoch > 5 && second.epoch > 6, "{first:?} {second:?}");
    assert_eq!((first.leader, first.replicas.len(), first.isr.len()), (NodeId(-1), 0, 0), "it waits for a log");
    assert_eq!((second.leader, second.isr), (NodeId(-1), journal(2, 6).isr), "it waits for its log");
    let orders = topic(1, "orders", &[1, 2]);
    assert_eq!(plan.topics, [PlannedTopic { topic: orders.clone(), origin: Origin::Snapshot }]);
    assert_eq!(decode_topic(value(&plan, &keys().record(RecordKey::Topic(orders.id)))).unwrap(), orders);
    assert!(plan.entries.contains_key("topic-names/orders"));
    assert!(decode_counter(value(&plan, &keys().counter(Counter::Producers))).unwrap() > 9_999);
    assert_eq!(decode_counter(value(&plan, &keys().counter(Counter::Journals))).unwrap(), 3);
    assert_eq!(decode_counter(value(&plan, &keys().counter(Counter::Nodes(Role::Storage)))).unwrap(), 4);
    assert!(decode_slot(value(&plan, &keys().record(RecordKey::Slot(SlotId(5))))).unwrap().epoch > 7);
    assert_eq!(decode_node_name(value(&plan, &keys().node_name(Role::Storage, "s"))).unwrap().id, 3);
    assert!(plan.revisions > 1_200);
    assert!(plan.entries.contains_key("groups/5/billing/classic"));
    assert!(plan.entries.contains_key("groups/5/billing/offsets/x/0"));
    for gone in ["state/nodes/broker/1", "state/compaction", "node-names/broker/b", "cluster-id"] {
        assert!(!plan.entries.contains_key(gone), "{gone}");
    }
}

#[test]
fn topics_that_are_newer_than_the_snapshot_come_back_and_deleted_ones_do_not() {
    let saved = Saved::read(&snapshot()).unwrap();
    let newer = PartitionFound { revision: Some(1_001), ..at(7, 2) };
    let newest = PartitionFound { revision: None, ..at(8, 0) };
    let partitions = vec![at(1, 0), at(1, 3), newer, newest, at(9, 0)];
    let plan = Plan::of(&saved, &found(&[(1, JournalFound { epoch: 5, log: Log::Lost, partitions })]));
    let named = |name: &str| plan.topics.iter().find(|planned| planned.topic.name == name).unwrap();
    assert_eq!((named("orders").topic.partitions.len(), named("orders").origin), (4, Origin::Grown));
    for (n, partitions) in [(7, 3), (8, 1)] {
        let planned = named(&format!("recovered-{}", topic_id(n)));
        assert_eq!((planned.topic.partitions.len(), planned.origin), (partitions, Origin::Journals));
    }
    assert_eq!(plan.deleted, [topic_id(9)]);
    assert_eq!(plan.topics.len(), 3);
}

#[test]
fn leader_epochs_do_not_go_down_whatever_the_journals_say() {
    let saved = Saved::read(&snapshot()).unwrap();
    let late = PartitionFound { leader_epoch: 70_000, ..at(1, 0) };
    let plan = Plan::of(&saved, &found(&[(1, JournalFound { epoch: 5, log: Log::Lost, partitions: vec![late] })]));
    assert!(plan.epochs[&JournalId(1)] > 70_000);
}

#[test]
fn a_log_on_a_disk_is_used_also_where_the_snapshot_does_not_know_it() {
    let saved = Saved::read(&snapshot()).unwrap();
    let on = |node: &str, incarnation| JournalFound {
        epoch: 1,
        log: Log::On { node: node.into(), incarnation },
        partitions: Vec::new(),
    };
    let plan = Plan::of(&saved, &found(&[(1, on("s", 77)), (8, on("unknown", 78)), (9, on("unknown", 79))]));
    assert_eq!(planned_journal(&plan, 1).isr, [Replica { node: NodeId(3), incarnation: 77 }]);
    let name = decode_node_name(value(&plan, &keys().node_name(Role::Storage, "unknown"))).unwrap();
    assert_eq!(name.id, 4, "a new id");
    for (journal, incarnation) in [(8, 78), (9, 79)] {
        assert_eq!(planned_journal(&plan, journal).isr, [Replica { node: NodeId(4), incarnation }]);
    }
    assert_eq!(decode_counter(value(&plan, &keys().counter(Counter::Nodes(Role::Storage)))).unwrap(), 5);
    assert_eq!(decode_counter(value(&plan, &keys().counter(Counter::Journals))).unwrap(), 10);
    assert_eq!(planned_journal(&plan, 2).isr, [], "nothing was found of it");
}

#[test]
fn without_a_snapshot_what_the_journals_have_comes_back() {
    let plan = Plan::of(
        &Saved::default(),
        &found(&[(1, JournalFound { partitions: vec![at(1, 0)], ..JournalFound::default() })]),
    );
    assert_eq!(plan.topics[0].origin, Origin::Journals);
    assert!(plan.epochs[&JournalId(1)] > 4);
}

#[test]
fn a_snapshot_that_cannot_be_read_is_refused_with_the_key() {
    let mut newer = snapshot();
    let topic = newer.entries.iter_mut().find(|(key, _)| key.starts_with("state/topics/")).unwrap();
    topic.1 = Bytes::from_static(b"[2,{}]");
    let key = topic.0.clone();
    let error = Saved::read(&newer).unwrap_err();
    assert!(error.contains(&key) && error.contains("version 2"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_store_in_use_is_refused_and_one_half_made_is_made_anew() {
    let store = Embedded::in_memory().unwrap();
    let plan = Plan::of(&Saved::read(&snapshot()).unwrap(), &Journals::default());
    let claim = Claim { generation: 2, id: 5 };
    let half = Txn::new()
        .put(keys().revisions(), encode_revisions(Revisions { base: 1, unfinished: true }))
        .put(format!("{}left", keys().root()), Bytes::new());
    assert!(matches!(store.commit(half).await, Ok(crate::store::Commit::Done(_))));
    write(&store, "main", "the-id", claim, &plan).await.unwrap();
    let entries = store.range(keys().root()).await.unwrap().entries;
    assert_eq!(entries.len(), plan.entries.len() + 3);
    let revisions = store.get(&keys().revisions()).await.unwrap().unwrap();
    let revisions = decode_revisions(&revisions.value).unwrap();
    assert_eq!(revisions, Revisions { base: plan.revisions, unfinished: false });

    let again = write(&store, "main", "the-id", claim, &plan).await;
    assert!(matches!(again, Err(WriteError::NotEmpty(NotEmpty { cluster, .. })) if cluster.contains("the-id")));
    check_empty(&store, "other").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_large_store_takes_many_transactions() {
    let store = Arc::new(Embedded::in_memory().unwrap());
    let mut snapshot = snapshot();
    snapshot.entries.extend((0..1_000).map(|n| (format!("groups/6/g{n:04}/classic"), Bytes::from(vec![7; 3_000]))));
    snapshot.entries.sort();
    let plan = Plan::of(&Saved::read(&snapshot).unwrap(), &Journals::default());
    write(&*store, "main", "the-id", Claim { generation: 2, id: 5 }, &plan).await.unwrap();
    assert_eq!(store.range(keys().root()).await.unwrap().entries.len(), plan.entries.len() + 3);
}
