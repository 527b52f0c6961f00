//! What a group is asked.

use std::time::Duration;

use tidemark_model::group::{
    CommitOffsets, ConsumerHeartbeat, FetchOffsets, GroupCall, GroupRequest, Join, Leaving, Member, OffsetToCommit,
    Protocol, Sync,
};

use super::super::{Malformed, all, each, from_ms, required, to_ms};
use super::{from_list, to_list};
use crate::proto as wire;

impl From<GroupCall> for wire::GroupCall {
    fn from(GroupCall { group, client_id, client_host, request }: GroupCall) -> Self {
        use wire::group_call::Request as W;
        let request = match request {
            GroupRequest::Join(join) => W::Join(join.into()),
            GroupRequest::Sync(sync) => W::Sync(sync.into()),
            GroupRequest::Heartbeat(member) => W::Heartbeat(member.into()),
            GroupRequest::Leave(members) => W::Leave(wire::LeaveGroup { members: all(members) }),
            GroupRequest::ConsumerHeartbeat(heartbeat) => W::ConsumerHeartbeat(heartbeat.into()),
            GroupRequest::CommitOffsets(commit) => W::CommitOffsets(commit.into()),
            GroupRequest::FetchOffsets(fetch) => W::FetchOffsets(fetch.into()),
            GroupRequest::DeleteOffsets(partitions) => {
                W::DeleteOffsets(wire::DeleteOffsets { partitions: all(partitions) })
            }
            GroupRequest::Describe => W::Describe(wire::Nothing {}),
            GroupRequest::DescribeConsumer => W::DescribeConsumer(wire::Nothing {}),
            GroupRequest::Delete => W::Delete(wire::Nothing {}),
            GroupRequest::AlterConfigs { changes, validate_only } => {
                W::AlterConfigs(wire::AlterGroupConfigs { changes: all(changes), validate_only })
            }
            GroupRequest::DescribeConfigs => W::DescribeConfigs(wire::Nothing {}),
        };
        Self { group, client_id, client_host, request: Some(request), traceparent: String::new() }
    }
}

impl TryFrom<wire::GroupCall> for GroupCall {
    type Error = Malformed;

    fn try_from(call: wire::GroupCall) -> Result<Self, Malformed> {
        use wire::group_call::Request as W;
        let wire::GroupCall { group, client_id, client_host, request, traceparent: _ } = call;
        let request = match request.ok_or(Malformed::Missing("request"))? {
            W::Join(join) => GroupRequest::Join(join.try_into()?),
            W::Sync(sync) => GroupRequest::Sync(sync.try_into()?),
            W::Heartbeat(member) => GroupRequest::Heartbeat(member.into()),
            W::Leave(wire::LeaveGroup { members }) => GroupRequest::Leave(all(members)),
            W::ConsumerHeartbeat(heartbeat) => GroupRequest::ConsumerHeartbeat(heartbeat.try_into()?),
            W::CommitOffsets(commit) => GroupRequest::CommitOffsets(commit.try_into()?),
            W::FetchOffsets(fetch) => GroupRequest::FetchOffsets(fetch.try_into()?),
            W::DeleteOffsets(wire::DeleteOffsets { partitions }) => GroupRequest::DeleteOffsets(all(partitions)),
            W::Describe(wire::Nothing {}) => GroupRequest::Describe,
            W::DescribeConsumer(wire::Nothing {}) => GroupRequest::DescribeConsumer,
            W::Delete(wire::Nothing {}) => GroupRequest::Delete,
            W::AlterConfigs(wire::AlterGroupConfigs { changes, validate_only }) => {
                GroupRequest::AlterConfigs { changes: each(changes)?, validate_only }
            }
            W::DescribeConfigs(wire::Nothing {}) => GroupRequest::DescribeConfigs,
        };
        Ok(Self { group, client_id, client_host, request })
    }
}

impl From<Join> for wire::JoinGroup {
    fn from(join: Join) -> Self {
        let Join {
            member_id,
            instance_id,
            protocol_type,
            protocols,
            session_timeout,
            rebalance_timeout,
            requires_member_id,
            can_skip_assignment,
            reason,
        } = join;
        Self {
            member_id,
            instance_id,
            protocol_type,
            protocols: all(protocols),
            session_timeout_ms: to_ms(session_timeout),
            rebalance_timeout_ms: to_ms(rebalance_timeout),
            requires_member_id,
            can_skip_assignment,
            reason,
        }
    }
}

impl TryFrom<wire::JoinGroup> for Join {
    type Error = Malformed;

    fn try_from(join: wire::JoinGroup) -> Result<Self, Malformed> {
        let wire::JoinGroup {
            member_id,
            instance_id,
            protocol_type,
            protocols,
            session_timeout_ms,
            rebalance_timeout_ms,
            requires_member_id,
            can_skip_assignment,
            reason,
        } = join;
        Ok(Self {
            member_id,
            instance_id,
            protocol_type,
            protocols: all(protocols),
            session_timeout: from_ms(session_timeout_ms, "session timeout")?,
            rebalance_timeout: from_ms(rebalance_timeout_ms, "rebalance timeout")?,
            requires_member_id,
            can_skip_assignment,
            reason,
        })
    }
}

impl From<Protocol> for wire::join_group::Protocol {
    fn from(Protocol { name, metadata }: Protocol) -> Self {
        Self { name, metadata }
    }
}

impl From<wire::join_group::Protocol> for Protocol {
    fn from(wire::join_group::Protocol { name, metadata }: wire::join_group::Protocol) -> Self {
        Self { name, metadata }
    }
}

impl From<Sync> for wire::SyncGroup {
    fn from(Sync { member, protocol_type, protocol_name, assignments }: Sync) -> Self {
        let assignment = |(member_id, assignment)| wire::sync_group::Assignment { member_id, assignment };
        let assignments = assignments.into_iter().map(assignment).collect();
        Self { member: Some(member.into()), protocol_type, protocol_name, assignments }
    }
}

impl TryFrom<wire::SyncGroup> for Sync {
    type Error = Malformed;

    fn try_from(sync: wire::SyncGroup) -> Result<Self, Malformed> {
        let wire::SyncGroup { member, protocol_type, protocol_name, assignments } = sync;
        let assignment = |wire::sync_group::Assignment { member_id, assignment }: wire::sync_group::Assignment| {
            (member_id, assignment)
        };
        let assignments = assignments.into_iter().map(assignment).collect();
        Ok(Self { member: required(member, "member")?, protocol_type, protocol_name, assignments })
    }
}

impl From<Member> for wire::GroupMember {
    fn from(Member { member_id, instance_id, generation }: Member) -> Self {
        Self { member_id, instance_id, generation }
    }
}

impl From<wire::GroupMember> for Member {
    fn from(wire::GroupMember { member_id, instance_id, generation }: wire::GroupMember) -> Self {
        Self { member_id, instance_id, generation }
    }
}

impl From<Leaving> for wire::leave_group::Member {
    fn from(Leaving { member_id, instance_id, reason }: Leaving) -> Self {
        Self { member_id, instance_id, reason }
    }
}

impl From<wire::leave_group::Member> for Leaving {
    fn from(wire::leave_group::Member { member_id, instance_id, reason }: wire::leave_group::Member) -> Self {
        Self { member_id, instance_id, reason }
    }
}

impl From<ConsumerHeartbeat> for wire::ConsumerHeartbeat {
    fn from(heartbeat: ConsumerHeartbeat) -> Self {
        let ConsumerHeartbeat {
            member_id,
            member_epoch,
            instance_id,
            rack,
            rebalance_timeout,
            subscribed_topics,
            subscribed_regex,
            server_assignor,
            owned,
            client_makes_id,
        } = heartbeat;
        Self {
            member_id,
            member_epoch,
            instance_id,
            rack,
            rebalance_timeout_ms: rebalance_timeout.map(to_ms),
            subscribed_topics: subscribed_topics.map(|names| wire::consumer_heartbeat::Names { names }),
            subscribed_regex,
            server_assignor,
            owned: to_list(owned),
            client_makes_id,
        }
    }
}

impl TryFrom<wire::ConsumerHeartbeat> for ConsumerHeartbeat {
    type Error = Malformed;

    fn try_from(heartbeat: wire::ConsumerHeartbeat) -> Result<Self, Malformed> {
        let wire::ConsumerHeartbeat {
            member_id,
            member_epoch,
            instance_id,
            rack,
            rebalance_timeout_ms,
            subscribed_topics,
            subscribed_regex,
            server_assignor,
            owned,
            client_makes_id,
        } = heartbeat;
        Ok(Self {
            member_id,
            member_epoch,
            instance_id,
            rack,
            rebalance_timeout: rebalance_timeout_ms.map(|ms| from_ms(ms, "rebalance timeout")).transpose()?,
            subscribed_topics: subscribed_topics.map(|wire::consumer_heartbeat::Names { names }| names),
            subscribed_regex,
            server_assignor,
            owned: from_list(owned)?,
            client_makes_id,
        })
    }
}

impl From<CommitOffsets> for wire::CommitOffsets {
    fn from(commit: CommitOffsets) -> Self {
        let CommitOffsets { member_id, instance_id, generation_or_epoch, understands_epochs, retention, offsets } =
            commit;
        // Kafka's field is 64 bits of milliseconds, unlike its other times.
        let retention_ms = retention.map(|retention| u64::try_from(retention.as_millis()).unwrap_or(u64::MAX));
        Self { member_id, instance_id, generation_or_epoch, understands_epochs, retention_ms, offsets: all(offsets) }
    }
}

impl TryFrom<wire::CommitOffsets> for CommitOffsets {
    type Error = Malformed;

    fn try_from(commit: wire::CommitOffsets) -> Result<Self, Malformed> {
        let wire::CommitOffsets {
            member_id,
            instance_id,
            generation_or_epoch,
            understands_epochs,
            retention_ms,
            offsets,
        } = commit;
        let retention = retention_ms.map(Duration::from_millis);
        let offsets = each(offsets)?;
        Ok(Self { member_id, instance_id, generation_or_epoch, understands_epochs, retention, offsets })
    }
}

impl From<OffsetToCommit> for wire::commit_offsets::Offset {
    fn from(OffsetToCommit { partition, offset, leader_epoch, metadata }: OffsetToCommit) -> Self {
        Self { partition: Some(partition.into()), offset, leader_epoch, metadata }
    }
}

impl TryFrom<wire::commit_offsets::Offset> for OffsetToCommit {
    type Error = Malformed;

    fn try_from(committed: wire::commit_offsets::Offset) -> Result<Self, Malformed> {
        let wire::commit_offsets::Offset { partition, offset, leader_epoch, metadata } = committed;
        Ok(Self { partition: required(partition, "partition")?, offset, leader_epoch, metadata })
    }
}

impl From<FetchOffsets> for wire::FetchOffsets {
    fn from(FetchOffsets { member_id, member_epoch, topics, require_stable }: FetchOffsets) -> Self {
        Self { member_id, member_epoch, topics: to_list(topics), require_stable }
    }
}

impl TryFrom<wire::FetchOffsets> for FetchOffsets {
    type Error = Malformed;

    fn try_from(fetch: wire::FetchOffsets) -> Result<Self, Malformed> {
        let wire::FetchOffsets { member_id, member_epoch, topics, require_stable } = fetch;
        Ok(Self { member_id, member_epoch, topics: from_list(topics)?, require_stable })
    }
}
