//! What tools ask.

use std::collections::BTreeMap;

use tidemark_model::coordinator::ConfigChange;
use tidemark_model::group::{
    DescribedConsumer, DescribedConsumerGroup, DescribedGroup, DescribedMember, GroupKind, ListedGroup, TopicPartitions,
};
use tidemark_wire::messages::describe_configs_request::DescribeConfigsResource;
use tidemark_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use tidemark_wire::messages::*;

use super::super::kit::{ME, OTHER, topic_id};
use super::*;

/// The bits of read, delete, describe, describe configs and alter configs.
const OPERATIONS: i32 = 0xd48;

#[tokio::test]
async fn groups_are_described_in_every_version() {
    let fixture = fixture().await;
    let mut client = fixture.client().await;
    for version in 0..=6 {
        let member = DescribedMember {
            member_id: "m".into(),
            instance_id: Some("i".into()),
            client_id: "c".into(),
            client_host: "/h".into(),
            metadata: vec![1].into(),
            assignment: vec![2].into(),
        };
        fixture.owner().answer(Ok(GroupAnswer::Describe(DescribedGroup {
            state: "Stable".into(),
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            members: vec![member],
        })));
        let request = build(|request: &mut DescribeGroupsRequest| {
            request.groups = vec!["g".into(), "none".into(), "".into()];
            request.include_authorized_operations = version >= 3;
        });
        let response: DescribeGroupsResponse = client.call(version, &request).await;
        let [group, missing, unnamed] = &response.groups[..] else { panic!("{response:?}") };
        assert_eq!((group.group_state.as_str(), group.protocol_data.as_str()), ("Stable", "range"));
        let member = &group.members[0];
        assert_eq!((member.client_host.as_str(), &member.member_assignment[..]), ("/h", &[2][..]));
        assert_eq!(member.group_instance_id.as_deref(), (version >= 4).then_some("i"));
        let operations = if version >= 3 { OPERATIONS } else { i32::MIN };
        assert_eq!(group.authorized_operations, operations);
        for missing in [missing, unnamed] {
            assert_eq!(missing.group_state.as_str(), "Dead");
            match version {
                6 => {
                    assert_eq!((missing.error_code, missing.authorized_operations), (69, i32::MIN));
                    assert!(missing.error_message.as_deref().unwrap().ends_with("not found."));
                }
                _ => assert_eq!((missing.error_code, missing.authorized_operations), (0, operations)),
            }
        }
    }
}

#[tokio::test]
async fn consumer_groups_are_described_in_both_versions() {
    let fixture = fixture().await;
    let mut client = fixture.client().await;
    for version in 0..=1 {
        let topics = |names: &[&str]| -> Vec<TopicPartitions> {
            names.iter().map(|name| TopicPartitions { topic: topic_id(name), partitions: vec![0, 1] }).collect()
        };
        let member = DescribedConsumer {
            member_id: "m".into(),
            instance_id: None,
            rack: Some("r".into()),
            member_epoch: 4,
            client_id: "c".into(),
            client_host: "/h".into(),
            subscribed_topics: vec!["t".into()],
            subscribed_regex: None,
            assignment: topics(&["t", "gone"]),
            target: topics(&["t"]),
            classic: true,
        };
        fixture.owner().answer(Ok(GroupAnswer::DescribeConsumer(DescribedConsumerGroup {
            state: "Reconciling".into(),
            epoch: 5,
            assignment_epoch: 4,
            assignor: "uniform".into(),
            members: vec![member],
        })));
        let request = build(|request: &mut ConsumerGroupDescribeRequest| {
            request.group_ids = vec!["g".into(), "none".into(), "".into()];
            request.include_authorized_operations = true;
        });
        let response: ConsumerGroupDescribeResponse = client.call(version, &request).await;
        let [group, missing, unnamed] = &response.groups[..] else { panic!("{response:?}") };
        assert_eq!((group.group_state.as_str(), group.group_epoch, group.assignment_epoch), ("Reconciling", 5, 4));
        assert_eq!((group.assignor_name.as_str(), group.authorized_operations), ("uniform", OPERATIONS));
        let member = &group.members[0];
        assert_eq!((member.rack_id.as_deref(), member.member_epoch), (Some("r"), 4));
        assert_eq!(member.subscribed_topic_regex.as_deref(), Some(""));
        let assigned: Vec<_> = member.assignment.topic_partitions.iter().map(|t| t.topic_name.as_str()).collect();
        assert_eq!((assigned, member.target_assignment.topic_partitions.len()), (vec!["t"], 1));
        assert_eq!(member.member_type, if version == 0 { -1 } else { 0 });
        assert_eq!((missing.error_code, missing.error_message.as_deref()), (69, Some("Group none not found.")));
        assert_eq!((unnamed.error_code, unnamed.error_message.as_deref()), (24, None));
    }
}

fn listed(group: &str, state: &str, kind: GroupKind) -> ListedGroup {
    ListedGroup { group: group.into(), protocol_type: "consumer".into(), state: state.into(), kind }
}

#[tokio::test]
async fn a_gateway_lists_its_share_of_all_coordinators() {
    let fixture = two().await;
    let (mine, other) = (fixture.group_at(ME), fixture.group_at(OTHER));
    fixture.owners[0].list(vec![listed(&mine, "Stable", GroupKind::Classic)]);
    fixture.owners[1].list(vec![listed(&other, "Stable", GroupKind::Classic)]);
    let mut client = fixture.client().await;
    for version in 0..=5 {
        let response: ListGroupsResponse = client.call(version, &ListGroupsRequest::default()).await;
        assert_eq!(response.error_code, 0);
        let [group] = &response.groups[..] else { panic!("{response:?}") };
        assert_eq!((group.group_id.as_str(), group.protocol_type.as_str()), (mine.as_str(), "consumer"));
        assert_eq!(group.group_state.as_str(), if version >= 4 { "Stable" } else { "" });
        assert_eq!(group.group_type.as_str(), if version >= 5 { "classic" } else { "" });
    }
}

#[tokio::test]
async fn filters_ignore_case_and_what_there_is_not() {
    let fixture = fixture().await;
    let groups =
        [("a", "Stable", GroupKind::Classic), ("b", "Empty", GroupKind::Classic), ("c", "Stable", GroupKind::Consumer)];
    fixture.owner().list(groups.map(|(group, state, kind)| listed(group, state, kind)).into());
    let mut client = fixture.client().await;
    let cases: [(&[&str], &[&str], &[&str]); 5] = [
        (&[], &[], &["a", "b", "c"]),
        (&["stable"], &[], &["a", "c"]),
        (&["STABLE", "nonsense"], &["Consumer"], &["c"]),
        (&[], &["nonsense"], &[]),
        (&["Dead"], &[], &[]),
    ];
    for (states, types, expected) in cases {
        let request = build(|request: &mut ListGroupsRequest| {
            request.states_filter = states.iter().map(|state| StrBytes::from(*state)).collect();
            request.types_filter = types.iter().map(|kind| StrBytes::from(*kind)).collect();
        });
        let response: ListGroupsResponse = client.call(5, &request).await;
        let names: Vec<_> = response.groups.iter().map(|group| group.group_id.as_str()).collect();
        assert_eq!(names, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_is_whole_or_an_error() {
    let fixture = two().await;
    let mut client = fixture.client().await;
    fixture.owners[1].fail_list(GroupError::LoadInProgress);
    let response: ListGroupsResponse = client.call(4, &ListGroupsRequest::default()).await;
    assert_eq!(response.error_code, 0, "it was asked again");
    for _ in 0..100 {
        fixture.owners[1].fail_list(GroupError::LoadInProgress);
    }
    let response: ListGroupsResponse = client.call(4, &ListGroupsRequest::default()).await;
    assert_eq!(response.error_code, 14, "COORDINATOR_LOAD_IN_PROGRESS");
    fixture.move_group("g", None);
    let response: ListGroupsResponse = client.call(4, &ListGroupsRequest::default()).await;
    assert_eq!(response.error_code, 15, "COORDINATOR_NOT_AVAILABLE");
}

#[tokio::test]
async fn groups_are_deleted_each_once() {
    let fixture = fixture().await;
    let mut client = fixture.client().await;
    for version in 0..=2 {
        fixture.owner().answer(Ok(GroupAnswer::Delete));
        fixture.owner().answer(Err(GroupError::NonEmptyGroup));
        let request = build(|request: &mut DeleteGroupsRequest| {
            request.groups_names = vec!["a".into(), "b".into(), "a".into(), "".into()];
        });
        let response: DeleteGroupsResponse = client.call(version, &request).await;
        let results: Vec<_> = response.results.iter().map(|one| (one.group_id.as_str(), one.error_code)).collect();
        assert_eq!(results, [("a", 0), ("b", 68), ("", 69)]);
    }
}

#[tokio::test]
async fn configs_of_groups_are_described_and_altered_at_any_gateway() {
    let fixture = two().await;
    let group = fixture.group_at(OTHER);
    let owner = &fixture.owners[tidemark_model::route::slot_for(&group).0 as usize % 2];
    let mut client = fixture.client().await;
    let set = BTreeMap::from([("consumer.session.timeout.ms".to_owned(), "50000".to_owned())]);
    owner.answer(Ok(GroupAnswer::DescribeConfigs(set)));
    let resource = |name: &str| {
        build(|resource: &mut DescribeConfigsResource| {
            resource.resource_type = 32;
            resource.resource_name = StrBytes::from(name);
            resource.configuration_keys = None;
        })
    };
    let request = build(|request: &mut DescribeConfigsRequest| {
        request.resources = vec![resource(&group), resource("")];
        request.include_synonyms = true;
    });
    let response: DescribeConfigsResponse = client.call(4, &request).await;
    let [described, unnamed] = &response.results[..] else { panic!("{response:?}") };
    let configs: Vec<_> = described
        .configs
        .iter()
        .map(|config| {
            (config.name.as_str(), config.value.as_deref().unwrap(), config.config_source, config.config_type)
        })
        .collect();
    assert_eq!(
        configs,
        [("consumer.heartbeat.interval.ms", "5000", 5, 3), ("consumer.session.timeout.ms", "50000", 8, 3)]
    );
    assert_eq!(described.configs[1].synonyms[0].source, 8);
    assert_eq!((unnamed.error_code, unnamed.error_message.as_deref()), (42, Some("Group name must not be empty")));

    owner.answer(Ok(GroupAnswer::AlterConfigs));
    owner.answer(Err(GroupError::InvalidConfig("Unknown group config name: x".into())));
    let alter = |name: &str, config: &str| {
        build(|resource: &mut AlterConfigsResource| {
            resource.resource_type = 32;
            resource.resource_name = StrBytes::from(name);
            resource.configs = vec![build(|altered: &mut AlterableConfig| {
                altered.name = StrBytes::from(config);
                altered.value = Some("46000".into());
            })];
        })
    };
    for (resource, error) in [
        (alter(&group, "consumer.session.timeout.ms"), 0),
        (alter(&group, "x"), 40),
        (alter("", "consumer.session.timeout.ms"), 42),
    ] {
        let request = build(|request: &mut IncrementalAlterConfigsRequest| request.resources = vec![resource]);
        let response: IncrementalAlterConfigsResponse = client.call(1, &request).await;
        assert_eq!(response.responses[0].error_code, error, "{response:?}");
    }
    let change = ConfigChange::Set { name: "consumer.session.timeout.ms".into(), value: "46000".into() };
    let expected = GroupRequest::AlterConfigs { changes: vec![change], validate_only: false };
    assert_eq!(owner.requests()[1], expected);
}
