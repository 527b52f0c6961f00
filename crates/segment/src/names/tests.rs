use proptest::prelude::*;

use super::*;

fn keys() -> JournalKeys {
    JournalKeys::new("MkU3OEVBNTcwNTJENDM2Qg", JournalId(7)).unwrap()
}

#[test]
fn keys_are_what_the_table_says() {
    let name = SegmentName { epoch: 3, first_index: 10, last_index: 25, attempt: 1 };
    assert_eq!(
        keys().segment(name),
        "MkU3OEVBNTcwNTJENDM2Qg/journals/0000000007/segments/\
         0000000003-00000000000000000010-00000000000000000025-0000000001.segment"
    );
    assert_eq!(
        keys().checkpoint(CheckpointName { epoch: 3, index: 25 }),
        "MkU3OEVBNTcwNTJENDM2Qg/journals/0000000007/checkpoints/0000000003-00000000000000000025.checkpoint"
    );
}

#[test]
fn a_cluster_id_cannot_leave_its_directory() {
    for bad in ["", "..", "a/b", "a b", "ä", &"x".repeat(129)] {
        assert!(JournalKeys::new(bad, JournalId(1)).is_err(), "{bad:?}");
    }
}

#[test]
fn other_keys_are_nothing() {
    let good = keys().checkpoint(CheckpointName { epoch: 3, index: 25 });
    assert!(Key::parse(&good).is_some());
    for bad in [
        "",
        "probes/1",
        &good.replace("journals", "journal"),
        &good.replace("checkpoints", "segments"),
        &good.replace("0000000003-", "3-"),
        &good.replace("0000000003-", "+000000003-"),
        &good.replace("0000000003-", "9999999999-"),
        &format!("{good}/x"),
        &format!("{good}#1"),
    ] {
        assert_eq!(Key::parse(bad), None, "{bad:?}");
    }
}

proptest! {
    #[test]
    fn segments_round_trip_in_log_order(a in any::<(u32, u64, u64, u32)>(), b in any::<(u32, u64, u64, u32)>()) {
        let [a, b] = [a, b].map(|(epoch, first_index, last_index, attempt)| SegmentName { epoch, first_index, last_index, attempt });
        prop_assert_eq!(Key::parse(&keys().segment(a)), Some(Key::Segment(keys(), a)));
        prop_assert_eq!(a.to_string().cmp(&b.to_string()), a.cmp(&b));
    }

    #[test]
    fn checkpoints_round_trip_in_log_order(a in any::<(u32, u64)>(), b in any::<(u32, u64)>()) {
        let [a, b] = [a, b].map(|(epoch, index)| CheckpointName { epoch, index });
        prop_assert_eq!(Key::parse(&keys().checkpoint(a)), Some(Key::Checkpoint(keys(), a)));
        prop_assert_eq!(a.to_string().cmp(&b.to_string()), a.cmp(&b));
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        let _ = Key::parse(&text);
    }
}
