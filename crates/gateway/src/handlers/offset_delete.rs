//! OffsetDelete (KIP-496).

use tidemark_model::group::{GroupAnswer, GroupRequest};
use tidemark_model::{GroupError, TopicPartition};
use tidemark_wire::error::ErrorCode;
use tidemark_wire::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use tidemark_wire::messages::{OffsetDeleteRequest, OffsetDeleteResponse, build};

use super::Call;
use super::groups::{has_partition, named};
use crate::connection::Answer;
use crate::error;

pub(super) async fn handle(call: Call, request: OffsetDeleteRequest) -> Answer {
    let state = call.gateway.cluster.current();
    // For each partition in turn its place among those that are deleted, if it exists.
    let mut plans = Vec::new();
    let mut partitions = Vec::new();
    for topic in &request.topics {
        let found = state.topic_named(&topic.name);
        for partition in &topic.partitions {
            let found = found.filter(|topic| has_partition(topic, partition.partition_index));
            plans.push(found.map(|topic| {
                partitions.push(TopicPartition::new(topic.id, partition.partition_index));
                partitions.len() - 1
            }));
        }
    }
    let results = delete(&call, &request.group_id, partitions).await;
    call.reply(&build(|response: &mut OffsetDeleteResponse| match results {
        Ok(results) => {
            let mut plans = plans.into_iter();
            for topic in request.topics {
                response.topics.push(build(|answer: &mut OffsetDeleteResponseTopic| {
                    answer.name = topic.name;
                    let partitions = topic.partitions.iter().zip(&mut plans).map(|(partition, plan)| {
                        let code = match plan {
                            Some(at) => results[at].as_ref().map_or_else(error::of_group, |()| ErrorCode::None),
                            None => ErrorCode::UnknownTopicOrPartition,
                        };
                        build(|answer: &mut OffsetDeleteResponsePartition| {
                            answer.partition_index = partition.partition_index;
                            answer.error_code = call.failed(code);
                        })
                    });
                    answer.partitions = partitions.collect();
                }));
            }
        }
        Err(error) => response.error_code = call.failed(error::of_group(&error)),
    }))
}

/// A result for each of `partitions`. The group is asked also for none: whether it exists is its coordinator's to say.
async fn delete(
    call: &Call,
    group: &str,
    partitions: Vec<TopicPartition>,
) -> Result<Vec<Result<(), GroupError>>, GroupError> {
    named(group)?;
    let count = partitions.len();
    let pick = |answer| match answer {
        GroupAnswer::DeleteOffsets(results) if results.len() == count => Some(results),
        _ => None,
    };
    call.ask(group, GroupRequest::DeleteOffsets(partitions), pick).await
}
