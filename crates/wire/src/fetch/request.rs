//! The Fetch request.

use bytes::Bytes;
use kafka_wire_core::StrBytes;
use tidemark_model::broker::Isolation;

use crate::api::{ApiKey, speaks};
use crate::codec::{DecodeError, Reader};
use crate::topic::TopicRef;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// -1 for a consumer. A Kafka broker that replicates sends its id: there is nothing here for it to replicate.
    pub replica_id: i32,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub isolation: Isolation,
    /// 0 to begin a session, or to fetch without one. Below version 7 always 0.
    pub session_id: i32,
    /// -1 for a full fetch without a session, 0 to begin one (KIP-227). Below version 7 always -1.
    pub session_epoch: i32,
    /// In a session: what was added or changed. Otherwise all of it.
    pub topics: Vec<FetchTopic>,
    /// What the session no longer has.
    pub forgotten: Vec<ForgottenTopic>,
    /// Empty where the consumer has none. Sent from version 11 on.
    pub rack_id: StrBytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchTopic {
    pub topic: TopicRef,
    pub partitions: Vec<FetchPartition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchPartition {
    pub index: i32,
    /// None where the client does not know it, and below version 9.
    pub current_leader_epoch: Option<i32>,
    pub fetch_offset: i64,
    /// The epoch of the last record the client has. None where it has none, and below version 12.
    pub last_fetched_epoch: Option<i32>,
    pub max_bytes: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgottenTopic {
    pub topic: TopicRef,
    pub partitions: Vec<i32>,
}

impl FetchRequest {
    pub fn decode(body: Bytes, version: i16) -> Result<Self, DecodeError> {
        if !speaks(ApiKey::Fetch, version) {
            return Err(DecodeError::UnsupportedVersion { message: "FetchRequest", version });
        }
        let mut reader = Reader::new(body, ApiKey::Fetch.is_flexible(version));
        let mut replica_id = if version <= 14 { reader.i32("replica id")? } else { -1 };
        let max_wait_ms = reader.i32("max wait")?;
        let min_bytes = reader.i32("min bytes")?;
        let max_bytes = reader.i32("max bytes")?;
        let isolation = isolation(&mut reader)?;
        let session_id = if version >= 7 { reader.i32("session id")? } else { 0 };
        let session_epoch = if version >= 7 { reader.i32("session epoch")? } else { -1 };
        let topics = reader.vec(TopicRef::MIN_LEN + 1, "topics", |reader| FetchTopic::decode(reader, version))?;
        let forgotten = if version >= 7 {
            reader.vec(TopicRef::MIN_LEN + 1, "forgotten topics", |reader| ForgottenTopic::decode(reader, version))?
        } else {
            Vec::new()
        };
        let rack_id = if version >= 11 { reader.string("rack id")? } else { StrBytes::default() };
        // Tag 0 is the id of a KRaft cluster, which only its own nodes send; 1 is the replica state (KIP-903).
        reader.tagged(|tag, field| {
            if tag == 1 && version >= 15 {
                replica_id = field.i32("replica id")?;
                field.i64("replica epoch")?;
                field.skip_tagged()?;
            }
            Ok(())
        })?;
        Ok(Self {
            replica_id,
            max_wait_ms,
            min_bytes,
            max_bytes,
            isolation,
            session_id,
            session_epoch,
            topics,
            forgotten,
            rack_id,
        })
    }
}

impl FetchTopic {
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let topic = TopicRef::read(reader, version)?;
        let min_len = FetchPartition::MIN_LEN;
        let partitions = reader.vec(min_len, "partitions", |reader| FetchPartition::decode(reader, version))?;
        reader.skip_tagged()?;
        Ok(Self { topic, partitions })
    }
}

impl FetchPartition {
    /// The fields of version 4.
    const MIN_LEN: usize = 16;

    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let index = reader.i32("partition index")?;
        let current_leader_epoch = epoch(reader, version >= 9, "current leader epoch")?;
        let fetch_offset = reader.i64("fetch offset")?;
        let last_fetched_epoch = epoch(reader, version >= 12, "last fetched epoch")?;
        if version >= 5 {
            reader.i64("log start offset")?;
        }
        let max_bytes = reader.i32("partition max bytes")?;
        // The directory (KIP-853) and the high watermark (KIP-1166) of a replica that fetches. A consumer has neither.
        reader.skip_tagged()?;
        Ok(Self { index, current_leader_epoch, fetch_offset, last_fetched_epoch, max_bytes })
    }
}

impl ForgottenTopic {
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let topic = TopicRef::read(reader, version)?;
        let partitions = reader.vec(4, "forgotten partitions", |reader| reader.i32("partition index"))?;
        reader.skip_tagged()?;
        Ok(Self { topic, partitions })
    }
}

/// -1 stands for an epoch that is not known.
fn epoch(reader: &mut Reader, sent: bool, what: &'static str) -> Result<Option<i32>, DecodeError> {
    let epoch = if sent { reader.i32(what)? } else { -1 };
    Ok((epoch >= 0).then_some(epoch))
}

fn isolation(reader: &mut Reader) -> Result<Isolation, DecodeError> {
    let at = reader.position();
    match reader.i8("isolation level")? {
        0 => Ok(Isolation::ReadUncommitted),
        1 => Ok(Isolation::ReadCommitted),
        value => Err(DecodeError::BadValue { what: "isolation level", at, value: i64::from(value) }),
    }
}
