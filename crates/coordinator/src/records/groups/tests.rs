use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;

fn keys() -> Keys {
    Keys::new("main")
}

fn offset() -> impl Strategy<Value = StoredOffset> {
    (any::<i64>(), any::<i32>(), ".{0,40}", any::<i64>(), option::of(any::<i64>())).prop_map(
        |(offset, leader_epoch, metadata, committed_ms, expires_ms)| StoredOffset {
            offset,
            leader_epoch,
            metadata,
            committed_ms,
            expires_ms,
        },
    )
}

prop_compose! {
    fn classic()(since_ms in any::<i64>(), generation in any::<i32>(), names in [option::of(".*"), option::of(".*"), option::of(".*")], members in any::<usize>()) -> StoredClassic {
        let [protocol_type, protocol, leader] = names;
        StoredClassic { since_ms, generation, protocol_type, protocol, leader, members }
    }
}

prop_compose! {
    fn classic_member()(
        generation in any::<i32>(),
        instance_id in option::of(".*"),
        names in [".*", ".*"],
        timeouts in any::<[u32; 2]>(),
        protocols in vec((".*", vec(any::<u8>(), 0..40)), 0..3),
        assignment in vec(any::<u8>(), 0..40),
    ) -> StoredClassicMember {
        let [client_id, client_host] = names;
        let [session_timeout, rebalance_timeout] = timeouts.map(|ms| Duration::from_millis(ms.into()));
        let protocols = protocols.into_iter().map(|(name, metadata)| Protocol { name, metadata: metadata.into() });
        StoredClassicMember {
            generation, instance_id, client_id, client_host, session_timeout, rebalance_timeout,
            protocols: protocols.collect(), assignment: assignment.into(),
        }
    }
}

fn key() -> impl Strategy<Value = GroupKey> {
    prop_oneof![
        Just(GroupKey::Configs),
        Just(GroupKey::Classic),
        Just(GroupKey::Consumer),
        ".*".prop_map(GroupKey::ClassicMember),
        ".*".prop_map(GroupKey::ConsumerMember),
        ".*".prop_map(GroupKey::ConsumerTarget),
        (any::<u128>(), any::<u32>()).prop_map(|(id, chunk)| GroupKey::Offsets(TopicId(Uuid::from_u128(id)), chunk)),
    ]
}

proptest! {
    #[test]
    fn every_key_of_every_group_is_told_from_all_others(group in ".*", other in ".*", key in key(), slot in 0..64_u32) {
        let slot = SlotId(slot);
        let text = keys().group(slot, &group, &key);
        prop_assert_eq!(keys().parse_group(slot, &text), Some((group.clone(), key.clone())));
        prop_assert_eq!(keys().group(slot, &other, &key) == text, group == other);
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
    }

    #[test]
    fn every_value_is_read_as_it_was_written(
        offsets in btree_map(0..OFFSETS_PER_CHUNK, offset(), 0..8),
        configs in btree_map(".*", ".*", 0..4),
        classic in classic(),
        member in classic_member(),
    ) {
        prop_assert_eq!(decode_classic(&encode_classic(&classic)).unwrap(), classic);
        prop_assert_eq!(decode_classic_member(&encode_classic_member(&member)).unwrap(), member);
        let offsets: Vec<(u8, StoredOffset)> = offsets.into_iter().collect();
        let borrowed: Vec<(u8, &StoredOffset)> = offsets.iter().map(|(place, offset)| (*place, offset)).collect();
        prop_assert_eq!(decode_offsets(&encode_offsets(&borrowed)).unwrap(), offsets);
        prop_assert_eq!(decode_group_configs(&encode_group_configs(&configs)).unwrap(), configs);
    }

    #[test]
    fn no_bytes_make_reading_panic(bytes in vec(any::<u8>(), 0..200), key in ".*") {
        let _ = (decode_offsets(&bytes), decode_group_configs(&bytes));
        let _ = (decode_classic(&bytes), decode_classic_member(&bytes));
        let _ = decode_offsets(&[&[OFFSETS_VERSION], bytes.as_slice()].concat());
        let _ = keys().parse_group(SlotId(1), &format!("{}{key}", keys().groups(SlotId(1))));
    }
}

#[test]
fn an_unknown_version_is_refused() {
    assert!(matches!(decode_offsets(&[2, 0]), Err(BadValue::Version(2))));
    assert!(matches!(decode_group_configs(br#"[2,{}]"#), Err(BadValue::Version(2))));
}

#[test]
fn values_stay_readable_to_versions_that_were_released() {
    let classic = decode_classic(
        br#"[1,{"since_ms":5,"generation":3,"protocol_type":"consumer","protocol":"range","leader":"m","members":2}]"#,
    )
    .unwrap();
    assert_eq!((classic.generation, classic.members, classic.leader.as_deref()), (3, 2, Some("m")));
    let member = decode_classic_member(br#"[1,{"generation":3,"client_id":"c","client_host":"/h","session_timeout_ms":6000,"rebalance_timeout_ms":9000,"protocols":[["range","AAE="]],"assignment":"Ag=="}]"#).unwrap();
    assert_eq!((&member.protocols[0].metadata[..], &member.assignment[..]), (&[0, 1][..], &[2][..]));
    let offset = |offset, committed_ms, expires_ms| StoredOffset {
        offset,
        leader_epoch: -1,
        metadata: "m".into(),
        committed_ms,
        expires_ms,
    };
    let offsets = [(3, offset(300, 1_000, None)), (31, offset(-1, 1_001, Some(1_005)))];
    let bytes = [1, 3, 0xd8, 4, 1, 0xd0, 15, 0, 1, b'm', 31, 1, 1, 2, 1, 8, 1, b'm'];
    assert_eq!(decode_offsets(&bytes).unwrap(), offsets);
    assert_eq!(keys().group(SlotId(7), "a b/é", &GroupKey::Configs), "/tidemark/main/groups/7/a%20b%2f%c3%a9/configs");
}

#[test]
fn a_chunk_of_plain_offsets_is_small() {
    let now = 1_760_000_000_000_i64;
    let offsets: Vec<StoredOffset> = (0..i64::from(OFFSETS_PER_CHUNK))
        .map(|n| StoredOffset {
            offset: 1_000_000_000 + n * 1_000_003,
            leader_epoch: 12,
            metadata: String::new(),
            committed_ms: now + n * 731,
            expires_ms: None,
        })
        .collect();
    let chunk: Vec<(u8, &StoredOffset)> = (0..).zip(&offsets).collect();
    let length = encode_offsets(&chunk).len();
    assert!(length < 400, "{length} bytes");
}
