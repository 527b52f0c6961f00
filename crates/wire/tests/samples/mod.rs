//! One request of every kind in every version that is spoken, with something in every array.

mod groups;

use bytes::Bytes;
use kafka_wire::{FetchRequest, ProduceRequest, fetch_request, produce_request};
use kafka_wire_core::Uuid;
use tidemark_wire::api::{APIS, ApiKey};
use tidemark_wire::batch::BatchBuilder;
use tidemark_wire::messages::*;

pub(crate) fn all() -> Vec<(ApiKey, i16, Bytes)> {
    let versions = APIS.iter().flat_map(|api| (api.spoken.min..=api.spoken.max).map(|version| (api.key, version)));
    versions.map(|(key, version)| (key, version, sample(key, version))).collect()
}

fn sample(key: ApiKey, v: i16) -> Bytes {
    match key {
        ApiKey::Produce => encoded(v, produce(v)),
        ApiKey::Fetch => encoded(v, fetch(v)),
        ApiKey::ListOffsets => encoded(v, list_offsets()),
        ApiKey::Metadata => encoded(v, metadata()),
        ApiKey::OffsetCommit => encoded(v, groups::offset_commit(v)),
        ApiKey::OffsetFetch => encoded(v, groups::offset_fetch(v)),
        ApiKey::FindCoordinator => encoded(v, find_coordinator(v)),
        ApiKey::JoinGroup => encoded(v, groups::join_group(v)),
        ApiKey::Heartbeat => encoded(v, groups::heartbeat()),
        ApiKey::LeaveGroup => encoded(v, groups::leave_group(v)),
        ApiKey::SyncGroup => encoded(v, groups::sync_group()),
        ApiKey::DescribeGroups => encoded(v, groups::describe_groups()),
        ApiKey::ListGroups => encoded(v, groups::list_groups(v)),
        ApiKey::DeleteGroups => encoded(v, groups::delete_groups()),
        ApiKey::OffsetDelete => encoded(v, groups::offset_delete()),
        ApiKey::ConsumerGroupHeartbeat => encoded(v, groups::consumer_group_heartbeat(v)),
        ApiKey::ConsumerGroupDescribe => encoded(v, groups::consumer_group_describe()),
        ApiKey::ApiVersions => encoded(v, api_versions(v)),
        ApiKey::CreateTopics => encoded(v, create_topics()),
        ApiKey::DeleteTopics => encoded(v, delete_topics(v)),
        ApiKey::DeleteRecords => encoded(v, delete_records()),
        ApiKey::InitProducerId => encoded(v, init_producer_id()),
        ApiKey::OffsetForLeaderEpoch => encoded(v, offset_for_leader_epoch()),
        ApiKey::DescribeConfigs => encoded(v, describe_configs()),
        ApiKey::CreatePartitions => encoded(v, create_partitions()),
        ApiKey::IncrementalAlterConfigs => encoded(v, incremental_alter_configs()),
        ApiKey::DescribeCluster => encoded(v, DescribeClusterRequest::default()),
        ApiKey::DescribeTopicPartitions => encoded(v, describe_topic_partitions()),
        other => panic!("no sample of {other}"),
    }
}

fn encoded<T: KafkaMessage>(version: i16, message: T) -> Bytes {
    encode(&message, version).unwrap_or_else(|error| panic!("{} {version}: {error}", T::NAME))
}

fn topic_id() -> Uuid {
    Uuid::from_bytes([7; 16])
}

fn produce(v: i16) -> ProduceRequest {
    let partition = |index| {
        build(|out: &mut produce_request::PartitionProduceData| {
            out.index = index;
            out.records = Some(BatchBuilder::new().record(Some(b"key"), Some(b"value")).wire());
        })
    };
    let topic = build(|out: &mut produce_request::TopicProduceData| {
        if v < 13 {
            out.name = "topic".into();
        } else {
            out.topic_id = topic_id();
        }
        out.partition_data = (0..3).map(partition).collect();
    });
    build(|out: &mut ProduceRequest| {
        out.transactional_id = Some("transaction".into());
        out.acks = -1;
        out.timeout_ms = 30_000;
        out.topic_data = vec![topic.clone(), topic];
    })
}

fn fetch(v: i16) -> FetchRequest {
    let partition = |index| build(|out: &mut fetch_request::FetchPartition| out.partition = index);
    build(|out: &mut FetchRequest| {
        out.topics = vec![build(|out: &mut fetch_request::FetchTopic| {
            if v < 13 {
                out.topic = "topic".into();
            } else {
                out.topic_id = topic_id();
            }
            out.partitions = (0..3).map(partition).collect();
        })];
        if v >= 7 {
            out.forgotten_topics_data = vec![build(|out: &mut fetch_request::ForgottenTopic| {
                out.partitions = vec![1, 2, 3];
            })];
        }
    })
}

fn delete_records() -> DeleteRecordsRequest {
    let partition = |index| {
        build(|out: &mut delete_records_request::DeleteRecordsPartition| {
            out.partition_index = index;
            out.offset = 7;
        })
    };
    build(|out: &mut DeleteRecordsRequest| {
        out.topics = vec![build(|out: &mut delete_records_request::DeleteRecordsTopic| {
            out.name = "topic".into();
            out.partitions = (0..3).map(partition).collect();
        })];
        out.timeout_ms = 30_000;
    })
}

fn list_offsets() -> ListOffsetsRequest {
    let partition = |index| {
        build(|out: &mut list_offsets_request::ListOffsetsPartition| {
            out.partition_index = index;
            out.timestamp = -2;
        })
    };
    build(|out: &mut ListOffsetsRequest| {
        out.topics = vec![build(|out: &mut list_offsets_request::ListOffsetsTopic| {
            out.name = "topic".into();
            out.partitions = (0..3).map(partition).collect();
        })];
    })
}

fn metadata() -> MetadataRequest {
    let topic = |name: &str| build(|out: &mut metadata_request::MetadataRequestTopic| out.name = Some(name.into()));
    build(|out: &mut MetadataRequest| out.topics = Some(["a", "bc", "def"].map(topic).into()))
}

fn find_coordinator(v: i16) -> FindCoordinatorRequest {
    build(|out: &mut FindCoordinatorRequest| {
        if v >= 4 {
            out.coordinator_keys = vec!["group".into(), "other".into()];
        } else {
            out.key = "group".into();
        }
    })
}

fn api_versions(v: i16) -> ApiVersionsRequest {
    build(|out: &mut ApiVersionsRequest| {
        if v >= 3 {
            out.client_software_name = "client".into();
            out.client_software_version = "1.0".into();
        }
    })
}

fn create_topics() -> CreateTopicsRequest {
    use create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
    let assignment = |index| {
        build(|out: &mut CreatableReplicaAssignment| {
            out.partition_index = index;
            out.broker_ids = vec![1, 2, 3];
        })
    };
    let config = build(|out: &mut CreatableTopicConfig| {
        out.name = "retention.ms".into();
        out.value = Some("1000".into());
    });
    build(|out: &mut CreateTopicsRequest| {
        out.topics = vec![build(|out: &mut CreatableTopic| {
            out.name = "topic".into();
            out.num_partitions = -1;
            out.replication_factor = -1;
            out.assignments = (0..3).map(assignment).collect();
            out.configs = vec![config];
        })];
    })
}

fn delete_topics(v: i16) -> DeleteTopicsRequest {
    build(|out: &mut DeleteTopicsRequest| {
        if v >= 6 {
            let by_name = build(|out: &mut delete_topics_request::DeleteTopicState| out.name = Some("topic".into()));
            let by_id = build(|out: &mut delete_topics_request::DeleteTopicState| out.topic_id = topic_id());
            out.topics = vec![by_name, by_id];
        } else {
            out.topic_names = vec!["topic".into(), "other".into()];
        }
    })
}

fn init_producer_id() -> InitProducerIdRequest {
    build(|out: &mut InitProducerIdRequest| out.transactional_id = Some("transaction".into()))
}

fn offset_for_leader_epoch() -> OffsetForLeaderEpochRequest {
    use offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
    let partition = |index| build(|out: &mut OffsetForLeaderPartition| out.partition = index);
    build(|out: &mut OffsetForLeaderEpochRequest| {
        out.topics = vec![build(|out: &mut OffsetForLeaderTopic| {
            out.topic = "topic".into();
            out.partitions = (0..3).map(partition).collect();
        })];
    })
}

fn describe_configs() -> DescribeConfigsRequest {
    build(|out: &mut DescribeConfigsRequest| {
        out.resources = vec![build(|out: &mut describe_configs_request::DescribeConfigsResource| {
            out.resource_type = 2;
            out.resource_name = "topic".into();
            out.configuration_keys = Some(vec!["retention.ms".into(), "cleanup.policy".into()]);
        })];
    })
}

fn create_partitions() -> CreatePartitionsRequest {
    use create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
    let assignment = build(|out: &mut CreatePartitionsAssignment| out.broker_ids = vec![1, 2, 3]);
    build(|out: &mut CreatePartitionsRequest| {
        out.topics = vec![build(|out: &mut CreatePartitionsTopic| {
            out.name = "topic".into();
            out.count = 12;
            out.assignments = Some(vec![assignment.clone(), assignment]);
        })];
    })
}

fn incremental_alter_configs() -> IncrementalAlterConfigsRequest {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let config = build(|out: &mut AlterableConfig| {
        out.name = "retention.ms".into();
        out.value = Some("1000".into());
    });
    build(|out: &mut IncrementalAlterConfigsRequest| {
        out.resources = vec![build(|out: &mut AlterConfigsResource| {
            out.resource_type = 2;
            out.resource_name = "topic".into();
            out.configs = vec![config.clone(), config];
        })];
    })
}

fn describe_topic_partitions() -> DescribeTopicPartitionsRequest {
    use describe_topic_partitions_request::{Cursor, TopicRequest};
    let topic = |name: &str| build(|out: &mut TopicRequest| out.name = name.into());
    build(|out: &mut DescribeTopicPartitionsRequest| {
        out.topics = ["a", "bc", "def"].map(topic).into();
        out.cursor = Some(build(|out: &mut Cursor| out.topic_name = "bc".into()));
    })
}
