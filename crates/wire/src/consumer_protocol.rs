//! What consumers of the classic group protocol tell each other through JoinGroup and SyncGroup: the subscription of a
//! member, and what its leader assigned to it. Brokers pass both on unread, except where a member of the classic protocol
//! lives in a consumer group (KIP-848).
//!
//! Both begin with their version. Versions only ever append fields, so a newer version is read as the newest known one, and
//! what is left over is ignored, as Kafka's clients do.

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{DecodeError, EncodeError, Reader};

/// The newest version of both messages in Kafka 4.2.
pub const HIGHEST_VERSION: i16 = 3;

/// A generation that a member does not know.
const NO_GENERATION: i32 = -1;
/// The length of a topic's name and the count of its partitions.
const MIN_TOPIC_PARTITIONS: usize = 6;

/// Partitions of a topic, which this protocol calls by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPartitions {
    pub topic: String,
    pub partitions: Vec<i32>,
}

/// The metadata of a member in JoinGroup, where the protocol's type is `consumer`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub topics: Vec<String>,
    /// What the assignor adds for itself.
    pub user_data: Option<Bytes>,
    /// What the member has now: from version 1 on.
    pub owned: Vec<TopicPartitions>,
    /// The generation that gave it: from version 2 on, else -1.
    pub generation: i32,
    /// From version 3 on.
    pub rack: Option<String>,
}

/// What SyncGroup gives to a member, where the protocol's type is `consumer`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    pub partitions: Vec<TopicPartitions>,
    pub user_data: Option<Bytes>,
}

impl Default for Subscription {
    fn default() -> Self {
        Self { topics: Vec::new(), user_data: None, owned: Vec::new(), generation: NO_GENERATION, rack: None }
    }
}

impl Subscription {
    /// The version in the bytes may be newer than [`HIGHEST_VERSION`]; the fields that are known are read.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let (version, mut reader) = open(bytes, "ConsumerProtocolSubscription")?;
        let topics = reader.vec(2, "topics", |reader| Ok(reader.string("topic")?.into_string()))?;
        let mut subscription = Self { topics, user_data: reader.nullable_bytes("user data")?, ..Self::default() };
        if version >= 1 {
            subscription.owned = topic_partitions(&mut reader, "owned partitions")?;
        }
        if version >= 2 {
            subscription.generation = reader.i32("generation")?;
        }
        if version >= 3 {
            subscription.rack = reader.nullable_string("rack")?.map(|rack| rack.into_string());
        }
        Ok(subscription)
    }

    /// What the version does not have is left out.
    pub fn encode(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut into = begin(version, "ConsumerProtocolSubscription")?;
        put_count(&mut into, self.topics.len(), "topics")?;
        for topic in &self.topics {
            put_string(&mut into, topic, "topic")?;
        }
        put_bytes(&mut into, self.user_data.as_ref(), "user data")?;
        if version >= 1 {
            put_topic_partitions(&mut into, &self.owned, "owned partitions")?;
        }
        if version >= 2 {
            into.put_i32(self.generation);
        }
        if version >= 3 {
            match &self.rack {
                Some(rack) => put_string(&mut into, rack, "rack")?,
                None => into.put_i16(-1),
            }
        }
        Ok(into.freeze())
    }
}

impl Assignment {
    /// The version in the bytes may be newer than [`HIGHEST_VERSION`]; all versions so far have the same fields.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let (_, mut reader) = open(bytes, "ConsumerProtocolAssignment")?;
        let partitions = topic_partitions(&mut reader, "assigned partitions")?;
        Ok(Self { partitions, user_data: reader.nullable_bytes("user data")? })
    }

    pub fn encode(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut into = begin(version, "ConsumerProtocolAssignment")?;
        put_topic_partitions(&mut into, &self.partitions, "assigned partitions")?;
        put_bytes(&mut into, self.user_data.as_ref(), "user data")?;
        Ok(into.freeze())
    }
}

/// The version that the bytes begin with, for who answers in the same one. None above [`HIGHEST_VERSION`] is returned.
pub fn version_of(bytes: &[u8]) -> Option<i16> {
    let version = i16::from_be_bytes(*bytes.first_chunk()?);
    (version >= 0).then(|| version.min(HIGHEST_VERSION))
}

fn open(bytes: Bytes, message: &'static str) -> Result<(i16, Reader), DecodeError> {
    let mut reader = Reader::new(bytes, false);
    let version = reader.i16("version")?;
    if version < 0 {
        return Err(DecodeError::UnsupportedVersion { message, version });
    }
    Ok((version, reader))
}

fn topic_partitions(reader: &mut Reader, what: &'static str) -> Result<Vec<TopicPartitions>, DecodeError> {
    reader.vec(MIN_TOPIC_PARTITIONS, what, |reader| {
        let topic = reader.string("topic")?.into_string();
        Ok(TopicPartitions { topic, partitions: reader.vec(4, "partitions", |reader| reader.i32("partition"))? })
    })
}

fn begin(version: i16, message: &'static str) -> Result<BytesMut, EncodeError> {
    if !(0..=HIGHEST_VERSION).contains(&version) {
        return Err(EncodeError::UnsupportedVersion { message, version });
    }
    let mut into = BytesMut::new();
    into.put_i16(version);
    Ok(into)
}

fn put_count(into: &mut BytesMut, count: usize, what: &'static str) -> Result<(), EncodeError> {
    let fits = i32::try_from(count).map_err(|_| too_long(what, count, i32::MAX as usize))?;
    into.put_i32(fits);
    Ok(())
}

fn put_string(into: &mut BytesMut, text: &str, what: &'static str) -> Result<(), EncodeError> {
    let length = i16::try_from(text.len()).map_err(|_| too_long(what, text.len(), i16::MAX as usize))?;
    into.put_i16(length);
    into.put_slice(text.as_bytes());
    Ok(())
}

fn put_bytes(into: &mut BytesMut, bytes: Option<&Bytes>, what: &'static str) -> Result<(), EncodeError> {
    let Some(bytes) = bytes else {
        into.put_i32(-1);
        return Ok(());
    };
    put_count(into, bytes.len(), what)?;
    into.put_slice(bytes);
    Ok(())
}

fn put_topic_partitions(
    into: &mut BytesMut,
    topics: &[TopicPartitions],
    what: &'static str,
) -> Result<(), EncodeError> {
    put_count(into, topics.len(), what)?;
    for topic in topics {
        put_string(into, &topic.topic, "topic")?;
        put_count(into, topic.partitions.len(), "partitions")?;
        topic.partitions.iter().for_each(|partition| into.put_i32(*partition));
    }
    Ok(())
}

fn too_long(what: &'static str, length: usize, max: usize) -> EncodeError {
    EncodeError::TooLong { what, length, max }
}

#[cfg(test)]
mod tests;
