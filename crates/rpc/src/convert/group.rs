//! `group.proto`.

mod answer;
mod error;
mod request;

use tidemark_model::group::TopicPartitions;

use super::{Malformed, all, each, required};
use crate::proto as wire;

impl From<TopicPartitions> for wire::TopicPartitions {
    fn from(TopicPartitions { topic, partitions }: TopicPartitions) -> Self {
        Self { topic: Some(topic.into()), partitions }
    }
}

impl TryFrom<wire::TopicPartitions> for TopicPartitions {
    type Error = Malformed;

    fn try_from(wire::TopicPartitions { topic, partitions }: wire::TopicPartitions) -> Result<Self, Malformed> {
        Ok(Self { topic: required(topic, "topic")?, partitions })
    }
}

/// A list that may be absent, which is not the same as an empty one.
fn to_list(topics: Option<Vec<TopicPartitions>>) -> Option<wire::TopicPartitionsList> {
    topics.map(|topics| wire::TopicPartitionsList { topics: all(topics) })
}

fn from_list(list: Option<wire::TopicPartitionsList>) -> Result<Option<Vec<TopicPartitions>>, Malformed> {
    list.map(|wire::TopicPartitionsList { topics }| each(topics)).transpose()
}
