//! DescribeConfigs, of topics, of groups and of this gateway as a broker.

use tidemark_model::group::{GroupAnswer, GroupRequest};
use tidemark_model::topic_config::BROKER_TABLE;
use tidemark_model::{ClusterState, Role};
use tidemark_wire::error::ErrorCode;
use tidemark_wire::messages::describe_configs_request::DescribeConfigsResource;
use tidemark_wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use tidemark_wire::messages::{DescribeConfigsRequest, DescribeConfigsResponse, StrBytes, build};

use super::configs::{self, Entry, Source, Synonym};
use super::{Call, fetch};
use crate::connection::Answer;
use crate::service::Gateway;
use crate::{error, metadata};

/// Kinds of resources (KIP-133 and later).
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
pub(super) const GROUP: i8 = 32;

type Refused = (ErrorCode, String);

pub(super) async fn handle(call: Call, request: DescribeConfigsRequest) -> Answer {
    let state = call.gateway.cluster.current();
    let mut described = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        described.push(match resource.resource_type {
            GROUP => of_group(&call, &resource.resource_name).await,
            _ => entries(&call.gateway, &state, resource),
        });
    }
    call.reply(&build(|response: &mut DescribeConfigsResponse| {
        for (resource, described) in request.resources.iter().zip(described) {
            response.results.push(build(|result: &mut DescribeConfigsResult| {
                result.resource_type = resource.resource_type;
                result.resource_name = resource.resource_name.clone();
                match described {
                    Ok(entries) => {
                        let entries = entries.into_iter().filter(|entry| is_asked(resource, entry.name));
                        result.configs = entries.map(|entry| config(entry, &request)).collect();
                    }
                    Err((code, message)) => {
                        result.error_code = call.failed(code);
                        result.error_message = Some(StrBytes::from(message));
                    }
                }
            }));
        }
    }))
}

fn is_asked(resource: &DescribeConfigsResource, name: &str) -> bool {
    let keys = resource.configuration_keys.as_deref().filter(|keys| !keys.is_empty());
    keys.is_none_or(|keys| keys.iter().any(|key| key.as_str() == name))
}

fn entries(gateway: &Gateway, state: &ClusterState, resource: &DescribeConfigsResource) -> Result<Vec<Entry>, Refused> {
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC => {
            let topic = known_topic(state, name)?;
            Ok(configs::of_topic(topic).collect())
        }
        // What is set for all brokers at once, which is nothing: gateways have their files.
        BROKER if name.is_empty() => Ok(Vec::new()),
        BROKER => {
            check_broker(gateway, name)?;
            Ok(of_broker(gateway, state))
        }
        BROKER_LOGGER => {
            check_broker(gateway, name)?;
            Ok(Vec::new())
        }
        CLIENT_METRICS if name.is_empty() => {
            Err((ErrorCode::InvalidRequest, "Client metrics subscription name must not be empty".to_owned()))
        }
        CLIENT_METRICS => Ok(Vec::new()),
        other => Err((ErrorCode::InvalidRequest, format!("Unsupported resource type: {other}"))),
    }
}

/// The configs of a group, which need not exist.
async fn of_group(call: &Call, group: &str) -> Result<Vec<Entry>, Refused> {
    if group.is_empty() {
        return Err((ErrorCode::InvalidRequest, "Group name must not be empty".to_owned()));
    }
    let pick = |answer| if let GroupAnswer::DescribeConfigs(configs) = answer { Some(configs) } else { None };
    match call.ask_anywhere(group, GroupRequest::DescribeConfigs, pick).await {
        Ok(set) => Ok(configs::of_group(&set).collect()),
        Err(error) => Err((error::of_group_configs(&error), error.to_string())),
    }
}

/// A topic, or why there is none.
pub(super) fn known_topic<'a>(
    state: &'a ClusterState,
    name: &str,
) -> Result<&'a std::sync::Arc<tidemark_model::Topic>, Refused> {
    if !metadata::is_valid_name(name) {
        return Err((ErrorCode::InvalidTopicException, format!("Topic name '{name}' is not valid")));
    }
    let unknown = || (ErrorCode::UnknownTopicOrPartition, format!("Topic '{name}' does not exist"));
    state.topic_named(name).ok_or_else(unknown)
}

/// A broker is described by itself only.
pub(super) fn check_broker(gateway: &Gateway, name: &str) -> Result<(), Refused> {
    let me = gateway.node.0;
    let refused = match name.parse::<i32>() {
        Ok(id) if id == me => return Ok(()),
        Ok(id) => format!("Unexpected broker id, expected {me} or empty string, but received {id}"),
        Err(_) => format!("Broker id must be an integer, but it is: {name}"),
    };
    Err((ErrorCode::InvalidRequest, refused))
}

/// The configs of this gateway, which its file and environment set, and those of the coordinator.
fn of_broker(gateway: &Gateway, state: &ClusterState) -> Vec<Entry> {
    let me = state.node(Role::Gateway, gateway.node);
    let listener = me.map(|node| format!("PLAINTEXT://{}", node.address));
    let own = |name: &str| match name {
        "node.id" | "broker.id" => Some(gateway.node.to_string()),
        "listeners" | "advertised.listeners" => listener.clone(),
        "broker.rack" => me.and_then(|node| node.rack.clone()),
        "fetch.max.bytes" => Some(fetch::MAX_BYTES.to_string()),
        "auto.create.topics.enable" => Some(gateway.settings.auto_create_topics.to_string()),
        "socket.request.max.bytes" => Some(gateway.settings.max_request_bytes.to_string()),
        name => state.settings.get(name).cloned(),
    };
    let entries = BROKER_TABLE.iter().map(|config| {
        let set = own(config.name).filter(|value| Some(value.as_str()) != config.default);
        let source = if set.is_some() { Source::StaticBroker } else { Source::Default };
        let value = set.clone().or_else(|| config.default.map(str::to_owned));
        let synonym = |value: String, source| Synonym { name: config.name, value, source };
        let set = set.map(|value| synonym(value, Source::StaticBroker));
        let default = config.default.map(|value| synonym(value.to_owned(), Source::Default));
        Entry {
            name: config.name,
            value,
            source,
            read_only: true,
            config_type: config.config_type,
            documentation: config.documentation,
            synonyms: set.into_iter().chain(default).collect(),
        }
    });
    entries.collect()
}

fn config(entry: Entry, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    build(|result: &mut DescribeConfigsResourceResult| {
        result.name = StrBytes::from(entry.name);
        result.value = entry.value.map(StrBytes::from);
        result.read_only = entry.read_only;
        result.config_source = entry.source.code();
        result.config_type = entry.config_type as i8;
        result.documentation = request.include_documentation.then(|| StrBytes::from(entry.documentation));
        if request.include_synonyms {
            let synonyms = entry.synonyms.into_iter().map(|synonym| {
                build(|answer: &mut DescribeConfigsSynonym| {
                    answer.name = StrBytes::from(synonym.name);
                    answer.value = Some(StrBytes::from(synonym.value));
                    answer.source = synonym.source.code();
                })
            });
            result.synonyms = synonyms.collect();
        }
    })
}
