//! What a group answers.

use tidemark_model::GroupError;
use tidemark_model::group::{
    CommittedOffset, ConsumerHeartbeatAnswer, DescribedConsumer, DescribedConsumerGroup, DescribedGroup,
    DescribedMember, FetchedOffset, GroupAnswer, GroupKind, Joined, JoinedMember, ListedGroup, Synced,
};

use super::super::{Malformed, all, each, from_ms, outcome, required, to_ms};
use super::{from_list, to_list};
use crate::proto as wire;

outcome!(ListGroupsResponse, list_groups_response, Groups: Vec<ListedGroup>, GroupError);

impl From<Result<GroupAnswer, GroupError>> for wire::group_answer::Result {
    fn from(answer: Result<GroupAnswer, GroupError>) -> Self {
        match answer {
            Ok(GroupAnswer::Join(joined)) => Self::Join(joined.into()),
            Ok(GroupAnswer::Sync(synced)) => Self::Sync(synced.into()),
            Ok(GroupAnswer::Heartbeat) => Self::Heartbeat(wire::Nothing {}),
            Ok(GroupAnswer::Leave(results)) => Self::Leave(results.into()),
            Ok(GroupAnswer::ConsumerHeartbeat(answer)) => Self::ConsumerHeartbeat(answer.into()),
            Ok(GroupAnswer::CommitOffsets(results)) => Self::CommitOffsets(results.into()),
            Ok(GroupAnswer::FetchOffsets(offsets)) => {
                Self::FetchOffsets(wire::FetchedOffsets { offsets: all(offsets) })
            }
            Ok(GroupAnswer::DeleteOffsets(results)) => Self::DeleteOffsets(results.into()),
            Ok(GroupAnswer::Describe(group)) => Self::Describe(group.into()),
            Ok(GroupAnswer::DescribeConsumer(group)) => Self::DescribeConsumer(group.into()),
            Ok(GroupAnswer::Delete) => Self::Delete(wire::Nothing {}),
            Ok(GroupAnswer::AlterConfigs) => Self::AlterConfigs(wire::Nothing {}),
            Ok(GroupAnswer::DescribeConfigs(configs)) => Self::DescribeConfigs(wire::GroupConfigs { configs }),
            Err(error) => Self::Error(error.into()),
        }
    }
}

impl TryFrom<wire::GroupAnswer> for Result<GroupAnswer, GroupError> {
    type Error = Malformed;

    fn try_from(wire::GroupAnswer { sequence: _, result }: wire::GroupAnswer) -> Result<Self, Malformed> {
        use wire::group_answer::Result as W;
        Ok(Ok(match result.ok_or(Malformed::Missing("result"))? {
            W::Join(joined) => GroupAnswer::Join(joined.into()),
            W::Sync(synced) => GroupAnswer::Sync(synced.into()),
            W::Heartbeat(wire::Nothing {}) => GroupAnswer::Heartbeat,
            W::Leave(results) => GroupAnswer::Leave(results.try_into()?),
            W::ConsumerHeartbeat(answer) => GroupAnswer::ConsumerHeartbeat(answer.try_into()?),
            W::CommitOffsets(results) => GroupAnswer::CommitOffsets(results.try_into()?),
            W::FetchOffsets(wire::FetchedOffsets { offsets }) => GroupAnswer::FetchOffsets(each(offsets)?),
            W::DeleteOffsets(results) => GroupAnswer::DeleteOffsets(results.try_into()?),
            W::Describe(group) => GroupAnswer::Describe(group.into()),
            W::DescribeConsumer(group) => GroupAnswer::DescribeConsumer(group.try_into()?),
            W::Delete(wire::Nothing {}) => GroupAnswer::Delete,
            W::AlterConfigs(wire::Nothing {}) => GroupAnswer::AlterConfigs,
            W::DescribeConfigs(wire::GroupConfigs { configs }) => GroupAnswer::DescribeConfigs(configs),
            W::Error(error) => return Ok(Err(error.try_into()?)),
        }))
    }
}

impl From<Vec<Result<(), GroupError>>> for wire::GroupResults {
    fn from(results: Vec<Result<(), GroupError>>) -> Self {
        let result =
            |result: Result<(), GroupError>| wire::group_results::Result { error: result.err().map(Into::into) };
        Self { results: results.into_iter().map(result).collect() }
    }
}

impl TryFrom<wire::GroupResults> for Vec<Result<(), GroupError>> {
    type Error = Malformed;

    fn try_from(wire::GroupResults { results }: wire::GroupResults) -> Result<Self, Malformed> {
        let result = |wire::group_results::Result { error }: wire::group_results::Result| {
            Ok(match error {
                Some(error) => Err(error.try_into()?),
                None => Ok(()),
            })
        };
        results.into_iter().map(result).collect()
    }
}

impl From<Joined> for wire::JoinedGroup {
    fn from(joined: Joined) -> Self {
        let Joined { generation, protocol_type, protocol_name, leader, skip_assignment, member_id, members } = joined;
        let members = all(members);
        Self { generation, protocol_type, protocol_name, leader, skip_assignment, member_id, members }
    }
}

impl From<wire::JoinedGroup> for Joined {
    fn from(joined: wire::JoinedGroup) -> Self {
        let wire::JoinedGroup { generation, protocol_type, protocol_name, leader, skip_assignment, member_id, members } =
            joined;
        let members = all(members);
        Self { generation, protocol_type, protocol_name, leader, skip_assignment, member_id, members }
    }
}

impl From<JoinedMember> for wire::joined_group::Member {
    fn from(JoinedMember { member_id, instance_id, metadata }: JoinedMember) -> Self {
        Self { member_id, instance_id, metadata }
    }
}

impl From<wire::joined_group::Member> for JoinedMember {
    fn from(wire::joined_group::Member { member_id, instance_id, metadata }: wire::joined_group::Member) -> Self {
        Self { member_id, instance_id, metadata }
    }
}

impl From<Synced> for wire::SyncedGroup {
    fn from(Synced { protocol_type, protocol_name, assignment }: Synced) -> Self {
        Self { protocol_type, protocol_name, assignment }
    }
}

impl From<wire::SyncedGroup> for Synced {
    fn from(wire::SyncedGroup { protocol_type, protocol_name, assignment }: wire::SyncedGroup) -> Self {
        Self { protocol_type, protocol_name, assignment }
    }
}

impl From<ConsumerHeartbeatAnswer> for wire::ConsumerHeartbeatAnswer {
    fn from(answer: ConsumerHeartbeatAnswer) -> Self {
        let ConsumerHeartbeatAnswer { member_id, member_epoch, heartbeat_interval, assignment } = answer;
        let (heartbeat_interval_ms, assignment) = (to_ms(heartbeat_interval), to_list(assignment));
        Self { member_id, member_epoch, heartbeat_interval_ms, assignment }
    }
}

impl TryFrom<wire::ConsumerHeartbeatAnswer> for ConsumerHeartbeatAnswer {
    type Error = Malformed;

    fn try_from(answer: wire::ConsumerHeartbeatAnswer) -> Result<Self, Malformed> {
        let wire::ConsumerHeartbeatAnswer { member_id, member_epoch, heartbeat_interval_ms, assignment } = answer;
        let heartbeat_interval = from_ms(heartbeat_interval_ms, "heartbeat interval")?;
        Ok(Self { member_id, member_epoch, heartbeat_interval, assignment: from_list(assignment)? })
    }
}

impl From<FetchedOffset> for wire::fetched_offsets::Fetched {
    fn from(FetchedOffset { partition, result }: FetchedOffset) -> Self {
        use wire::fetched_offsets::fetched::Result as W;
        let result = match result {
            Ok(None) => W::Nothing(wire::Nothing {}),
            Ok(Some(CommittedOffset { offset, leader_epoch, metadata })) => {
                W::Committed(wire::fetched_offsets::Committed { offset, leader_epoch, metadata })
            }
            Err(error) => W::Error(error.into()),
        };
        Self { partition: Some(partition.into()), result: Some(result) }
    }
}

impl TryFrom<wire::fetched_offsets::Fetched> for FetchedOffset {
    type Error = Malformed;

    fn try_from(fetched: wire::fetched_offsets::Fetched) -> Result<Self, Malformed> {
        use wire::fetched_offsets::fetched::Result as W;
        let wire::fetched_offsets::Fetched { partition, result } = fetched;
        let result = match result.ok_or(Malformed::Missing("result"))? {
            W::Nothing(wire::Nothing {}) => Ok(None),
            W::Committed(wire::fetched_offsets::Committed { offset, leader_epoch, metadata }) => {
                Ok(Some(CommittedOffset { offset, leader_epoch, metadata }))
            }
            W::Error(error) => Err(error.try_into()?),
        };
        Ok(Self { partition: required(partition, "partition")?, result })
    }
}

impl From<DescribedGroup> for wire::DescribedGroup {
    fn from(DescribedGroup { state, protocol_type, protocol, members }: DescribedGroup) -> Self {
        Self { state, protocol_type, protocol, members: all(members) }
    }
}

impl From<wire::DescribedGroup> for DescribedGroup {
    fn from(group: wire::DescribedGroup) -> Self {
        let wire::DescribedGroup { state, protocol_type, protocol, members } = group;
        Self { state, protocol_type, protocol, members: all(members) }
    }
}

impl From<DescribedMember> for wire::described_group::Member {
    fn from(member: DescribedMember) -> Self {
        let DescribedMember { member_id, instance_id, client_id, client_host, metadata, assignment } = member;
        Self { member_id, instance_id, client_id, client_host, metadata, assignment }
    }
}

impl From<wire::described_group::Member> for DescribedMember {
    fn from(member: wire::described_group::Member) -> Self {
        let wire::described_group::Member { member_id, instance_id, client_id, client_host, metadata, assignment } =
            member;
        Self { member_id, instance_id, client_id, client_host, metadata, assignment }
    }
}

impl From<DescribedConsumerGroup> for wire::DescribedConsumerGroup {
    fn from(group: DescribedConsumerGroup) -> Self {
        let DescribedConsumerGroup { state, epoch, assignment_epoch, assignor, members } = group;
        Self { state, epoch, assignment_epoch, assignor, members: all(members) }
    }
}

impl TryFrom<wire::DescribedConsumerGroup> for DescribedConsumerGroup {
    type Error = Malformed;

    fn try_from(group: wire::DescribedConsumerGroup) -> Result<Self, Malformed> {
        let wire::DescribedConsumerGroup { state, epoch, assignment_epoch, assignor, members } = group;
        Ok(Self { state, epoch, assignment_epoch, assignor, members: each(members)? })
    }
}

impl From<DescribedConsumer> for wire::described_consumer_group::Member {
    fn from(member: DescribedConsumer) -> Self {
        let DescribedConsumer {
            member_id,
            instance_id,
            rack,
            member_epoch,
            client_id,
            client_host,
            subscribed_topics,
            subscribed_regex,
            assignment,
            target,
            classic,
        } = member;
        Self {
            member_id,
            instance_id,
            rack,
            member_epoch,
            client_id,
            client_host,
            subscribed_topics,
            subscribed_regex,
            assignment: all(assignment),
            target: all(target),
            classic,
        }
    }
}

impl TryFrom<wire::described_consumer_group::Member> for DescribedConsumer {
    type Error = Malformed;

    fn try_from(member: wire::described_consumer_group::Member) -> Result<Self, Malformed> {
        let wire::described_consumer_group::Member {
            member_id,
            instance_id,
            rack,
            member_epoch,
            client_id,
            client_host,
            subscribed_topics,
            subscribed_regex,
            assignment,
            target,
            classic,
        } = member;
        Ok(Self {
            member_id,
            instance_id,
            rack,
            member_epoch,
            client_id,
            client_host,
            subscribed_topics,
            subscribed_regex,
            assignment: each(assignment)?,
            target: each(target)?,
            classic,
        })
    }
}

impl From<Vec<ListedGroup>> for wire::ListedGroups {
    fn from(groups: Vec<ListedGroup>) -> Self {
        Self { groups: all(groups) }
    }
}

impl TryFrom<wire::ListedGroups> for Vec<ListedGroup> {
    type Error = Malformed;

    fn try_from(wire::ListedGroups { groups }: wire::ListedGroups) -> Result<Self, Malformed> {
        each(groups)
    }
}

impl From<ListedGroup> for wire::listed_groups::Group {
    fn from(ListedGroup { group, protocol_type, state, kind }: ListedGroup) -> Self {
        let kind = match kind {
            GroupKind::Classic => wire::listed_groups::Kind::Classic,
            GroupKind::Consumer => wire::listed_groups::Kind::Consumer,
        };
        Self { group, protocol_type, state, kind: kind.into() }
    }
}

impl TryFrom<wire::listed_groups::Group> for ListedGroup {
    type Error = Malformed;

    fn try_from(listed: wire::listed_groups::Group) -> Result<Self, Malformed> {
        use wire::listed_groups::Kind;
        let wire::listed_groups::Group { group, protocol_type, state, kind } = listed;
        let kind = match Kind::try_from(kind).map_err(|_| Malformed::OutOfRange("kind"))? {
            Kind::Unspecified => return Err(Malformed::Missing("kind")),
            Kind::Classic => GroupKind::Classic,
            Kind::Consumer => GroupKind::Consumer,
        };
        Ok(Self { group, protocol_type, state, kind })
    }
}
