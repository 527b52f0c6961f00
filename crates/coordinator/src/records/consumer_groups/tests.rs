use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;

fn partitions() -> impl Strategy<Value = BTreeMap<TopicId, BTreeSet<i32>>> {
    let topic = any::<u128>().prop_map(|id| TopicId(Uuid::from_u128(id)));
    btree_map(topic, btree_set(prop_oneof![0..20_i32, 0..MAX_PARTITION], 1..20), 0..4)
}

fn progress() -> impl Strategy<Value = StoredProgress> {
    prop_oneof![
        Just(StoredProgress::Stable),
        Just(StoredProgress::UnrevokedPartitions),
        Just(StoredProgress::UnreleasedPartitions)
    ]
}

prop_compose! {
    fn classic_sides()(
        session_timeout_ms: u32, protocols in vec(("[a-z]{1,4}", vec(any::<u8>(), 0..9)), 0..3),
    ) -> StoredClassicSide {
        let protocols = protocols.into_iter().map(|(name, metadata)| Protocol { name, metadata: metadata.into() }).collect();
        StoredClassicSide { session_timeout: Duration::from_millis(session_timeout_ms.into()), protocols }
    }
}

prop_compose! {
    fn members()(
        names in (option::of("\\PC{0,4}"), option::of("\\PC{0,4}"), "\\PC{0,4}", "\\PC{0,4}"), timeout: u32,
        topics in btree_set("[a-z]{1,3}", 0..4), regex in option::of("\\PC{1,6}"), assignor in option::of("[a-z]{1,4}"),
        classic in option::of(classic_sides()), epochs: (i32, i32), progress in progress(),
        assigned in partitions(), revoking in partitions(),
    ) -> StoredConsumerMember {
        let (instance_id, rack, client_id, client_host) = names;
        let (epoch, previous_epoch) = epochs;
        StoredConsumerMember {
            instance_id, rack, client_id, client_host, rebalance_timeout: Duration::from_millis(timeout.into()), topics, regex, assignor, classic,
            epoch, previous_epoch, progress, assigned, revoking,
        }
    }
}

proptest! {
    #[test]
    fn a_member_round_trips(member in members()) {
        prop_assert_eq!(decode_consumer_member(&encode_consumer_member(&member))?, member);
    }

    #[test]
    fn a_target_round_trips(target in partitions()) {
        prop_assert_eq!(decode_consumer_target(&encode_consumer_target(&target))?, target);
    }

    #[test]
    fn a_group_round_trips(epochs: (i32, i32), metadata_hash: u64, revision: u64, targets_hash: u64) {
        let (epoch, assignment_epoch) = epochs;
        let group = StoredConsumerGroup { epoch, assignment_epoch, metadata_hash, revision, targets_hash };
        prop_assert_eq!(decode_consumer_group(&encode_consumer_group(&group))?, group);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..64), runs in "[-,0-9]{0,12}") {
        let _ = decode_consumer_member(&bytes);
        let _ = decode_consumer_target(&bytes);
        let _ = decode_consumer_group(&bytes);
        let _ = parse_runs(&runs);
    }
}

#[test]
fn neighbours_are_runs() {
    assert_eq!(runs(&BTreeSet::from([0, 1, 2, 5, 7, 8])), "0-2,5,7-8");
    assert_eq!(runs(&(0..900).collect()), "0-899");
    assert!(parse_runs("0-2000000000").is_err());
    assert!(parse_runs("-1").is_err());
}

/// As it is in the store.
#[test]
fn a_target_is_what_it_was() {
    let target = BTreeMap::from([(TopicId(Uuid::from_u128(1)), BTreeSet::from([0, 1, 4]))]);
    let text = r#"[1,{"partitions":{"00000000-0000-0000-0000-000000000001":"0-1,4"}}]"#;
    assert_eq!(encode_consumer_target(&target), text);
}
