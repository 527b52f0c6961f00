//! Requests to groups.

mod admin;
mod kafka;
mod members;
mod offsets;
mod routing;

use std::time::Duration;

use tidemark_model::GroupError;
use tidemark_model::group::{GroupAnswer, GroupRequest, Joined};
use tidemark_wire::messages::join_group_request::JoinGroupRequestProtocol;
use tidemark_wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use tidemark_wire::messages::{
    HeartbeatRequest, JoinGroupRequest, OffsetCommitRequest, OffsetCommitResponse, StrBytes, build,
};

use super::kit::{Fixture, Shape};

/// Longer than the gateway tries to find a group's owner.
const LONG: Duration = Duration::from_secs(20);

async fn fixture() -> Fixture {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 2);
    fixture
}

/// With two gateways and two owners of groups.
async fn two() -> Fixture {
    let fixture = Fixture::start(Shape { gateways: 2, coordinators: 2, ..Shape::default() }).await;
    fixture.topic("t", 2);
    fixture
}

fn join(group: &str, member_id: &str) -> JoinGroupRequest {
    build(|request: &mut JoinGroupRequest| {
        request.group_id = group.into();
        request.member_id = member_id.into();
        request.session_timeout_ms = 10_000;
        request.rebalance_timeout_ms = 30_000;
        request.protocol_type = "consumer".into();
        request.protocols = vec![build(|protocol: &mut JoinGroupRequestProtocol| {
            protocol.name = "range".into();
            protocol.metadata = vec![1, 2].into();
        })];
    })
}

fn joined(member_id: &str) -> GroupAnswer {
    GroupAnswer::Join(Joined {
        generation: 7,
        protocol_type: "consumer".into(),
        protocol_name: "range".into(),
        leader: "leader".into(),
        skip_assignment: false,
        member_id: member_id.into(),
        members: vec![],
    })
}

fn heartbeat(group: &str) -> HeartbeatRequest {
    build(|request: &mut HeartbeatRequest| {
        request.group_id = group.into();
        request.member_id = "m".into();
        request.generation_id = 7;
    })
}

/// Offsets of partitions, by topic.
fn commit(group: &str, topics: &[(&str, &[(i32, i64)])]) -> OffsetCommitRequest {
    let partition = |(index, offset): &(i32, i64)| {
        build(|partition: &mut OffsetCommitRequestPartition| {
            partition.partition_index = *index;
            partition.committed_offset = *offset;
        })
    };
    build(|request: &mut OffsetCommitRequest| {
        request.group_id = group.into();
        let topics = topics.iter().map(|(name, partitions)| {
            build(|topic: &mut OffsetCommitRequestTopic| {
                topic.name = StrBytes::from(*name);
                topic.partitions = partitions.iter().map(partition).collect();
            })
        });
        request.topics = topics.collect();
    })
}

fn codes(response: &OffsetCommitResponse) -> Vec<i16> {
    response.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code).collect()
}

/// The offsets of every commit, in the order of the calls.
fn committed(requests: &[GroupRequest]) -> Vec<i64> {
    let offsets = requests.iter().filter_map(|request| match request {
        GroupRequest::CommitOffsets(commit) => Some(commit.offsets[0].offset),
        _ => None,
    });
    offsets.collect()
}

fn done() -> Result<GroupAnswer, GroupError> {
    Ok(GroupAnswer::CommitOffsets(vec![Ok(())]))
}
