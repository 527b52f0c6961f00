//! DeleteTopics, by name or, from version 6 on, by id.

use std::collections::BTreeMap;

use tidemark_model::coordinator::TopicRef;
use tidemark_model::{CoordinatorError, TopicId};
use tidemark_wire::error::ErrorCode;
use tidemark_wire::messages::delete_topics_request::DeleteTopicState;
use tidemark_wire::messages::delete_topics_response::DeletableTopicResult;
use tidemark_wire::messages::{DeleteTopicsRequest, DeleteTopicsResponse, StrBytes, build, uuid, wire_uuid};

use super::{Call, control};
use crate::connection::Answer;
use crate::error;

/// The first version that may name topics by id.
const FIRST_BY_ID: i16 = 6;

pub(super) async fn handle(call: Call, request: DeleteTopicsRequest) -> Answer {
    let asked: Vec<DeleteTopicState> = if call.version >= FIRST_BY_ID {
        request.topics
    } else {
        let by_name = |name| build(|topic: &mut DeleteTopicState| topic.name = Some(name));
        request.topic_names.into_iter().map(by_name).collect()
    };
    let mut times: BTreeMap<_, usize> = BTreeMap::new();
    for topic in &asked {
        *times.entry((topic.name.clone(), topic.topic_id)).or_default() += 1;
    }
    let mut plans = Vec::with_capacity(asked.len());
    let mut topics = Vec::new();
    for topic in &asked {
        let twice = times.get(&(topic.name.clone(), topic.topic_id)).is_some_and(|times| *times > 1);
        let plan = match (&topic.name, topic.topic_id.is_zero()) {
            _ if twice => Err("Duplicate topic in the request."),
            (Some(_), false) => Err("You may not specify both topic name and topic id."),
            (None, true) => Err("Neither topic name nor id were specified."),
            (Some(name), true) => Ok(TopicRef::Name(name.to_string())),
            (None, false) => Ok(TopicRef::Id(TopicId(uuid(topic.topic_id)))),
        };
        plans.push(plan.map(|topic| {
            topics.push(topic);
            topics.len() - 1
        }));
    }
    let results = control::retry_each(&call.gateway, control::timeout(request.timeout_ms), topics.len(), || {
        call.gateway.coordinator.delete_topics(topics.clone())
    })
    .await;
    control::seen(&call.gateway, results.iter().flatten()).await;
    call.reply(&build(|response: &mut DeleteTopicsResponse| {
        for (topic, plan) in asked.iter().zip(plans) {
            response.responses.push(build(|result: &mut DeletableTopicResult| {
                result.name = topic.name.clone();
                result.topic_id = topic.topic_id;
                let failure = match plan.map(|at| results.get(at)) {
                    Ok(Some(Ok(changed))) => {
                        result.name = Some(StrBytes::from(changed.topic.name.as_str()));
                        result.topic_id = wire_uuid(changed.topic.id.0);
                        return;
                    }
                    Ok(Some(Err(CoordinatorError::UnknownTopic(message)))) if topic.name.is_none() => {
                        (ErrorCode::UnknownTopicId, message.clone())
                    }
                    Ok(Some(Err(error))) => (error::of_coordinator(error), error.to_string()),
                    Ok(None) => (ErrorCode::UnknownServerError, "the coordinator gave no answer".to_owned()),
                    Err(message) => (ErrorCode::InvalidRequest, message.to_owned()),
                };
                result.error_code = call.failed(failure.0);
                result.error_message = Some(StrBytes::from(failure.1));
            }));
        }
    }))
}
