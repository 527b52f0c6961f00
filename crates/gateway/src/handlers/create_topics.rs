//! CreateTopics. Assignments by hand are taken for their counts: which journals a partition lives on is not a client's to
//! say.

use std::collections::{BTreeMap, BTreeSet};

use tidemark_model::Topic;
use tidemark_model::coordinator::NewTopic;
use tidemark_wire::error::ErrorCode;
use tidemark_wire::messages::create_topics_request::CreatableTopic;
use tidemark_wire::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use tidemark_wire::messages::{CreateTopicsRequest, CreateTopicsResponse, StrBytes, build, wire_uuid};

use super::{Call, configs, control};
use crate::connection::Answer;
use crate::error;

type Refused = (ErrorCode, String);

pub(super) async fn handle(call: Call, request: CreateTopicsRequest) -> Answer {
    let duplicates = duplicates(&request.topics);
    let mut plans: Vec<Result<usize, Refused>> = Vec::with_capacity(request.topics.len());
    let mut topics = Vec::new();
    for topic in &request.topics {
        let plan = match duplicates.contains(topic.name.as_str()) {
            true => Err((ErrorCode::InvalidRequest, "Duplicate topic name.".to_owned())),
            false => new_topic(topic),
        };
        plans.push(plan.map(|new| {
            topics.push(new);
            topics.len() - 1
        }));
    }
    let results = control::retry_each(&call.gateway, control::timeout(request.timeout_ms), topics.len(), || {
        call.gateway.coordinator.create_topics(topics.clone(), request.validate_only)
    })
    .await;
    if !request.validate_only {
        control::seen(&call.gateway, results.iter().flatten()).await;
    }
    call.reply(&build(|response: &mut CreateTopicsResponse| {
        for (topic, plan) in request.topics.iter().zip(plans) {
            let result = plan.and_then(|at| match results.get(at) {
                Some(Ok(changed)) => Ok(&changed.topic),
                Some(Err(error)) => Err((error::of_coordinator(error), error.to_string())),
                None => Err((ErrorCode::UnknownServerError, "the coordinator gave no answer".to_owned())),
            });
            response.topics.push(match result {
                Ok(created) => succeeded(created, request.validate_only),
                Err((code, message)) => failed(&call, topic, code, message),
            });
        }
    }))
}

fn succeeded(created: &Topic, validate_only: bool) -> CreatableTopicResult {
    build(|result: &mut CreatableTopicResult| {
        result.name = StrBytes::from(created.name.as_str());
        result.error_message = None;
        if !validate_only {
            result.topic_id = wire_uuid(created.id.0);
        }
        result.num_partitions = created.partitions.len() as i32;
        result.replication_factor = created.replication_factor;
        let configs = configs::of_topic(created).map(|entry| {
            build(|config: &mut CreatableTopicConfigs| {
                config.name = StrBytes::from(entry.name);
                config.value = entry.value.map(StrBytes::from);
                config.read_only = entry.read_only;
                config.config_source = entry.source.code();
            })
        });
        result.configs = Some(configs.collect());
    })
}

fn failed(call: &Call, topic: &CreatableTopic, code: ErrorCode, message: String) -> CreatableTopicResult {
    build(|result: &mut CreatableTopicResult| {
        result.name = topic.name.clone();
        result.error_code = call.failed(code);
        result.error_message = Some(StrBytes::from(message));
        result.num_partitions = -1;
        result.replication_factor = -1;
        result.configs = Some(Vec::new());
    })
}

fn new_topic(topic: &CreatableTopic) -> Result<NewTopic, Refused> {
    let (partitions, replication_factor) = counts(topic)?;
    let mut configs = BTreeMap::new();
    for config in &topic.configs {
        let name = config.name.to_string();
        let Some(value) = &config.value else {
            return Err((ErrorCode::InvalidConfig, format!("Null value not supported for topic configs: {name}")));
        };
        configs.insert(name, value.to_string());
    }
    Ok(NewTopic { name: topic.name.to_string(), partitions, replication_factor, configs })
}

/// The number of partitions and of replicas, given as such or by an assignment of every replica.
fn counts(topic: &CreatableTopic) -> Result<(i32, i16), Refused> {
    let assignments = &topic.assignments;
    if assignments.is_empty() {
        return Ok((topic.num_partitions, topic.replication_factor));
    }
    for (what, is_set) in
        [("partition count", topic.num_partitions != -1), ("replication factor", topic.replication_factor != -1)]
    {
        if is_set {
            let message = format!("A manual partition assignment was specified, but {what} was not set to -1.");
            return Err((ErrorCode::InvalidRequest, message));
        }
    }
    let invalid = |message: &str| Err((ErrorCode::InvalidReplicaAssignment, message.to_owned()));
    let indexes: BTreeSet<i32> = assignments.iter().map(|assignment| assignment.partition_index).collect();
    if !indexes.iter().copied().eq(0..assignments.len() as i32) {
        return invalid("partitions should be a consecutive 0-based integer sequence");
    }
    let replicas = assignments.first().map_or(0, |assignment| assignment.broker_ids.len());
    if replicas == 0 || assignments.iter().any(|assignment| assignment.broker_ids.len() != replicas) {
        return invalid(
            "the manual partition assignment has partitions with different numbers of replicas, or with none",
        );
    }
    let distinct = |ids: &[i32]| ids.iter().collect::<BTreeSet<_>>().len() == ids.len();
    if !assignments.iter().all(|assignment| distinct(&assignment.broker_ids)) {
        return invalid("the manual partition assignment names a broker twice for one partition");
    }
    Ok((assignments.len() as i32, i16::try_from(replicas).unwrap_or(i16::MAX)))
}

fn duplicates(topics: &[CreatableTopic]) -> BTreeSet<&str> {
    let mut seen = BTreeSet::new();
    topics.iter().map(|topic| topic.name.as_str()).filter(|name| !seen.insert(*name)).collect()
}
