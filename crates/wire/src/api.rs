//! The APIs that are answered, and in which versions. What ApiVersions advertises comes from here and nowhere else.

mod key;
#[cfg(test)]
mod tests;

pub use key::ApiKey;

use crate::error::ErrorCode;
use crate::messages::{ApiVersionsResponse, api_versions_response, build};

/// Versions from `min` to `max`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    pub min: i16,
    pub max: i16,
}

/// An API that is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Api {
    pub key: ApiKey,
    /// What ApiVersions says.
    pub advertised: Versions,
    /// What is understood.
    pub spoken: Versions,
}

/// All that is answered, by ascending key. No version is above Kafka 4.2's, though the codec library knows some.
pub const APIS: &[Api] = &[
    // Kafka 4.2 speaks no Produce below 3 and yet advertises 0, because older librdkafka takes a higher minimum to mean
    // that no compression is supported (KIP-896, KAFKA-18659). Nobody sends those.
    Api { key: ApiKey::Produce, advertised: Versions::new(0, 13), spoken: Versions::new(3, 13) },
    Api::new(ApiKey::Fetch, 4, 18),
    Api::new(ApiKey::ListOffsets, 1, 11),
    Api::new(ApiKey::Metadata, 0, 13),
    Api::new(ApiKey::OffsetCommit, 2, 10),
    Api::new(ApiKey::OffsetFetch, 1, 10),
    Api::new(ApiKey::FindCoordinator, 0, 6),
    Api::new(ApiKey::JoinGroup, 0, 9),
    Api::new(ApiKey::Heartbeat, 0, 4),
    Api::new(ApiKey::LeaveGroup, 0, 5),
    Api::new(ApiKey::SyncGroup, 0, 5),
    Api::new(ApiKey::DescribeGroups, 0, 6),
    Api::new(ApiKey::ListGroups, 0, 5),
    Api::new(ApiKey::ApiVersions, 0, 4),
    Api::new(ApiKey::CreateTopics, 2, 7),
    Api::new(ApiKey::DeleteTopics, 1, 6),
    Api::new(ApiKey::DeleteRecords, 0, 2),
    Api::new(ApiKey::InitProducerId, 0, 5),
    Api::new(ApiKey::OffsetForLeaderEpoch, 2, 4),
    Api::new(ApiKey::DescribeConfigs, 1, 4),
    Api::new(ApiKey::CreatePartitions, 0, 3),
    Api::new(ApiKey::DeleteGroups, 0, 2),
    Api::new(ApiKey::IncrementalAlterConfigs, 0, 1),
    Api::new(ApiKey::OffsetDelete, 0, 0),
    Api::new(ApiKey::DescribeCluster, 0, 2),
    Api::new(ApiKey::ConsumerGroupHeartbeat, 0, 1),
    Api::new(ApiKey::ConsumerGroupDescribe, 0, 1),
    Api::new(ApiKey::DescribeTopicPartitions, 0, 0),
];

impl Versions {
    pub const fn new(min: i16, max: i16) -> Self {
        Self { min, max }
    }

    pub fn contains(self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

impl Api {
    const fn new(key: ApiKey, min: i16, max: i16) -> Self {
        let versions = Versions::new(min, max);
        Self { key, advertised: versions, spoken: versions }
    }

    /// The entry of a key, if it is answered at all.
    pub fn of(key: ApiKey) -> Option<&'static Self> {
        APIS.iter().find(|api| api.key == key)
    }
}

/// Whether this version of an API is understood. Where not, ApiVersions is answered by [`unsupported_version`] (KIP-511)
/// and for anything else Kafka closes the connection.
pub fn speaks(key: ApiKey, version: i16) -> bool {
    Api::of(key).is_some_and(|api| api.spoken.contains(version))
}

/// A feature as Kafka calls what a cluster has turned on (KIP-584).
struct Feature {
    name: &'static str,
    supported: Versions,
    level: i16,
}

/// Of Kafka 4.2's features, those that are true here.
const FEATURES: &[Feature] = &[
    // The new consumer protocol (KIP-848).
    Feature { name: "group.version", supported: Versions::new(0, 1), level: 1 },
];

/// The epoch of [`FEATURES`], which nothing changes.
const FEATURES_EPOCH: i64 = 0;

/// The first version of ApiVersions that may name a feature of which level 0 is supported: older clients cannot read it
/// (KAFKA-17492).
const FIRST_WITH_LEVEL_0: i16 = 4;

/// The answer to ApiVersions of a version.
pub fn api_versions(version: i16) -> ApiVersionsResponse {
    let readable = |feature: &&Feature| version >= FIRST_WITH_LEVEL_0 || feature.supported.min > 0;
    build(|response: &mut ApiVersionsResponse| {
        response.api_keys = APIS.iter().map(advertise).collect();
        response.supported_features = FEATURES.iter().filter(readable).map(supported).collect();
        response.finalized_features_epoch = FEATURES_EPOCH;
        response.finalized_features = FEATURES.iter().map(finalized).collect();
    })
}

/// The answer to an ApiVersions request of a version that is not spoken: to be encoded in version 0, which every client
/// can read, with the versions to try instead.
pub fn unsupported_version() -> ApiVersionsResponse {
    build(|response: &mut ApiVersionsResponse| {
        response.error_code = ErrorCode::UnsupportedVersion.code();
        response.api_keys = Api::of(ApiKey::ApiVersions).into_iter().map(advertise).collect();
    })
}

fn advertise(api: &Api) -> api_versions_response::ApiVersion {
    build(|entry: &mut api_versions_response::ApiVersion| {
        entry.api_key = api.key.code();
        entry.min_version = api.advertised.min;
        entry.max_version = api.advertised.max;
    })
}

fn supported(feature: &Feature) -> api_versions_response::SupportedFeatureKey {
    build(|entry: &mut api_versions_response::SupportedFeatureKey| {
        entry.name = feature.name.into();
        entry.min_version = feature.supported.min;
        entry.max_version = feature.supported.max;
    })
}

fn finalized(feature: &Feature) -> api_versions_response::FinalizedFeatureKey {
    build(|entry: &mut api_versions_response::FinalizedFeatureKey| {
        entry.name = feature.name.into();
        entry.min_version_level = feature.level;
        entry.max_version_level = feature.level;
    })
}
