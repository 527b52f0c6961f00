//! Members of both protocols, in every version.

use tidemark_model::group::{
    ConsumerHeartbeat, ConsumerHeartbeatAnswer, JoinedMember, Leaving, Member, Sync, Synced, TopicPartitions,
};
use tidemark_wire::messages::consumer_group_heartbeat_request;
use tidemark_wire::messages::leave_group_request::MemberIdentity;
use tidemark_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use tidemark_wire::messages::*;

use super::super::kit::topic_id;
use super::*;

#[tokio::test]
async fn a_member_joins_in_every_version() {
    let fixture = fixture().await;
    let mut client = fixture.client().await;
    for version in 0..=9 {
        let GroupAnswer::Join(mut answer) = joined("m") else { unreachable!() };
        answer.members =
            vec![JoinedMember { member_id: "m".into(), instance_id: Some("i".into()), metadata: vec![9; 3].into() }];
        answer.skip_assignment = version >= 9;
        fixture.owner().answer(Ok(GroupAnswer::Join(answer)));
        let mut request = join("g", "m");
        if version >= 5 {
            request.group_instance_id = Some("i".into());
        }
        if version >= 8 {
            request.reason = Some("why".into());
        }
        let response: JoinGroupResponse = client.call(version, &request).await;
        assert_eq!((response.error_code, response.generation_id, response.leader.as_str()), (0, 7, "leader"));
        assert_eq!((response.protocol_name.as_deref(), response.member_id.as_str()), (Some("range"), "m"));
        assert_eq!(response.protocol_type.as_deref(), (version >= 7).then_some("consumer"));
        assert_eq!(response.members[0].metadata, vec![9; 3]);
        assert_eq!(response.skip_assignment, version >= 9);
        let Some(GroupRequest::Join(asked)) = fixture.owner().requests().pop() else { panic!("no join") };
        assert_eq!((asked.member_id.as_str(), asked.protocols[0].name.as_str()), ("m", "range"));
        assert_eq!(asked.session_timeout, Duration::from_secs(10));
        let rebalance = if version == 0 { asked.session_timeout } else { Duration::from_secs(30) };
        assert_eq!(asked.rebalance_timeout, rebalance, "version {version}");
        assert_eq!((asked.requires_member_id, asked.can_skip_assignment), (version >= 4, version >= 9));
        assert_eq!(asked.instance_id.as_deref(), (version >= 5).then_some("i"));
        assert_eq!(asked.reason.as_deref(), (version >= 8).then_some("why"));
    }
}

#[tokio::test]
async fn a_new_member_is_told_its_id_and_a_full_group_names_none() {
    let fixture = fixture().await;
    let mut client = fixture.client().await;
    let cases = [
        (GroupError::MemberIdRequired("new".into()), 79, "new"),
        (GroupError::GroupMaxSizeReached, 81, ""),
        (GroupError::FencedInstanceId, 82, "m"),
    ];
    for version in [0, 4, 9] {
        for (error, code, member_id) in cases.clone() {
            fixture.owner().answer(Err(error));
            let response: JoinGroupResponse = client.call(version, &join("g", "m")).await;
            assert_eq!(
                (response.error_code, response.member_id.as_str(), response.generation_id),
                (code, member_id, -1)
            );
        }
    }
}

#[tokio::test]
async fn a_join_that_only_takes_memory_is_refused() {
    let fixture = fixture().await;
    let mut request = join("g", "m");
    request.protocols = vec![request.protocols[0].clone(); 1_001];
    let response: JoinGroupResponse = fixture.client().await.call(9, &request).await;
    assert_eq!(response.error_code, 42);
    assert!(fixture.owner().calls().is_empty());
}

#[tokio::test]
async fn members_sync_in_every_version() {
    let fixture = fixture().await;
    let mut client = fixture.client().await;
    for version in 0..=5 {
        let synced = Synced {
            protocol_type: "consumer".into(),
            protocol_name: "range".into(),
            assignment: vec![1, 2, 3].into(),
        };
        fixture.owner().answer(Ok(GroupAnswer::Sync(synced)));
        let request = build(|request: &mut SyncGroupRequest| {
            request.group_id = "g".into();
            request.member_id = "m".into();
            request.generation_id = 7;
            if version >= 3 {
                request.group_instance_id = Some("i".into());
            }
            if version >= 5 {
                request.protocol_type = Some("consumer".into());
                request.protocol_name = Some("range".into());
            }
            request.assignments = vec![build(|assignment: &mut SyncGroupRequestAssignment| {
                assignment.member_id = "n".into();
                assignment.assignment = vec![4].into();
            })];
        });
        let response: SyncGroupResponse = client.call(version, &request).await;
        assert_eq!((response.error_code, &response.assignment[..]), (0, &[1, 2, 3][..]));
        let protocol = (version >= 5).then(|| "consumer".to_owned());
        assert_eq!(response.protocol_type.as_deref(), protocol.as_deref());
        let instance_id = (version >= 3).then(|| "i".to_owned());
        let expected = Sync {
            member: Member { member_id: "m".into(), instance_id, generation: 7 },
            protocol_type: protocol,
            protocol_name: (version >= 5).then(|| "range".to_owned()),
            assignments: vec![("n".into(), vec![4].into())],
        };
        assert_eq!(fixture.owner().requests().pop(), Some(GroupRequest::Sync(expected)));
        fixture.owner().answer(Err(GroupError::RebalanceInProgress));
        let response: SyncGroupResponse = client.call(version, &request).await;
        assert_eq!(response.error_code, 27);
    }
}

#[tokio::test]
async fn members_beat_and_leave_in_every_version() {
    let fixture = fixture().await;
    let mut client = fixture.client().await;
    for version in 0..=4 {
        fixture.owner().answer(Ok(GroupAnswer::Heartbeat));
        fixture.owner().answer(Err(GroupError::IllegalGeneration));
        for error in [0, 22] {
            let response: HeartbeatResponse = client.call(version, &heartbeat("g")).await;
            assert_eq!(response.error_code, error);
        }
    }
    for version in 0..=5 {
        let request = build(|request: &mut LeaveGroupRequest| {
            request.group_id = "g".into();
            match version {
                0..=2 => request.member_id = "a".into(),
                _ => {
                    request.members =
                        ["a", "b"].map(|id| build(|m: &mut MemberIdentity| m.member_id = id.into())).into();
                }
            }
        });
        let unknown = || Err(GroupError::UnknownMemberId("b".into()));
        let results = if version < 3 { vec![unknown()] } else { vec![Ok(()), unknown()] };
        fixture.owner().answer(Ok(GroupAnswer::Leave(results)));
        let response: LeaveGroupResponse = client.call(version, &request).await;
        let members: Vec<_> = response.members.iter().map(|m| (m.member_id.as_str(), m.error_code)).collect();
        match version {
            0..=2 => assert_eq!((response.error_code, members.len()), (25, 0)),
            _ => assert_eq!((response.error_code, members), (0, vec![("a", 0), ("b", 25)])),
        }
        let Some(GroupRequest::Leave(asked)) = fixture.owner().requests().pop() else { panic!("no leave") };
        let leaving = |id: &str| Leaving { member_id: id.into(), instance_id: None, reason: None };
        assert_eq!(asked, if version < 3 { vec![leaving("a")] } else { vec![leaving("a"), leaving("b")] });
        // A group that there is not has none of the members.
        let response: LeaveGroupResponse = client.call(version, &request).await;
        match version {
            0..=2 => assert_eq!(response.error_code, 25),
            _ => assert!(response.error_code == 0 && response.members.iter().all(|m| m.error_code == 25)),
        }
    }
}

#[tokio::test]
async fn consumers_beat_in_both_versions() {
    let fixture = fixture().await;
    let mut client = fixture.client().await;
    for version in 0..=1 {
        let assignment = vec![TopicPartitions { topic: topic_id("t"), partitions: vec![0, 1] }];
        let answer = ConsumerHeartbeatAnswer {
            member_id: "m".into(),
            member_epoch: 3,
            heartbeat_interval: Duration::from_millis(1_500),
            assignment: Some(assignment.clone()),
        };
        fixture.owner().answer(Ok(GroupAnswer::ConsumerHeartbeat(answer)));
        fixture.owner().answer(Err(GroupError::FencedMemberEpoch("the epoch is 9".into())));
        let request = build(|request: &mut ConsumerGroupHeartbeatRequest| {
            request.group_id = "g".into();
            request.member_id = "m".into();
            request.member_epoch = 2;
            request.rack_id = Some("r".into());
            request.rebalance_timeout_ms = 60_000;
            request.subscribed_topic_names = Some(vec!["t".into()]);
            if version >= 1 {
                request.subscribed_topic_regex = Some("t.*".into());
            }
            request.server_assignor = Some("uniform".into());
            let owned = build(|topic: &mut consumer_group_heartbeat_request::TopicPartitions| {
                topic.topic_id = wire_uuid(topic_id("t").0);
                topic.partitions = vec![0, 1];
            });
            request.topic_partitions = Some(vec![owned]);
        });
        let response: ConsumerGroupHeartbeatResponse = client.call(version, &request).await;
        assert_eq!((response.error_code, response.member_epoch, response.heartbeat_interval_ms), (0, 3, 1_500));
        assert_eq!(response.member_id.as_deref(), Some("m"));
        let assigned = &response.assignment.unwrap().topic_partitions[0];
        assert_eq!((uuid(assigned.topic_id), &assigned.partitions[..]), (topic_id("t").0, &[0, 1][..]));
        let expected = ConsumerHeartbeat {
            member_id: "m".into(),
            member_epoch: 2,
            instance_id: None,
            rack: Some("r".into()),
            rebalance_timeout: Some(Duration::from_secs(60)),
            subscribed_topics: Some(vec!["t".into()]),
            subscribed_regex: (version >= 1).then(|| "t.*".into()),
            server_assignor: Some("uniform".into()),
            owned: Some(assignment),
            client_makes_id: version >= 1,
        };
        assert_eq!(fixture.owner().requests().pop(), Some(GroupRequest::ConsumerHeartbeat(expected)));

        let nothing_new = build(|request: &mut ConsumerGroupHeartbeatRequest| request.group_id = "g".into());
        let response: ConsumerGroupHeartbeatResponse = client.call(version, &nothing_new).await;
        assert_eq!((response.error_code, response.error_message.as_deref()), (110, Some("the epoch is 9")));
        assert!(response.member_id.is_none() && response.assignment.is_none());
        let Some(GroupRequest::ConsumerHeartbeat(asked)) = fixture.owner().requests().pop() else { panic!("no beat") };
        assert_eq!((asked.rebalance_timeout, asked.subscribed_topics, asked.owned), (None, None, None));
    }
}
