//! Configs of a group (KIP-848).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use tidemark_model::GroupError;
use tidemark_model::coordinator::ConfigChange;

use crate::config::GroupSettings;

pub(crate) const CONSUMER_SESSION_TIMEOUT: &str = "consumer.session.timeout.ms";
pub(crate) const CONSUMER_HEARTBEAT_INTERVAL: &str = "consumer.heartbeat.interval.ms";

/// The configs as they are after the changes, all of which must be valid, each for itself and together.
pub(super) fn changed(
    configs: &BTreeMap<String, String>,
    changes: &[ConfigChange],
    settings: &GroupSettings,
) -> Result<BTreeMap<String, String>, GroupError> {
    let mut configs = configs.clone();
    for change in changes {
        match change {
            ConfigChange::Set { name, value } => {
                configs.insert(known(name)?.to_owned(), value.clone());
            }
            ConfigChange::Delete { name } => {
                configs.remove(known(name)?);
            }
            ConfigChange::Append { name, .. } | ConfigChange::Subtract { name, .. } => {
                known(name)?;
                return Err(invalid(format!("Can't APPEND or SUBTRACT: {name} is not a list config.")));
            }
        }
    }
    let session = checked(&configs, CONSUMER_SESSION_TIMEOUT, &settings.consumer_session_timeout_bounds)?;
    let heartbeat = checked(&configs, CONSUMER_HEARTBEAT_INTERVAL, &settings.consumer_heartbeat_interval_bounds)?;
    let session = session.unwrap_or(settings.consumer_session_timeout);
    if session <= heartbeat.unwrap_or(settings.consumer_heartbeat_interval) {
        let (session, heartbeat) = (CONSUMER_SESSION_TIMEOUT, CONSUMER_HEARTBEAT_INTERVAL);
        return Err(invalid(format!("{session} must be greater than {heartbeat}")));
    }
    Ok(configs)
}

/// A config that is set, as [`changed`] let it through.
pub(crate) fn milliseconds(configs: &BTreeMap<String, String>, name: &str) -> Option<Duration> {
    configs.get(name)?.parse().ok().map(Duration::from_millis)
}

fn known(name: &str) -> Result<&str, GroupError> {
    match name {
        CONSUMER_SESSION_TIMEOUT | CONSUMER_HEARTBEAT_INTERVAL => Ok(name),
        _ => Err(invalid(format!("Unknown group config name: {name}"))),
    }
}

fn checked(
    configs: &BTreeMap<String, String>,
    name: &str,
    bounds: &RangeInclusive<Duration>,
) -> Result<Option<Duration>, GroupError> {
    let Some(value) = configs.get(name) else { return Ok(None) };
    let ms: i32 = value
        .trim()
        .parse()
        .map_err(|_| invalid(format!("Invalid value {value} for configuration {name}: Not a number of type INT")))?;
    let ms = u64::try_from(ms)
        .ok()
        .filter(|ms| *ms > 0)
        .ok_or_else(|| invalid(format!("Invalid value {ms} for configuration {name}: Value must be at least 1")))?;
    let ms = Duration::from_millis(ms);
    let (kind, rest) = name.split_once('.').expect("the names that are known have a dot");
    if ms < *bounds.start() {
        return Err(invalid(format!("{name} must be greater than or equal to group.{kind}.min.{rest}")));
    }
    if ms > *bounds.end() {
        return Err(invalid(format!("{name} must be less than or equal to group.{kind}.max.{rest}")));
    }
    Ok(Some(ms))
}

fn invalid(message: String) -> GroupError {
    GroupError::InvalidConfig(message)
}
