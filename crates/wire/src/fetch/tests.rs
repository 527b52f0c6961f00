//! The codec library is the oracle: it writes the requests that are read here, and what is written here must be its bytes.

use bytes::{Buf, Bytes};
use kafka_wire::{fetch_request, fetch_response};
use kafka_wire_core::{ApiVersion, KafkaDecode, KafkaEncode, StrBytes};
use proptest::prelude::*;
use tidemark_model::Batch;
use tidemark_model::broker::Isolation;
use tidemark_model::storage::{AbortedTransaction, EpochEnd};
use uuid::Uuid;

use super::*;
use crate::batch::BatchBuilder;
use crate::error::ErrorCode;
use crate::messages::{build, wire_uuid};
use crate::{DecodeError, EncodeError, LeaderIdAndEpoch, NodeEndpoint, TopicRef};

const VERSIONS: std::ops::RangeInclusive<i16> = 4..=18;

fn topic(version: i16) -> impl Strategy<Value = TopicRef> {
    ("[a-zA-Z0-9._-]{0,60}", any::<u128>()).prop_map(move |(name, id)| {
        if version < 13 { TopicRef::Name(name.as_str().into()) } else { TopicRef::Id(Uuid::from_u128(id)) }
    })
}

fn epoch(sent: bool) -> impl Strategy<Value = Option<i32>> {
    proptest::option::of(0..=i32::MAX).prop_map(move |epoch| epoch.filter(|_| sent))
}

fn request(version: i16) -> impl Strategy<Value = FetchRequest> {
    let partition = (any::<(i32, i64, i32)>(), epoch(version >= 9), epoch(version >= 12)).prop_map(
        |((index, fetch_offset, max_bytes), current_leader_epoch, last_fetched_epoch)| FetchPartition {
            index,
            current_leader_epoch,
            fetch_offset,
            last_fetched_epoch,
            max_bytes,
        },
    );
    let topics = (topic(version), proptest::collection::vec(partition, 0..4))
        .prop_map(|(topic, partitions)| FetchTopic { topic, partitions });
    let forgotten = (topic(version), proptest::collection::vec(any::<i32>(), 0..4))
        .prop_map(|(topic, partitions)| ForgottenTopic { topic, partitions });
    let sessions = version >= 7;
    (
        any::<[i32; 4]>(),
        any::<bool>(),
        any::<(i32, i32)>(),
        proptest::collection::vec(topics, 0..4),
        proptest::collection::vec(forgotten, 0..if sessions { 4 } else { 1 }),
        "[a-z]{0,9}",
    )
        .prop_map(move |(numbers, committed, session, topics, forgotten, rack)| FetchRequest {
            replica_id: numbers[0],
            max_wait_ms: numbers[1],
            min_bytes: numbers[2],
            max_bytes: numbers[3],
            isolation: if committed { Isolation::ReadCommitted } else { Isolation::ReadUncommitted },
            session_id: if sessions { session.0 } else { 0 },
            session_epoch: if sessions { session.1 } else { -1 },
            topics,
            forgotten: if sessions { forgotten } else { Vec::new() },
            rack_id: if version >= 11 { StrBytes::from(rack.as_str()) } else { StrBytes::default() },
        })
}

fn batch() -> impl Strategy<Value = Batch> {
    (0..1_000_000_i64, any::<i32>(), proptest::collection::vec(any::<u8>(), 0..1500)).prop_map(
        |(base_offset, leader_epoch, value)| {
            let mut batch = BatchBuilder::new().record(None, Some(&value)).build();
            (batch.base_offset, batch.leader_epoch) = (base_offset, leader_epoch);
            batch
        },
    )
}

fn response(version: i16) -> impl Strategy<Value = FetchResponse> {
    let flexible = version >= 12;
    let aborted = any::<(i64, i64)>().prop_map(|(producer_id, first_offset)| AbortedTransaction {
        first_offset,
        last_offset: 0,
        producer_id,
    });
    let leader =
        (0..9_i32, 0..9_i32).prop_map(|(leader_id, leader_epoch)| LeaderIdAndEpoch { leader_id, leader_epoch });
    let diverging =
        (0..9_i32, any::<i64>()).prop_map(|(leader_epoch, end_offset)| EpochEnd { leader_epoch, end_offset });
    let partition = (
        any::<(i32, i64, i64, i64, i32)>(),
        -1..134_i16,
        proptest::option::of(proptest::collection::vec(aborted, 0..3)),
        proptest::option::of(leader),
        proptest::option::of(diverging),
        proptest::collection::vec(batch(), 0..4),
    )
        .prop_map(move |(numbers, error, aborted, current_leader, diverging_epoch, batches)| PartitionData {
            high_watermark: numbers.1,
            last_stable_offset: numbers.2,
            log_start_offset: if version >= 5 { numbers.3 } else { -1 },
            preferred_read_replica: if version >= 11 { numbers.4 } else { -1 },
            aborted,
            current_leader: current_leader.filter(|_| flexible),
            diverging_epoch: diverging_epoch.filter(|_| flexible),
            batches,
            ..PartitionData::failed(numbers.0, ErrorCode::from_code(error).unwrap())
        });
    let topic = (topic(version), proptest::collection::vec(partition, 0..4))
        .prop_map(|(topic, partitions)| FetchableTopicResponse { topic, partitions });
    let endpoint = (any::<i32>(), ".{0,20}", any::<i32>(), proptest::option::of(".{0,9}"))
        .prop_map(|(node_id, host, port, rack)| NodeEndpoint { node_id, host, port, rack });
    let endpoints = proptest::collection::vec(endpoint, 0..if version >= 16 { 3 } else { 1 });
    (any::<(i32, i32)>(), -1..134_i16, proptest::collection::vec(topic, 0..4), endpoints).prop_map(
        move |((throttle_time_ms, session_id), error, topics, node_endpoints)| FetchResponse {
            throttle_time_ms,
            error: ErrorCode::from_code(if version >= 7 { error } else { 0 }).unwrap(),
            session_id: if version >= 7 { session_id } else { 0 },
            topics,
            node_endpoints,
        },
    )
}

fn wire_request(request: &FetchRequest, version: i16) -> Bytes {
    let partition = |partition: &FetchPartition| {
        build(|out: &mut fetch_request::FetchPartition| {
            out.partition = partition.index;
            out.current_leader_epoch = partition.current_leader_epoch.unwrap_or(-1);
            out.fetch_offset = partition.fetch_offset;
            out.last_fetched_epoch = partition.last_fetched_epoch.unwrap_or(-1);
            out.log_start_offset = if version >= 5 { 77 } else { -1 };
            out.partition_max_bytes = partition.max_bytes;
            if version >= 17 {
                out.replica_directory_id = wire_uuid(Uuid::from_u128(77));
            }
            if version >= 18 {
                out.high_watermark = 77;
            }
        })
    };
    let topic = |topic: &FetchTopic| {
        build(|out: &mut fetch_request::FetchTopic| {
            match &topic.topic {
                TopicRef::Name(name) => out.topic = name.clone(),
                TopicRef::Id(id) => out.topic_id = wire_uuid(*id),
            }
            out.partitions = topic.partitions.iter().map(partition).collect();
        })
    };
    let forgotten = |topic: &ForgottenTopic| {
        build(|out: &mut fetch_request::ForgottenTopic| {
            match &topic.topic {
                TopicRef::Name(name) => out.topic = name.clone(),
                TopicRef::Id(id) => out.topic_id = wire_uuid(*id),
            }
            out.partitions.clone_from(&topic.partitions);
        })
    };
    let out = build(|out: &mut fetch_request::FetchRequest| {
        if version >= 12 {
            out.cluster_id = Some("cluster".into());
        }
        if version >= 15 {
            out.replica_state.replica_id = request.replica_id;
            out.replica_state.replica_epoch = 77;
        } else {
            out.replica_id = request.replica_id;
        }
        out.max_wait_ms = request.max_wait_ms;
        out.min_bytes = request.min_bytes;
        out.max_bytes = request.max_bytes;
        out.isolation_level = i8::from(request.isolation == Isolation::ReadCommitted);
        out.session_id = request.session_id;
        out.session_epoch = request.session_epoch;
        out.topics = request.topics.iter().map(topic).collect();
        out.forgotten_topics_data = request.forgotten.iter().map(forgotten).collect();
        out.rack_id = request.rack_id.clone();
    });
    out.encode_to_bytes(ApiVersion::new(version)).unwrap()
}

fn wire_response(response: &FetchResponse, version: i16) -> fetch_response::FetchResponse {
    let aborted = |aborted: &AbortedTransaction| {
        build(|out: &mut fetch_response::AbortedTransaction| {
            out.producer_id = aborted.producer_id;
            out.first_offset = aborted.first_offset;
        })
    };
    let partition = |partition: &PartitionData| {
        build(|out: &mut fetch_response::PartitionData| {
            out.partition_index = partition.index;
            out.error_code = partition.error.code();
            out.high_watermark = partition.high_watermark;
            out.last_stable_offset = partition.last_stable_offset;
            out.log_start_offset = partition.log_start_offset;
            if let Some(epoch) = partition.diverging_epoch {
                out.diverging_epoch.epoch = epoch.leader_epoch;
                out.diverging_epoch.end_offset = epoch.end_offset;
            }
            if let Some(leader) = partition.current_leader {
                out.current_leader.leader_id = leader.leader_id;
                out.current_leader.leader_epoch = leader.leader_epoch;
            }
            out.aborted_transactions = partition.aborted.as_ref().map(|all| all.iter().map(aborted).collect());
            out.preferred_read_replica = partition.preferred_read_replica;
            let records = partition.batches.iter().flat_map(|batch| [&batch.prefix()[..], batch.body()].concat());
            out.records = Some(records.collect());
        })
    };
    let topic = |topic: &FetchableTopicResponse| {
        build(|out: &mut fetch_response::FetchableTopicResponse| {
            match &topic.topic {
                TopicRef::Name(name) => out.topic = name.clone(),
                TopicRef::Id(id) => out.topic_id = wire_uuid(*id),
            }
            out.partitions = topic.partitions.iter().map(partition).collect();
        })
    };
    let endpoint = |endpoint: &NodeEndpoint| {
        build(|out: &mut fetch_response::NodeEndpoint| {
            out.node_id = endpoint.node_id;
            out.host = StrBytes::from(endpoint.host.as_str());
            out.port = endpoint.port;
            out.rack = endpoint.rack.as_deref().map(StrBytes::from);
        })
    };
    build(|out: &mut fetch_response::FetchResponse| {
        out.throttle_time_ms = response.throttle_time_ms;
        out.error_code = response.error.code();
        out.session_id = response.session_id;
        out.responses = response.topics.iter().map(topic).collect();
        if version >= 16 {
            out.node_endpoints = response.node_endpoints.iter().map(endpoint).collect();
        }
    })
}

proptest! {
    #[test]
    fn requests_of_every_version_are_read(
        (version, request) in VERSIONS.prop_flat_map(|version| (Just(version), request(version))),
    ) {
        let wire = wire_request(&request, version);
        prop_assert_eq!(FetchRequest::decode(wire, version)?, request);
    }

    #[test]
    fn a_cut_request_is_refused(
        (version, request) in VERSIONS.prop_flat_map(|version| (Just(version), request(version))), cut: prop::sample::Index,
    ) {
        let wire = wire_request(&request, version);
        let cut = wire.slice(..cut.index(wire.len()));
        prop_assert!(FetchRequest::decode(cut, version).is_err());
    }

    #[test]
    fn responses_of_every_version_are_the_codec_librarys_bytes(
        (version, response) in VERSIONS.prop_flat_map(|version| (Just(version), response(version))),
    ) {
        let expected = wire_response(&response, version);
        let mut frame = response.encode(5, version)?;
        prop_assert_eq!(frame.get_i32() as usize, frame.remaining());
        prop_assert_eq!(frame.get_i32(), 5);
        if version >= 12 {
            prop_assert_eq!(frame.get_u8(), 0);
        }
        let body = frame.copy_to_bytes(frame.remaining());
        let version = ApiVersion::new(version);
        prop_assert_eq!(&body, &expected.encode_to_bytes(version)?);
        let decoded = fetch_response::FetchResponse::decode_from_bytes(body, version, Default::default())?;
        prop_assert_eq!(decoded, expected);
    }
}

#[test]
fn bodies_go_out_from_the_memory_they_are_in() {
    let batch = |size| BatchBuilder::new().record(None, Some(&vec![7; size])).build();
    let batches = vec![batch(5_000), batch(10), batch(100_000)];
    for version in VERSIONS {
        let topic = if version < 13 { TopicRef::Name("t".into()) } else { TopicRef::Id(Uuid::from_u128(1)) };
        let partition = PartitionData { batches: batches.clone(), ..PartitionData::failed(0, ErrorCode::None) };
        let topics = vec![FetchableTopicResponse { topic, partitions: vec![partition] }];
        let frame = FetchResponse { topics, ..Default::default() }.encode(0, version).unwrap();
        let chunks = frame.into_chunks().collect::<Vec<_>>();
        let shared = |batch: &Batch| chunks.iter().any(|chunk| chunk.as_ptr() == batch.body().as_ptr());
        assert_eq!(batches.iter().map(shared).collect::<Vec<_>>(), [true, false, true]);
        // What is left is the heads, and the one body that is too small to be worth a piece of its own.
        assert_eq!(chunks.len(), if version < 12 { 4 } else { 5 });
        let own = chunks.iter().map(Bytes::len).sum::<usize>() - batches[0].body().len() - batches[2].body().len();
        assert!(own < 300, "{own} bytes of our own");
    }
}

#[test]
fn an_isolation_level_that_does_not_exist_is_refused() {
    let request = FetchRequest {
        replica_id: -1,
        max_wait_ms: 0,
        min_bytes: 0,
        max_bytes: 0,
        isolation: Isolation::ReadUncommitted,
        session_id: 0,
        session_epoch: -1,
        topics: Vec::new(),
        forgotten: Vec::new(),
        rack_id: StrBytes::default(),
    };
    let mut wire = wire_request(&request, 4).to_vec();
    wire[16] = 2;
    let bad = DecodeError::BadValue { what: "isolation level", at: 16, value: 2 };
    assert_eq!(FetchRequest::decode(wire.into(), 4), Err(bad));
}

#[test]
fn versions_that_are_not_spoken_are_refused() {
    for version in [-1, 3, 19] {
        let unsupported = DecodeError::UnsupportedVersion { message: "FetchRequest", version };
        assert_eq!(FetchRequest::decode(Bytes::new(), version), Err(unsupported));
        let unsupported = EncodeError::UnsupportedVersion { message: "FetchResponse", version };
        assert_eq!(FetchResponse::default().encode(0, version).unwrap_err(), unsupported);
    }
}
