//! The few requests that the tests make by hand, in one or two versions each.

use super::{Connection, Reader, Writer};
use crate::clients::eventually;
use crate::target::target;

/// A topic as Metadata (version 12) tells it.
#[derive(Debug, Clone, Default)]
pub struct Topic {
    pub error: i16,
    pub id: [u8; 16],
    /// Address of the leader and leader epoch, by partition.
    pub leaders: Vec<(String, i32)>,
}

/// What Metadata knows of a topic, without creating it.
pub fn describe_topic(name: &str) -> Topic {
    describe_topic_at(&target().bootstrap, name)
}

/// As a cluster of one's own tells it.
pub fn describe_topic_at(bootstrap: &str, name: &str) -> Topic {
    let body = Writer::new().compact_array(1).raw(&[0; 16]).compact_string(name).tags();
    let body = body.i8(0).i8(0).tags();
    let answer = Connection::open(bootstrap).call(3, 12, &body);
    let mut reader = Reader::new(&answer);
    reader.i32();
    let mut brokers = std::collections::BTreeMap::new();
    for _ in 0..reader.compact_array() {
        let id = reader.i32();
        let host = reader.compact_string().expect("a broker has a host");
        let port = reader.i32();
        reader.compact_string();
        reader.tags();
        brokers.insert(id, format!("{host}:{port}"));
    }
    reader.compact_string();
    reader.i32();
    assert_eq!(reader.compact_array(), 1, "topics in the answer");
    let mut topic = Topic { error: reader.i16(), ..Topic::default() };
    reader.compact_string();
    topic.id = reader.uuid();
    reader.i8();
    let mut partitions = std::collections::BTreeMap::new();
    for _ in 0..reader.compact_array() {
        reader.i16();
        let (index, leader, epoch) = (reader.i32(), reader.i32(), reader.i32());
        for _ in 0..3 {
            for _ in 0..reader.compact_array() {
                reader.i32();
            }
        }
        reader.tags();
        partitions.insert(index, (brokers.get(&leader).cloned().unwrap_or_default(), epoch));
    }
    topic.leaders = partitions.into_values().collect();
    topic
}

/// A topic of one's own whose leaders are known.
pub fn ready_topic(prefix: &str, partitions: i32) -> (String, Topic) {
    let name = crate::clients::topic(prefix, partitions);
    let topic = await_leaders(&name, partitions);
    (name, topic)
}

/// Waits until a topic has leaders for all its partitions.
pub fn await_leaders(name: &str, partitions: i32) -> Topic {
    let mut topic = Topic::default();
    eventually("the topic to have leaders", || {
        topic = describe_topic(name);
        let led = topic.leaders.iter().filter(|(address, _)| !address.is_empty()).count();
        topic.error == 0 && led == partitions as usize
    });
    topic
}

/// One partition's part of a Produce answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Produced {
    pub error: i16,
    pub base_offset: i64,
    pub log_append_time: i64,
}

/// A Produce body of version 9 for one partition.
pub fn produce_body(topic: &str, partition: i32, acks: i16, records: Option<&[u8]>) -> Writer {
    let body = Writer::new().compact_null().i16(acks).i32(30_000);
    let body = body.compact_array(1).compact_string(topic).compact_array(1).i32(partition);
    let body = match records {
        Some(records) => body.compact_bytes(records),
        None => body.compact_null(),
    };
    body.tags().tags().tags()
}

/// Reads the one partition of a Produce answer of version 9.
pub fn produced(answer: &[u8]) -> Produced {
    let mut reader = Reader::new(answer);
    assert_eq!(reader.compact_array(), 1, "topics in the answer");
    reader.compact_string();
    partition_produced(&mut reader)
}

fn partition_produced(reader: &mut Reader<'_>) -> Produced {
    assert_eq!(reader.compact_array(), 1, "partitions in the answer");
    reader.i32();
    Produced { error: reader.i16(), base_offset: reader.i64(), log_append_time: reader.i64() }
}

/// Produces encoded batches with `acks=all`.
pub fn produce(connection: &mut Connection, topic: &str, partition: i32, records: &[u8]) -> Produced {
    produced(&connection.call(0, 9, &produce_body(topic, partition, -1, Some(records))))
}

/// Produces by topic id, version 13.
pub fn produce_by_id(connection: &mut Connection, id: &[u8; 16], partition: i32, records: &[u8]) -> Produced {
    let body = Writer::new().compact_null().i16(-1).i32(30_000);
    let body = body.compact_array(1).raw(id).compact_array(1).i32(partition).compact_bytes(records);
    let answer = connection.call(0, 13, &body.tags().tags().tags());
    let mut reader = Reader::new(&answer);
    assert_eq!(reader.compact_array(), 1, "topics in the answer");
    reader.uuid();
    partition_produced(&mut reader)
}

/// A Fetch of one partition by name, version 12.
#[derive(Debug, Clone)]
pub struct Fetch {
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub session: (i32, i32),
    pub leader_epoch: i32,
    pub partition_max_bytes: i32,
}

impl Default for Fetch {
    /// At once, and without a session.
    fn default() -> Self {
        let max_bytes = 50 << 20;
        Self {
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes,
            session: (0, -1),
            leader_epoch: -1,
            partition_max_bytes: 1 << 20,
        }
    }
}

/// One partition's part of a Fetch answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FetchedPartition {
    pub partition: i32,
    pub error: i16,
    pub high_watermark: i64,
    pub log_start_offset: i64,
    pub records: Vec<u8>,
}

/// A Fetch answer of one topic or none.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    pub error: i16,
    pub session: i32,
    pub partitions: Vec<FetchedPartition>,
}

impl Fetch {
    /// Waits for something to be there, as consumers do.
    pub fn patient() -> Self {
        Self { max_wait_ms: 5_000, min_bytes: 1, ..Self::default() }
    }

    /// The body for partitions and offsets of one topic by name (version 12), or none for an incremental one.
    pub fn body(&self, topic: &str, partitions: &[(i32, i64)]) -> Writer {
        self.body_of(Writer::new().compact_string(topic), partitions)
    }

    /// The body with the topic's id (version 13).
    pub fn body_by_id(&self, id: &[u8; 16], partitions: &[(i32, i64)]) -> Writer {
        self.body_of(Writer::new().raw(id), partitions)
    }

    fn body_of(&self, topic: Writer, partitions: &[(i32, i64)]) -> Writer {
        let body = Writer::new();
        // Version 12 names the replica here, later ones in a tagged field.
        let body = body.i32(-1).i32(self.max_wait_ms).i32(self.min_bytes).i32(self.max_bytes).i8(0);
        let mut body = body.i32(self.session.0).i32(self.session.1);
        if partitions.is_empty() {
            body = body.compact_array(0);
        } else {
            body = body.compact_array(1).raw(&topic.bytes).compact_array(partitions.len());
            for (partition, offset) in partitions {
                body = body.i32(*partition).i32(self.leader_epoch).i64(*offset).i32(-1).i64(-1);
                body = body.i32(self.partition_max_bytes).tags();
            }
            body = body.tags();
        }
        body.compact_array(0).compact_string("").tags()
    }

    pub fn call(&self, connection: &mut Connection, topic: &str, partitions: &[(i32, i64)]) -> Fetched {
        fetched(&connection.call(1, 12, &self.body(topic, partitions)), 12)
    }

    pub fn call_by_id(&self, connection: &mut Connection, id: &[u8; 16], partitions: &[(i32, i64)]) -> Fetched {
        fetched(&connection.call(1, 13, &self.body_by_id(id, partitions)), 13)
    }
}

/// Reads a Fetch answer of version 12 or 13.
pub fn fetched(answer: &[u8], version: i16) -> Fetched {
    let mut reader = Reader::new(answer);
    reader.i32();
    let mut fetched = Fetched { error: reader.i16(), session: reader.i32(), partitions: Vec::new() };
    for _ in 0..reader.compact_array() {
        if version >= 13 {
            reader.uuid();
        } else {
            reader.compact_string();
        }
        for _ in 0..reader.compact_array() {
            let mut partition =
                FetchedPartition { partition: reader.i32(), error: reader.i16(), ..FetchedPartition::default() };
            partition.high_watermark = reader.i64();
            reader.i64();
            partition.log_start_offset = reader.i64();
            for _ in 0..reader.compact_array() {
                reader.i64();
                reader.i64();
                reader.tags();
            }
            reader.i32();
            partition.records = reader.compact_bytes().unwrap_or_default().to_vec();
            reader.tags();
            fetched.partitions.push(partition);
        }
        reader.tags();
    }
    fetched
}

/// Asks for a producer id: error, id, epoch. A server that has only just started may ask for patience.
pub fn init_producer_id(connection: &mut Connection) -> (i16, i64, i16) {
    let body = Writer::new().compact_null().i32(60_000).i64(-1).i16(-1).tags();
    let mut result = (0, 0, 0);
    eventually("producer ids to be given out", || {
        let answer = connection.call(22, 4, &body);
        let mut reader = Reader::new(&answer);
        reader.i32();
        result = (reader.i16(), reader.i64(), reader.i16());
        result.0 != super::code::COORDINATOR_LOAD_IN_PROGRESS
    });
    result
}

/// ListOffsets of one partition (version 7 to 9): error, timestamp, offset.
pub fn list_offsets(
    connection: &mut Connection,
    version: i16,
    topic: &str,
    partition: i32,
    time: i64,
) -> (i16, i64, i64) {
    let body = Writer::new().i32(-1).i8(0).compact_array(1).compact_string(topic);
    let body = body.compact_array(1).i32(partition).i32(-1).i64(time).tags().tags().tags();
    let answer = connection.call(2, version, &body);
    let mut reader = Reader::new(&answer);
    reader.i32();
    assert_eq!(reader.compact_array(), 1, "topics in the answer");
    reader.compact_string();
    assert_eq!(reader.compact_array(), 1, "partitions in the answer");
    reader.i32();
    (reader.i16(), reader.i64(), reader.i64())
}

/// DeleteRecords of one partition: error, low watermark.
pub fn delete_records(connection: &mut Connection, topic: &str, partition: i32, offset: i64) -> (i16, i64) {
    let body = Writer::new().compact_array(1).compact_string(topic);
    let body = body.compact_array(1).i32(partition).i64(offset).tags().tags().i32(30_000).tags();
    let answer = connection.call(21, 2, &body);
    let mut reader = Reader::new(&answer);
    reader.i32();
    assert_eq!(reader.compact_array(), 1, "topics in the answer");
    reader.compact_string();
    assert_eq!(reader.compact_array(), 1, "partitions in the answer");
    reader.i32();
    let low_watermark = reader.i64();
    (reader.i16(), low_watermark)
}

/// OffsetForLeaderEpoch of one partition: error, epoch, end offset.
pub fn offset_for_leader_epoch(connection: &mut Connection, topic: &str, epoch: i32) -> (i16, i32, i64) {
    let body = Writer::new().i32(-1).compact_array(1).compact_string(topic);
    let body = body.compact_array(1).i32(0).i32(-1).i32(epoch).tags().tags().tags();
    let answer = connection.call(23, 4, &body);
    let mut reader = Reader::new(&answer);
    reader.i32();
    assert_eq!(reader.compact_array(), 1, "topics in the answer");
    reader.compact_string();
    assert_eq!(reader.compact_array(), 1, "partitions in the answer");
    let error = reader.i16();
    reader.i32();
    (error, reader.i32(), reader.i64())
}

/// Kinds of what has configs.
pub const TOPIC: i8 = 2;
pub const GROUP: i8 = 32;

pub fn alter_topic_config(connection: &mut Connection, topic: &str, name: &str, value: Option<&str>) -> i16 {
    alter_config(connection, TOPIC, topic, name, value)
}

/// Sets (`Some`) or deletes a config through IncrementalAlterConfigs, and returns the error code.
pub fn alter_config(connection: &mut Connection, kind: i8, resource: &str, name: &str, value: Option<&str>) -> i16 {
    let operation = i8::from(value.is_none());
    let body = Writer::new().compact_array(1).i8(kind).compact_string(resource);
    let body = body.compact_array(1).compact_string(name).i8(operation);
    let body = match value {
        Some(value) => body.compact_string(value),
        None => body.compact_null(),
    };
    let answer = connection.call(44, 1, &body.tags().tags().i8(0).tags());
    let mut reader = Reader::new(&answer);
    reader.i32();
    assert_eq!(reader.compact_array(), 1, "resources in the answer");
    reader.i16()
}

pub fn topic_config(connection: &mut Connection, topic: &str, name: &str) -> (Option<String>, i8) {
    config(connection, TOPIC, topic, name)
}

/// A config: its value and Kafka's number for where it comes from.
pub fn config(connection: &mut Connection, kind: i8, resource: &str, name: &str) -> (Option<String>, i8) {
    let body = Writer::new().compact_array(1).i8(kind).compact_string(resource);
    let body = body.compact_array(1).compact_string(name).tags().i8(0).i8(0).tags();
    let answer = connection.call(32, 4, &body);
    let mut reader = Reader::new(&answer);
    reader.i32();
    assert_eq!(reader.compact_array(), 1, "resources in the answer");
    assert_eq!(reader.i16(), 0, "error of the resource");
    reader.compact_string();
    reader.i8();
    reader.compact_string();
    assert_eq!(reader.compact_array(), 1, "configs in the answer");
    assert_eq!(reader.compact_string().as_deref(), Some(name));
    let value = reader.compact_string();
    reader.i8();
    (value, reader.i8())
}
