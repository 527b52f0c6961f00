//! IncrementalAlterConfigs (KIP-339), for topics and groups.

use std::collections::BTreeSet;

use tidemark_model::coordinator::{Changed, ConfigChange, TopicRef};
use tidemark_model::group::{GroupAnswer, GroupRequest};
use tidemark_wire::error::ErrorCode;
use tidemark_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use tidemark_wire::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use tidemark_wire::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, StrBytes, build};

use super::describe_configs::{BROKER, GROUP, TOPIC, check_broker};
use super::{Call, control};
use crate::connection::Answer;
use crate::{error, metadata};

/// The operations of KIP-339.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Refused = (ErrorCode, String);

pub(super) async fn handle(call: Call, request: IncrementalAlterConfigsRequest) -> Answer {
    let mut seen = BTreeSet::new();
    let again: Vec<bool> = request
        .resources
        .iter()
        .map(|resource| !seen.insert((resource.resource_type, resource.resource_name.as_str())))
        .collect();
    let mut results = Vec::with_capacity(request.resources.len());
    for (resource, again) in request.resources.iter().zip(again) {
        results.push(match again {
            true => invalid("Each resource must appear at most once."),
            false => alter(&call, resource, request.validate_only).await,
        });
    }
    if !request.validate_only {
        control::seen(&call.gateway, results.iter().flatten().flatten()).await;
    }
    call.reply(&build(|response: &mut IncrementalAlterConfigsResponse| {
        for (resource, result) in request.resources.iter().zip(results) {
            response.responses.push(build(|answer: &mut AlterConfigsResourceResponse| {
                answer.resource_type = resource.resource_type;
                answer.resource_name = resource.resource_name.clone();
                answer.error_message = None;
                if let Err((code, message)) = result {
                    answer.error_code = call.failed(code);
                    answer.error_message = Some(StrBytes::from(message));
                }
            }));
        }
    }))
}

/// The topic as it now is, where it is one that changed.
async fn alter(call: &Call, resource: &AlterConfigsResource, validate_only: bool) -> Result<Option<Changed>, Refused> {
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC if !metadata::is_valid_name(name) => {
            return Err((ErrorCode::InvalidTopicException, format!("Topic name '{name}' is not valid")));
        }
        TOPIC => {}
        GROUP if name.is_empty() => return invalid("Default group resources are not allowed."),
        GROUP => {}
        BROKER => {
            if !name.is_empty() {
                check_broker(&call.gateway, name)?;
            }
            return invalid(
                "Brokers are configured by their file and environment, and cannot be changed while they run",
            );
        }
        other => return invalid(&format!("Unsupported resource type: {other}")),
    }
    let mut names = BTreeSet::new();
    if !resource.configs.iter().all(|config| names.insert(config.name.as_str())) {
        return invalid("Error due to duplicate config keys");
    }
    let changes: Vec<ConfigChange> = resource.configs.iter().map(change).collect::<Result<_, _>>()?;
    if resource.resource_type == GROUP {
        let pick = |answer| matches!(answer, GroupAnswer::AlterConfigs).then_some(None);
        let altered = call.ask_anywhere(name, GroupRequest::AlterConfigs { changes, validate_only }, pick);
        return altered.await.map_err(|error| (error::of_group_configs(&error), error.to_string()));
    }
    let changed = control::retry(&call.gateway, control::DEFAULT_TIMEOUT, || {
        let topic = TopicRef::Name(name.to_owned());
        call.gateway.coordinator.alter_topic_configs(topic, changes.clone(), validate_only)
    });
    changed.await.map(Some).map_err(|error| (error::of_coordinator(&error), error.to_string()))
}

fn change(config: &AlterableConfig) -> Result<ConfigChange, Refused> {
    let name = config.name.to_string();
    if config.config_operation == DELETE {
        return Ok(ConfigChange::Delete { name });
    }
    let Some(value) = config.value.as_ref().map(ToString::to_string) else {
        return invalid(&format!("Null value not supported for : {name}"));
    };
    match config.config_operation {
        SET => Ok(ConfigChange::Set { name, value }),
        APPEND => Ok(ConfigChange::Append { name, value }),
        SUBTRACT => Ok(ConfigChange::Subtract { name, value }),
        other => invalid(&format!("Unknown operation {other} for config {name}")),
    }
}

fn invalid<T>(message: &str) -> Result<T, Refused> {
    Err((ErrorCode::InvalidRequest, message.to_owned()))
}
