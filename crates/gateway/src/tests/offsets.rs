//! ListOffsets, OffsetForLeaderEpoch and DeleteRecords.

use tidemark_model::BrokerError;
use tidemark_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use tidemark_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use tidemark_wire::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use tidemark_wire::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, build,
};

use super::kit::{Fixture, ME, OTHER, Shape, at, batch};

fn list(topic: &str, asked: &[(i32, i64)]) -> ListOffsetsRequest {
    build(|request: &mut ListOffsetsRequest| {
        request.replica_id = -1;
        request.topics = vec![build(|out: &mut ListOffsetsTopic| {
            out.name = topic.into();
            let partition = |(index, timestamp): &(i32, i64)| {
                build(|partition: &mut ListOffsetsPartition| {
                    partition.partition_index = *index;
                    partition.current_leader_epoch = -1;
                    partition.timestamp = *timestamp;
                })
            };
            out.partitions = asked.iter().map(partition).collect();
        })];
    })
}

fn answers(response: &ListOffsetsResponse) -> Vec<(i32, i16, i64)> {
    response.topics[0].partitions.iter().map(|p| (p.partition_index, p.error_code, p.offset)).collect()
}

#[tokio::test]
async fn offsets_are_found_by_timestamp_and_by_name() {
    let fixture = Fixture::start(Shape { brokers: 2, ..Shape::default() }).await;
    fixture.topic("t", 4);
    fixture.broker_of("t", 1).append(at("t", 1), batch("a"));
    let mut client = fixture.client().await;
    let asked = list("t", &[(0, -1), (1, -1), (2, -2), (3, 1_000), (9, -1)]);
    for version in [1, 5, 6, 11] {
        let response: ListOffsetsResponse = client.call(version, &asked).await;
        let expected = [(0, 0, 0), (1, 0, 1), (2, 0, 0), (3, 0, 1), (9, 3, -1)];
        assert_eq!(answers(&response), expected, "version {version}");
        assert_eq!(response.topics[0].partitions[3].timestamp, 1_000);
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_for_that_partition() {
    let fixture = Fixture::start(Shape { gateways: 2, ..Shape::default() }).await;
    fixture.topic("t", 20);
    let (mine, other) = (fixture.partition_of("t", ME), fixture.partition_of("t", OTHER));
    let mut client = fixture.client().await;
    let asked = list("t", &[(mine, -3), (other, -1)]);
    let response: ListOffsetsResponse = client.call(6, &asked).await;
    assert_eq!(answers(&response), [(mine, 35, -1), (other, 6, -1)]);
    let response: ListOffsetsResponse = client.call(7, &list("t", &[(mine, -3), (mine, -1), (mine, -2)])).await;
    assert_eq!(answers(&response), [(mine, 42, -1), (mine, 42, -1), (mine, 42, -1)]);
    let response: ListOffsetsResponse = client.call(7, &list("none", &[(0, -1)])).await;
    assert_eq!(answers(&response), [(0, 3, -1)]);
    fixture.broker().fail(at("t", mine), BrokerError::Unavailable("gone".into()));
    let response: ListOffsetsResponse = client.call(7, &list("t", &[(mine, -1)])).await;
    assert_eq!(answers(&response), [(mine, 56, -1)]);
}

#[tokio::test]
async fn the_end_of_an_epoch_is_told() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    fixture.broker().append(at("t", 0), batch("a"));
    let mut client = fixture.client().await;
    let asked = build(|request: &mut OffsetForLeaderEpochRequest| {
        request.replica_id = -1;
        request.topics = vec![build(|topic: &mut OffsetForLeaderTopic| {
            topic.topic = "t".into();
            topic.partitions = [0, 7]
                .map(|index| {
                    build(|partition: &mut OffsetForLeaderPartition| {
                        partition.partition = index;
                        partition.current_leader_epoch = -1;
                        partition.leader_epoch = 4;
                    })
                })
                .into();
        })];
    });
    for version in [3, 4] {
        let response: OffsetForLeaderEpochResponse = client.call(version, &asked).await;
        let [known, unknown] = &response.topics[0].partitions[..] else { panic!("{response:?}") };
        assert_eq!((known.error_code, known.leader_epoch, known.end_offset), (0, 4, 1));
        assert_eq!((unknown.error_code, unknown.leader_epoch, unknown.end_offset), (3, -1, -1));
    }
}

#[tokio::test]
async fn records_are_deleted_where_the_policy_lets_them() {
    let fixture = Fixture::start(Shape { gateways: 2, brokers: 2, ..Shape::default() }).await;
    fixture.topic("t", 20);
    let (mine, other) = (fixture.partition_of("t", ME), fixture.partition_of("t", OTHER));
    fixture.broker_of("t", mine).append(at("t", mine), batch("a"));
    let mut client = fixture.client().await;
    let delete = |partitions: &[(i32, i64)]| {
        build(|request: &mut DeleteRecordsRequest| {
            request.timeout_ms = 1_000;
            request.topics = vec![build(|topic: &mut DeleteRecordsTopic| {
                topic.name = "t".into();
                let partition = |(index, offset): &(i32, i64)| {
                    build(|partition: &mut DeleteRecordsPartition| {
                        (partition.partition_index, partition.offset) = (*index, *offset);
                    })
                };
                topic.partitions = partitions.iter().map(partition).collect();
            })];
        })
    };
    let told = |response: DeleteRecordsResponse| -> Vec<(i32, i16, i64)> {
        response.topics[0].partitions.iter().map(|p| (p.partition_index, p.error_code, p.low_watermark)).collect()
    };
    for version in [0, 2] {
        let response = client.call(version, &delete(&[(mine, -1), (other, 0), (mine, 2), (mine, 0), (99, 0)])).await;
        let expected = [(mine, 0, 1), (other, 6, -1), (mine, 1, -1), (mine, 0, 0), (99, 3, -1)];
        assert_eq!(told(response), expected, "version {version}");
    }
    fixture.configure("t", &[("cleanup.policy", "compact")]);
    assert_eq!(told(client.call(2, &delete(&[(mine, 0)])).await), [(mine, 44, -1)]);
    fixture.configure("t", &[("cleanup.policy", "compact,delete")]);
    fixture.broker_of("t", mine).fail(at("t", mine), BrokerError::Unavailable("gone".into()));
    assert_eq!(told(client.call(2, &delete(&[(mine, 0)])).await), [(mine, 7, -1)]);
}
