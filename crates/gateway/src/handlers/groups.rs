//! What requests to groups have in common: who asks, and how topics are named.

use std::net::{IpAddr, SocketAddr};

use futures::future;
use tidemark_model::group::{GroupAnswer, GroupCall, GroupRequest};
use tidemark_model::{ClusterState, GroupError, Topic, TopicId};
use tidemark_wire::error::ErrorCode;
use tidemark_wire::messages::{StrBytes, WireUuid, uuid, wire_uuid};

use super::Call;
use crate::owner::{self, Asks};

/// What Kafka allows on a group where nothing is forbidden: read, delete, describe, describe configs and alter configs,
/// each the bit of its code (KIP-430).
pub(super) const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;
/// Operations that were not asked for.
pub(super) const NOT_ASKED: i32 = i32::MIN;
/// The state of a group that there is not.
pub(super) const DEAD: &str = "Dead";
/// Groups of one request that are asked at the same time.
const AT_ONCE: usize = 32;

impl Call {
    /// Asks a group that clients see at this gateway, and picks the answer that belongs to the request.
    pub(super) async fn ask<T>(
        &self,
        group: &str,
        request: GroupRequest,
        pick: impl FnOnce(GroupAnswer) -> Option<T>,
    ) -> Result<T, GroupError> {
        self.ask_as(Asks::Coordinator, group, request, pick).await
    }

    /// As [`Call::ask`], at whichever gateway.
    pub(super) async fn ask_anywhere<T>(
        &self,
        group: &str,
        request: GroupRequest,
        pick: impl FnOnce(GroupAnswer) -> Option<T>,
    ) -> Result<T, GroupError> {
        self.ask_as(Asks::Any, group, request, pick).await
    }

    async fn ask_as<T>(
        &self,
        asks: Asks,
        group: &str,
        request: GroupRequest,
        pick: impl FnOnce(GroupAnswer) -> Option<T>,
    ) -> Result<T, GroupError> {
        let call = GroupCall {
            group: group.to_owned(),
            client_id: self.client_id.to_string(),
            client_host: host(self.peer),
            request,
        };
        let answer = owner::ask(&self.gateway, call, self.began, asks).await?;
        pick(answer).ok_or_else(|| GroupError::TimedOut("the coordinator answered something else".to_owned()))
    }
}

/// Asks for each group of a request, a few at a time. The answers are in the order of the groups.
pub(super) async fn each<'a, T, F: Future>(groups: &'a [T], ask: impl Fn(&'a T) -> F) -> Vec<F::Output> {
    let mut answers = Vec::with_capacity(groups.len());
    for groups in groups.chunks(AT_ONCE) {
        answers.extend(future::join_all(groups.iter().map(&ask)).await);
    }
    answers
}

/// Kafka's check of a group's name, where it has one.
pub(super) fn named(group: &str) -> Result<(), GroupError> {
    if group.is_empty() { Err(GroupError::InvalidGroupId) } else { Ok(()) }
}

/// A client's address as Java writes it, which is what Kafka's tools show.
fn host(peer: SocketAddr) -> String {
    match peer.ip().to_canonical() {
        IpAddr::V4(ip) => format!("/{ip}"),
        IpAddr::V6(ip) => {
            let words: Vec<String> = ip.segments().iter().map(|word| format!("{word:x}")).collect();
            format!("/{}", words.join(":"))
        }
    }
}

/// A topic as a request names it: by id in the versions that do, by name in the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Naming<'a> {
    pub(super) state: &'a ClusterState,
    pub(super) by_id: bool,
}

impl<'a> Naming<'a> {
    pub(super) fn find(self, name: &str, id: WireUuid) -> Result<&'a Topic, ErrorCode> {
        match self.by_id {
            true => self.state.topic(TopicId(uuid(id))).map(|topic| &**topic).ok_or(ErrorCode::UnknownTopicId),
            false => self.state.topic_named(name).map(|topic| &**topic).ok_or(ErrorCode::UnknownTopicOrPartition),
        }
    }

    /// What an answer calls a topic that the request did not name. Nothing for one that has been deleted.
    pub(super) fn of(self, topic: TopicId) -> Option<(StrBytes, WireUuid)> {
        let topic = self.state.topic(topic)?;
        Some((StrBytes::from(topic.name.as_str()), wire_uuid(topic.id.0)))
    }
}

pub(super) fn has_partition(topic: &Topic, index: i32) -> bool {
    usize::try_from(index).is_ok_and(|index| index < topic.partitions.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_java_writes_them() {
        let host = |address: &str| host(address.parse().unwrap());
        assert_eq!(host("127.0.0.1:9"), "/127.0.0.1");
        assert_eq!(host("[::1]:9"), "/0:0:0:0:0:0:0:1");
        assert_eq!(host("[::ffff:10.0.0.1]:9"), "/10.0.0.1");
        assert_eq!(host("[2001:db8::a]:9"), "/2001:db8:0:0:0:0:0:a");
    }
}
