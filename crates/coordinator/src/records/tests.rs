use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use tidemark_model::{Journal, Node, Partition, Replica, Slot, Topic};

use super::*;

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Gateway), Just(Role::Broker), Just(Role::Storage), Just(Role::Coordinator)]
}

fn replica() -> impl Strategy<Value = Replica> {
    (any::<i32>(), any::<u64>()).prop_map(|(node, incarnation)| Replica { node: NodeId(node), incarnation })
}

prop_compose! {
    fn node()(role in role(), id in any::<i32>(), incarnation in any::<u64>(), address in ".*", rack in option::of(".*"), name in ".*") -> StoredNode {
        StoredNode { node: Node { role, id: NodeId(id), incarnation, address, rack }, name }
    }
}

prop_compose! {
    fn journal()(id in any::<u32>(), epoch in any::<u32>(), leader in any::<i32>(), replicas in vec(replica(), 0..4), isr in vec(replica(), 0..4)) -> Journal {
        Journal { id: JournalId(id), epoch, leader: NodeId(leader), replicas, isr }
    }
}

prop_compose! {
    fn topic()(
        id in any::<u128>(),
        name in ".*",
        replication_factor in any::<i16>(),
        partitions in vec((any::<u32>(), prop_oneof![Just(0), any::<i32>()]), 0..20),
        configs in btree_map(".*", ".*", 0..4),
    ) -> Topic {
        let partitions = partitions.into_iter().map(|(journal, epoch_base)| Partition { journal: JournalId(journal), epoch_base });
        Topic { id: TopicId(Uuid::from_u128(id)), name, replication_factor, partitions: partitions.collect(), configs }
    }
}

prop_compose! {
    fn slot()(id in any::<u32>(), epoch in any::<u32>(), owner in any::<i32>(), incarnation in any::<u64>()) -> Slot {
        Slot { id: SlotId(id), epoch, owner: NodeId(owner), incarnation }
    }
}

fn record_key() -> impl Strategy<Value = RecordKey> {
    prop_oneof![
        (role(), any::<i32>()).prop_map(|(role, id)| RecordKey::Node(role, NodeId(id))),
        any::<u32>().prop_map(|id| RecordKey::Journal(JournalId(id))),
        any::<u128>().prop_map(|id| RecordKey::Topic(TopicId(Uuid::from_u128(id)))),
        any::<u32>().prop_map(|id| RecordKey::Slot(SlotId(id))),
    ]
}

proptest! {
    #[test]
    fn every_value_is_read_as_it_was_written(
        node in node(),
        journal in journal(),
        topic in topic(),
        slot in slot(),
        node_name in (any::<i32>(), any::<u64>(), vec(any::<u64>(), 0..4)),
        topic_name in (".*", any::<u128>()),
        revision in any::<u64>(),
        counter in 0..i64::MAX,
    ) {
        prop_assert_eq!(decode_node(&encode_node(&node)).unwrap(), node);
        prop_assert_eq!(decode_slot(&encode_slot(slot)).unwrap(), slot);
        prop_assert_eq!(decode_journal(&encode_journal(&journal)).unwrap(), journal);
        prop_assert_eq!(decode_topic(&encode_topic(&topic)).unwrap(), topic);
        let node_name = NodeName { id: node_name.0, incarnation: node_name.1, replaced: node_name.2 };
        prop_assert_eq!(decode_node_name(&encode_node_name(&node_name)).unwrap(), node_name);
        let topic_name = TopicName { name: topic_name.0, id: Uuid::from_u128(topic_name.1) };
        prop_assert_eq!(decode_topic_name(&encode_topic_name(&topic_name)).unwrap(), topic_name);
        prop_assert_eq!(decode_compaction(&encode_compaction(Compaction { revision })).unwrap().revision, revision);
        prop_assert_eq!(decode_counter(&encode_counter(counter)).unwrap(), counter);
    }

    #[test]
    fn every_state_key_is_parsed_as_it_was_made(key in record_key()) {
        let keys = Keys::new("main");
        prop_assert_eq!(keys.parse_state(&keys.record(key)), Some(StateKey::Record(key)));
        prop_assert!(keys.record(key).starts_with(keys.state()));
    }

    #[test]
    fn no_bytes_make_reading_panic(bytes in vec(any::<u8>(), 0..200), key in ".*") {
        let _ = (decode_node(&bytes), decode_journal(&bytes), decode_topic(&bytes), decode_counter(&bytes));
        let keys = Keys::new("main");
        let _ = keys.parse_state(&format!("{}{key}", keys.state()));
    }
}

#[test]
fn a_value_of_a_newer_version_is_refused_and_not_misread() {
    assert!(matches!(decode_compaction(br#"[2,{"revision":"in words"}]"#), Err(BadValue::Version(2))));
    assert!(matches!(decode_compaction(br#"[1,{"revision":"in words"}]"#), Err(BadValue::Unreadable(_))));
}

#[test]
fn values_stay_readable_to_versions_that_were_released() {
    let topic = br#"[1,{"id":"00000000-0000-4000-8000-000000000001","name":"orders","replication_factor":1,"journals":[1,2],"configs":{"retention.ms":"5"}}]"#;
    let topic = decode_topic(topic).unwrap();
    assert_eq!(topic.partitions[1], Partition { journal: JournalId(2), epoch_base: 0 });
    let node = br#"[1,{"role":"storage","id":1,"incarnation":18446744073709551615,"address":"h:1","name":"n"}]"#;
    assert_eq!(decode_node(node).unwrap().node.incarnation, u64::MAX);
}

#[test]
fn names_that_collide_share_a_key() {
    let keys = Keys::new("main");
    assert_eq!(keys.topic_name("a.b_c"), keys.topic_name("a_b.c"));
    assert_ne!(keys.topic_name("a-b"), keys.topic_name("a_b"));
    assert_eq!(keys.parse_state(&keys.compaction()), Some(StateKey::Compaction));
    assert_eq!(keys.parse_state("/tidemark/main/state/later/1"), None);
}
