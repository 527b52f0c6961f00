//! What members and tools ask of groups.

use tidemark_wire::messages::*;

use super::topic_id;

pub(super) fn offset_commit(v: i16) -> OffsetCommitRequest {
    use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    let partition = |index| {
        build(|out: &mut OffsetCommitRequestPartition| {
            out.partition_index = index;
            out.committed_offset = 7;
            out.committed_metadata = Some("metadata".into());
        })
    };
    build(|out: &mut OffsetCommitRequest| {
        out.group_id = "group".into();
        out.member_id = "member".into();
        out.topics = vec![build(|out: &mut OffsetCommitRequestTopic| {
            if v < 10 {
                out.name = "topic".into();
            } else {
                out.topic_id = topic_id();
            }
            out.partitions = (0..3).map(partition).collect();
        })];
    })
}

pub(super) fn offset_fetch(v: i16) -> OffsetFetchRequest {
    use offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics};
    let topic = build(|out: &mut OffsetFetchRequestTopics| {
        if v < 10 {
            out.name = "topic".into();
        } else {
            out.topic_id = topic_id();
        }
        out.partition_indexes = vec![1, 2, 3];
    });
    build(|out: &mut OffsetFetchRequest| {
        if v >= 8 {
            out.groups = vec![build(|out: &mut OffsetFetchRequestGroup| {
                out.group_id = "group".into();
                out.topics = Some(vec![topic.clone(), topic]);
            })];
        } else {
            out.group_id = "group".into();
            out.topics = Some(vec![build(|out: &mut OffsetFetchRequestTopic| {
                out.name = "topic".into();
                out.partition_indexes = vec![1, 2, 3];
            })]);
        }
    })
}

pub(super) fn join_group(v: i16) -> JoinGroupRequest {
    use join_group_request::JoinGroupRequestProtocol;
    let protocol = |name: &str| {
        build(|out: &mut JoinGroupRequestProtocol| {
            out.name = name.into();
            out.metadata = vec![1, 2, 3].into();
        })
    };
    build(|out: &mut JoinGroupRequest| {
        out.group_id = "group".into();
        out.session_timeout_ms = 45_000;
        out.protocol_type = "consumer".into();
        out.protocols = ["range", "cooperative-sticky"].map(protocol).into();
        if v >= 5 {
            out.group_instance_id = Some("instance".into());
        }
    })
}

pub(super) fn heartbeat() -> HeartbeatRequest {
    build(|out: &mut HeartbeatRequest| {
        out.group_id = "group".into();
        out.member_id = "member".into();
    })
}

pub(super) fn leave_group(v: i16) -> LeaveGroupRequest {
    use leave_group_request::MemberIdentity;
    let member = |id: &str| build(|out: &mut MemberIdentity| out.member_id = id.into());
    build(|out: &mut LeaveGroupRequest| {
        out.group_id = "group".into();
        if v >= 3 {
            out.members = ["a", "bc"].map(member).into();
        } else {
            out.member_id = "member".into();
        }
    })
}

pub(super) fn sync_group() -> SyncGroupRequest {
    use sync_group_request::SyncGroupRequestAssignment;
    let assignment = |id: &str| {
        build(|out: &mut SyncGroupRequestAssignment| {
            out.member_id = id.into();
            out.assignment = vec![1, 2, 3].into();
        })
    };
    build(|out: &mut SyncGroupRequest| {
        out.group_id = "group".into();
        out.member_id = "member".into();
        out.assignments = ["a", "bc"].map(assignment).into();
    })
}

pub(super) fn describe_groups() -> DescribeGroupsRequest {
    build(|out: &mut DescribeGroupsRequest| out.groups = vec!["group".into(), "other".into()])
}

pub(super) fn list_groups(v: i16) -> ListGroupsRequest {
    build(|out: &mut ListGroupsRequest| {
        if v >= 4 {
            out.states_filter = vec!["Stable".into(), "Empty".into()];
        }
        if v >= 5 {
            out.types_filter = vec!["consumer".into()];
        }
    })
}

pub(super) fn delete_groups() -> DeleteGroupsRequest {
    build(|out: &mut DeleteGroupsRequest| out.groups_names = vec!["group".into(), "other".into()])
}

pub(super) fn offset_delete() -> OffsetDeleteRequest {
    use offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
    let partition = |index| build(|out: &mut OffsetDeleteRequestPartition| out.partition_index = index);
    build(|out: &mut OffsetDeleteRequest| {
        out.group_id = "group".into();
        out.topics = vec![build(|out: &mut OffsetDeleteRequestTopic| {
            out.name = "topic".into();
            out.partitions = (0..3).map(partition).collect();
        })];
    })
}

pub(super) fn consumer_group_heartbeat(v: i16) -> ConsumerGroupHeartbeatRequest {
    use consumer_group_heartbeat_request::TopicPartitions;
    build(|out: &mut ConsumerGroupHeartbeatRequest| {
        out.group_id = "group".into();
        out.member_id = "member".into();
        out.subscribed_topic_names = Some(vec!["topic".into(), "other".into()]);
        if v >= 1 {
            out.subscribed_topic_regex = Some("t.*".into());
        }
        out.topic_partitions = Some(vec![build(|out: &mut TopicPartitions| {
            out.topic_id = topic_id();
            out.partitions = vec![1, 2, 3];
        })]);
    })
}

pub(super) fn consumer_group_describe() -> ConsumerGroupDescribeRequest {
    build(|out: &mut ConsumerGroupDescribeRequest| out.group_ids = vec!["group".into(), "other".into()])
}
