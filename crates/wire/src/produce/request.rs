//! The Produce request.

use bytes::Bytes;
use kafka_wire_core::StrBytes;

use crate::api::{ApiKey, speaks};
use crate::codec::{DecodeError, Reader};
use crate::topic::TopicRef;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceRequest {
    pub transactional_id: Option<StrBytes>,
    /// -1 for all in-sync replicas, 1 for the leader, 0 for no answer. Anything else is INVALID_REQUIRED_ACKS.
    pub acks: i16,
    pub timeout_ms: i32,
    pub topics: Vec<TopicProduceData>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicProduceData {
    pub topic: TopicRef,
    pub partitions: Vec<PartitionProduceData>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionProduceData {
    pub index: i32,
    /// A slice of the frame, nothing of it looked at.
    pub records: Option<Bytes>,
}

impl ProduceRequest {
    pub fn decode(body: Bytes, version: i16) -> Result<Self, DecodeError> {
        if !speaks(ApiKey::Produce, version) {
            return Err(DecodeError::UnsupportedVersion { message: "ProduceRequest", version });
        }
        let mut reader = Reader::new(body, ApiKey::Produce.is_flexible(version));
        let transactional_id = reader.nullable_string("transactional id")?;
        let acks = reader.i16("acks")?;
        let timeout_ms = reader.i32("timeout")?;
        let topics = reader.vec(TopicRef::MIN_LEN + 1, "topics", |reader| TopicProduceData::decode(reader, version))?;
        reader.skip_tagged()?;
        Ok(Self { transactional_id, acks, timeout_ms, topics })
    }
}

impl TopicProduceData {
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let topic = TopicRef::read(reader, version)?;
        let partitions = reader.vec(PartitionProduceData::MIN_LEN, "partitions", PartitionProduceData::decode)?;
        reader.skip_tagged()?;
        Ok(Self { topic, partitions })
    }
}

impl PartitionProduceData {
    /// The index and a compact length.
    const MIN_LEN: usize = 5;

    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let index = reader.i32("partition index")?;
        let records = reader.nullable_bytes("records")?;
        reader.skip_tagged()?;
        Ok(Self { index, records })
    }
}
