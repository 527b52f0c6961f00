//! What Kafka allows of topics, in the words of Apache Kafka 4.2. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tidemark_model::CoordinatorError;
use tidemark_model::coordinator::{ConfigChange, NewTopic};
use tidemark_model::topic_config;

use crate::placement::NoPlace;

/// The longest topic name, so that a directory of its name and a partition number fit into a file name.
const MAX_NAME_LENGTH: usize = 249;

/// The most partitions that one request creates, as in Kafka.
pub(crate) const MAX_PARTITIONS_PER_REQUEST: i64 = 10_000;

/// The most partitions of a topic: its record fits into one transaction of etcd.
const MAX_PARTITIONS_PER_TOPIC: usize = 50_000;

pub(crate) fn check_name(name: &str) -> Result<(), CoordinatorError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let reason = match name {
        "" => "the empty string is not allowed".to_owned(),
        "." => "'.' is not allowed".to_owned(),
        ".." => "'..' is not allowed".to_owned(),
        // Kafka counts UTF-16 units. A name for which that makes a difference is illegal all the same.
        _ if name.len() > MAX_NAME_LENGTH => {
            format!("the length of '{name}' is longer than the max allowed length {MAX_NAME_LENGTH}")
        }
        _ if !name.bytes().all(legal) => {
            format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
        }
        _ => return Ok(()),
    };
    Err(CoordinatorError::InvalidTopicName(format!("Topic name is invalid: {reason}")))
}

pub(crate) fn exists(name: &str) -> CoordinatorError {
    CoordinatorError::TopicExists(format!("Topic '{name}' already exists."))
}

pub(crate) fn collides(name: &str, with: &str) -> CoordinatorError {
    CoordinatorError::InvalidTopicName(format!("Topic '{name}' collides with existing topic: {with}"))
}

/// The number of partitions and the replication factor of a new topic, with the cluster's defaults filled in.
pub(crate) fn check_size(
    topic: &NewTopic,
    num_partitions: i32,
    default_rf: i16,
) -> Result<(usize, i16), CoordinatorError> {
    let replication_factor = match topic.replication_factor {
        -1 => default_rf,
        factor if factor >= 1 => factor,
        _ => {
            let reason = "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err(CoordinatorError::InvalidReplicationFactor(reason.into()));
        }
    };
    let partitions = if topic.partitions == -1 { num_partitions } else { topic.partitions };
    match usize::try_from(partitions) {
        Ok(partitions) if partitions > 0 => Ok((partitions, replication_factor)),
        _ => {
            let reason = "Number of partitions was set to an invalid non-positive value.";
            Err(CoordinatorError::InvalidPartitions(reason.into()))
        }
    }
}

/// Whether a request asks for more partitions than one may.
pub(crate) fn check_total(partitions: impl Iterator<Item = i32>) -> Result<(), CoordinatorError> {
    if partitions.map(|count| i64::from(count.max(1))).sum::<i64>() > MAX_PARTITIONS_PER_REQUEST {
        return Err(too_many());
    }
    Ok(())
}

/// How many partitions to add to `present` for there to be `total`.
pub(crate) fn check_growth(name: &str, present: usize, total: i32) -> Result<usize, CoordinatorError> {
    let wanted = usize::try_from(total).unwrap_or(0);
    if wanted == present {
        return Err(CoordinatorError::InvalidPartitions(format!("Topic already has {present} partition(s).")));
    }
    if wanted < present {
        return Err(CoordinatorError::InvalidPartitions(format!(
            "The topic {name} currently has {present} partition(s); {total} would not be an increase."
        )));
    }
    let more = wanted - present;
    if more as i64 > MAX_PARTITIONS_PER_REQUEST || wanted > MAX_PARTITIONS_PER_TOPIC {
        return Err(too_many());
    }
    Ok(more)
}

fn too_many() -> CoordinatorError {
    CoordinatorError::InvalidPartitions("Excessively large number of partitions per request.".into())
}

pub(crate) fn no_place(replication_factor: i16, reason: NoPlace) -> CoordinatorError {
    match reason {
        NoPlace::NoJournals => CoordinatorError::Unavailable("no storage node has joined yet".into()),
        NoPlace::TooFewReplicas(most) => CoordinatorError::InvalidReplicationFactor(format!(
            "Unable to replicate the partition {replication_factor} time(s): The target replication factor of \
             {replication_factor} cannot be reached because only {most} broker(s) are registered."
        )),
    }
}

/// Checks configs and gives them in the form in which they are stored.
pub(crate) fn check_configs(configs: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, CoordinatorError> {
    topic_config::validate_all(configs).map_err(CoordinatorError::InvalidConfig)?;
    let canonical = configs.iter().filter_map(|(name, value)| {
        let config = topic_config::lookup(name)?;
        Some((name.clone(), topic_config::canonical(config, value)))
    });
    Ok(canonical.collect())
}

/// What a topic's configs become by IncrementalAlterConfigs (KIP-339).
pub(crate) fn change_configs(
    present: &BTreeMap<String, String>,
    changes: &[ConfigChange],
) -> Result<BTreeMap<String, String>, CoordinatorError> {
    let mut seen = BTreeSet::new();
    let mut configs = present.clone();
    for change in changes {
        let (ConfigChange::Set { name, .. }
        | ConfigChange::Delete { name }
        | ConfigChange::Append { name, .. }
        | ConfigChange::Subtract { name, .. }) = change;
        if !seen.insert(name) {
            return Err(CoordinatorError::InvalidRequest("Error due to duplicate config keys".into()));
        }
        match change {
            ConfigChange::Set { name, value } => {
                configs.insert(name.clone(), value.clone());
            }
            ConfigChange::Delete { name } => {
                configs.remove(name);
            }
            ConfigChange::Append { name, value } => {
                let mut list = list(&configs, name, "APPEND")?;
                for added in topic_config::list_values(value) {
                    if !list.iter().any(|known| known == added) {
                        list.push(added.to_owned());
                    }
                }
                // Kafka appends nothing as an empty value, and refuses that.
                if value.trim().is_empty() {
                    list.push(String::new());
                }
                configs.insert(name.clone(), list.join(","));
            }
            ConfigChange::Subtract { name, value } => {
                let mut list = list(&configs, name, "SUBTRACT")?;
                list.retain(|known| !topic_config::list_values(value).any(|gone| gone == known));
                configs.insert(name.clone(), list.join(","));
            }
        }
    }
    check_configs(&configs)
}

/// The values of a list config: those set, or the default's.
fn list(configs: &BTreeMap<String, String>, name: &str, operation: &str) -> Result<Vec<String>, CoordinatorError> {
    let Some(config) = topic_config::lookup(name).filter(|config| config.kind.is_list()) else {
        let reason = format!("Can't {operation} to key {name} because its type is not LIST.");
        return Err(CoordinatorError::InvalidConfig(reason));
    };
    let value = configs.get(name).map_or(config.default, String::as_str);
    Ok(topic_config::list_values(value).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests;
