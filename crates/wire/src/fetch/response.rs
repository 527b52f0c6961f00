//! The Fetch response.

use tidemark_model::Batch;
use tidemark_model::batch::PREFIX_LEN;
use tidemark_model::storage::{AbortedTransaction, EpochEnd};

use crate::api::{ApiKey, speaks};
use crate::codec::{EncodeError, Writer};
use crate::error::ErrorCode;
use crate::frame::{ResponseFrame, response_header_version};
use crate::topic::{LeaderIdAndEpoch, NodeEndpoint, TopicRef};

/// Bytes of a partition's answer without records, to reserve for.
const PARTITION_LEN: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FetchResponse {
    pub throttle_time_ms: i32,
    /// Of the session. Sent from version 7 on.
    pub error: ErrorCode,
    /// Sent from version 7 on.
    pub session_id: i32,
    pub topics: Vec<FetchableTopicResponse>,
    /// Where the leaders named in the partitions listen. Sent from version 16 on.
    pub node_endpoints: Vec<NodeEndpoint>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchableTopicResponse {
    pub topic: TopicRef,
    pub partitions: Vec<PartitionData>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionData {
    pub index: i32,
    pub error: ErrorCode,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    /// Sent from version 5 on.
    pub log_start_offset: i64,
    /// Where the client's log left this one. Sent from version 12 on.
    pub diverging_epoch: Option<EpochEnd>,
    /// Sent from version 12 on.
    pub current_leader: Option<LeaderIdAndEpoch>,
    /// None for read uncommitted, as Kafka does.
    pub aborted: Option<Vec<AbortedTransaction>>,
    /// A broker nearer to the client (KIP-392), or -1. Sent from version 11 on.
    pub preferred_read_replica: i32,
    pub batches: Vec<Batch>,
}

impl FetchResponse {
    /// Encodes without copying a batch's body.
    pub fn encode(&self, correlation_id: i32, version: i16) -> Result<ResponseFrame, EncodeError> {
        let key = ApiKey::Fetch;
        if !speaks(key, version) {
            return Err(EncodeError::UnsupportedVersion { message: "FetchResponse", version });
        }
        let header_version = response_header_version(key, version);
        let mut writer = Writer::response(correlation_id, header_version, key.is_flexible(version), self.capacity());
        writer.i32(self.throttle_time_ms);
        if version >= 7 {
            writer.i16(self.error.code());
            writer.i32(self.session_id);
        }
        writer.vec(&self.topics, "topics", |writer, topic| topic.write(writer, version));
        let endpoints = |writer: &mut Writer| NodeEndpoint::write_all(&self.node_endpoints, writer);
        let has_endpoints = version >= 16 && !self.node_endpoints.is_empty();
        writer.tagged(&[(0, has_endpoints, &endpoints)]);
        writer.finish()
    }

    fn capacity(&self) -> usize {
        let of_partition = |partition: &PartitionData| PARTITION_LEN + partition.batches.len() * PREFIX_LEN;
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.map(of_partition).sum::<usize>() + (self.topics.len() + 1) * PARTITION_LEN
    }
}

impl FetchableTopicResponse {
    fn write(&self, writer: &mut Writer, version: i16) {
        self.topic.write(writer, version);
        writer.vec(&self.partitions, "partitions", |writer, partition| partition.write(writer, version));
        writer.no_tagged();
    }
}

impl PartitionData {
    /// An answer without records, with the offsets that Kafka sends where none are known.
    pub fn failed(index: i32, error: ErrorCode) -> Self {
        Self {
            index,
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            current_leader: None,
            aborted: None,
            preferred_read_replica: -1,
            batches: Vec::new(),
        }
    }

    fn write(&self, writer: &mut Writer, version: i16) {
        writer.i32(self.index);
        writer.i16(self.error.code());
        writer.i64(self.high_watermark);
        writer.i64(self.last_stable_offset);
        if version >= 5 {
            writer.i64(self.log_start_offset);
        }
        writer.length(self.aborted.as_ref().map(Vec::len), "aborted transactions");
        for aborted in self.aborted.iter().flatten() {
            writer.i64(aborted.producer_id);
            writer.i64(aborted.first_offset);
            writer.no_tagged();
        }
        if version >= 11 {
            writer.i32(self.preferred_read_replica);
        }
        writer.length(Some(self.batches.iter().map(Batch::wire_len).sum()), "records");
        for batch in &self.batches {
            writer.raw(&batch.prefix());
            writer.shared(batch.body());
        }
        let diverging = |writer: &mut Writer| {
            if let Some(epoch) = self.diverging_epoch {
                writer.i32(epoch.leader_epoch);
                writer.i64(epoch.end_offset);
                writer.no_tagged();
            }
        };
        let leader = |writer: &mut Writer| {
            if let Some(leader) = self.current_leader {
                leader.write(writer);
            }
        };
        writer.tagged(&[(0, self.diverging_epoch.is_some(), &diverging), (1, self.current_leader.is_some(), &leader)]);
    }
}
