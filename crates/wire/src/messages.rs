//! The messages that the codec library generates from Kafka's schemas, each with the module of its nested types, and
//! how they are decoded and encoded.
//!
//! They are `non_exhaustive`, and a field that the version lacks is ignored or refused as the schema says. So they are
//! made by [`build`].

use bytes::{Bytes, BytesMut};
pub use kafka_wire::{
    ApiVersionsRequest, ApiVersionsResponse, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse,
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, CreatePartitionsRequest, CreatePartitionsResponse,
    CreateTopicsRequest, CreateTopicsResponse, DeleteGroupsRequest, DeleteGroupsResponse, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse, DescribeClusterRequest, DescribeClusterResponse,
    DescribeConfigsRequest, DescribeConfigsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, FindCoordinatorRequest, FindCoordinatorResponse,
    HeartbeatRequest, HeartbeatResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    InitProducerIdRequest, InitProducerIdResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, ListOffsetsRequest, ListOffsetsResponse,
    MetadataRequest, MetadataResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest,
    OffsetDeleteResponse, OffsetFetchRequest, OffsetFetchResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, SyncGroupRequest, SyncGroupResponse, api_versions_request, api_versions_response,
    consumer_group_describe_request, consumer_group_describe_response, consumer_group_heartbeat_request,
    consumer_group_heartbeat_response, create_partitions_request, create_partitions_response, create_topics_request,
    create_topics_response, delete_groups_request, delete_groups_response, delete_records_request,
    delete_records_response, delete_topics_request, delete_topics_response, describe_cluster_request,
    describe_cluster_response, describe_configs_request, describe_configs_response, describe_groups_request,
    describe_groups_response, describe_topic_partitions_request, describe_topic_partitions_response,
    find_coordinator_request, find_coordinator_response, heartbeat_request, heartbeat_response,
    incremental_alter_configs_request, incremental_alter_configs_response, init_producer_id_request,
    init_producer_id_response, join_group_request, join_group_response, leave_group_request, leave_group_response,
    list_groups_request, list_groups_response, list_offsets_request, list_offsets_response, metadata_request,
    metadata_response, offset_commit_request, offset_commit_response, offset_delete_request, offset_delete_response,
    offset_fetch_request, offset_fetch_response, offset_for_leader_epoch_request, offset_for_leader_epoch_response,
    sync_group_request, sync_group_response,
};
pub use kafka_wire::{KafkaMessage, KafkaRequest, KafkaResponse};
use kafka_wire_core::{ApiVersion, DecodeLimits, Decoder, KafkaDecode, KafkaEncode};
pub use kafka_wire_core::{StrBytes, Uuid as WireUuid};
use uuid::Uuid;

use crate::api::ApiKey;
use crate::codec::{DecodeError, EncodeError};
use crate::frame::{ResponseFrame, response_header_version};

/// Bytes of a request that is neither Produce nor Fetch. Decoded, such a request may take [`MAX_GROWTH`] times its
/// bytes, so it must be far smaller than a frame may be; a quarter of a million topic names fit.
pub const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;

/// What decoding may allocate, as a multiple of a message's bytes: a structure takes far more memory than the two
/// bytes of an empty one on the wire. Held by `tests/memory.rs`.
pub const MAX_GROWTH: usize = 128;

/// Unknown tagged fields of one structure. They are kept, 40 bytes for a field of 2; Kafka sends none.
const MAX_TAGGED_FIELDS: usize = 8;

/// The least bytes an array's element takes: an empty compact string with something in it, or an empty structure and
/// its tagged fields. Arrays of empty strings are of no use to anyone.
const MIN_ELEMENT_BYTES: usize = 2;

/// Makes a message from its defaults.
///
/// ```
/// use tidemark_wire::messages::{MetadataResponse, build};
///
/// let response = build(|response: &mut MetadataResponse| response.controller_id = 1);
/// ```
pub fn build<T: Default>(fill: impl FnOnce(&mut T)) -> T {
    let mut message = T::default();
    fill(&mut message);
    message
}

/// Decodes the body of a request. Strings and bytes share its memory. Bytes after the message are ignored, as Kafka does.
pub fn decode<T: KafkaMessage>(body: Bytes, version: i16) -> Result<T, DecodeError> {
    let version = supported::<T>(version).ok_or(DecodeError::UnsupportedVersion { message: T::NAME, version })?;
    let length = body.len();
    if length > MAX_MESSAGE_BYTES {
        return Err(DecodeError::TooLarge { message: T::NAME, length, max: MAX_MESSAGE_BYTES });
    }
    let failed = |source| DecodeError::Message { message: T::NAME, source };
    let mut decoder = Decoder::new(body, limits(length)).map_err(failed)?;
    <T as KafkaDecode>::decode(&mut decoder, version).map_err(failed)
}

/// Encodes a message without a header.
pub fn encode<T: KafkaMessage>(message: &T, version: i16) -> Result<Bytes, EncodeError> {
    let version = supported::<T>(version).ok_or(EncodeError::UnsupportedVersion { message: T::NAME, version })?;
    let failed = |source| EncodeError::Message { message: T::NAME, source };
    <T as KafkaEncode>::encode_to_bytes(message, version).map_err(failed)
}

/// Encodes a response with its header and frame length.
pub fn encode_response<T: KafkaResponse>(
    correlation_id: i32,
    version: i16,
    response: &T,
) -> Result<ResponseFrame, EncodeError> {
    let unsupported = || EncodeError::UnsupportedVersion { message: T::NAME, version };
    let api_version = supported::<T>(version).ok_or_else(unsupported)?;
    let key = ApiKey::from_code(T::API_KEY.value()).ok_or_else(unsupported)?;
    let mut wire = BytesMut::zeroed(4);
    wire.extend_from_slice(&correlation_id.to_be_bytes());
    if response_header_version(key, version) >= 1 {
        wire.extend_from_slice(&[0]);
    }
    let failed = |source| EncodeError::Message { message: T::NAME, source };
    <T as KafkaEncode>::encode_into(response, &mut wire, api_version).map_err(failed)?;
    let too_long = |_| EncodeError::TooLong { what: T::NAME, length: wire.len(), max: i32::MAX as usize };
    let length = i32::try_from(wire.len() - 4).map_err(too_long)?;
    wire[..4].copy_from_slice(&length.to_be_bytes());
    let mut frame = ResponseFrame::with_capacity(1);
    frame.push(wire.freeze());
    Ok(frame)
}

/// A UUID of the codec library as everyone else's.
pub fn uuid(wire: WireUuid) -> Uuid {
    Uuid::from_bytes(wire.to_bytes())
}

/// A UUID as the codec library wants it.
pub fn wire_uuid(id: Uuid) -> WireUuid {
    WireUuid::from_bytes(id.into_bytes())
}

fn supported<T: KafkaMessage>(version: i16) -> Option<ApiVersion> {
    let version = ApiVersion::new(version);
    T::supports(version).then_some(version)
}

/// Nothing in a message can be longer than the message, and no array can have more elements than fit into it.
fn limits(length: usize) -> DecodeLimits {
    let mut limits = DecodeLimits::default();
    limits.max_frame_bytes = length;
    limits.max_string_bytes = length;
    limits.max_bytes_bytes = length;
    limits.max_array_elements = length / MIN_ELEMENT_BYTES;
    limits.max_tagged_fields = MAX_TAGGED_FIELDS;
    limits.max_tag_bytes = length;
    limits.max_total_tag_bytes = length;
    limits
}
