//! The Produce response.

use crate::api::{ApiKey, speaks};
use crate::codec::{EncodeError, Writer};
use crate::error::ErrorCode;
use crate::frame::{ResponseFrame, response_header_version};
use crate::topic::{LeaderIdAndEpoch, NodeEndpoint, TopicRef};

/// Bytes of a partition's answer without messages, to reserve for.
const PARTITION_LEN: usize = 48;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProduceResponse {
    pub topics: Vec<TopicProduceResponse>,
    pub throttle_time_ms: i32,
    /// Where the leaders named in the partitions listen. Sent from version 10 on.
    pub node_endpoints: Vec<NodeEndpoint>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicProduceResponse {
    pub topic: TopicRef,
    pub partitions: Vec<PartitionProduceResponse>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionProduceResponse {
    pub index: i32,
    pub error: ErrorCode,
    pub base_offset: i64,
    /// -1 unless the topic has log append time.
    pub log_append_time_ms: i64,
    /// Sent from version 5 on.
    pub log_start_offset: i64,
    /// Sent from version 8 on (KIP-467).
    pub record_errors: Vec<BatchIndexAndErrorMessage>,
    /// Sent from version 8 on. Cut where the version has no room for all of it.
    pub error_message: Option<String>,
    /// Sent from version 10 on.
    pub current_leader: Option<LeaderIdAndEpoch>,
}

/// A record that made its batch fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchIndexAndErrorMessage {
    pub batch_index: i32,
    pub message: Option<String>,
}

impl ProduceResponse {
    pub fn encode(&self, correlation_id: i32, version: i16) -> Result<ResponseFrame, EncodeError> {
        let key = ApiKey::Produce;
        if !speaks(key, version) {
            return Err(EncodeError::UnsupportedVersion { message: "ProduceResponse", version });
        }
        let partitions: usize = self.topics.iter().map(|topic| topic.partitions.len()).sum();
        let capacity = (partitions + self.topics.len() + 1) * PARTITION_LEN;
        let header_version = response_header_version(key, version);
        let mut writer = Writer::response(correlation_id, header_version, key.is_flexible(version), capacity);
        writer.vec(&self.topics, "topics", |writer, topic| topic.write(writer, version));
        writer.i32(self.throttle_time_ms);
        let endpoints = |writer: &mut Writer| NodeEndpoint::write_all(&self.node_endpoints, writer);
        let has_endpoints = version >= 10 && !self.node_endpoints.is_empty();
        writer.tagged(&[(0, has_endpoints, &endpoints)]);
        writer.finish()
    }
}

impl TopicProduceResponse {
    fn write(&self, writer: &mut Writer, version: i16) {
        self.topic.write(writer, version);
        writer.vec(&self.partitions, "partitions", |writer, partition| partition.write(writer, version));
        writer.no_tagged();
    }
}

impl PartitionProduceResponse {
    /// The records are at `base_offset` and the following.
    pub fn appended(index: i32, base_offset: i64, log_append_time_ms: i64, log_start_offset: i64) -> Self {
        Self {
            base_offset,
            log_append_time_ms,
            log_start_offset,
            error_message: None,
            ..Self::failed(index, ErrorCode::None, None)
        }
    }

    /// Nothing was appended, as far as is known.
    pub fn failed(index: i32, error: ErrorCode, message: Option<String>) -> Self {
        Self {
            index,
            error,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message: message,
            current_leader: None,
        }
    }

    fn write(&self, writer: &mut Writer, version: i16) {
        writer.i32(self.index);
        writer.i16(self.error.code());
        writer.i64(self.base_offset);
        writer.i64(self.log_append_time_ms);
        if version >= 5 {
            writer.i64(self.log_start_offset);
        }
        if version >= 8 {
            writer.vec(&self.record_errors, "record errors", |writer, error| {
                writer.i32(error.batch_index);
                writer.nullable_string(error.message.as_deref().map(cut), "record error message");
                writer.no_tagged();
            });
            writer.nullable_string(self.error_message.as_deref().map(cut), "error message");
        }
        let leader = self.current_leader.filter(|_| version >= 10);
        let write_leader = |writer: &mut Writer| {
            if let Some(leader) = leader {
                leader.write(writer);
            }
        };
        writer.tagged(&[(0, leader.is_some(), &write_leader)]);
    }
}

/// A message is for a human's log: the first kilobytes will do, and a length of 16 bits must hold it.
fn cut(message: &str) -> &str {
    const MAX: usize = 4096;
    &message[..message.floor_char_boundary(MAX)]
}
