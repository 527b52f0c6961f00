//! CreatePartitions. As with topics, an assignment is taken for its count.

use std::collections::BTreeMap;

use tidemark_model::coordinator::{Changed, TopicRef};
use tidemark_wire::error::ErrorCode;
use tidemark_wire::messages::create_partitions_request::CreatePartitionsTopic;
use tidemark_wire::messages::create_partitions_response::CreatePartitionsTopicResult;
use tidemark_wire::messages::{CreatePartitionsRequest, CreatePartitionsResponse, StrBytes, build};

use super::{Call, control};
use crate::connection::Answer;
use crate::error;

pub(super) async fn handle(call: Call, request: CreatePartitionsRequest) -> Answer {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.as_str()).or_default() += 1;
    }
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let twice = times.get(topic.name.as_str()).is_some_and(|times| *times > 1);
        results.push(match twice {
            true => Err((ErrorCode::InvalidRequest, "Duplicate topic in request.".to_owned())),
            false => create(&call, &request, topic).await,
        });
    }
    if !request.validate_only {
        control::seen(&call.gateway, results.iter().flatten()).await;
    }
    call.reply(&build(|response: &mut CreatePartitionsResponse| {
        for (topic, result) in request.topics.iter().zip(results) {
            response.results.push(build(|answer: &mut CreatePartitionsTopicResult| {
                answer.name = topic.name.clone();
                if let Err((code, message)) = result {
                    answer.error_code = call.failed(code);
                    answer.error_message = Some(StrBytes::from(message));
                }
            }));
        }
    }))
}

async fn create(
    call: &Call,
    request: &CreatePartitionsRequest,
    topic: &CreatePartitionsTopic,
) -> Result<Changed, (ErrorCode, String)> {
    let state = call.gateway.cluster.current();
    let present = state.topic_named(&topic.name).map(|topic| topic.partitions.len() as i32);
    if let (Some(assignments), Some(present)) = (&topic.assignments, present) {
        let added = topic.count.saturating_sub(present);
        if added > 0 && assignments.len() as i32 != added {
            let given = assignments.len();
            let message = format!("Increasing the number of partitions by {added} but {given} assignments provided.");
            return Err((ErrorCode::InvalidReplicaAssignment, message));
        }
    }
    let deadline = control::timeout(request.timeout_ms);
    let changed = control::retry(&call.gateway, deadline, || {
        let topic_ref = TopicRef::Name(topic.name.to_string());
        call.gateway.coordinator.create_partitions(topic_ref, topic.count, request.validate_only)
    });
    changed.await.map_err(|error| (error::of_coordinator(&error), error.to_string()))
}
