//! The requests that are answered, decoded by the key and version of their header.

use bytes::Bytes;

use crate::api::{self, ApiKey};
use crate::codec::DecodeError;
use crate::fetch::FetchRequest;
use crate::messages::{
    ApiVersionsRequest, ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, CreatePartitionsRequest,
    CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeGroupsRequest, DescribeTopicPartitionsRequest, FindCoordinatorRequest,
    HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest,
    ListGroupsRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, OffsetForLeaderEpochRequest, SyncGroupRequest, decode,
};
use crate::produce::ProduceRequest;

/// A request, one variant for each entry of [`api::APIS`].
#[derive(Debug, Clone)]
pub enum Request {
    Produce(ProduceRequest),
    Fetch(FetchRequest),
    ListOffsets(ListOffsetsRequest),
    Metadata(MetadataRequest),
    OffsetCommit(OffsetCommitRequest),
    OffsetFetch(OffsetFetchRequest),
    FindCoordinator(FindCoordinatorRequest),
    JoinGroup(JoinGroupRequest),
    Heartbeat(HeartbeatRequest),
    LeaveGroup(LeaveGroupRequest),
    SyncGroup(SyncGroupRequest),
    DescribeGroups(DescribeGroupsRequest),
    ListGroups(ListGroupsRequest),
    ApiVersions(ApiVersionsRequest),
    CreateTopics(CreateTopicsRequest),
    DeleteTopics(DeleteTopicsRequest),
    DeleteRecords(DeleteRecordsRequest),
    InitProducerId(InitProducerIdRequest),
    OffsetForLeaderEpoch(OffsetForLeaderEpochRequest),
    DescribeConfigs(DescribeConfigsRequest),
    CreatePartitions(CreatePartitionsRequest),
    DeleteGroups(DeleteGroupsRequest),
    IncrementalAlterConfigs(IncrementalAlterConfigsRequest),
    OffsetDelete(OffsetDeleteRequest),
    DescribeCluster(DescribeClusterRequest),
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest),
    ConsumerGroupDescribe(ConsumerGroupDescribeRequest),
    DescribeTopicPartitions(DescribeTopicPartitionsRequest),
}

impl Request {
    /// Decodes a body. A version that is not spoken, or a key that is not answered, is
    /// [`DecodeError::UnsupportedVersion`].
    pub fn decode(key: ApiKey, version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let unsupported = DecodeError::UnsupportedVersion { message: key.name(), version };
        if !api::speaks(key, version) {
            return Err(unsupported);
        }
        match key {
            ApiKey::Produce => ProduceRequest::decode(body, version).map(Self::Produce),
            ApiKey::Fetch => FetchRequest::decode(body, version).map(Self::Fetch),
            ApiKey::ListOffsets => decode(body, version).map(Self::ListOffsets),
            ApiKey::Metadata => decode(body, version).map(Self::Metadata),
            ApiKey::OffsetCommit => decode(body, version).map(Self::OffsetCommit),
            ApiKey::OffsetFetch => decode(body, version).map(Self::OffsetFetch),
            ApiKey::FindCoordinator => decode(body, version).map(Self::FindCoordinator),
            ApiKey::JoinGroup => decode(body, version).map(Self::JoinGroup),
            ApiKey::Heartbeat => decode(body, version).map(Self::Heartbeat),
            ApiKey::LeaveGroup => decode(body, version).map(Self::LeaveGroup),
            ApiKey::SyncGroup => decode(body, version).map(Self::SyncGroup),
            ApiKey::DescribeGroups => decode(body, version).map(Self::DescribeGroups),
            ApiKey::ListGroups => decode(body, version).map(Self::ListGroups),
            ApiKey::ApiVersions => decode(body, version).map(Self::ApiVersions),
            ApiKey::CreateTopics => decode(body, version).map(Self::CreateTopics),
            ApiKey::DeleteTopics => decode(body, version).map(Self::DeleteTopics),
            ApiKey::DeleteRecords => decode(body, version).map(Self::DeleteRecords),
            ApiKey::InitProducerId => decode(body, version).map(Self::InitProducerId),
            ApiKey::OffsetForLeaderEpoch => decode(body, version).map(Self::OffsetForLeaderEpoch),
            ApiKey::DescribeConfigs => decode(body, version).map(Self::DescribeConfigs),
            ApiKey::CreatePartitions => decode(body, version).map(Self::CreatePartitions),
            ApiKey::DeleteGroups => decode(body, version).map(Self::DeleteGroups),
            ApiKey::IncrementalAlterConfigs => decode(body, version).map(Self::IncrementalAlterConfigs),
            ApiKey::OffsetDelete => decode(body, version).map(Self::OffsetDelete),
            ApiKey::DescribeCluster => decode(body, version).map(Self::DescribeCluster),
            ApiKey::ConsumerGroupHeartbeat => decode(body, version).map(Self::ConsumerGroupHeartbeat),
            ApiKey::ConsumerGroupDescribe => decode(body, version).map(Self::ConsumerGroupDescribe),
            ApiKey::DescribeTopicPartitions => decode(body, version).map(Self::DescribeTopicPartitions),
            _ => Err(unsupported),
        }
    }
}
