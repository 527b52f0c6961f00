use tidemark_model::cluster::Claim;

use super::*;
use crate::entry::tests::sample_batch;
use crate::testing::*;

#[tokio::test(start_paused = true)]
async fn what_a_node_writes_is_shown_and_damage_is_named() {
    let mut world = World::new(1);
    world.config.segment_ms = 1_000;
    let service = world.start().await.unwrap();
    for n in 0..30 {
        append(&service, at(0, n % 2), sample_batch((7, 0, n / 2), 1, 5, &[1; 5_000])).await.unwrap();
    }
    until("all is tiered", || service.journal().lock().untiered_bytes() == 0).await;
    tokio::time::sleep(std::time::Duration::from_secs(700)).await;
    until("a checkpoint", || service.journal().lock().state.checkpoint.is_some()).await;

    let path = world.disk.paths().into_iter().find(|path| path.to_string_lossy().ends_with(".wal")).unwrap();
    let wal = Bytes::from(world.disk.bytes(&path));
    let shown = inspect(&wal, false).unwrap();
    assert!(shown.starts_with(&format!("write-ahead log of journal {JOURNAL}")), "{shown}");
    assert!(shown.contains("batch of") && shown.contains("producer 7/0 sequence 0"), "{shown}");
    assert_eq!(inspect(&wal, true).unwrap(), shown, "that was all of it");

    for object in world.bucket.list("").await.unwrap() {
        let bytes = world.bucket.get(&object.key, u64::MAX).await.unwrap();
        let shown = inspect(&bytes, false).unwrap();
        if object.key.ends_with(".segment") {
            assert!(shown.contains("offsets 0 to") && shown.contains("all checksums match"), "{shown}");
            let mut damaged = bytes.to_vec();
            damaged[3_000] ^= 1;
            let shown = inspect(&damaged.into(), false).unwrap();
            assert!(shown.contains("DAMAGED"), "{shown}");
        } else {
            assert!(shown.contains("2 partitions:") && shown.contains("offsets 0 to 15"), "{shown}");
        }
        let cut = inspect(&bytes.slice(..bytes.len() - 1), false).unwrap();
        assert_eq!(cut.lines().count(), 1, "{cut}");
    }
    assert!(inspect(&Bytes::from_static(b"something else"), false).is_err());
}

#[test]
fn what_coordinators_write_to_the_bucket_is_shown() {
    let entries =
        [("topics/a", "{\"partitions\":3}".into()), ("topics/b", "x".repeat(MAX_VALUE + 1)), ("v", "\u{1}".into())];
    let entries = entries.map(|(key, value): (&str, String)| (key.to_owned(), Bytes::from(value)));
    let snapshot = MetadataSnapshot { revision: 17, taken_ms: 5_000, entries: entries.into() };
    let bytes: Bytes = snapshot.encode().concat().into();
    let shown = inspect(&bytes, false).unwrap();
    assert!(
        shown.contains("of revision 17, taken at 5000\n3 entries:\n  topics/a  16 bytes  {\"partitions\":3}\n"),
        "{shown}"
    );
    assert!(shown.contains("x…\n  v  1 bytes\n"), "{shown}");

    let claim = Claim { generation: 2, id: 0xab };
    let bytes = Holder { cluster: "orders".into(), claim }.encode();
    let shown = inspect(&bytes, false).unwrap();
    assert_eq!(shown, "claim to the bucket, of cluster orders (generation 2, claim 00000000000000ab)\n");

    for whole in [snapshot.encode().concat().into(), bytes] {
        let mut damaged = whole.to_vec();
        damaged[30] ^= 1;
        let shown = inspect(&damaged.into(), false).unwrap();
        assert!(shown.lines().count() == 1 && shown.contains("checksum"), "{shown}");
    }
}
