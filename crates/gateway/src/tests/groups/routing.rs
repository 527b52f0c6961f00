//! Who is asked, and that nobody sees a group move.

use tidemark_model::group::{ConsumerHeartbeatAnswer, GroupAnswer, GroupRequest};
use tidemark_model::{GroupError, RecordKey, Role};
use tidemark_wire::api::ApiKey;
use tidemark_wire::messages::find_coordinator_request::FindCoordinatorRequest;
use tidemark_wire::messages::leave_group_request::MemberIdentity;
use tidemark_wire::messages::metadata_request::MetadataRequestTopic;
use tidemark_wire::messages::*;
use tokio::time::Instant;

use super::super::kit::{Client, FakeGroups, Fixture, ME, OTHER};
use super::*;

async fn beat(client: &mut Client, group: &str) -> i16 {
    let response: HeartbeatResponse = client.call(4, &heartbeat(group)).await;
    response.error_code
}

/// The owner of a group, of two, and the other.
fn owners<'a>(fixture: &'a Fixture, group: &str) -> (&'a FakeGroups, &'a FakeGroups, i32) {
    let slot = tidemark_model::route::slot_for(group);
    let owner = slot.0 as usize % 2;
    (&fixture.owners[owner], &fixture.owners[1 - owner], 1 - owner as i32)
}

#[tokio::test]
async fn every_gateway_tells_which_one_coordinates_a_group() {
    let fixture = two().await;
    let mut client = fixture.client().await;
    for gateway in [ME, OTHER] {
        let group = fixture.group_at(gateway);
        for version in 0..=6 {
            let request = build(|request: &mut FindCoordinatorRequest| match version {
                0..=3 => request.key = group.as_str().into(),
                _ => request.coordinator_keys = vec![group.as_str().into(), "".into()],
            });
            let response: FindCoordinatorResponse = client.call(version, &request).await;
            let (error, node, host, message) = match response.coordinators.first() {
                Some(one) => (one.error_code, one.node_id, one.host.clone(), one.error_message.clone()),
                None => (response.error_code, response.node_id, response.host, response.error_message),
            };
            let host_of = format!("gateway-{gateway}");
            assert_eq!((error, node, host.as_str()), (0, gateway.0, host_of.as_str()), "version {version}");
            let expected = if (1..=3).contains(&version) { Some("NONE") } else { Some("") };
            assert!(version == 0 || message.as_deref() == expected, "version {version}: {message:?}");
        }
    }
}

#[tokio::test]
async fn transactions_have_no_coordinator_and_clients_are_told_so() {
    let fixture = fixture().await;
    let mut client = fixture.client().await;
    for (kind, says) in [(1, "not available yet"), (2, "share groups"), (9, "unknown")] {
        let single = build(|request: &mut FindCoordinatorRequest| {
            request.key = "key".into();
            request.key_type = kind;
        });
        let response: FindCoordinatorResponse = client.call(3, &single).await;
        assert_eq!((response.error_code, response.node_id, response.port), (42, -1, -1));
        assert!(response.error_message.as_deref().unwrap().contains(says));
        let several = build(|request: &mut FindCoordinatorRequest| {
            request.coordinator_keys = vec!["a".into(), "b".into()];
            request.key_type = kind;
        });
        let response: FindCoordinatorResponse = client.call(6, &several).await;
        let answers: Vec<_> = response.coordinators.iter().map(|c| (c.key.as_str(), c.error_code, c.node_id)).collect();
        assert_eq!(answers, [("a", 42, -1), ("b", 42, -1)]);
    }
}

#[tokio::test]
async fn a_group_of_another_gateway_is_refused_and_its_owner_not_asked() {
    let fixture = two().await;
    let group = fixture.group_at(OTHER);
    let mut client = fixture.client().await;
    assert_eq!(beat(&mut client, &group).await, 16, "NOT_COORDINATOR");
    let response: JoinGroupResponse = client.call(9, &join(&group, "m")).await;
    assert_eq!(response.error_code, 16);
    let response: OffsetCommitResponse =
        client.call(9, &commit(&group, &[("t", &[(0, 1)]), ("none", &[(0, 1)])])).await;
    assert_eq!(codes(&response), [16, 3]);
    let request = build(|request: &mut DescribeGroupsRequest| request.groups = vec![group.as_str().into()]);
    let response: DescribeGroupsResponse = client.call(6, &request).await;
    assert_eq!(response.groups[0].error_code, 16);
    assert!(fixture.owners.iter().all(|owner| owner.calls().is_empty()));
}

#[tokio::test]
async fn the_owner_hears_who_asks() {
    let fixture = fixture().await;
    fixture.owner().answer(Ok(GroupAnswer::Heartbeat));
    assert_eq!(beat(&mut fixture.client().await, "g").await, 0);
    let call = fixture.owner().calls().remove(0);
    assert_eq!((call.group.as_str(), call.client_id.as_str()), ("g", "test-client"));
    assert_eq!(call.client_host, "/127.0.0.1");
}

#[tokio::test]
async fn a_move_is_hidden_and_the_connections_order_kept() {
    let fixture = two().await;
    let group = fixture.group_at(ME);
    let (old, new, new_id) = owners(&fixture, &group);
    old.always(Err(GroupError::NotCoordinator));
    new.always(done());
    let mut client = fixture.client().await;
    let body = |offset| encode(&commit(&group, &[("t", &[(0, offset)])]), 9).unwrap().to_vec();
    let requests: Vec<_> = (1..=5).map(|n| (ApiKey::OffsetCommit, 9, body(n * 100))).collect();
    let sent = client.send_together(&requests).await;
    old.until(|old| old.calls().len() >= 2).await;
    assert!(committed(&old.requests()).iter().all(|offset| *offset == 100), "nothing overtakes the first");
    fixture.move_group(&group, Some(new_id));
    for id in sent {
        let response: OffsetCommitResponse = decode(client.answer(id, ApiKey::OffsetCommit, 9).await, 9).unwrap();
        assert_eq!(codes(&response), [0]);
    }
    assert_eq!(committed(&new.requests()), [100, 200, 300, 400, 500]);
}

#[tokio::test]
async fn an_owner_that_died_is_waited_for_and_so_is_one_that_loads() {
    let fixture = two().await;
    let group = fixture.group_at(ME);
    let (old, new, new_id) = owners(&fixture, &group);
    fixture.move_group(&group, None);
    new.answer(Err(GroupError::LoadInProgress));
    new.answer(Err(GroupError::Unavailable("connection refused".into())));
    new.answer(done());
    let mut client = fixture.client().await;
    let request = encode(&commit(&group, &[("t", &[(0, 5)])]), 9).unwrap();
    let id = client.send(ApiKey::OffsetCommit, 9, &request).await;
    // The gateway has it by the time that another connection is answered.
    assert_eq!(beat(&mut fixture.client().await, "").await, 24);
    fixture.move_group(&group, Some(new_id));
    let response: OffsetCommitResponse = decode(client.answer(id, ApiKey::OffsetCommit, 9).await, 9).unwrap();
    assert_eq!((codes(&response), new.calls().len(), old.calls().len()), (vec![0], 3, 0));
}

#[tokio::test(start_paused = true)]
async fn without_an_owner_the_client_is_told_in_time() {
    let fixture = two().await;
    let group = fixture.group_at(ME);
    let mut client = fixture.client().await;
    let (owner, _, _) = owners(&fixture, &group);
    let errors = [
        (GroupError::NotCoordinator, 16),
        (GroupError::Unavailable("away".into()), 15),
        (GroupError::TimedOut("away".into()), 15),
        (GroupError::LoadInProgress, 14),
    ];
    for (error, code) in errors {
        owner.always(Err(error));
        let began = Instant::now();
        let response: OffsetCommitResponse = client.call(9, &commit(&group, &[("t", &[(0, 5)])])).await;
        assert_eq!(codes(&response), [code]);
        assert!(began.elapsed() < Duration::from_secs(10), "franz-go gives up after 10 s");
    }
    // While a group is being read its members live on.
    assert_eq!(beat(&mut client, &group).await, 0);
    fixture.move_group(&group, None);
    assert_eq!(beat(&mut client, &group).await, 15);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_silent_costs_a_request_for_many_groups_little_more_than_for_one() {
    let fixture = fixture().await;
    let mut client = fixture.client().await;
    let silent: Vec<_> = (0..10_000).map(|_| fixture.owner().hold()).collect();
    let began = Instant::now();
    assert_eq!(beat(&mut client, "g").await, 15);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let request = build(|request: &mut DescribeGroupsRequest| request.groups = vec!["g".into(); 1_000]);
    let response: DescribeGroupsResponse = client.call(6, &request).await;
    assert!(response.groups.iter().all(|group| group.error_code == 15));
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    drop(silent);
}

#[tokio::test]
async fn what_was_tried_for_a_client_is_given_up_when_another_gateway_has_the_group() {
    let fixture = two().await;
    let group = fixture.group_at(ME);
    let (owner, _, _) = owners(&fixture, &group);
    owner.always(Err(GroupError::Unavailable("away".into())));
    let mut client = fixture.client().await;
    let id = client.send(ApiKey::OffsetCommit, 9, &encode(&commit(&group, &[("t", &[(0, 5)])]), 9).unwrap()).await;
    owner.until(|owner| owner.calls().len() >= 2).await;
    fixture.coordinator.change(|state| state.remove(RecordKey::Node(Role::Gateway, ME)));
    let response: OffsetCommitResponse = decode(client.answer(id, ApiKey::OffsetCommit, 9).await, 9).unwrap();
    assert_eq!(codes(&response), [16]);
}

#[tokio::test]
async fn what_may_have_been_done_is_repeated_only_when_that_does_no_harm() {
    let fixture = fixture().await;
    let mut client = fixture.client().await;
    let lost = || Err(GroupError::TimedOut("the stream broke".into()));
    let calls = || fixture.owner().calls().len();

    fixture.owner().answer(lost());
    fixture.owner().answer(Ok(GroupAnswer::Heartbeat));
    assert_eq!((beat(&mut client, "g").await, calls()), (0, 2));

    fixture.owner().answer(lost());
    fixture.owner().answer(Ok(joined("m")));
    let response: JoinGroupResponse = client.call(9, &join("g", "m")).await;
    assert_eq!((response.error_code, calls()), (0, 4));

    // A second member would be made.
    fixture.owner().answer(lost());
    let response: JoinGroupResponse = client.call(3, &join("g", "")).await;
    assert_eq!((response.error_code, calls()), (15, 5));

    // And so with a member of KIP-848 that leaves its id to the coordinator.
    fixture.owner().answer(lost());
    let request = build(|request: &mut ConsumerGroupHeartbeatRequest| request.group_id = "g".into());
    let response: ConsumerGroupHeartbeatResponse = client.call(0, &request).await;
    assert_eq!((response.error_code, calls()), (15, 6));

    // But what was not done is.
    fixture.owner().answer(Err(GroupError::NotCoordinator));
    let answer = ConsumerHeartbeatAnswer {
        member_id: "m".into(),
        member_epoch: 1,
        heartbeat_interval: Duration::from_secs(5),
        assignment: None,
    };
    fixture.owner().answer(Ok(GroupAnswer::ConsumerHeartbeat(answer)));
    let response: ConsumerGroupHeartbeatResponse = client.call(0, &request).await;
    assert_eq!((response.error_code, response.heartbeat_interval_ms, calls()), (0, 5_000, 8));
}

#[tokio::test]
async fn what_is_found_done_when_it_is_repeated_was_done() {
    let fixture = fixture().await;
    let mut client = fixture.client().await;
    let answer = |outcome| fixture.owner().answer(outcome);
    let lost = || answer(Err(GroupError::TimedOut("the stream broke".into())));
    let unknown = || GroupError::UnknownMemberId("m".into());
    let members = |ids: &[&str]| {
        let member = |id: &&str| build(|member: &mut MemberIdentity| member.member_id = (*id).into());
        build(|request: &mut LeaveGroupRequest| {
            request.group_id = "g".into();
            request.members = ids.iter().map(member).collect();
        })
    };
    let left = |response: LeaveGroupResponse| {
        (response.error_code, response.members.iter().map(|member| member.error_code).collect::<Vec<_>>())
    };

    // Members that left have to be known when nothing was repeated.
    answer(Ok(GroupAnswer::Leave(vec![Err(unknown())])));
    assert_eq!(left(client.call(5, &members(&["m"])).await), (0, vec![25]));
    lost();
    answer(Ok(GroupAnswer::Leave(vec![Err(unknown()), Ok(()), Err(GroupError::FencedInstanceId)])));
    assert_eq!(left(client.call(5, &members(&["m", "n", "o"])).await), (0, vec![0, 0, 82]));
    // The group is gone with them.
    lost();
    answer(Err(unknown()));
    assert_eq!(left(client.call(5, &members(&["m", "n"])).await), (0, vec![0, 0]));

    lost();
    answer(Err(GroupError::GroupIdNotFound("g".into())));
    let request = build(|request: &mut DeleteGroupsRequest| request.groups_names = vec!["g".into()]);
    let response: DeleteGroupsResponse = client.call(2, &request).await;
    assert_eq!(response.results[0].error_code, 0);

    let beat = |epoch| {
        build(|request: &mut ConsumerGroupHeartbeatRequest| {
            (request.group_id, request.member_id, request.member_epoch) = ("g".into(), "m".into(), epoch);
        })
    };
    for error in [unknown(), GroupError::GroupIdNotFound("g".into())] {
        lost();
        answer(Err(error));
        let response: ConsumerGroupHeartbeatResponse = client.call(1, &beat(-1)).await;
        assert_eq!((response.error_code, response.member_epoch), (0, -1));
    }
    // The member is not fenced for an epoch that it was given and did not hear of, but asked to say all that it has.
    lost();
    answer(Err(GroupError::FencedMemberEpoch("smaller".into())));
    let response: ConsumerGroupHeartbeatResponse = client.call(1, &beat(3)).await;
    assert_eq!(response.error_code, 15, "COORDINATOR_NOT_AVAILABLE");
    // Who is gone while it is not leaving is told so.
    lost();
    answer(Err(unknown()));
    let response: ConsumerGroupHeartbeatResponse = client.call(1, &beat(3)).await;
    assert_eq!(response.error_code, 25);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_stopped_answering_is_left_when_another_has_the_group() {
    let fixture = two().await;
    let group = fixture.group_at(ME);
    let (old, new, new_id) = owners(&fixture, &group);
    let _never = old.hold();
    new.answer(Ok(joined("m")));
    let mut client = fixture.client().await;
    let id = client.send(ApiKey::JoinGroup, 9, &encode(&join(&group, "m"), 9).unwrap()).await;
    old.until(|old| old.calls().len() == 1).await;
    fixture.move_group(&group, Some(new_id));
    let response: JoinGroupResponse = decode(client.answer(id, ApiKey::JoinGroup, 9).await, 9).unwrap();
    assert_eq!((response.error_code, response.generation_id), (0, 7));
}

#[tokio::test(start_paused = true)]
async fn a_join_waits_for_as_long_as_the_members_take() {
    let fixture = fixture().await;
    let answer = fixture.owner().hold();
    let mut client = fixture.client().await;
    let id = client.send(ApiKey::JoinGroup, 9, &encode(&join("g", "m"), 9).unwrap()).await;
    fixture.owner().until(|owner| owner.calls().len() == 1).await;
    tokio::time::sleep(10 * LONG).await;
    answer.send(Ok(joined("m"))).unwrap();
    let response: JoinGroupResponse = decode(client.answer(id, ApiKey::JoinGroup, 9).await, 9).unwrap();
    assert_eq!((response.error_code, fixture.owner().calls().len()), (0, 1));
}

#[tokio::test]
async fn large_joins_that_wait_stand_in_nobodys_way_and_are_bounded() {
    let fixture = fixture().await;
    let mut large = join("g", "m");
    large.protocols[0].metadata = vec![7; 1_000_000].into();
    let body = encode(&large, 9).unwrap();
    // 64 MiB wait at most, and a client that goes makes room.
    let mut clients = Vec::new();
    for _ in 0..67 {
        let _never = fixture.owner().hold();
        let mut client = fixture.client().await;
        client.send(ApiKey::JoinGroup, 9, &body).await;
        clients.push(client);
        let waiting = clients.len();
        fixture.owner().until(|owner| owner.calls().len() == waiting).await;
    }
    fixture.owner().always(Ok(joined("m")));
    let mut client = fixture.client().await;
    let response: JoinGroupResponse = client.call(9, &large).await;
    assert_eq!(response.error_code, 15, "COORDINATOR_NOT_AVAILABLE");
    // Another large request is served all the while.
    let names = (0..30_000).map(|n| format!("topic-{n:05}"));
    let topic = |name: String| build(|topic: &mut MetadataRequestTopic| topic.name = Some(name.into()));
    let request = build(|request: &mut MetadataRequest| request.topics = Some(names.map(topic).collect()));
    let response: MetadataResponse = client.call(9, &request).await;
    assert_eq!(response.topics.len(), 30_000);
    drop(clients);
    loop {
        let response: JoinGroupResponse = client.call(9, &large).await;
        if response.error_code == 0 {
            break;
        }
    }
}

#[tokio::test]
async fn a_shutdown_sends_members_that_wait_elsewhere() {
    let fixture = fixture().await;
    let _never = fixture.owner().hold();
    let mut client = fixture.client().await;
    let id = client.send(ApiKey::JoinGroup, 9, &encode(&join("g", "m"), 9).unwrap()).await;
    fixture.owner().until(|owner| owner.calls().len() == 1).await;
    fixture.shutdown.cancel();
    let response: JoinGroupResponse = decode(client.answer(id, ApiKey::JoinGroup, 9).await, 9).unwrap();
    assert_eq!(response.error_code, 16);
    fixture.service.drained().await;
}

#[tokio::test]
async fn a_heartbeat_waits_for_the_join_before_it_as_in_kafka() {
    let fixture = fixture().await;
    let answer = fixture.owner().hold();
    fixture.owner().always(Ok(GroupAnswer::Heartbeat));
    let mut client = fixture.client().await;
    let join = encode(&join("g", "m"), 9).unwrap().to_vec();
    let beat = encode(&heartbeat("g"), 4).unwrap().to_vec();
    let sent = client.send_together(&[(ApiKey::JoinGroup, 9, join), (ApiKey::Heartbeat, 4, beat)]).await;
    fixture.owner().until(|owner| owner.calls().len() == 1).await;
    answer.send(Ok(joined("m"))).unwrap();
    client.answer(sent[0], ApiKey::JoinGroup, 9).await;
    client.answer(sent[1], ApiKey::Heartbeat, 4).await;
    let requests = fixture.owner().requests();
    assert!(matches!(&requests[..], [GroupRequest::Join(_), GroupRequest::Heartbeat(_)]), "{requests:?}");
}
