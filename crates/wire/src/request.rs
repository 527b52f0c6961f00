//! The requests that are answered, decoded by the key and version of their header.

use bytes::Bytes;

use crate::api::{self, ApiKey};
use crate::codec::DecodeError;
use crate::fetch::FetchRequest;
use crate::messages::{
    ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeTopicPartitionsRequest, FindCoordinatorRequest, IncrementalAlterConfigsRequest,
    InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, OffsetForLeaderEpochRequest, decode,
};
use crate::produce::ProduceRequest;

/// A request, one variant for each entry of [`api::APIS`].
#[derive(Debug, Clone)]
pub enum Request {
    Produce(ProduceRequest),
    Fetch(FetchRequest),
    ListOffsets(ListOffsetsRequest),
    Metadata(MetadataRequest),
    FindCoordinator(FindCoordinatorRequest),
    ApiVersions(ApiVersionsRequest),
    CreateTopics(CreateTopicsRequest),
    DeleteTopics(DeleteTopicsRequest),
    InitProducerId(InitProducerIdRequest),
    OffsetForLeaderEpoch(OffsetForLeaderEpochRequest),
    DescribeConfigs(DescribeConfigsRequest),
    CreatePartitions(CreatePartitionsRequest),
    IncrementalAlterConfigs(IncrementalAlterConfigsRequest),
    DescribeCluster(DescribeClusterRequest),
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
            ApiKey::FindCoordinator => decode(body, version).map(Self::FindCoordinator),
            ApiKey::ApiVersions => decode(body, version).map(Self::ApiVersions),
            ApiKey::CreateTopics => decode(body, version).map(Self::CreateTopics),
            ApiKey::DeleteTopics => decode(body, version).map(Self::DeleteTopics),
            ApiKey::InitProducerId => decode(body, version).map(Self::InitProducerId),
            ApiKey::OffsetForLeaderEpoch => decode(body, version).map(Self::OffsetForLeaderEpoch),
            ApiKey::DescribeConfigs => decode(body, version).map(Self::DescribeConfigs),
            ApiKey::CreatePartitions => decode(body, version).map(Self::CreatePartitions),
            ApiKey::IncrementalAlterConfigs => decode(body, version).map(Self::IncrementalAlterConfigs),
            ApiKey::DescribeCluster => decode(body, version).map(Self::DescribeCluster),
            ApiKey::DescribeTopicPartitions => decode(body, version).map(Self::DescribeTopicPartitions),
            _ => Err(unsupported),
        }
    }
}
