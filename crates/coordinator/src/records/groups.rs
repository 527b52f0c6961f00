//! What is stored of groups.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidemark_model::group::Protocol;
use tidemark_model::{SlotId, TopicId};
use uuid::Uuid;

use super::values::{BadValue, decode, encode};
use super::{Keys, varint};

/// The longest name of a group, in bytes. Kafka has no bound but that of its strings, 32,767; here the name is part of
/// keys, where a byte may take three.
pub(crate) const MAX_GROUP_NAME: usize = 4_096;

/// How many partitions of a topic share a record of committed offsets.
///
/// A commit rewrites the whole record, which the store keeps until its history is compacted: some 12 bytes a partition,
/// so 400 bytes at most where there is no metadata, about as much as the keys and the bookkeeping of one put. Smaller
/// chunks would save nothing; with larger ones who commits one partition pays for its neighbours. A member that has a
/// tenth of 900 partitions, however they are spread, touches 29 records, so a transaction of 128 operations takes the
/// commits of four such members.
pub(crate) const OFFSETS_PER_CHUNK: u8 = 32;

/// A record of a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum GroupKey {
    Configs,
    Classic,
    ClassicMember(String),
    Consumer,
    ConsumerMember(String),
    ConsumerTarget(String),
    /// Partitions of a topic, from [`OFFSETS_PER_CHUNK`] times the number on.
    Offsets(TopicId, u32),
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredOffset {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
    pub(crate) committed_ms: i64,
    /// Where the client said how long it is to be kept.
    pub(crate) expires_ms: Option<i64>,
}

impl Keys {
    /// The prefix of all that is stored of the groups of a slot.
    pub(crate) fn groups(&self, slot: SlotId) -> String {
        format!("{}groups/{slot}/", self.root)
    }

    pub(crate) fn group(&self, slot: SlotId, group: &str, key: &GroupKey) -> String {
        let mut text = self.groups(slot);
        escape(&mut text, group);
        let (kind, member) = match key {
            GroupKey::Configs => ("/configs", None),
            GroupKey::Classic => ("/classic", None),
            GroupKey::ClassicMember(member) => ("/classic-members/", Some(member)),
            GroupKey::Consumer => ("/consumer", None),
            GroupKey::ConsumerMember(member) => ("/consumer-members/", Some(member)),
            GroupKey::ConsumerTarget(member) => ("/consumer-targets/", Some(member)),
            GroupKey::Offsets(topic, chunk) => {
                let _ = write!(text, "/offsets/{topic}/{chunk}");
                return text;
            }
        };
        text.push_str(kind);
        member.into_iter().for_each(|member| escape(&mut text, member));
        text
    }

    /// Which record of which group a key under [`Self::groups`] is. None for what a newer version may have put there.
    pub(crate) fn parse_group(&self, slot: SlotId, key: &str) -> Option<(String, GroupKey)> {
        let (group, rest) = key.strip_prefix(&self.groups(slot))?.split_once('/')?;
        let (kind, of) = rest.split_once('/').map_or((rest, None), |(kind, of)| (kind, Some(of)));
        let key = match (kind, of) {
            ("configs", None) => GroupKey::Configs,
            ("classic", None) => GroupKey::Classic,
            ("classic-members", Some(member)) => GroupKey::ClassicMember(unescape(member)?),
            ("consumer", None) => GroupKey::Consumer,
            ("consumer-members", Some(member)) => GroupKey::ConsumerMember(unescape(member)?),
            ("consumer-targets", Some(member)) => GroupKey::ConsumerTarget(unescape(member)?),
            ("offsets", Some(of)) => {
                let (topic, chunk) = of.split_once('/')?;
                GroupKey::Offsets(TopicId(Uuid::try_parse(topic).ok()?), chunk.parse().ok()?)
            }
            _ => return None,
        };
        Some((unescape(group)?, key))
    }
}

/// Letters, digits, `.`, `-` and `_` stay what they are, every other byte becomes `%` and two digits.
fn escape(into: &mut String, name: &str) {
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_".contains(&byte) {
            into.push(char::from(byte));
        } else {
            let _ = write!(into, "%{byte:02x}");
        }
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[derive(Serialize, Deserialize)]
struct ConfigsV1 {
    configs: BTreeMap<String, String>,
}

pub(crate) fn encode_group_configs(configs: &BTreeMap<String, String>) -> Bytes {
    encode(&ConfigsV1 { configs: configs.clone() })
}

pub(crate) fn decode_group_configs(bytes: &[u8]) -> Result<BTreeMap<String, String>, BadValue> {
    decode(bytes).map(|ConfigsV1 { configs }| configs)
}

/// A group of the classic protocol, stable or empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredClassic {
    /// When it became stable or empty.
    pub(crate) since_ms: i64,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    /// How many there are: fewer or more, or of another generation, and the write was cut in two.
    pub(crate) members: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredClassicMember {
    /// Of the group when this was written.
    pub(crate) generation: i32,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
}

#[derive(Serialize, Deserialize)]
struct ClassicV1 {
    since_ms: i64,
    generation: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protocol_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leader: Option<String>,
    members: usize,
}

#[derive(Serialize, Deserialize)]
struct ClassicMemberV1 {
    generation: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance_id: Option<String>,
    client_id: String,
    client_host: String,
    session_timeout_ms: u64,
    rebalance_timeout_ms: u64,
    /// Each with its metadata in base64.
    protocols: Vec<(String, String)>,
    /// Base64.
    assignment: String,
}

pub(crate) fn encode_classic(group: &StoredClassic) -> Bytes {
    let StoredClassic { since_ms, generation, protocol_type, protocol, leader, members } = group.clone();
    encode(&ClassicV1 { since_ms, generation, protocol_type, protocol, leader, members })
}

pub(crate) fn decode_classic(bytes: &[u8]) -> Result<StoredClassic, BadValue> {
    let ClassicV1 { since_ms, generation, protocol_type, protocol, leader, members } = decode(bytes)?;
    Ok(StoredClassic { since_ms, generation, protocol_type, protocol, leader, members })
}

pub(crate) fn encode_classic_member(member: &StoredClassicMember) -> Bytes {
    let StoredClassicMember {
        generation,
        instance_id,
        client_id,
        client_host,
        session_timeout,
        rebalance_timeout,
        protocols,
        assignment,
    } = member.clone();
    let protocols = protocols.into_iter().map(|Protocol { name, metadata }| (name, BASE64.encode(metadata)));
    encode(&ClassicMemberV1 {
        generation,
        instance_id,
        client_id,
        client_host,
        session_timeout_ms: session_timeout.as_millis() as u64,
        rebalance_timeout_ms: rebalance_timeout.as_millis() as u64,
        protocols: protocols.collect(),
        assignment: BASE64.encode(assignment),
    })
}

pub(crate) fn decode_classic_member(bytes: &[u8]) -> Result<StoredClassicMember, BadValue> {
    let ClassicMemberV1 {
        generation,
        instance_id,
        client_id,
        client_host,
        session_timeout_ms,
        rebalance_timeout_ms,
        protocols,
        assignment,
    } = decode(bytes)?;
    let binary = |text: String| {
        let bytes = BASE64.decode(text).map_err(|error| BadValue::Unreadable(error.to_string()))?;
        Ok::<Bytes, BadValue>(Bytes::from(bytes))
    };
    let protocols = protocols.into_iter().map(|(name, metadata)| Ok(Protocol { name, metadata: binary(metadata)? }));
    Ok(StoredClassicMember {
        generation,
        instance_id,
        client_id,
        client_host,
        session_timeout: Duration::from_millis(session_timeout_ms),
        rebalance_timeout: Duration::from_millis(rebalance_timeout_ms),
        protocols: protocols.collect::<Result<_, BadValue>>()?,
        assignment: binary(assignment)?,
    })
}

/// The version of offsets: not JSON, since nothing is written as often, and it would be three times as long.
const OFFSETS_VERSION: u8 = 1;

/// Offsets of a chunk, each with its place in it. After the version, until the end, for each: the place (one byte); the
/// offset, the leader epoch and the time of the commit, zigzag; 0, or 1 and the time of its expiry; the length of the
/// metadata, and the metadata. Numbers are LEB128. Times are milliseconds, all but the first as the difference to the
/// one before.
pub(crate) fn encode_offsets(offsets: &[(u8, &StoredOffset)]) -> Bytes {
    let mut bytes = vec![OFFSETS_VERSION];
    let mut time = 0_i64;
    for (place, stored) in offsets {
        let StoredOffset { offset, leader_epoch, metadata, committed_ms, expires_ms } = stored;
        bytes.push(*place);
        varint::put_signed(&mut bytes, *offset);
        varint::put_signed(&mut bytes, i64::from(*leader_epoch));
        varint::put_signed(&mut bytes, committed_ms.wrapping_sub(time));
        time = *committed_ms;
        match expires_ms {
            Some(expires_ms) => {
                bytes.push(1);
                varint::put_signed(&mut bytes, expires_ms.wrapping_sub(time));
                time = *expires_ms;
            }
            None => bytes.push(0),
        }
        varint::put(&mut bytes, metadata.len() as u64);
        bytes.extend_from_slice(metadata.as_bytes());
    }
    bytes.into()
}

pub(crate) fn decode_offsets(bytes: &[u8]) -> Result<Vec<(u8, StoredOffset)>, BadValue> {
    let unreadable = || BadValue::Unreadable("offsets end too early".to_owned());
    let (version, mut rest) = bytes.split_first().ok_or_else(unreadable)?;
    if *version != OFFSETS_VERSION {
        return Err(BadValue::Version(u32::from(*version)));
    }
    let (mut offsets, mut time) = (Vec::new(), 0_i64);
    while !rest.is_empty() {
        let place = varint::take_byte(&mut rest).ok_or_else(unreadable)?;
        let offset = varint::take_signed(&mut rest).ok_or_else(unreadable)?;
        let leader_epoch = varint::take_signed(&mut rest).ok_or_else(unreadable)? as i32;
        let mut next_time = |rest: &mut &[u8]| {
            time = time.wrapping_add(varint::take_signed(rest).ok_or_else(unreadable)?);
            Ok::<i64, BadValue>(time)
        };
        let committed_ms = next_time(&mut rest)?;
        let expires_ms = match varint::take_byte(&mut rest).ok_or_else(unreadable)? {
            0 => None,
            _ => Some(next_time(&mut rest)?),
        };
        let length = varint::take(&mut rest).ok_or_else(unreadable)?;
        let length = usize::try_from(length).map_err(|_| unreadable())?;
        let (metadata, after) = rest.split_at_checked(length).ok_or_else(unreadable)?;
        rest = after;
        let metadata = String::from_utf8(metadata.to_vec()).map_err(|_| unreadable())?;
        offsets.push((place, StoredOffset { offset, leader_epoch, metadata, committed_ms, expires_ms }));
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests;
