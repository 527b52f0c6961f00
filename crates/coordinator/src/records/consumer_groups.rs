//! What is stored of consumer groups (KIP-848).
//!
//! A group's epochs are one record. Each member has one of itself, with what it has now, and one with what it is to have, which
//! a rebalance writes for every member whose share changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidemark_model::TopicId;
use tidemark_model::group::Protocol;
use uuid::Uuid;

use super::values::{BadValue, decode, encode};

/// No topic has more partitions: what claims more is damaged.
const MAX_PARTITION: i32 = 1_000_000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredConsumerGroup {
    pub(crate) epoch: i32,
    pub(crate) assignment_epoch: i32,
    /// Of the topics that the epoch was made for.
    pub(crate) metadata_hash: u64,
    /// Of the cluster state that had them.
    pub(crate) revision: u64,
    /// Of all targets as of the assignment epoch.
    pub(crate) targets_hash: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredConsumerMember {
    pub(crate) instance_id: Option<String>,
    pub(crate) rack: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) topics: BTreeSet<String>,
    pub(crate) regex: Option<String>,
    pub(crate) assignor: Option<String>,
    pub(crate) classic: Option<StoredClassicSide>,
    pub(crate) epoch: i32,
    pub(crate) previous_epoch: i32,
    pub(crate) progress: StoredProgress,
    pub(crate) assigned: BTreeMap<TopicId, BTreeSet<i32>>,
    pub(crate) revoking: BTreeMap<TopicId, BTreeSet<i32>>,
}

/// Of a member that speaks the classic protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredClassicSide {
    pub(crate) session_timeout: Duration,
    pub(crate) protocols: Vec<Protocol>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoredProgress {
    Stable,
    UnrevokedPartitions,
    UnreleasedPartitions,
}

#[derive(Serialize, Deserialize)]
struct MemberV1 {
    instance_id: Option<String>,
    rack: Option<String>,
    client_id: String,
    client_host: String,
    rebalance_timeout_ms: u64,
    topics: BTreeSet<String>,
    regex: Option<String>,
    assignor: Option<String>,
    classic: Option<ClassicSideV1>,
    epoch: i32,
    previous_epoch: i32,
    progress: StoredProgress,
    assigned: PartitionsV1,
    revoking: PartitionsV1,
}

#[derive(Serialize, Deserialize)]
struct ClassicSideV1 {
    session_timeout_ms: u64,
    /// The metadata in Base64.
    protocols: Vec<(String, String)>,
}

/// Runs of partitions by topic, `0-89,95`.
type PartitionsV1 = BTreeMap<Uuid, String>;

#[derive(Serialize, Deserialize)]
struct TargetV1 {
    partitions: PartitionsV1,
}

pub(crate) fn encode_consumer_group(group: &StoredConsumerGroup) -> Bytes {
    encode(group)
}

pub(crate) fn decode_consumer_group(bytes: &[u8]) -> Result<StoredConsumerGroup, BadValue> {
    decode(bytes)
}

pub(crate) fn encode_consumer_target(target: &BTreeMap<TopicId, BTreeSet<i32>>) -> Bytes {
    encode(&TargetV1 { partitions: to_runs(target) })
}

pub(crate) fn decode_consumer_target(bytes: &[u8]) -> Result<BTreeMap<TopicId, BTreeSet<i32>>, BadValue> {
    decode(bytes).and_then(|TargetV1 { partitions }| from_runs(partitions))
}

pub(crate) fn encode_consumer_member(member: &StoredConsumerMember) -> Bytes {
    let member = member.clone();
    encode(&MemberV1 {
        instance_id: member.instance_id,
        rack: member.rack,
        client_id: member.client_id,
        client_host: member.client_host,
        rebalance_timeout_ms: milliseconds(member.rebalance_timeout),
        topics: member.topics,
        regex: member.regex,
        assignor: member.assignor,
        classic: member.classic.map(|StoredClassicSide { session_timeout, protocols }| ClassicSideV1 {
            session_timeout_ms: milliseconds(session_timeout),
            protocols: protocols
                .into_iter()
                .map(|protocol| (protocol.name, BASE64.encode(protocol.metadata)))
                .collect(),
        }),
        epoch: member.epoch,
        previous_epoch: member.previous_epoch,
        progress: member.progress,
        assigned: to_runs(&member.assigned),
        revoking: to_runs(&member.revoking),
    })
}

pub(crate) fn decode_consumer_member(bytes: &[u8]) -> Result<StoredConsumerMember, BadValue> {
    let member: MemberV1 = decode(bytes)?;
    let classic = member.classic.map(|ClassicSideV1 { session_timeout_ms, protocols }| {
        let session_timeout = Duration::from_millis(session_timeout_ms);
        let protocols = protocols.into_iter().map(|(name, metadata)| {
            let metadata = BASE64.decode(metadata).map_err(|error| BadValue::Unreadable(error.to_string()))?;
            Ok(Protocol { name, metadata: metadata.into() })
        });
        Ok(StoredClassicSide { session_timeout, protocols: protocols.collect::<Result<_, BadValue>>()? })
    });
    Ok(StoredConsumerMember {
        instance_id: member.instance_id,
        rack: member.rack,
        client_id: member.client_id,
        client_host: member.client_host,
        rebalance_timeout: Duration::from_millis(member.rebalance_timeout_ms),
        topics: member.topics,
        regex: member.regex,
        assignor: member.assignor,
        classic: classic.transpose()?,
        epoch: member.epoch,
        previous_epoch: member.previous_epoch,
        progress: member.progress,
        assigned: from_runs(member.assigned)?,
        revoking: from_runs(member.revoking)?,
    })
}

fn to_runs(partitions: &BTreeMap<TopicId, BTreeSet<i32>>) -> PartitionsV1 {
    partitions.iter().map(|(topic, partitions)| (topic.0, runs(partitions))).collect()
}

fn runs(partitions: &BTreeSet<i32>) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for partition in partitions {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *partition => *last = *partition,
            _ => runs.push((*partition, *partition)),
        }
    }
    let texts = runs.into_iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    texts.collect::<Vec<_>>().join(",")
}

fn from_runs(partitions: PartitionsV1) -> Result<BTreeMap<TopicId, BTreeSet<i32>>, BadValue> {
    partitions.into_iter().map(|(topic, runs)| Ok((TopicId(topic), parse_runs(&runs)?))).collect()
}

fn parse_runs(text: &str) -> Result<BTreeSet<i32>, BadValue> {
    let unreadable = || BadValue::Unreadable("runs of partitions".to_owned());
    let mut partitions = BTreeSet::new();
    for run in text.split(',') {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        let first: i32 = first.parse().map_err(|_| unreadable())?;
        let last: i32 = last.parse().map_err(|_| unreadable())?;
        if first < 0 || last > MAX_PARTITION {
            return Err(unreadable());
        }
        partitions.extend(first..=last);
    }
    Ok(partitions)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
