//! What consumers of the classic protocol tell each other through the coordinator: subscriptions and assignments.

use crate::raw::{Reader, Writer};

/// A subscription to topics, version 1, owning nothing.
pub fn subscription(topics: &[&str]) -> Vec<u8> {
    let mut writer = Writer::new().i16(1).i32(topics.len() as i32);
    for topic in topics {
        writer = writer.string(topic);
    }
    // No user data, nothing owned.
    writer.i32(-1).i32(0).bytes
}

/// An assignment of partitions of one topic, version 1.
pub fn assignment(topic: &str, partitions: &[i32]) -> Vec<u8> {
    let mut writer = Writer::new().i16(1).i32(1).string(topic).i32(partitions.len() as i32);
    for partition in partitions {
        writer = writer.i32(*partition);
    }
    writer.i32(-1).bytes
}

/// The partitions of an assignment, by topic.
pub fn assigned(bytes: &[u8]) -> Vec<(String, Vec<i32>)> {
    if bytes.is_empty() {
        return Vec::new();
    }
    let mut reader = Reader::new(bytes);
    reader.i16();
    let topics = reader.i32();
    (0..topics)
        .map(|_| {
            let topic = reader.string();
            let partitions = reader.i32();
            (topic, (0..partitions).map(|_| reader.i32()).collect())
        })
        .collect()
}
