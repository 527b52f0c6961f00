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
    Api::new(ApiKey::FindCoordinator, 0, 6),
    Api::new(ApiKey::ApiVersions, 0, 4),
    Api::new(ApiKey::CreateTopics, 2, 7),
    Api::new(ApiKey::DeleteTopics, 1, 6),
    Api::new(ApiKey::InitProducerId, 0, 5),
    Api::new(ApiKey::OffsetForLeaderEpoch, 2, 4),
    Api::new(ApiKey::DescribeConfigs, 1, 4),
    Api::new(ApiKey::CreatePartitions, 0, 3),
    Api::new(ApiKey::IncrementalAlterConfigs, 0, 1),
    Api::new(ApiKey::DescribeCluster, 0, 2),
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

/// The answer to ApiVersions, without features.
pub fn api_versions() -> ApiVersionsResponse {
    build(|response: &mut ApiVersionsResponse| response.api_keys = APIS.iter().map(advertise).collect())
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
