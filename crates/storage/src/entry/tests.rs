use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use tidemark_model::batch::{HEADER_LEN, LOG_OVERHEAD};
use tidemark_model::route::Route;
use tidemark_model::{Batch, NodeId, TopicId, TopicPartition};
use tidemark_segment::{CheckpointName, SegmentName};
use uuid::Uuid;

use super::*;

/// A batch of `count` records of one producer, whose record bytes are arbitrary.
pub(crate) fn sample_batch(producer: (i64, i16, i32), count: i32, timestamp: i64, records: &[u8]) -> Batch {
    let mut wire = BytesMut::new();
    wire.put_i64(0);
    wire.put_i32((HEADER_LEN - LOG_OVERHEAD + records.len()) as i32);
    wire.put_i32(-1);
    wire.put_u8(2);
    wire.put_u32(0);
    wire.put_i16(0);
    wire.put_i32(count - 1);
    wire.put_i64(timestamp);
    wire.put_i64(timestamp);
    wire.put_i64(producer.0);
    wire.put_i16(producer.1);
    wire.put_i32(producer.2);
    wire.put_i32(count);
    wire.put_slice(records);
    let crc = crc32c::crc32c(&wire[21..]);
    wire[17..21].copy_from_slice(&crc.to_be_bytes());
    Batch::split_from(&mut wire.freeze()).unwrap()
}

fn partition() -> impl Strategy<Value = TopicPartition> {
    (any::<u128>(), any::<i32>()).prop_map(|(topic, n)| TopicPartition::new(TopicId(Uuid::from_u128(topic)), n))
}

fn segment() -> impl Strategy<Value = SegmentName> {
    (any::<u32>(), any::<u64>(), any::<u64>(), any::<u32>())
        .prop_map(|(epoch, first_index, last_index, attempt)| SegmentName { epoch, first_index, last_index, attempt })
}

fn run() -> impl Strategy<Value = Run> {
    (segment(), any::<[i64; 3]>(), any::<[u64; 2]>(), any::<i32>()).prop_map(|(segment, i, u, leader_epoch)| Run {
        segment,
        first_offset: i[0],
        last_offset: i[1],
        position: u[0],
        length: u[1],
        max_timestamp: i[2],
        leader_epoch,
    })
}

fn oldest() -> impl Strategy<Value = Oldest> {
    any::<(i64, i64, u64)>().prop_map(|(last_offset, max_timestamp, length)| Oldest {
        last_offset,
        max_timestamp,
        length,
    })
}

fn fold() -> impl Strategy<Value = Fold> {
    (segment(), any::<u8>(), any::<[u64; 3]>(), any::<[i64; 4]>(), any::<i32>(), oldest()).prop_map(
        |(object, level, u, i, leader_epoch, oldest)| Fold {
            object,
            level,
            position: u[0],
            length: u[1],
            first_offset: i[0],
            last_offset: i[1],
            max_timestamp: i[2],
            leader_epoch,
            opened: i[3],
            bytes: u[2],
            oldest,
        },
    )
}

fn content() -> impl Strategy<Value = Content> {
    let listed = (segment(), any::<[u64; 3]>(), any::<u32>()).prop_map(|(name, u, refs)| Listed {
        name,
        size: u[0],
        data: u[1],
        refs,
        live: u[2],
    });
    let children = prop_oneof![
        proptest::collection::vec(run(), 0..4).prop_map(Children::Runs),
        proptest::collection::vec(fold(), 0..4).prop_map(Children::Folds),
    ];
    (proptest::collection::vec(listed, 0..4), children).prop_map(|(objects, children)| Content { objects, children })
}

pub(crate) fn entry() -> impl Strategy<Value = Entry> {
    let route = (any::<u64>(), any::<i32>(), any::<i32>()).prop_map(|(generation, g, b)| Route {
        generation,
        gateway: NodeId(g),
        broker: NodeId(b),
    });
    let records = proptest::collection::vec(any::<u8>(), 0..200);
    let batch =
        (partition(), route, any::<(i64, i16, i32)>(), records).prop_map(|(partition, route, producer, records)| {
            let mut batch = sample_batch(producer, 3, 7, &records);
            batch.base_offset = 11;
            batch.leader_epoch = 5;
            Entry::Batch(BatchEntry { partition, route, batch })
        });
    let removed = (partition(), any::<i64>(), segment()).prop_map(|(partition, first_offset, segment)| RunRef {
        partition,
        first_offset,
        segment,
    });
    let edit = (
        any::<u64>(),
        proptest::option::of((segment(), any::<u64>())),
        proptest::collection::vec(removed, 0..4),
        proptest::collection::vec((partition(), run()), 0..4),
    )
        .prop_map(|(tiered_through, segment, removed, added)| {
            Entry::ManifestEdited(ManifestEdit { tiered_through, segment, removed, added })
        });
    let part = (partition(), fold(), proptest::collection::vec((segment(), any::<i64>()), 0..4))
        .prop_map(|(partition, fold, replaced)| FoldPart { partition, fold, replaced });
    let folded = (segment(), any::<u64>(), proptest::collection::vec(part, 0..3))
        .prop_map(|(object, size, parts)| Entry::Folded(FoldEdit { object, size, parts }));
    let opened = (partition(), segment(), any::<i64>(), content(), proptest::option::of(oldest())).prop_map(
        |(partition, object, opened, content, rest)| {
            Entry::FoldOpened(FoldOpening { partition, object, opened, content, rest })
        },
    );
    prop_oneof![
        batch,
        edit,
        folded,
        opened,
        any::<(i32, u64)>()
            .prop_map(|(node, wal_incarnation)| Entry::EpochStarted { node: NodeId(node), wal_incarnation }),
        (partition(), any::<u64>()).prop_map(|(partition, revision)| Entry::PartitionCreated { partition, revision }),
        (any::<u128>(), any::<u64>())
            .prop_map(|(topic, revision)| Entry::TopicDeleted { topic: TopicId(Uuid::from_u128(topic)), revision }),
        segment().prop_map(Entry::SegmentIntended),
        any::<(u32, u64)>().prop_map(|(epoch, index)| Entry::CheckpointWritten(CheckpointName { epoch, index })),
        proptest::collection::vec(segment(), 0..5).prop_map(Entry::ObjectsDeleted),
        any::<i64>().prop_map(|through_ms| Entry::ProducersExpired { through_ms }),
        (any::<i64>(), proptest::collection::vec((partition(), any::<i64>()), 0..5))
            .prop_map(|(time_ms, moves)| Entry::LogStartsMoved(LogStarts { time_ms, moves })),
    ]
}

pub(crate) fn payload(entry: &Entry) -> Bytes {
    let mut out = BytesMut::new();
    entry.encode_head(&mut out);
    if let Entry::Batch(entry) = entry {
        out.put_slice(entry.batch.body());
    }
    out.freeze()
}

proptest! {
    #[test]
    fn a_section_comes_back_from_its_bytes_and_none_make_decoding_panic(content in content(), at in any::<usize>()) {
        let mut bytes = content.encode().to_vec();
        prop_assert_eq!(Content::decode(&bytes), Ok(content));
        let at = at % bytes.len();
        bytes[at] ^= 1;
        let _ = Content::decode(&bytes);
        prop_assert!(Content::decode(&bytes[..at]).is_err());
    }

    #[test]
    fn every_entry_comes_back_from_its_bytes(entry in entry()) {
        let bytes = payload(&entry);
        prop_assert_eq!(bytes.len(), entry.payload_len());
        prop_assert_eq!(Entry::decode(entry.kind() as u8, VERSION, &bytes), Ok(entry));
    }

    #[test]
    fn no_bytes_make_decoding_panic(kind in 0u8..20, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Entry::decode(kind, VERSION, &bytes.into());
    }

    #[test]
    fn a_cut_entry_is_refused(entry in entry(), cut in 1usize..20) {
        let bytes = payload(&entry);
        let cut = bytes.slice(..bytes.len().saturating_sub(cut));
        prop_assert!(Entry::decode(entry.kind() as u8, VERSION, &cut).is_err());
    }
}

#[test]
fn the_bytes_of_a_batch_entry_are_as_documented() {
    let at = TopicPartition::new(TopicId(Uuid::from_u128(1)), 2);
    let route = Route { generation: 5, gateway: NodeId(3), broker: NodeId(4) };
    let batch = sample_batch((-1, -1, -1), 1, 0, b"x");
    let bytes = payload(&Entry::Batch(BatchEntry { partition: at, route, batch: batch.clone() }));
    assert_eq!(bytes[..16], 1u128.to_be_bytes());
    assert_eq!(bytes[16..36], [0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5]);
    assert_eq!(bytes[36..52], batch.prefix());
    assert_eq!(bytes[52..], batch.body()[..]);
}

#[test]
fn an_unknown_kind_or_version_is_refused() {
    assert!(matches!(Entry::decode(99, VERSION, &Bytes::new()), Err(crate::codec::DecodeError::Unknown { .. })));
    assert!(matches!(Entry::decode(5, VERSION + 1, &Bytes::new()), Err(crate::codec::DecodeError::Unknown { .. })));
}
