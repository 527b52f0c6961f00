//! The codec library is the oracle: it writes the requests that are read here, and what is written here must be its bytes.

use bytes::{Buf, Bytes};
use kafka_wire::{produce_request, produce_response};
use kafka_wire_core::{ApiVersion, KafkaDecode, KafkaEncode, StrBytes};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::error::ErrorCode;
use crate::messages::{build, wire_uuid};
use crate::{DecodeError, EncodeError, LeaderIdAndEpoch, NodeEndpoint, TopicRef};

const VERSIONS: std::ops::RangeInclusive<i16> = 3..=13;

fn topic(version: i16) -> impl Strategy<Value = TopicRef> {
    ("[a-zA-Z0-9._-]{0,60}", any::<u128>()).prop_map(move |(name, id)| {
        if version < 13 { TopicRef::Name(name.as_str().into()) } else { TopicRef::Id(Uuid::from_u128(id)) }
    })
}

fn request(version: i16) -> impl Strategy<Value = ProduceRequest> {
    let records = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from));
    let partition = (any::<i32>(), records).prop_map(|(index, records)| PartitionProduceData { index, records });
    let topic = (topic(version), proptest::collection::vec(partition, 0..4))
        .prop_map(|(topic, partitions)| TopicProduceData { topic, partitions });
    (proptest::option::of(".{0,20}"), any::<i16>(), any::<i32>(), proptest::collection::vec(topic, 0..4)).prop_map(
        |(id, acks, timeout_ms, topics)| ProduceRequest {
            transactional_id: id.map(|id| StrBytes::from(id.as_str())),
            acks,
            timeout_ms,
            topics,
        },
    )
}

fn response(version: i16) -> impl Strategy<Value = ProduceResponse> {
    let error = (any::<i32>(), proptest::option::of(".{0,20}"))
        .prop_map(|(batch_index, message)| BatchIndexAndErrorMessage { batch_index, message });
    let leader =
        (0..9_i32, 0..9_i32).prop_map(|(leader_id, leader_epoch)| LeaderIdAndEpoch { leader_id, leader_epoch });
    let partition = (
        any::<(i32, i64, i64, i64)>(),
        -1..134_i16,
        proptest::collection::vec(error, 0..3),
        proptest::option::of(".{0,20}"),
        proptest::option::of(leader),
    )
        .prop_map(|((index, base, time, start), error, record_errors, error_message, current_leader)| {
            PartitionProduceResponse {
                error: ErrorCode::from_code(error).unwrap(),
                record_errors,
                error_message,
                current_leader,
                ..PartitionProduceResponse::appended(index, base, time, start)
            }
        });
    let topic = (topic(version), proptest::collection::vec(partition, 0..4))
        .prop_map(|(topic, partitions)| TopicProduceResponse { topic, partitions });
    let endpoint = (any::<i32>(), ".{0,20}", any::<i32>(), proptest::option::of(".{0,9}"))
        .prop_map(|(node_id, host, port, rack)| NodeEndpoint { node_id, host, port, rack });
    let endpoints = proptest::collection::vec(endpoint, 0..3);
    (proptest::collection::vec(topic, 0..4), any::<i32>(), endpoints).prop_map(
        |(topics, throttle_time_ms, node_endpoints)| ProduceResponse { topics, throttle_time_ms, node_endpoints },
    )
}

fn wire_request(request: &ProduceRequest, version: i16) -> Bytes {
    let partition = |partition: &PartitionProduceData| {
        build(|out: &mut produce_request::PartitionProduceData| {
            out.index = partition.index;
            out.records = partition.records.clone();
        })
    };
    let topic = |topic: &TopicProduceData| {
        build(|out: &mut produce_request::TopicProduceData| {
            match &topic.topic {
                TopicRef::Name(name) => out.name = name.clone(),
                TopicRef::Id(id) => out.topic_id = wire_uuid(*id),
            }
            out.partition_data = topic.partitions.iter().map(partition).collect();
        })
    };
    let out = build(|out: &mut produce_request::ProduceRequest| {
        out.transactional_id = request.transactional_id.clone();
        out.acks = request.acks;
        out.timeout_ms = request.timeout_ms;
        out.topic_data = request.topics.iter().map(topic).collect();
    });
    out.encode_to_bytes(ApiVersion::new(version)).unwrap()
}

fn wire_response(response: &ProduceResponse, version: i16) -> produce_response::ProduceResponse {
    let strings = |text: &Option<String>| text.as_deref().map(StrBytes::from);
    let partition = |partition: &PartitionProduceResponse| {
        build(|out: &mut produce_response::PartitionProduceResponse| {
            out.index = partition.index;
            out.error_code = partition.error.code();
            out.base_offset = partition.base_offset;
            out.log_append_time_ms = partition.log_append_time_ms;
            if version >= 5 {
                out.log_start_offset = partition.log_start_offset;
            }
            if version >= 8 {
                out.error_message = strings(&partition.error_message);
                let error = |error: &BatchIndexAndErrorMessage| {
                    build(|out: &mut produce_response::BatchIndexAndErrorMessage| {
                        out.batch_index = error.batch_index;
                        out.batch_index_error_message = strings(&error.message);
                    })
                };
                out.record_errors = partition.record_errors.iter().map(error).collect();
            }
            if let Some(leader) = partition.current_leader.filter(|_| version >= 10) {
                out.current_leader.leader_id = leader.leader_id;
                out.current_leader.leader_epoch = leader.leader_epoch;
            }
        })
    };
    let topic = |topic: &TopicProduceResponse| {
        build(|out: &mut produce_response::TopicProduceResponse| {
            match &topic.topic {
                TopicRef::Name(name) => out.name = name.clone(),
                TopicRef::Id(id) => out.topic_id = wire_uuid(*id),
            }
            out.partition_responses = topic.partitions.iter().map(partition).collect();
        })
    };
    let endpoint = |endpoint: &NodeEndpoint| {
        build(|out: &mut produce_response::NodeEndpoint| {
            out.node_id = endpoint.node_id;
            out.host = StrBytes::from(endpoint.host.as_str());
            out.port = endpoint.port;
            out.rack = strings(&endpoint.rack);
        })
    };
    build(|out: &mut produce_response::ProduceResponse| {
        out.responses = response.topics.iter().map(topic).collect();
        out.throttle_time_ms = response.throttle_time_ms;
        if version >= 10 {
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
        prop_assert_eq!(ProduceRequest::decode(wire, version)?, request);
    }

    #[test]
    fn a_cut_request_is_refused(
        (version, request) in VERSIONS.prop_flat_map(|version| (Just(version), request(version))), cut: prop::sample::Index,
    ) {
        let wire = wire_request(&request, version);
        let cut = wire.slice(..cut.index(wire.len()));
        prop_assert!(ProduceRequest::decode(cut, version).is_err());
    }

    #[test]
    fn responses_of_every_version_are_the_codec_librarys_bytes(
        (version, response) in VERSIONS.prop_flat_map(|version| (Just(version), response(version))),
    ) {
        let expected = wire_response(&response, version);
        let mut frame = response.encode(5, version)?;
        prop_assert_eq!(frame.get_i32() as usize, frame.remaining());
        prop_assert_eq!(frame.get_i32(), 5);
        if version >= 9 {
            prop_assert_eq!(frame.get_u8(), 0);
        }
        let body = frame.copy_to_bytes(frame.remaining());
        let version = ApiVersion::new(version);
        prop_assert_eq!(&body, &expected.encode_to_bytes(version)?);
        let decoded = produce_response::ProduceResponse::decode_from_bytes(body, version, Default::default())?;
        prop_assert_eq!(decoded, expected);
    }
}

#[test]
fn records_are_slices_of_the_frame() {
    let records = Bytes::from(vec![7; 1000]);
    let partitions = vec![PartitionProduceData { index: 0, records: Some(records) }];
    for version in VERSIONS {
        let topic = if version < 13 { TopicRef::Name("t".into()) } else { TopicRef::Id(Uuid::from_u128(1)) };
        let topics = vec![TopicProduceData { topic, partitions: partitions.clone() }];
        let request = ProduceRequest { transactional_id: None, acks: -1, timeout_ms: 0, topics };
        let wire = wire_request(&request, version);
        let read = ProduceRequest::decode(wire.clone(), version).unwrap();
        let records = read.topics[0].partitions[0].records.clone().unwrap();
        assert!(wire.as_ptr_range().contains(&records.as_ptr()));
        assert_eq!(records.len(), 1000);
    }
}

#[test]
fn versions_that_are_not_spoken_are_refused() {
    for version in [-1, 0, 2, 14] {
        let unsupported = DecodeError::UnsupportedVersion { message: "ProduceRequest", version };
        assert_eq!(ProduceRequest::decode(Bytes::new(), version), Err(unsupported));
        let unsupported = EncodeError::UnsupportedVersion { message: "ProduceResponse", version };
        assert_eq!(ProduceResponse::default().encode(0, version).unwrap_err(), unsupported);
    }
}

#[test]
fn a_topic_named_the_wrong_way_is_not_written() {
    let topics = |topic| vec![TopicProduceResponse { topic, partitions: Vec::new() }];
    let by_name = ProduceResponse { topics: topics(TopicRef::Name("t".into())), ..Default::default() };
    assert_eq!(by_name.encode(0, 13).unwrap_err(), EncodeError::WrongTopicRef { got: "name", version: 13 });
    let by_id = ProduceResponse { topics: topics(TopicRef::Id(Uuid::nil())), ..Default::default() };
    assert_eq!(by_id.encode(0, 12).unwrap_err(), EncodeError::WrongTopicRef { got: "id", version: 12 });
}

#[test]
fn a_long_error_message_is_cut_between_characters() {
    let partition = PartitionProduceResponse::failed(0, ErrorCode::InvalidRecord, Some("é".repeat(40_000) + "x"));
    let topics = vec![TopicProduceResponse { topic: TopicRef::Name("t".into()), partitions: vec![partition] }];
    let mut frame = ProduceResponse { topics, ..Default::default() }.encode(0, 8).unwrap();
    frame.advance(8);
    let body = frame.copy_to_bytes(frame.remaining());
    let decoded =
        produce_response::ProduceResponse::decode_from_bytes(body, ApiVersion::new(8), Default::default()).unwrap();
    let message = decoded.responses[0].partition_responses[0].error_message.clone().unwrap();
    assert_eq!(message.as_str(), "é".repeat(2048));
}
