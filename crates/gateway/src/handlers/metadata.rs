//! Metadata: brokers, topics and partitions, and the creation of topics on their first use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidemark_model::coordinator::NewTopic;
use tidemark_model::{ClusterState, CoordinatorError, Topic, TopicId};
use tidemark_wire::error::ErrorCode;
use tidemark_wire::messages::metadata_request::MetadataRequestTopic;
use tidemark_wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use tidemark_wire::messages::{MetadataRequest, MetadataResponse, StrBytes, build, uuid, wire_uuid};

use super::{Call, control};
use crate::connection::Answer;
use crate::{error, metadata, metrics};

/// Operations that were not asked for.
const NOT_ASKED: i32 = i32::MIN;
/// What Kafka allows on a topic where nothing is forbidden: read, write, create, delete, alter, describe, describe configs
/// and alter configs, each the bit of its code (KIP-430).
pub(super) const TOPIC_OPERATIONS: i32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// On the cluster: create, alter, describe, cluster action, describe configs, alter configs and idempotent write.
pub(super) const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
/// The first version that may name topics by id.
const FIRST_BY_ID: i16 = 12;
/// How long a request waits for topics to be created. Clients ask again.
const CREATE_DEADLINE: Duration = Duration::from_secs(10);
/// Topics created by one request. One that names more gets the others at its next try.
const MAX_CREATED: usize = 100;

pub(super) async fn handle(call: Call, request: MetadataRequest) -> Answer {
    let mut state = call.gateway.cluster.current();
    // In version 0 an empty list stands for all topics, later on null does.
    let asked = request.topics.as_ref().filter(|topics| call.version > 0 || !topics.is_empty());
    let mut failures = BTreeMap::new();
    if let Some(asked) = asked
        && request.allow_auto_topic_creation
        && call.gateway.settings.auto_create_topics
    {
        let missing = missing(&state, asked);
        if !missing.is_empty() {
            failures = create(&call, missing).await;
            state = call.gateway.cluster.current();
        }
    }
    call.reply(&build(|response: &mut MetadataResponse| {
        response.brokers = brokers(&state);
        response.cluster_id = Some(StrBytes::from(state.cluster_id.as_str()));
        response.controller_id = metadata::controller(&state);
        response.cluster_authorized_operations =
            if request.include_cluster_authorized_operations { CLUSTER_OPERATIONS } else { NOT_ASKED };
        let operations = if request.include_topic_authorized_operations { TOPIC_OPERATIONS } else { NOT_ASKED };
        response.topics = match asked {
            None => state.topics_by_name().map(|known| topic(&state, known, operations)).collect(),
            Some(asked) => asked.iter().map(|one| self::asked(&call, &state, one, &failures, operations)).collect(),
        };
    }))
}

/// The names that no topic has, and could have.
fn missing(state: &ClusterState, asked: &[MetadataRequestTopic]) -> BTreeSet<String> {
    let names = asked.iter().filter(|topic| topic.topic_id.is_zero()).filter_map(|topic| topic.name.as_ref());
    let missing = names.filter(|name| state.topic_named(name).is_none() && metadata::is_valid_name(name));
    missing.take(MAX_CREATED).map(ToString::to_string).collect()
}

/// Creates topics with the cluster's defaults, and tells why which were not.
async fn create(call: &Call, names: BTreeSet<String>) -> BTreeMap<String, ErrorCode> {
    let names: Vec<String> = names.into_iter().collect();
    let new = |name: &String| NewTopic {
        name: name.clone(),
        partitions: -1,
        replication_factor: -1,
        configs: BTreeMap::new(),
    };
    let topics: Vec<NewTopic> = names.iter().map(new).collect();
    let results = control::retry_each(&call.gateway, CREATE_DEADLINE, topics.len(), || {
        call.gateway.coordinator.create_topics(topics.clone(), false)
    })
    .await;
    control::seen(&call.gateway, results.iter().flatten()).await;
    let mut failures = BTreeMap::new();
    for (name, result) in names.into_iter().zip(results) {
        match result {
            Ok(_) => {
                tracing::info!(topic = name, "created a topic on its first use");
                metrics::topic_auto_created();
            }
            // Another client was first. This gateway will see it soon, and the client asks again until then.
            Err(CoordinatorError::TopicExists(_) | CoordinatorError::Unavailable(_)) => {
                failures.insert(name, ErrorCode::LeaderNotAvailable);
            }
            Err(error) => {
                tracing::info!(topic = name, %error, "a topic was not created on its first use");
                failures.insert(name, error::of_coordinator(&error));
            }
        }
    }
    failures
}

fn asked(
    call: &Call,
    state: &ClusterState,
    asked: &MetadataRequestTopic,
    failures: &BTreeMap<String, ErrorCode>,
    operations: i32,
) -> MetadataResponseTopic {
    let failed = |code: ErrorCode| {
        build(|answer: &mut MetadataResponseTopic| {
            answer.error_code = call.failed(code);
            answer.name = asked.name.clone();
            answer.topic_id = asked.topic_id;
            answer.topic_authorized_operations = NOT_ASKED;
        })
    };
    if !asked.topic_id.is_zero() {
        if call.version < FIRST_BY_ID {
            return failed(ErrorCode::InvalidRequest);
        }
        return match state.topic(TopicId(uuid(asked.topic_id))) {
            Some(known) => topic(state, known, operations),
            None => {
                let mut unknown = failed(ErrorCode::UnknownTopicId);
                unknown.name = None;
                unknown
            }
        };
    }
    let Some(name) = &asked.name else { return failed(ErrorCode::InvalidRequest) };
    match state.topic_named(name) {
        Some(known) => topic(state, known, operations),
        None if !metadata::is_valid_name(name) => failed(ErrorCode::InvalidTopicException),
        None => failed(failures.get(name.as_str()).copied().unwrap_or(ErrorCode::UnknownTopicOrPartition)),
    }
}

fn topic(state: &ClusterState, known: &Arc<Topic>, operations: i32) -> MetadataResponseTopic {
    build(|answer: &mut MetadataResponseTopic| {
        answer.name = Some(StrBytes::from(known.name.as_str()));
        answer.topic_id = wire_uuid(known.id.0);
        answer.topic_authorized_operations = operations;
        answer.partitions = (0..known.partitions.len() as i32).map(|index| partition(state, known, index)).collect();
    })
}

fn partition(state: &ClusterState, topic: &Topic, index: i32) -> MetadataResponsePartition {
    let view = metadata::partition(state, topic, index);
    build(|answer: &mut MetadataResponsePartition| {
        answer.error_code = view.error.code();
        answer.partition_index = index;
        answer.leader_id = view.leader;
        answer.leader_epoch = view.leader_epoch;
        answer.replica_nodes = view.replicas;
        answer.isr_nodes = view.isr;
        answer.offline_replicas = view.offline;
    })
}

fn brokers(state: &ClusterState) -> Vec<MetadataResponseBroker> {
    let endpoints = metadata::endpoints(state);
    let brokers = endpoints.map(|endpoint| {
        build(|broker: &mut MetadataResponseBroker| {
            broker.node_id = endpoint.node_id;
            broker.host = StrBytes::from(endpoint.host);
            broker.port = endpoint.port;
            broker.rack = endpoint.rack.map(StrBytes::from);
        })
    });
    brokers.collect()
}
