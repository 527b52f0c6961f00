use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::testing::Seeded;

fn bucket() -> Bucket {
    Bucket::in_memory(Arc::new(Seeded::new(1)))
}

fn holder(cluster: &str, generation: u32, id: u64) -> Holder {
    Holder { cluster: cluster.into(), claim: Claim { generation, id } }
}

fn refusal<T: fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn round_trip(cluster in "[A-Za-z0-9_-]{1,128}", generation in any::<u32>(), id in any::<u64>()) {
        let holder = holder(&cluster, generation, id);
        prop_assert_eq!(Holder::parse(&holder.encode()).unwrap(), holder.clone());
        prop_assert!(holder.encode().len() as u64 <= MAX_LEN);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>(), head in any::<bool>()) {
        let bytes = if head { [b"tidemark claim 1\n", &bytes[..]].concat() } else { bytes };
        let _ = Holder::parse(&bytes);
    }
}

#[test]
fn any_changed_byte_is_detected_and_another_version_is_told_apart() {
    let good = holder("c", 3, 7).encode();
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 1;
        assert!(Holder::parse(&bad).is_err(), "byte {at}");
        assert!(Holder::parse(&good[..at]).is_err());
    }
    let newer = b"tidemark claim 2\nwhatever";
    assert_eq!(Holder::parse(newer), Err(FormatError::Version { what: "claim", found: 2, known: 1 }));
}

#[tokio::test(start_paused = true)]
async fn the_first_has_it_and_a_second_is_refused_with_both_names() {
    let bucket = bucket();
    let (first, second) = (holder("one", 1, 1), holder("two", 1, 2));
    assert!(matches!(first.check(&bucket).await, Err(StoreError::NotFound(_))));
    first.take(&bucket).await.unwrap();
    first.take(&bucket).await.unwrap();
    first.check(&bucket).await.unwrap();
    let why = refusal(second.take(&bucket).await);
    assert!(why.contains("belongs to cluster one") && why.contains("this is cluster two"), "{why}");
    assert!(why.contains("object_store") && why.contains("tidemark storage rebuild"), "{why}");
    // The same cluster by name on a metadata store that does not know of it.
    let why = refusal(holder("one", 1, 9).take(&bucket).await);
    assert!(why.contains("tidemark storage rebuild"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn of_many_at_once_one_gets_it() {
    let bucket = bucket();
    let many: Vec<Holder> = (0..8).map(|id| holder(&format!("c{id}"), 1, id)).collect();
    let results = futures::future::join_all(many.iter().map(|holder| holder.take(&bucket))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_takes_it_from_the_generation_before_and_that_one_stops_writing() {
    let bucket = bucket();
    let (old, new) = (holder("one", 1, 1), holder("one", 2, 2));
    old.take(&bucket).await.unwrap();
    let (of_old, of_new) = (bucket.guarded(old.clone()), bucket.guarded(new.clone()));
    of_old.put_new("a", vec![]).await.unwrap();
    refusal(holder("other", 2, 3).take(&bucket).await);
    refusal(holder("one", 3, 3).take(&bucket).await);

    new.take(&bucket).await.unwrap();
    let why = refusal(holder("one", 2, 3).take(&bucket).await);
    assert!(why.contains("generation 2"), "{why}");
    let why = refusal(old.take(&bucket).await);
    assert!(why.contains("was rebuilt from it"), "{why}");
    refusal(of_old.put_new("b", vec![]).await);
    refusal(of_old.delete(&["a".into()]).await);
    assert!(matches!(of_old.lost_claim().await, StoreError::Refused(_)));
    assert_eq!(bucket.list("").await.unwrap().len(), 3, "a, and two claims");
    of_new.put_new("b", vec![]).await.unwrap();
    of_new.delete(&["a".into()]).await.unwrap();
}
