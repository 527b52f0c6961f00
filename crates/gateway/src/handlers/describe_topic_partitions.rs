//! DescribeTopicPartitions (KIP-966): topics by name, page by page.

use std::collections::BTreeSet;

use tidemark_model::{ClusterState, Topic};
use tidemark_wire::error::ErrorCode;
use tidemark_wire::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use tidemark_wire::messages::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, StrBytes, build, wire_uuid,
};

use super::Call;
use super::metadata::TOPIC_OPERATIONS;
use crate::connection::Answer;
use crate::metadata;

/// The most partitions of one answer (`max.request.partition.size.limit`).
const MAX_PARTITIONS: usize = 2_000;

pub(super) fn handle(call: &Call, request: &DescribeTopicPartitionsRequest) -> Answer {
    let state = call.gateway.cluster.current();
    // An empty list stands for all topics.
    let names: BTreeSet<&str> = match request.topics.is_empty() {
        true => state.topics_by_name().map(|topic| topic.name.as_str()).collect(),
        false => request.topics.iter().map(|topic| topic.name.as_str()).collect(),
    };
    let from = request.cursor.as_ref().map(|cursor| (cursor.topic_name.as_str(), cursor.partition_index));
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, MAX_PARTITIONS);
    call.reply(&build(|response: &mut DescribeTopicPartitionsResponse| {
        let mut left = limit;
        for name in names {
            let first = match from {
                Some((from, _)) if name < from => continue,
                Some((from, index)) if name == from => index.max(0),
                _ => 0,
            };
            let Some(known) = state.topic_named(name) else {
                response.topics.push(unknown(call, name));
                continue;
            };
            let count = known.partitions.len() as i32;
            if left == 0 {
                response.next_cursor = Some(cursor(name, first));
                return;
            }
            let last = count.min(first.saturating_add(left as i32));
            response.topics.push(topic(&state, known, first..last));
            left -= usize::try_from(last - first).unwrap_or(0);
            if last < count {
                response.next_cursor = Some(cursor(name, last));
                return;
            }
        }
    }))
}

fn unknown(call: &Call, name: &str) -> DescribeTopicPartitionsResponseTopic {
    let code = match metadata::is_valid_name(name) {
        true => ErrorCode::UnknownTopicOrPartition,
        false => ErrorCode::InvalidTopicException,
    };
    build(|topic: &mut DescribeTopicPartitionsResponseTopic| {
        topic.name = Some(StrBytes::from(name));
        topic.error_code = call.failed(code);
    })
}

fn topic(state: &ClusterState, known: &Topic, indexes: std::ops::Range<i32>) -> DescribeTopicPartitionsResponseTopic {
    build(|topic: &mut DescribeTopicPartitionsResponseTopic| {
        topic.name = Some(StrBytes::from(known.name.as_str()));
        topic.topic_id = wire_uuid(known.id.0);
        topic.topic_authorized_operations = TOPIC_OPERATIONS;
        topic.partitions = indexes.map(|index| partition(state, known, index)).collect();
    })
}

fn partition(state: &ClusterState, topic: &Topic, index: i32) -> DescribeTopicPartitionsResponsePartition {
    let view = metadata::partition(state, topic, index);
    build(|answer: &mut DescribeTopicPartitionsResponsePartition| {
        answer.error_code = view.error.code();
        answer.partition_index = index;
        answer.leader_id = view.leader;
        answer.leader_epoch = view.leader_epoch;
        answer.replica_nodes = view.replicas;
        answer.isr_nodes = view.isr;
        // Only in-sync replicas are ever elected here: there are no others that are eligible.
        answer.eligible_leader_replicas = Some(Vec::new());
        answer.last_known_elr = Some(Vec::new());
        answer.offline_replicas = view.offline;
    })
}

fn cursor(topic: &str, partition: i32) -> Cursor {
    build(|cursor: &mut Cursor| {
        cursor.topic_name = StrBytes::from(topic);
        cursor.partition_index = partition;
    })
}
