//! Metadata and administration.

use std::collections::BTreeSet;

use tidemark_model::{CoordinatorError, NodeId, RecordKey, Role};
use tidemark_wire::messages::create_partitions_request::CreatePartitionsTopic;
use tidemark_wire::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use tidemark_wire::messages::delete_topics_request::DeleteTopicState;
use tidemark_wire::messages::describe_configs_request::DescribeConfigsResource;
use tidemark_wire::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use tidemark_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use tidemark_wire::messages::metadata_request::MetadataRequestTopic;
use tidemark_wire::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, DescribeClusterRequest, DescribeClusterResponse, DescribeConfigsRequest,
    DescribeConfigsResponse, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, InitProducerIdRequest, InitProducerIdResponse,
    MetadataRequest, MetadataResponse, build, wire_uuid,
};

use super::kit::{Client, Fixture, Shape, topic_id};

fn metadata(names: &[&str], create: bool) -> MetadataRequest {
    build(|request: &mut MetadataRequest| {
        request.allow_auto_topic_creation = create;
        let topic = |name: &&str| build(|topic: &mut MetadataRequestTopic| topic.name = Some((*name).into()));
        request.topics = Some(names.iter().map(topic).collect());
    })
}

fn auto_create() -> Shape {
    let mut shape = Shape::default();
    shape.settings.auto_create_topics = true;
    shape
}

fn creatable(name: &str, partitions: i32) -> CreatableTopic {
    build(|topic: &mut CreatableTopic| {
        topic.name = name.into();
        topic.num_partitions = partitions;
        topic.replication_factor = -1;
    })
}

fn create(topics: Vec<CreatableTopic>, validate_only: bool) -> CreateTopicsRequest {
    build(|request: &mut CreateTopicsRequest| {
        request.topics = topics;
        request.timeout_ms = 1_000;
        request.validate_only = validate_only;
    })
}

#[tokio::test]
async fn metadata_shows_gateways_as_brokers_and_every_partition_with_its_leader() {
    let fixture = Fixture::start(Shape { gateways: 3, ..Shape::default() }).await;
    fixture.topic("t", 30);
    fixture.topic("u", 1);
    let mut client = fixture.client().await;
    for version in 0..=13 {
        let response: MetadataResponse = client.call(version, &metadata(&["t"], version < 4)).await;
        let brokers: Vec<_> = response.brokers.iter().map(|b| (b.node_id, b.host.as_str(), b.port)).collect();
        assert_eq!(brokers, [(1, "gateway-1", 9092), (2, "gateway-2", 9092), (3, "gateway-3", 9092)]);
        let [topic] = &response.topics[..] else { panic!("{response:?}") };
        assert_eq!((topic.error_code, topic.partitions.len()), (0, 30));
        let leaders: BTreeSet<i32> = topic.partitions.iter().map(|p| p.leader_id).collect();
        assert_eq!(leaders, BTreeSet::from([1, 2, 3]));
        for partition in &topic.partitions {
            assert_eq!(partition.replica_nodes, [partition.leader_id]);
            assert_eq!(partition.isr_nodes, [partition.leader_id]);
            assert!(partition.error_code == 0 && partition.offline_replicas.is_empty());
        }
        if version >= 1 {
            assert_eq!(response.controller_id, 1);
            assert_eq!(response.brokers[0].rack.as_deref(), Some("rack-1"));
        }
        if version >= 2 {
            assert_eq!(response.cluster_id.as_deref(), Some("the-cluster"));
        }
        if version >= 7 {
            assert_eq!(topic.partitions[0].leader_epoch, 5);
        }
    }
    let all: MetadataResponse = client
        .call(
            1,
            &build(|request: &mut MetadataRequest| {
                request.allow_auto_topic_creation = true;
                request.topics = None;
            }),
        )
        .await;
    assert_eq!(all.topics.iter().filter_map(|t| t.name.as_deref()).collect::<Vec<_>>(), ["t", "u"]);
    let none: MetadataResponse = client.call(1, &metadata(&[], true)).await;
    assert!(none.topics.is_empty());
    let all: MetadataResponse = client.call(0, &metadata(&[], true)).await;
    assert_eq!(all.topics.len(), 2, "in version 0 an empty list is all topics");
}

#[tokio::test]
async fn topics_are_found_by_id() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let mut client = fixture.client().await;
    let ask = |name: &str| {
        build(|request: &mut MetadataRequest| {
            let id = wire_uuid(topic_id(name).0);
            request.topics = Some(vec![build(|topic: &mut MetadataRequestTopic| topic.topic_id = id)]);
        })
    };
    let response: MetadataResponse = client.call(12, &ask("t")).await;
    assert_eq!((response.topics[0].error_code, response.topics[0].name.as_deref()), (0, Some("t")));
    let response: MetadataResponse = client.call(12, &ask("none")).await;
    assert_eq!((response.topics[0].error_code, response.topics[0].name.as_deref()), (100, None));
    assert_eq!(response.topics[0].topic_id, wire_uuid(topic_id("none").0));
}

#[tokio::test]
async fn a_topic_is_created_on_its_first_use_only_where_both_sides_want_it() {
    let fixture = Fixture::start(auto_create()).await;
    let mut client = fixture.client().await;
    let response: MetadataResponse = client.call(9, &metadata(&["t"], false)).await;
    assert_eq!(response.topics[0].error_code, 3);
    let response: MetadataResponse = client.call(9, &metadata(&["t", "not a name"], true)).await;
    assert_eq!((response.topics[0].error_code, response.topics[0].partitions.len()), (0, 4));
    assert_eq!(response.topics[1].error_code, 17, "INVALID_TOPIC_EXCEPTION");

    fixture.coordinator.fail(CoordinatorError::TopicExists("another was first".into()));
    let response: MetadataResponse = client.call(9, &metadata(&["u"], true)).await;
    assert_eq!(response.topics[0].error_code, 5, "LEADER_NOT_AVAILABLE: the client asks again");
    fixture.coordinator.fail(CoordinatorError::InvalidReplicationFactor("3 of 1".into()));
    let response: MetadataResponse = client.call(9, &metadata(&["u"], true)).await;
    assert_eq!(response.topics[0].error_code, 38);

    let off = Fixture::start(Shape::default()).await;
    let response: MetadataResponse = off.client().await.call(9, &metadata(&["t"], true)).await;
    assert_eq!(response.topics[0].error_code, 3);
}

#[tokio::test]
async fn a_partition_whose_storage_is_dead_has_no_leader() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    fixture.coordinator.change(|state| state.remove(RecordKey::Node(Role::Storage, NodeId(1))));
    let response: MetadataResponse = fixture.client().await.call(12, &metadata(&["t"], false)).await;
    let partition = &response.topics[0].partitions[0];
    assert_eq!((response.topics[0].error_code, partition.error_code, partition.leader_id), (0, 5, -1));
    assert_eq!((partition.isr_nodes.len(), partition.offline_replicas.len()), (1, 1));
}

#[tokio::test]
async fn created_topics_are_seen_by_the_next_request_and_come_with_their_configs() {
    let fixture = Fixture::start(Shape::default()).await;
    let mut client = fixture.client().await;
    let mut topic = creatable("t", 3);
    topic.configs = vec![build(|config: &mut CreatableTopicConfig| {
        config.name = "retention.ms".into();
        config.value = Some("1000".into());
    })];
    let response: CreateTopicsResponse = client.call(7, &create(vec![topic.clone()], true)).await;
    assert_eq!((response.topics[0].error_code, response.topics[0].num_partitions), (0, 3));
    assert!(response.topics[0].topic_id.is_zero(), "validated only");
    let response: MetadataResponse = client.call(5, &metadata(&["t"], false)).await;
    assert_eq!(response.topics[0].error_code, 3);

    let response: CreateTopicsResponse = client.call(7, &create(vec![topic], false)).await;
    let created = &response.topics[0];
    assert_eq!((created.error_code, created.num_partitions, created.replication_factor), (0, 3, 1));
    assert_eq!(created.topic_id, wire_uuid(topic_id("t").0));
    let configs = created.configs.as_ref().unwrap();
    let retention = configs.iter().find(|config| config.name.as_str() == "retention.ms").unwrap();
    assert_eq!((retention.value.as_deref(), retention.config_source), (Some("1000"), 1));
    assert!(
        configs.len() > 20 && configs.iter().filter(|config| config.config_source == 5).count() == configs.len() - 1
    );
    let response: MetadataResponse = client.call(5, &metadata(&["t"], false)).await;
    assert_eq!(response.topics[0].partitions.len(), 3);
}

#[tokio::test]
async fn topics_that_cannot_be_created_say_why_and_the_others_are() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("there", 1);
    let assigned = |name: &str, count, indexes: &[(i32, &[i32])]| {
        let mut topic = creatable(name, count);
        let assignment = |(index, brokers): &(i32, &[i32])| {
            build(|assignment: &mut CreatableReplicaAssignment| {
                assignment.partition_index = *index;
                assignment.broker_ids = brokers.to_vec();
            })
        };
        topic.assignments = indexes.iter().map(assignment).collect();
        topic
    };
    let mut no_value = creatable("null", 1);
    no_value.configs = vec![build(|config: &mut CreatableTopicConfig| {
        config.name = "retention.ms".into();
        config.value = None;
    })];
    let topics = [
        (creatable("fine", -1), 0),
        (creatable("there", 1), 36),
        (creatable("twice", 1), 42),
        (creatable("twice", 1), 42),
        (creatable("none", 0), 37),
        (no_value, 40),
        (assigned("by-hand", -1, &[(0, &[1]), (1, &[1])]), 0),
        (assigned("counted", 2, &[(0, &[1]), (1, &[1])]), 42),
        (assigned("holes", -1, &[(0, &[1]), (2, &[1])]), 39),
        (assigned("uneven", -1, &[(0, &[1]), (1, &[1, 2])]), 39),
        (assigned("repeated", -1, &[(0, &[1, 1])]), 39),
    ];
    let mut client = fixture.client().await;
    let asked = topics.iter().map(|(topic, _)| topic.clone()).collect();
    let response: CreateTopicsResponse = client.call(5, &create(asked, false)).await;
    for (answer, (topic, error)) in response.topics.iter().zip(&topics) {
        assert_eq!((answer.name.as_str(), answer.error_code), (topic.name.as_str(), *error));
        assert_eq!(answer.error_message.is_some(), *error != 0);
    }
    let by_hand = fixture.coordinator.state().topic_named("by-hand").map(|topic| topic.partitions.len());
    assert_eq!(by_hand, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_is_away_is_waited_for_as_long_as_the_client_allows() {
    let fixture = Fixture::start(Shape::default()).await;
    let mut client = fixture.client().await;
    fixture.coordinator.fail(CoordinatorError::Unavailable("electing".into()));
    fixture.coordinator.fail(CoordinatorError::Unavailable("electing".into()));
    let response: CreateTopicsResponse = client.call(5, &create(vec![creatable("t", 1)], false)).await;
    assert_eq!(response.topics[0].error_code, 0);
    for _ in 0..1_000 {
        fixture.coordinator.fail(CoordinatorError::Unavailable("gone".into()));
    }
    let response: CreateTopicsResponse = client.call(5, &create(vec![creatable("u", 1)], false)).await;
    assert_eq!(response.topics[0].error_code, 7, "REQUEST_TIMED_OUT");
}

#[tokio::test]
async fn topics_are_deleted_by_name_and_by_id() {
    let fixture = Fixture::start(Shape::default()).await;
    for name in ["a", "b", "c"] {
        fixture.topic(name, 1);
    }
    let mut client = fixture.client().await;
    let request = build(|request: &mut DeleteTopicsRequest| {
        request.topic_names = vec!["a".into(), "none".into()];
        request.timeout_ms = 1_000;
    });
    let response: DeleteTopicsResponse = client.call(5, &request).await;
    let codes: Vec<_> = response.responses.iter().map(|r| (r.name.as_deref(), r.error_code)).collect();
    assert_eq!(codes, [(Some("a"), 0), (Some("none"), 3)]);

    let state = |name: Option<&str>, id: Option<&str>| {
        build(|topic: &mut DeleteTopicState| {
            topic.name = name.map(Into::into);
            topic.topic_id = id.map_or_else(Default::default, |id| wire_uuid(topic_id(id).0));
        })
    };
    let request = build(|request: &mut DeleteTopicsRequest| {
        request.topics = vec![
            state(None, Some("b")),
            state(Some("c"), None),
            state(None, Some("none")),
            state(Some("c"), Some("c")),
            state(None, None),
        ];
        request.timeout_ms = 1_000;
    });
    let response: DeleteTopicsResponse = client.call(6, &request).await;
    let codes: Vec<_> = response.responses.iter().map(|r| (r.name.as_deref(), r.error_code)).collect();
    assert_eq!(codes, [(Some("b"), 0), (Some("c"), 0), (None, 100), (Some("c"), 42), (None, 42)]);
    assert_eq!(fixture.coordinator.state().topics().count(), 0);
}

async fn create_partitions(client: &mut Client, topics: &[(&str, i32)], validate_only: bool) -> Vec<i16> {
    let request = build(|request: &mut CreatePartitionsRequest| {
        let topic = |(name, count): &(&str, i32)| {
            build(|topic: &mut CreatePartitionsTopic| {
                topic.name = (*name).into();
                topic.count = *count;
                topic.assignments = None;
            })
        };
        request.topics = topics.iter().map(topic).collect();
        request.timeout_ms = 1_000;
        request.validate_only = validate_only;
    });
    let response: CreatePartitionsResponse = client.call(3, &request).await;
    response.results.iter().map(|result| result.error_code).collect()
}

#[tokio::test]
async fn partitions_are_added() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 2);
    let mut client = fixture.client().await;
    assert_eq!(create_partitions(&mut client, &[("t", 5)], true).await, [0]);
    assert_eq!(create_partitions(&mut client, &[("t", 2), ("none", 3)], false).await, [37, 3]);
    assert_eq!(create_partitions(&mut client, &[("t", 4), ("t", 5)], false).await, [42, 42]);
    assert_eq!(create_partitions(&mut client, &[("t", 5)], false).await, [0]);
    let response: MetadataResponse = client.call(5, &metadata(&["t"], false)).await;
    assert_eq!(response.topics[0].partitions.len(), 5);
}

fn resource(kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResource {
    build(|resource: &mut DescribeConfigsResource| {
        resource.resource_type = kind;
        resource.resource_name = name.into();
        resource.configuration_keys = keys.map(|keys| keys.iter().map(|key| (*key).into()).collect());
    })
}

#[tokio::test]
async fn configs_are_described_with_their_sources_and_synonyms() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let mut client = fixture.client().await;
    let request = |version: i16| {
        build(|request: &mut DescribeConfigsRequest| {
            request.include_synonyms = true;
            request.include_documentation = version >= 3;
            request.resources = vec![
                resource(2, "t", Some(&["max.message.bytes", "no.such"])),
                resource(2, "none", None),
                resource(4, "1", None),
                resource(4, "2", None),
                resource(4, "x", None),
                resource(4, "", None),
                resource(99, "t", None),
            ];
        })
    };
    for version in 1..=4 {
        let response: DescribeConfigsResponse = client.call(version, &request(version)).await;
        let codes: Vec<_> = response.results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [0, 3, 0, 42, 42, 0, 42], "version {version}");
        let [config] = &response.results[0].configs[..] else { panic!("only what was asked for") };
        assert_eq!((config.name.as_str(), config.value.as_deref()), ("max.message.bytes", Some("1048588")));
        assert_eq!((config.config_source, config.read_only), (5, false));
        assert_eq!(config.synonyms[0].name.as_str(), "message.max.bytes");
        if version >= 3 {
            assert_eq!(config.config_type, 3);
            assert!(config.documentation.is_some());
        }
        let of = |name: &str| response.results[2].configs.iter().find(|config| config.name.as_str() == name).unwrap();
        assert_eq!((of("node.id").value.as_deref(), of("node.id").config_source), (Some("1"), 4));
        assert_eq!(of("socket.request.max.bytes").value.as_deref(), Some("1048576"));
        assert_eq!(of("auto.create.topics.enable").value.as_deref(), Some("false"));
        assert!(of("auto.create.topics.enable").read_only);
        assert_eq!(of("default.replication.factor").config_source, 5);
        // As the coordinator says, which creates topics by it.
        assert_eq!((of("num.partitions").value.as_deref(), of("num.partitions").config_source), (Some("3"), 4));
    }
}

#[tokio::test]
async fn topic_configs_are_altered() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let mut client = fixture.client().await;
    let config = |name: &str, operation: i8, value: Option<&str>| {
        build(|config: &mut AlterableConfig| {
            config.name = name.into();
            config.config_operation = operation;
            config.value = value.map(Into::into);
        })
    };
    let resource = |kind: i8, name: &str, configs: Vec<AlterableConfig>| {
        build(|resource: &mut AlterConfigsResource| {
            resource.resource_type = kind;
            resource.resource_name = name.into();
            resource.configs = configs;
        })
    };
    let set = config("retention.ms", 0, Some("5"));
    let cases = [
        (resource(2, "t", vec![set.clone(), config("cleanup.policy", 2, Some("compact"))]), 0),
        (resource(2, "none", vec![set.clone()]), 3),
        (resource(2, "not a name", vec![set.clone()]), 17),
        (resource(2, "t", vec![set.clone(), set.clone()]), 42),
        (resource(2, "t", vec![config("retention.ms", 0, None)]), 42),
        (resource(2, "t", vec![config("retention.ms", 9, Some("1"))]), 42),
        (resource(2, "t", vec![config("retention.ms", 3, Some("1"))]), 40),
        (resource(4, "1", vec![set.clone()]), 42),
        (resource(8, "1", vec![set]), 42),
    ];
    for (resource, error) in cases {
        let request = build(|request: &mut IncrementalAlterConfigsRequest| request.resources = vec![resource.clone()]);
        let response: IncrementalAlterConfigsResponse = client.call(1, &request).await;
        assert_eq!(response.responses[0].error_code, error, "{resource:?}");
    }
    let topic = fixture.coordinator.state().topic_named("t").cloned().unwrap();
    assert_eq!(topic.configs["retention.ms"], "5");
    assert_eq!(topic.configs["cleanup.policy"], ",compact");
    let twice = build(|request: &mut IncrementalAlterConfigsRequest| {
        request.resources = vec![resource(2, "t", vec![]), resource(2, "t", vec![])];
    });
    let response: IncrementalAlterConfigsResponse = client.call(1, &twice).await;
    assert_eq!(response.responses.iter().map(|r| r.error_code).collect::<Vec<_>>(), [0, 42]);
}

#[tokio::test]
async fn topics_are_described_page_by_page() {
    let fixture = Fixture::start(Shape::default()).await;
    for (name, partitions) in [("c", 3), ("a", 4), ("b", 2)] {
        fixture.topic(name, partitions);
    }
    let mut client = fixture.client().await;
    let mut cursor = None;
    let mut pages = Vec::new();
    loop {
        let request = build(|request: &mut DescribeTopicPartitionsRequest| {
            request.response_partition_limit = 3;
            request.cursor = cursor.take();
        });
        let response: DescribeTopicPartitionsResponse = client.call(0, &request).await;
        let mut page = Vec::new();
        for topic in &response.topics {
            let name = topic.name.as_deref().unwrap_or_default().to_owned();
            page.extend(topic.partitions.iter().map(|p| format!("{name}{}", p.partition_index)));
        }
        pages.push(page.join(" "));
        let Some(next) = response.next_cursor else { break };
        cursor = Some(build(|cursor: &mut Cursor| {
            cursor.topic_name = next.topic_name;
            cursor.partition_index = next.partition_index;
        }));
    }
    assert_eq!(pages, ["a0 a1 a2", "a3 b0 b1", "c0 c1 c2"]);

    let request = build(|request: &mut DescribeTopicPartitionsRequest| {
        let topic = |name: &str| build(|topic: &mut TopicRequest| topic.name = name.into());
        request.topics = vec![topic("none"), topic("b"), topic("not a name")];
        request.response_partition_limit = 100;
    });
    let response: DescribeTopicPartitionsResponse = client.call(0, &request).await;
    let codes: Vec<_> = response.topics.iter().map(|t| (t.name.as_deref().unwrap(), t.error_code)).collect();
    assert_eq!(codes, [("b", 0), ("none", 3), ("not a name", 17)]);
    let partition = &response.topics[0].partitions[0];
    assert_eq!((partition.leader_id, partition.leader_epoch, &partition.isr_nodes[..]), (1, 5, &[1][..]));
}

#[tokio::test]
async fn the_cluster_is_described_to_those_who_ask_for_brokers() {
    let fixture = Fixture::start(Shape { gateways: 2, ..Shape::default() }).await;
    let mut client = fixture.client().await;
    for version in 0..=2 {
        let response: DescribeClusterResponse = client.call(version, &DescribeClusterRequest::default()).await;
        assert_eq!((response.error_code, response.cluster_id.as_str(), response.controller_id), (0, "the-cluster", 1));
        let brokers: Vec<_> = response.brokers.iter().map(|b| (b.broker_id, b.host.as_str(), b.port)).collect();
        assert_eq!(brokers, [(1, "gateway-1", 9092), (2, "gateway-2", 9092)]);
    }
    for (endpoints, error) in [(2, 114), (9, 115)] {
        let request = build(|request: &mut DescribeClusterRequest| request.endpoint_type = endpoints);
        let response: DescribeClusterResponse = client.call(1, &request).await;
        assert_eq!(response.error_code, error);
    }
}

#[tokio::test]
async fn producer_ids_are_never_handed_out_twice() {
    let fixture = Fixture::start(Shape::default()).await;
    let mut client = fixture.client().await;
    let mut ids = BTreeSet::new();
    let plain = build(|request: &mut InitProducerIdRequest| request.transactional_id = None);
    for n in 0..1_500 {
        let response: InitProducerIdResponse = client.call(4, &plain).await;
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
        assert!(ids.insert(response.producer_id), "{} came twice, the second time as number {n}", response.producer_id);
    }
    let transactional = build(|request: &mut InitProducerIdRequest| request.transactional_id = Some("t".into()));
    for version in 0..=5 {
        let response: InitProducerIdResponse = client.call(version, &transactional).await;
        assert_eq!((response.error_code, response.producer_id), (42, -1), "INVALID_REQUEST in version {version}");
    }
}

#[tokio::test]
async fn every_version_can_say_that_it_worked_and_that_it_did_not() {
    let fixture = Fixture::start(Shape::default()).await;
    let mut client = fixture.client().await;
    for version in 2..=7 {
        let topics = vec![creatable(&format!("v{version}"), 1), creatable("none", 0)];
        let response: CreateTopicsResponse = client.call(version, &create(topics, false)).await;
        assert_eq!(response.topics.iter().map(|t| t.error_code).collect::<Vec<_>>(), [0, 37], "version {version}");
    }
    for version in 1..=5 {
        let request = build(|request: &mut DeleteTopicsRequest| {
            request.topic_names = vec![format!("v{version}").into(), "none".into()];
        });
        let response: DeleteTopicsResponse = client.call(version, &request).await;
        let codes: Vec<_> = response.responses.iter().map(|t| t.error_code).collect();
        assert_eq!(codes, if version == 1 { [3, 3] } else { [0, 3] }, "version {version}");
    }
    fixture.topic("t", 1);
    for version in 0..=3 {
        let topic = |name: &str, count| {
            build(|topic: &mut CreatePartitionsTopic| {
                topic.name = name.into();
                topic.count = count;
                topic.assignments = None;
            })
        };
        let request = build(|request: &mut CreatePartitionsRequest| {
            request.topics = vec![topic("t", 2 + i32::from(version)), topic("none", 1)];
        });
        let response: CreatePartitionsResponse = client.call(version, &request).await;
        let codes: Vec<_> = response.results.iter().map(|t| t.error_code).collect();
        assert_eq!(codes, [0, 3], "version {version}");
    }
    for version in 0..=1 {
        let resource = |name: &str| {
            build(|resource: &mut AlterConfigsResource| {
                resource.resource_type = 2;
                resource.resource_name = name.into();
            })
        };
        let request = build(|request: &mut IncrementalAlterConfigsRequest| {
            request.resources = vec![resource("t"), resource("none")];
        });
        let response: IncrementalAlterConfigsResponse = client.call(version, &request).await;
        let codes: Vec<_> = response.responses.iter().map(|t| t.error_code).collect();
        assert_eq!(codes, [0, 3], "version {version}");
    }
}
