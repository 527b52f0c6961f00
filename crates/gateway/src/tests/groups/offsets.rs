//! Committed offsets.

use tidemark_model::TopicPartition;
use tidemark_model::group::{CommittedOffset, FetchOffsets, FetchedOffset, TopicPartitions};
use tidemark_wire::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use tidemark_wire::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use tidemark_wire::messages::*;
use uuid::Uuid;

use super::super::kit::{at, topic_id};
use super::*;

fn fetched(at: TopicPartition, offset: i64) -> FetchedOffset {
    let committed = CommittedOffset { offset, leader_epoch: 4, metadata: "meta".into() };
    FetchedOffset { partition: at, result: Ok(Some(committed)) }
}

#[tokio::test]
async fn offsets_are_committed_in_every_version_and_what_does_not_exist_is_refused() {
    let fixture = fixture().await;
    let mut client = fixture.client().await;
    for version in 2..=10 {
        fixture.owner().answer(Ok(GroupAnswer::CommitOffsets(vec![Ok(()), Err(GroupError::OffsetMetadataTooLarge)])));
        let mut request = commit("g", &[("none", &[(0, 1)]), ("t", &[(0, 5), (7, 5), (1, 6)])]);
        request.generation_id_or_member_epoch = 3;
        request.member_id = "m".into();
        if version >= 6 {
            request.topics[1].partitions[0].committed_leader_epoch = 9;
        }
        request.topics[1].partitions[0].committed_metadata = Some("meta".into());
        if version < 5 {
            request.retention_time_ms = 60_000;
        }
        if version >= 10 {
            request.topics[0].topic_id = wire_uuid(Uuid::from_u128(9));
            request.topics[1].topic_id = wire_uuid(topic_id("t").0);
        }
        let response: OffsetCommitResponse = client.call(version, &request).await;
        let unknown = if version >= 10 { 100 } else { 3 };
        assert_eq!(codes(&response), [unknown, 0, 3, 12], "version {version}");
        match version {
            10 => assert_eq!(uuid(response.topics[1].topic_id), topic_id("t").0),
            _ => assert_eq!(response.topics[1].name.as_str(), "t"),
        }
        let Some(GroupRequest::CommitOffsets(asked)) = fixture.owner().requests().pop() else { panic!("no commit") };
        assert_eq!((asked.member_id.as_str(), asked.generation_or_epoch), ("m", 3));
        assert_eq!(asked.understands_epochs, version >= 9);
        assert_eq!(asked.retention, (version < 5).then_some(Duration::from_secs(60)));
        let offsets: Vec<_> = asked.offsets.iter().map(|o| (o.partition, o.offset, o.metadata.as_str())).collect();
        assert_eq!(offsets, [(at("t", 0), 5, "meta"), (at("t", 1), 6, "")]);
        assert_eq!(asked.offsets[0].leader_epoch, if version >= 6 { 9 } else { -1 });
    }
}

#[tokio::test]
async fn an_error_of_the_group_is_every_partitions_that_exists() {
    let fixture = fixture().await;
    let mut client = fixture.client().await;
    fixture.owner().answer(Err(GroupError::IllegalGeneration));
    let request = commit("g", &[("none", &[(0, 1)]), ("t", &[(0, 5), (7, 5), (1, 6)])]);
    let response: OffsetCommitResponse = client.call(9, &request).await;
    assert_eq!(codes(&response), [3, 22, 3, 22]);
    // Where nothing exists nobody is asked.
    let response: OffsetCommitResponse = client.call(9, &commit("g", &[("none", &[(0, 1)])])).await;
    assert_eq!((codes(&response), fixture.owner().calls().len()), (vec![3], 1));
    // The empty name is a group.
    fixture.owner().answer(done());
    let response: OffsetCommitResponse = client.call(9, &commit("", &[("t", &[(0, 1)])])).await;
    assert_eq!(codes(&response), [0]);
}

/// What a fetch of `topics` (all, where there are none) asks for in a version.
fn fetch(version: i16, groups: &[&str], topics: Option<&[(&str, &[i32])]>) -> OffsetFetchRequest {
    let topics_of = || {
        let topics = topics?.iter().map(|(name, partitions)| {
            build(|topic: &mut OffsetFetchRequestTopics| {
                match version {
                    10 => topic.topic_id = wire_uuid(topic_id(name).0),
                    _ => topic.name = StrBytes::from(*name),
                }
                topic.partition_indexes = partitions.to_vec();
            })
        });
        Some(topics.collect())
    };
    let single = |topic: OffsetFetchRequestTopics| {
        build(|single: &mut OffsetFetchRequestTopic| {
            (single.name, single.partition_indexes) = (topic.name, topic.partition_indexes);
        })
    };
    build(|request: &mut OffsetFetchRequest| {
        if version >= 8 {
            let groups = groups.iter().map(|id| {
                build(|group: &mut OffsetFetchRequestGroup| {
                    group.group_id = StrBytes::from(*id);
                    group.topics = topics_of();
                })
            });
            request.groups = groups.collect();
        } else {
            request.group_id = StrBytes::from(groups[0]);
            request.topics = topics_of().map(|topics: Vec<_>| topics.into_iter().map(single).collect());
        }
        request.require_stable = version >= 7;
    })
}

/// Partition, offset, epoch and error of each partition of the first group.
fn offsets(response: &OffsetFetchResponse) -> Vec<(i32, i64, i32, i16)> {
    match response.groups.first() {
        Some(group) => {
            let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
            partitions
                .map(|p| (p.partition_index, p.committed_offset, p.committed_leader_epoch, p.error_code))
                .collect()
        }
        None => {
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            partitions
                .map(|p| (p.partition_index, p.committed_offset, p.committed_leader_epoch, p.error_code))
                .collect()
        }
    }
}

#[tokio::test]
async fn offsets_are_fetched_in_every_version() {
    let fixture = fixture().await;
    let mut client = fixture.client().await;
    for version in 1..=10 {
        let unstable = FetchedOffset { partition: at("t", 1), result: Err(GroupError::UnstableOffset) };
        fixture.owner().answer(Ok(GroupAnswer::FetchOffsets(vec![unstable, fetched(at("t", 0), 5)])));
        let request = fetch(version, &["g"], Some(&[("none", &[0]), ("t", &[0, 1, 9])]));
        let response: OffsetFetchResponse = client.call(version, &request).await;
        let epoch = if version >= 5 { 4 } else { -1 };
        let unknown = if version == 10 { 100 } else { 0 };
        let expected = [(0, -1, -1, unknown), (0, 5, epoch, 0), (1, -1, -1, 88), (9, -1, -1, 0)];
        assert_eq!(offsets(&response), expected, "version {version}");
        let topics = vec![TopicPartitions { topic: topic_id("t"), partitions: vec![0, 1, 9] }];
        let asked =
            FetchOffsets { member_id: None, member_epoch: -1, topics: Some(topics), require_stable: version >= 7 };
        assert_eq!(fixture.owner().requests().pop(), Some(GroupRequest::FetchOffsets(asked)));

        fixture.owner().answer(Err(GroupError::TimedOut("away".into())));
        fixture.owner().answer(Err(GroupError::UnknownMemberId("who".into())));
        let response: OffsetFetchResponse = client.call(version, &request).await;
        match version {
            1 => assert_eq!(offsets(&response), [(0, -1, -1, 25), (0, -1, -1, 25), (1, -1, -1, 25), (9, -1, -1, 25)]),
            2..=7 => assert_eq!((response.error_code, response.topics.len()), (25, 0)),
            _ => assert_eq!((response.groups[0].error_code, response.groups[0].topics.len()), (25, 0)),
        }
    }
}

#[tokio::test]
async fn all_that_was_committed_is_fetched_but_for_topics_that_are_gone() {
    let fixture = fixture().await;
    let mut client = fixture.client().await;
    for version in 2..=10 {
        let all = vec![fetched(at("t", 1), 6), fetched(at("gone", 0), 1), fetched(at("t", 0), 5)];
        fixture.owner().answer(Ok(GroupAnswer::FetchOffsets(all)));
        let response: OffsetFetchResponse = client.call(version, &fetch(version, &["g"], None)).await;
        let epoch = if version >= 5 { 4 } else { -1 };
        assert_eq!(offsets(&response), [(0, 5, epoch, 0), (1, 6, epoch, 0)]);
        let Some(GroupRequest::FetchOffsets(asked)) = fixture.owner().requests().pop() else { panic!("no fetch") };
        assert_eq!(asked.topics, None);
    }
}

#[tokio::test]
async fn several_groups_are_fetched_each_from_its_owner() {
    let fixture = Fixture::start(Shape { coordinators: 2, ..Shape::default() }).await;
    fixture.topic("t", 1);
    let mut client = fixture.client().await;
    fixture.owners[0].always(Ok(GroupAnswer::FetchOffsets(vec![fetched(at("t", 0), 0)])));
    fixture.owners[1].always(Ok(GroupAnswer::FetchOffsets(vec![fetched(at("t", 0), 1)])));
    let names: Vec<String> = (0..100).map(|n| format!("group-{n}")).collect();
    let groups: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut request = fetch(9, &groups, Some(&[("t", &[0])]));
    request.groups[7].member_id = Some("m".into());
    request.groups[7].member_epoch = 5;
    let response: OffsetFetchResponse = client.call(9, &request).await;
    for (name, group) in names.iter().zip(&response.groups) {
        let owner = i64::from(tidemark_model::route::slot_for(name).0 % 2);
        assert_eq!((group.group_id.as_str(), group.topics[0].partitions[0].committed_offset), (name.as_str(), owner));
    }
    let calls = fixture.owners.iter().flat_map(|owner| owner.calls());
    let call = calls.into_iter().find(|call| call.group == "group-7").unwrap();
    let GroupRequest::FetchOffsets(asked) = call.request else { panic!("no fetch") };
    assert_eq!((asked.member_id.as_deref(), asked.member_epoch), (Some("m"), 5));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_without_an_owner_is_told_so_that_old_consumers_understand() {
    let fixture = Fixture::start(Shape { coordinators: 0, ..Shape::default() }).await;
    let response: OffsetFetchResponse = fixture.client().await.call(5, &fetch(5, &["g"], Some(&[]))).await;
    assert_eq!(response.error_code, 16, "NOT_COORDINATOR");
}

#[tokio::test]
async fn offsets_are_deleted() {
    let fixture = fixture().await;
    let mut client = fixture.client().await;
    let delete = |group: &str, topics: &[(&str, &[i32])]| {
        build(|request: &mut OffsetDeleteRequest| {
            request.group_id = StrBytes::from(group);
            let topics = topics.iter().map(|(name, partitions)| {
                build(|topic: &mut OffsetDeleteRequestTopic| {
                    topic.name = StrBytes::from(*name);
                    let partition =
                        |index: &i32| build(|p: &mut OffsetDeleteRequestPartition| p.partition_index = *index);
                    topic.partitions = partitions.iter().map(partition).collect();
                })
            });
            request.topics = topics.collect();
        })
    };
    let topics: &[(&str, &[i32])] = &[("none", &[0]), ("t", &[0, 9, 1])];
    fixture.owner().answer(Ok(GroupAnswer::DeleteOffsets(vec![Ok(()), Err(GroupError::GroupSubscribedToTopic)])));
    let response: OffsetDeleteResponse = client.call(0, &delete("g", topics)).await;
    let codes: Vec<_> = response.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect();
    assert_eq!((response.error_code, codes), (0, vec![3, 0, 3, 86]));
    let asked = GroupRequest::DeleteOffsets(vec![at("t", 0), at("t", 1)]);
    assert_eq!(fixture.owner().requests(), [asked]);
    // The group's own errors come before the partitions'.
    for (group, topics, error) in [("g", &topics[..1], 69), ("", topics, 24)] {
        let response: OffsetDeleteResponse = client.call(0, &delete(group, topics)).await;
        assert_eq!((response.error_code, response.topics.len()), (error, 0));
    }
}
