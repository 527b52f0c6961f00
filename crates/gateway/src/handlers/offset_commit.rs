//! OffsetCommit: topics by name, or from version 10 on by id.

use std::time::Duration;

use tidemark_model::group::{CommitOffsets, GroupAnswer, GroupRequest, OffsetToCommit};
use tidemark_model::{GroupError, TopicPartition};
use tidemark_wire::error::ErrorCode;
use tidemark_wire::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use tidemark_wire::messages::{OffsetCommitRequest, OffsetCommitResponse, build};

use super::Call;
use super::groups::{Naming, has_partition};
use crate::connection::Answer;
use crate::error;

/// The first version that names topics by id (KIP-848).
const FIRST_BY_ID: i16 = 10;
/// The first version that members of the protocol of KIP-848 may use.
const FIRST_WITH_EPOCHS: i16 = 9;
/// The versions that say how long the offsets are kept.
const WITH_RETENTION: std::ops::RangeInclusive<i16> = 2..=4;

pub(super) async fn handle(call: Call, request: OffsetCommitRequest) -> Answer {
    let state = call.gateway.cluster.current();
    let naming = Naming { state: &state, by_id: call.version >= FIRST_BY_ID };
    // For each partition in turn its error, or its place among those that are committed.
    let mut plans = Vec::new();
    let mut offsets = Vec::new();
    for topic in &request.topics {
        let found = naming.find(&topic.name, topic.topic_id);
        for partition in &topic.partitions {
            plans.push(match found {
                Ok(topic) if has_partition(topic, partition.partition_index) => {
                    offsets.push(OffsetToCommit {
                        partition: TopicPartition::new(topic.id, partition.partition_index),
                        offset: partition.committed_offset,
                        leader_epoch: partition.committed_leader_epoch,
                        metadata: partition.committed_metadata.as_deref().unwrap_or_default().to_owned(),
                    });
                    Ok(offsets.len() - 1)
                }
                Ok(_) => Err(ErrorCode::UnknownTopicOrPartition),
                Err(code) => Err(code),
            });
        }
    }
    let results = if offsets.is_empty() { Ok(Vec::new()) } else { commit(&call, &request, offsets).await };
    let code = |plan: Result<usize, ErrorCode>| match (plan, &results) {
        (Err(code), _) => code,
        (Ok(_), Err(error)) => error::of_group(error),
        (Ok(at), Ok(results)) => results[at].as_ref().map_or_else(error::of_group, |()| ErrorCode::None),
    };
    let mut codes = plans.into_iter().map(code);
    call.reply(&build(|response: &mut OffsetCommitResponse| {
        for topic in request.topics {
            response.topics.push(build(|answer: &mut OffsetCommitResponseTopic| {
                (answer.name, answer.topic_id) = (topic.name, topic.topic_id);
                let partitions = topic.partitions.iter().zip(&mut codes).map(|(partition, code)| {
                    build(|answer: &mut OffsetCommitResponsePartition| {
                        answer.partition_index = partition.partition_index;
                        answer.error_code = call.failed(code);
                    })
                });
                answer.partitions = partitions.collect();
            }));
        }
    }))
}

/// A result for each of `offsets`.
async fn commit(
    call: &Call,
    request: &OffsetCommitRequest,
    offsets: Vec<OffsetToCommit>,
) -> Result<Vec<Result<(), GroupError>>, GroupError> {
    let count = offsets.len();
    let retention = u64::try_from(request.retention_time_ms).ok().filter(|_| WITH_RETENTION.contains(&call.version));
    let commit = CommitOffsets {
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_ref().map(ToString::to_string),
        generation_or_epoch: request.generation_id_or_member_epoch,
        understands_epochs: call.version >= FIRST_WITH_EPOCHS,
        retention: retention.map(Duration::from_millis),
        offsets,
    };
    let pick = |answer| match answer {
        GroupAnswer::CommitOffsets(results) if results.len() == count => Some(results),
        _ => None,
    };
    // The empty name too is a group here, as in Kafka.
    call.ask(&request.group_id, GroupRequest::CommitOffsets(commit), pick).await
}
