//! Answers byte for byte as a running Apache Kafka 4.2.0 gave them to the same requests, where nothing in them is the
//! cluster's own.

use tidemark_wire::messages::leave_group_request::MemberIdentity;
use tidemark_wire::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use tidemark_wire::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use tidemark_wire::messages::*;

use super::super::kit::Client;
use super::*;

async fn exactly<Q: KafkaRequest>(client: &mut Client, version: i16, request: &Q, expected: &[u8]) {
    let api = tidemark_wire::api::ApiKey::from_code(Q::API_KEY.value()).unwrap();
    let id = client.send(api, version, &encode(request, version).unwrap()).await;
    let body = client.answer(id, api, version).await;
    assert_eq!(&body[..], expected, "{api} version {version}");
}

#[tokio::test]
async fn joins_that_fail() {
    let fixture = fixture().await;
    let mut client = fixture.client().await;
    let empty = join("", "");
    exactly(&mut client, 0, &empty, b"\x00\x18\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00").await;
    let expected = b"\x00\x00\x00\x00\x00\x18\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    exactly(&mut client, 5, &empty, expected).await;
    let expected = b"\x00\x00\x00\x00\x00\x18\xff\xff\xff\xff\x00\x00\x01\x00\x01\x01\x00";
    exactly(&mut client, 9, &empty, expected).await;

    fixture.owner().always(Err(GroupError::UnknownMemberId("no member".into())));
    let unknown = join("g1", "abc");
    let expected = b"\x00\x19\xff\xff\xff\xff\x00\x00\x00\x00\x00\x03abc\x00\x00\x00\x00";
    exactly(&mut client, 0, &unknown, expected).await;
    let expected = b"\x00\x00\x00\x00\x00\x19\xff\xff\xff\xff\x00\x00\x00\x00\x00\x03abc\x00\x00\x00\x00";
    exactly(&mut client, 5, &unknown, expected).await;
    let expected = b"\x00\x00\x00\x00\x00\x19\xff\xff\xff\xff\x00\x00\x01\x00\x04abc\x01\x00";
    exactly(&mut client, 9, &unknown, expected).await;
}

#[tokio::test]
async fn members_that_nobody_knows() {
    let fixture = fixture().await;
    fixture.owner().always(Err(GroupError::UnknownMemberId("no member".into())));
    let mut client = fixture.client().await;
    let sync = |group: &str, protocol: bool| {
        build(|request: &mut SyncGroupRequest| {
            request.group_id = StrBytes::from(group);
            request.generation_id = 1;
            request.member_id = "m".into();
            if protocol {
                request.protocol_type = Some("consumer".into());
                request.protocol_name = Some("range".into());
            }
        })
    };
    exactly(&mut client, 5, &sync("g1", false), b"\x00\x00\x00\x00\x00\x17\x00\x00\x01\x00").await;
    exactly(&mut client, 5, &sync("g1", true), b"\x00\x00\x00\x00\x00\x19\x00\x00\x01\x00").await;
    exactly(&mut client, 5, &sync("", true), b"\x00\x00\x00\x00\x00\x18\x00\x00\x01\x00").await;
    exactly(&mut client, 0, &sync("nog", false), b"\x00\x19\x00\x00\x00\x00").await;

    exactly(&mut client, 4, &heartbeat("nog"), b"\x00\x00\x00\x00\x00\x19\x00").await;
    exactly(&mut client, 4, &heartbeat(""), b"\x00\x00\x00\x00\x00\x18\x00").await;
    exactly(&mut client, 0, &heartbeat("nog"), b"\x00\x19").await;

    let one = |group: &str| {
        build(|request: &mut LeaveGroupRequest| {
            request.group_id = StrBytes::from(group);
            request.member_id = "m".into();
        })
    };
    exactly(&mut client, 0, &one("nog"), b"\x00\x19").await;
    exactly(&mut client, 2, &one(""), b"\x00\x00\x00\x00\x00\x18").await;
    let several = |group: &str, members: &[(&str, Option<&str>)]| {
        build(|request: &mut LeaveGroupRequest| {
            request.group_id = StrBytes::from(group);
            let members = members.iter().map(|(id, instance)| {
                build(|member: &mut MemberIdentity| {
                    member.member_id = StrBytes::from(*id);
                    member.group_instance_id = instance.map(StrBytes::from);
                })
            });
            request.members = members.collect();
        })
    };
    let expected = b"\x00\x00\x00\x00\x00\x00\x03\x02m\x00\x00\x19\x00\x01\x05inst\x00\x19\x00\x00";
    exactly(&mut client, 5, &several("nog", &[("m", None), ("", Some("inst"))]), expected).await;
    exactly(&mut client, 5, &several("", &[("m", None)]), b"\x00\x00\x00\x00\x00\x18\x01\x00").await;
    exactly(&mut client, 5, &several("nog", &[]), b"\x00\x00\x00\x00\x00\x00\x01\x00").await;
}

#[tokio::test]
async fn groups_that_do_not_exist() {
    let fixture = fixture().await;
    let mut client = fixture.client().await;
    let describe = |version: i16| {
        build(|request: &mut DescribeGroupsRequest| {
            request.groups = vec!["nog".into()];
            request.include_authorized_operations = version >= 3;
        })
    };
    let expected = b"\x00\x00\x00\x01\x00\x00\x00\x03nog\x00\x04Dead\x00\x00\x00\x00\x00\x00\x00\x00";
    exactly(&mut client, 0, &describe(0), expected).await;
    let expected = b"\x00\x00\x00\x00\x02\x00\x00\x04nog\x05Dead\x01\x01\x01\x00\x00\rH\x00\x00";
    exactly(&mut client, 5, &describe(5), expected).await;
    let expected =
        b"\x00\x00\x00\x00\x02\x00E\x15Group nog not found.\x04nog\x05Dead\x01\x01\x01\x80\x00\x00\x00\x00\x00";
    exactly(&mut client, 6, &describe(6), expected).await;

    let delete = build(|request: &mut DeleteGroupsRequest| {
        request.groups_names = vec!["".into(), "nog".into(), "nog".into()];
    });
    exactly(&mut client, 0, &delete, b"\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00E\x00\x03nog\x00E").await;
    exactly(&mut client, 2, &delete, b"\x00\x00\x00\x00\x03\x01\x00E\x00\x04nog\x00E\x00\x00").await;

    let describe = build(|request: &mut ConsumerGroupDescribeRequest| {
        request.group_ids = vec!["".into(), "nog".into()];
        request.include_authorized_operations = true;
    });
    let expected = b"\x00\x00\x00\x00\x03\x00\x18\x00\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01\x80\x00\x00\x00\x00\x00E\x15Group nog not found.\x04nog\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01\x80\x00\x00\x00\x00\x00";
    exactly(&mut client, 1, &describe, expected).await;

    let delete = |group: &str| {
        build(|request: &mut OffsetDeleteRequest| {
            request.group_id = StrBytes::from(group);
            request.topics = vec![build(|topic: &mut OffsetDeleteRequestTopic| {
                topic.name = "none".into();
                topic.partitions = vec![OffsetDeleteRequestPartition::default()];
            })];
        })
    };
    exactly(&mut client, 0, &delete("nog"), b"\x00E\x00\x00\x00\x00\x00\x00\x00\x00").await;
    exactly(&mut client, 0, &delete(""), b"\x00\x18\x00\x00\x00\x00\x00\x00\x00\x00").await;
}

#[tokio::test]
async fn offsets_that_nobody_committed() {
    let fixture = fixture().await;
    fixture.owner().always(Ok(GroupAnswer::FetchOffsets(vec![])));
    let mut client = fixture.client().await;
    let single = |version: i16| {
        build(|request: &mut OffsetFetchRequest| {
            request.group_id = "nog".into();
            if version >= 8 {
                request.group_id = StrBytes::default();
                request.groups = vec![build(|group: &mut OffsetFetchRequestGroup| {
                    group.group_id = "nog".into();
                    group.topics = Some(vec![build(|topic: &mut OffsetFetchRequestTopics| {
                        topic.name = "none".into();
                        topic.partition_indexes = vec![0, 1];
                    })]);
                })];
            } else {
                request.topics = Some(vec![build(|topic: &mut OffsetFetchRequestTopic| {
                    topic.name = "none".into();
                    topic.partition_indexes = vec![0, 1];
                })]);
            }
        })
    };
    let expected = b"\x00\x00\x00\x01\x00\x04none\x00\x00\x00\x02\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00";
    exactly(&mut client, 1, &single(1), expected).await;
    let expected = b"\x00\x00\x00\x00\x00\x00\x00\x01\x00\x04none\x00\x00\x00\x02\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00";
    exactly(&mut client, 5, &single(5), expected).await;
    let expected = b"\x00\x00\x00\x00\x02\x04nog\x02\x05none\x03\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x00\x00\x00\x00\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x00\x00\x00\x00\x00\x00\x00";
    exactly(&mut client, 8, &single(8), expected).await;
    let nothing = OffsetFetchRequest::default();
    exactly(&mut client, 8, &nothing, b"\x00\x00\x00\x00\x01\x00").await;
}

#[tokio::test]
async fn commits_of_what_does_not_exist() {
    let fixture = fixture().await;
    fixture.owner().always(done());
    let mut client = fixture.client().await;
    let request = commit("simple", &[("none", &[(0, 1)]), ("t", &[(7, 1), (0, 5)])]);
    let expected = b"\x00\x00\x00\x02\x00\x04none\x00\x00\x00\x01\x00\x00\x00\x00\x00\x03\x00\x01t\x00\x00\x00\x02\x00\x00\x00\x07\x00\x03\x00\x00\x00\x00\x00\x00";
    exactly(&mut client, 2, &request, expected).await;
    let expected = b"\x00\x00\x00\x00\x03\x05none\x02\x00\x00\x00\x00\x00\x03\x00\x00\x02t\x03\x00\x00\x00\x07\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    exactly(&mut client, 9, &request, expected).await;
    exactly(&mut client, 9, &commit("simple", &[]), b"\x00\x00\x00\x00\x01\x00").await;
}

#[tokio::test]
async fn a_consumers_heartbeat_that_is_none() {
    let fixture = fixture().await;
    let mut client = fixture.client().await;
    let no_member = b"\x00\x00\x00\x00\x00*\x19MemberId can't be empty.\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\x00";
    let no_group = b"\x00\x00\x00\x00\x00*\x18GroupId can't be empty.\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\x00";
    let beat = |member: &str, epoch| {
        build(|request: &mut ConsumerGroupHeartbeatRequest| {
            request.member_id = StrBytes::from(member);
            request.member_epoch = epoch;
        })
    };
    for (member, epoch) in [("", 0), ("", 1), ("", -1), ("", -2)] {
        exactly(&mut client, 1, &beat(member, epoch), no_member).await;
    }
    for (member, epoch) in [("m", 0), ("m", 1), ("m", -2)] {
        exactly(&mut client, 1, &beat(member, epoch), no_group).await;
    }
    for (epoch, expected) in [(0, &no_group[..]), (1, no_member), (-1, no_member), (-2, no_group)] {
        exactly(&mut client, 0, &beat("", epoch), expected).await;
    }
    assert!(fixture.owner().calls().is_empty());
}
