use bytes::{BufMut, Bytes};
use proptest::prelude::*;
use tidemark_model::{Batch, TopicId};
use uuid::Uuid;

use super::*;
use crate::testing::Seeded;
use crate::{Bucket, FormatError};

const NAME: SegmentName = SegmentName { epoch: 3, first_index: 10, last_index: 25, attempt: 1 };

/// A batch of `count` records whose content is `records`; nothing below looks into records.
fn batch(base_offset: i64, leader_epoch: i32, count: i32, max_timestamp: i64, records: &[u8]) -> Batch {
    let mut body = vec![2];
    body.put_u32(0);
    body.put_i16(0);
    body.put_i32(count - 1);
    body.put_i64(max_timestamp);
    body.put_i64(max_timestamp);
    body.put_i64(-1);
    body.put_i16(-1);
    body.put_i32(-1);
    body.put_i32(count);
    body.put_slice(records);
    let crc = crc32c::crc32c(&body[5..]);
    body[1..5].copy_from_slice(&crc.to_be_bytes());
    Batch::from_body(base_offset, leader_epoch, body.into()).unwrap()
}

fn at(topic: u128, partition: i32) -> TopicPartition {
    TopicPartition::new(TopicId(Uuid::from_u128(topic)), partition)
}

fn encode(runs: &[(TopicPartition, Vec<Batch>)]) -> EncodedSegment {
    let mut writer = SegmentWriter::new(JournalId(7), NAME);
    for (partition, batches) in runs {
        writer.run(*partition, batches.clone(), vec![]).unwrap();
    }
    writer.finish().unwrap()
}

fn object(segment: &EncodedSegment) -> Bytes {
    let object = Bytes::from(segment.chunks.concat());
    assert_eq!(object.len() as u64, segment.size);
    object
}

fn bytes_of(object: &Bytes, span: &Span) -> Bytes {
    object.slice(span.bytes.start as usize..span.bytes.end as usize)
}

/// Partitions with batches that have holes between them, several epochs, and bodies small and large.
fn some_runs(max_body: usize) -> impl Strategy<Value = Vec<(TopicPartition, Vec<Batch>)>> {
    let step = (0..3i64, 1..5i32, 0..2i32, 0..1000i64, 0..max_body, any::<u8>());
    let steps = proptest::collection::vec(step, 1..20);
    proptest::collection::btree_map((0..3u128, 0..4i32), (0..100i64, steps), 0..6).prop_map(|partitions| {
        let run = |((topic, partition), (start, steps)): ((u128, i32), (i64, Vec<_>))| {
            let (mut offset, mut epoch) = (start, 1);
            let batches = steps.into_iter().map(|(hole, count, newer, time, len, fill)| {
                epoch += newer;
                let batch = batch(offset + hole, epoch, count, time, &vec![fill; len]);
                offset = batch.next_offset();
                batch
            });
            (at(topic, partition), batches.collect())
        };
        partitions.into_iter().map(run).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn round_trip(runs in some_runs(30_000)) {
        let segment = encode(&runs);
        let object = object(&segment);
        let index = SegmentIndex::parse(&object, segment.size).unwrap();
        prop_assert_eq!(&index, &segment.index);
        prop_assert_eq!(index.runs.len(), runs.len());
        for (partition, batches) in &runs {
            let run = index.run(*partition).unwrap();
            let span = run.span(0, u64::MAX).unwrap();
            prop_assert_eq!(&run.decode(&span, &bytes_of(&object, &span)).unwrap(), batches);
            // A byte range of a run is what a client gets.
            let wire: Vec<u8> = batches.iter().flat_map(|b| [&b.prefix()[..], b.body()].concat()).collect();
            prop_assert_eq!(&object[run.position as usize..][..run.length as usize], &wire);
            prop_assert_eq!(run.max_timestamp, batches.iter().map(Batch::max_timestamp).max().unwrap());
            let with_it = batches.iter().find(|b| b.max_timestamp() == run.max_timestamp).unwrap();
            prop_assert_eq!(run.max_timestamp_offset, with_it.base_offset);
        }
    }

    #[test]
    fn every_offset_and_time_is_found_in_the_first_block_that_can_have_it(runs in some_runs(30_000), limit in 1..200_000u64) {
        let segment = encode(&runs);
        let object = object(&segment);
        for (partition, batches) in &runs {
            let run = segment.index.run(*partition).unwrap();
            let first_batch = |block: Option<usize>, wanted: &dyn Fn(&Batch) -> bool| {
                let span = run.span(block?, limit).unwrap();
                assert!(span.blocks.len() == 1 || span.bytes.end - span.bytes.start <= limit);
                run.decode(&span, &bytes_of(&object, &span)).unwrap().into_iter().find(wanted)
            };
            for offset in -1..run.last_offset + 2 {
                let wanted = |batch: &Batch| batch.last_offset() >= offset;
                let expected = batches.iter().find(|batch| wanted(batch)).cloned();
                prop_assert_eq!(first_batch(run.block_at_offset(offset), &wanted), expected);
            }
            for time in [-1, 0, 1, 500, 998, 999, 1000] {
                let wanted = |batch: &Batch| batch.max_timestamp() >= time;
                let expected = batches.iter().find(|batch| wanted(batch)).cloned();
                prop_assert_eq!(first_batch(run.block_at_time(time), &wanted), expected);
            }
        }
    }

    #[test]
    fn no_tail_makes_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..400), size in any::<u64>()) {
        prop_assert!(SegmentIndex::parse(&tail, size).is_err());
    }

    /// What a checksum cannot stop: an index made to deceive.
    #[test]
    fn no_index_with_a_right_checksum_makes_it_panic(
        runs in some_runs(100),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        size in any::<Option<u64>>(),
    ) {
        let segment = encode(&runs);
        let mut object = Vec::from(object(&segment));
        let index_at = index_start(&object);
        let index_end = object.len() - TRAILER_LEN;
        for (at, value) in changes {
            object[index_at + at.index(index_end - index_at)] = value;
        }
        seal(&mut object, index_at);
        let object = Bytes::from(object);
        if let Ok(index) = SegmentIndex::parse(&object, size.unwrap_or(segment.size)) {
            for run in &index.runs {
                let span = run.span(0, 1000).unwrap();
                let _ = run.decode(&span, &bytes_of(&object, &span));
                let _ = (run.block_at_offset(50), run.block_at_time(50), index.weight());
            }
        }
    }
}

fn index_start(object: &[u8]) -> usize {
    let length_at = object.len() - TRAILER_LEN + 8;
    let index_len = u32::from_be_bytes(object[length_at..length_at + 4].try_into().unwrap());
    object.len() - TRAILER_LEN - index_len as usize
}

/// Makes the checksum right.
fn seal(object: &mut [u8], index_at: usize) {
    let crc_at = object.len() - 12;
    let crc = crc32c::crc32c(&object[index_at..crc_at]);
    object[crc_at..crc_at + 4].copy_from_slice(&crc.to_be_bytes());
}

fn small() -> EncodedSegment {
    let run = |topic| vec![batch(5, 1, 2, 100, &[topic as u8; 40]), batch(9, 2, 1, 90, b"x")];
    encode(&[(at(1, 0), run(1)), (at(1, 1), run(2)), (at(2, 0), run(3))])
}

#[test]
fn any_flipped_bit_is_detected_or_harmless() {
    let segment = small();
    let good = object(&segment);
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.to_vec();
            bad[at] ^= 1 << bit;
            let bad = Bytes::from(bad);
            match SegmentIndex::parse(&bad, segment.size) {
                Err(_) => assert!(at >= index_start(&good), "an index was refused for byte {at}, outside it"),
                Ok(index) => {
                    assert_eq!(index, segment.index, "byte {at} changed the index unnoticed");
                    let damaged = index.runs.iter().filter(|run| {
                        let span = run.span(0, u64::MAX).unwrap();
                        run.decode(&span, &bytes_of(&bad, &span)).is_err()
                    });
                    assert_eq!(damaged.count(), usize::from(at >= MAGIC.len()), "byte {at}");
                }
            }
        }
    }
}

#[test]
fn a_cut_object_is_refused_and_a_short_tail_says_what_it_needs() {
    let segment = small();
    let object = object(&segment);
    for len in 0..object.len() {
        assert!(SegmentIndex::parse(&object[..len], len as u64).is_err());
        if let Err(FormatError::Short { needed, available }) = SegmentIndex::parse(&object[len..], segment.size) {
            assert_eq!(available, (object.len() - len) as u64);
            assert!(needed > available);
        } else {
            assert_eq!(SegmentIndex::parse(&object[len..], segment.size).as_ref(), Ok(&segment.index));
        }
    }
    assert!(SegmentIndex::parse(&object, segment.size + 1).is_err(), "an object of another size");
}

#[test]
fn the_bytes_are_those_of_the_table() {
    let mut writer = SegmentWriter::new(JournalId(7), NAME);
    let aborted = AbortedTransaction { first_offset: 5, last_offset: 6, producer_id: 77 };
    let batches = [batch(5, 1, 2, 100, b"ab"), batch(9, 2, 1, 90, b"")];
    writer.run(at(1, 4), batches.clone(), vec![aborted]).unwrap();
    let segment = writer.finish().unwrap();

    let wire: Vec<u8> = batches.iter().flat_map(|b| [&b.prefix()[..], b.body()].concat()).collect();
    let mut expected = Vec::from(*b"TIDEMSEG");
    expected.put_slice(&wire);
    let index_at = expected.len();
    expected.put_u32(7);
    expected.put_u32(3);
    expected.put_u64(10);
    expected.put_u64(25);
    expected.put_u32(1);
    expected.put_u32(1);
    expected.put_u128(1);
    expected.put_i32(4);
    expected.put_i64(5);
    expected.put_i64(9);
    expected.put_u64(8);
    expected.put_u64(63 + 61);
    expected.put_i64(100);
    expected.put_i64(5);
    expected.put_u32(2);
    expected.put_u32(1);
    expected.put_u32(1);
    expected.put_i32(1);
    expected.put_i64(5);
    expected.put_i32(2);
    expected.put_i64(9);
    expected.put_i64(5);
    expected.put_i64(9);
    expected.put_i64(100);
    expected.put_u32(63 + 61);
    expected.put_u32(crc32c::crc32c(&wire));
    expected.put_i64(5);
    expected.put_i64(6);
    expected.put_i64(77);
    let index_len = expected.len() - index_at;
    expected.put_u64((expected.len() + 28) as u64);
    expected.put_u32(index_len as u32);
    expected.put_u16(1);
    expected.put_u16(0);
    let crc = crc32c::crc32c(&expected[index_at..]);
    expected.put_u32(crc);
    expected.put_slice(b"TIDEMSEG");
    assert_eq!(object(&segment), expected);

    let index = SegmentIndex::parse(&expected, expected.len() as u64).unwrap();
    assert_eq!(index.runs[0].aborted_in(6..7).collect::<Vec<_>>(), [&aborted]);
    assert_eq!(index.runs[0].aborted_in(7..20).count(), 0);
    assert_eq!(
        segment.tiered_runs("key"),
        [TieredRun {
            object: "key".into(),
            partition: at(1, 4),
            first_offset: 5,
            last_offset: 9,
            position: 8,
            length: 124,
            object_size: expected.len() as u64,
            max_timestamp: 100,
            leader_epoch: 2,
        }]
    );
}

#[test]
fn a_newer_version_is_told_from_damage() {
    let segment = small();
    let mut object = Vec::from(object(&segment));
    let index_at = index_start(&object);
    let version_at = object.len() - 16;
    object[version_at + 1] = 2;
    assert_eq!(SegmentIndex::parse(&object, segment.size), Err(FormatError::Checksum("segment index")));
    seal(&mut object, index_at);
    let newer = FormatError::Version { what: "segment", found: 2, known: 1 };
    assert_eq!(SegmentIndex::parse(&object, segment.size), Err(newer));
}

#[test]
fn large_bodies_are_not_copied() {
    let large = batch(0, 1, 1, 0, &vec![7; 100_000]);
    let segment = encode(&[(at(1, 0), vec![large.clone(), batch(1, 1, 1, 0, b"small")])]);
    assert!(segment.chunks.iter().any(|chunk| chunk.as_ptr() == large.body().as_ptr()));
    let object = object(&segment);
    let run = &segment.index.runs[0];
    let span = run.span(0, 1).unwrap();
    let batches = run.decode(&span, &bytes_of(&object, &span)).unwrap();
    assert_eq!(batches[0].body().as_ptr(), object[8 + 16..].as_ptr(), "decoding shares the bytes that were read");
    assert_eq!(run.blocks.len(), 2, "a batch larger than a block is a block");
}

#[test]
fn small_bodies_are_gathered() {
    let batches: Vec<Batch> = (0..10_000).map(|offset| batch(offset, 1, 1, 0, &[1; 100])).collect();
    let segment = encode(&[(at(1, 0), batches)]);
    assert!(segment.chunks.len() < 20, "{} chunks for 10,000 small batches", segment.chunks.len());
}

#[test]
fn what_is_out_of_order_is_refused() {
    let writer = || SegmentWriter::new(JournalId(7), NAME);
    let one = || vec![batch(5, 1, 2, 0, b"")];
    let mut twice = writer();
    twice.run(at(1, 1), one(), vec![]).unwrap();
    assert!(twice.run(at(1, 1), one(), vec![]).is_err());
    assert!(twice.run(at(1, 0), one(), vec![]).is_err());
    assert!(writer().run(at(1, 0), vec![batch(5, 1, 2, 0, b""), batch(6, 1, 1, 0, b"")], vec![]).is_err());
    assert!(writer().run(at(1, 0), vec![batch(-1, 1, 1, 0, b"")], vec![]).is_err());
    assert!(writer().run(at(1, 0), vec![batch(1, 1, 0, 0, b"")], vec![]).is_err());

    let mut empty = writer();
    empty.run(at(1, 0), vec![], vec![]).unwrap();
    assert!(empty.is_empty());
    let segment = empty.finish().unwrap();
    assert_eq!(SegmentIndex::parse(&object(&segment), segment.size).unwrap().runs, []);
}

#[tokio::test]
async fn an_index_longer_than_the_first_read_is_read() {
    let bucket = Bucket::in_memory(std::sync::Arc::new(Seeded::new(1)));
    let many: Vec<_> = (0..2000).map(|partition| (at(1, partition), vec![batch(0, 1, 1, 0, b"r")])).collect();
    for (key, runs) in [("long", &many[..]), ("short", &many[..1]), ("empty", &[])] {
        let segment = encode(runs);
        bucket.put_new(key, segment.chunks.clone()).await.unwrap();
        assert_eq!(SegmentIndex::read(&bucket, key, segment.size).await.unwrap(), segment.index);
    }
    bucket.put_new("other", vec![vec![0; 100].into()]).await.unwrap();
    assert!(matches!(SegmentIndex::read(&bucket, "other", 100).await, Err(crate::StoreError::Corrupt { .. })));
    assert!(matches!(SegmentIndex::read(&bucket, "other", 9).await, Err(crate::StoreError::Corrupt { .. })));
}
