use std::sync::Arc;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::names::MetadataKeys;
use crate::testing::{Fault, Memory, Script, Seeded};
use crate::{Bucket, StoreError};

fn keys() -> MetadataKeys {
    MetadataKeys::new("cluster").unwrap()
}

fn snapshot(revision: u64) -> MetadataSnapshot {
    let entries = (0..3).map(|n| (format!("key-{n}"), Bytes::from(vec![n; 5]))).collect();
    MetadataSnapshot { revision, taken_ms: 7, entries }
}

fn object(snapshot: &MetadataSnapshot) -> Bytes {
    snapshot.encode().concat().into()
}

proptest! {
    #[test]
    fn round_trip(revision in any::<u64>(), taken_ms in any::<i64>(), entries in btree_map(".{0,20}", vec(any::<u8>(), 0..50), 0..20)) {
        let entries = entries.into_iter().map(|(key, value)| (key, value.into())).collect();
        let snapshot = MetadataSnapshot { revision, taken_ms, entries };
        prop_assert_eq!(MetadataSnapshot::parse(&object(&snapshot)).unwrap(), snapshot);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>(), sealed in any::<bool>()) {
        let mut object = if sealed { object(&MetadataSnapshot::default())[..HEADER_LEN].to_vec() } else { Vec::new() };
        if sealed {
            object.put_u32(bytes.len() as u32);
            object.put_u32(crc32c::crc32c(&bytes));
        }
        object.put_slice(&bytes);
        object.put_slice(&[0; 8]);
        let _ = MetadataSnapshot::parse(&object.into());
    }
}

#[test]
fn many_entries_are_several_chunks() {
    let entries = (0..3_000).map(|n| (format!("{n:06}"), Bytes::from(vec![n as u8; 1_000]))).collect();
    let snapshot = MetadataSnapshot { revision: 1, taken_ms: 2, entries };
    assert_eq!(snapshot.encode().len(), 1 + 2 * 3 + 1);
    assert_eq!(MetadataSnapshot::parse(&object(&snapshot)).unwrap(), snapshot);
}

#[test]
fn any_flipped_bit_or_cut_is_detected() {
    let good = object(&snapshot(9));
    for at in 0..good.len() {
        assert!(MetadataSnapshot::parse(&good.slice(..at)).is_err());
        for bit in 0..8 {
            let mut bad = good.to_vec();
            bad[at] ^= 1 << bit;
            assert!(MetadataSnapshot::parse(&bad.into()).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn numbers_rise_the_newest_good_one_is_found_and_older_ones_go() {
    let bucket = Bucket::in_memory(Arc::new(Seeded::new(1)));
    assert_eq!(MetadataSnapshot::newest(&bucket, &keys()).await.unwrap().snapshot, None);
    // Revisions begin anew after a rebuild: only the number tells what is newest.
    for (revision, number) in [(500, 1), (900, 2), (3, 3)] {
        assert_eq!(snapshot(revision).write(&bucket, &keys()).await, Ok(number));
    }
    let bad = object(&snapshot(4)).slice(..60);
    bucket.put_new(&keys().snapshot(4), vec![bad]).await.unwrap();
    let found = MetadataSnapshot::newest(&bucket, &keys()).await.unwrap();
    assert_eq!(found.snapshot, Some((3, snapshot(3))));
    assert_eq!(found.damaged.iter().map(|bad| bad.key.clone()).collect::<Vec<_>>(), [keys().snapshot(4)]);
    assert_eq!(snapshot(5).write(&bucket, &keys()).await, Ok(5), "no number is used twice");
    assert_eq!(MetadataSnapshot::delete_older(&bucket, &keys(), 5).await, Ok(4));
    assert_eq!(MetadataSnapshot::newest(&bucket, &keys()).await.unwrap().snapshot, Some((5, snapshot(5))));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_deleted_while_it_is_read_is_not_taken_for_none() {
    let memory = Memory::default();
    let bucket = memory.bucket(Arc::new(Seeded::new(1)));
    snapshot(1).write(&bucket, &keys()).await.unwrap();
    // Between the listing and what follows, another is written and the one that was listed is deleted.
    let slow = Script::new([Fault::None, Fault::Delay(Duration::from_secs(2))]);
    let reader = memory.faulty(Arc::new(slow), Arc::new(Seeded::new(2)));
    let keys = keys();
    let written = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let number = snapshot(2).write(&bucket, &keys).await.unwrap();
        MetadataSnapshot::delete_older(&bucket, &keys, number).await.unwrap();
    };
    let (found, ()) = futures::future::join(MetadataSnapshot::newest(&reader, &keys), written).await;
    assert_eq!(found.unwrap().snapshot, Some((2, snapshot(2))));
}

#[tokio::test(start_paused = true)]
async fn of_two_writers_at_once_each_has_a_number_of_its_own() {
    let bucket = Bucket::in_memory(Arc::new(Seeded::new(1)));
    let (a, b) = (snapshot(1), snapshot(2));
    let keys = keys();
    let (a, b) = futures::future::join(a.write(&bucket, &keys), b.write(&bucket, &keys)).await;
    let mut numbers = [a.unwrap(), b.unwrap()];
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
    assert!(!matches!(bucket.head(&keys.snapshot(2)).await, Err(StoreError::NotFound(_))));
}
