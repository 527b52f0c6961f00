//! Produce: who is asked, and what the client is told.

use tidemark_model::broker::BatchFault;
use tidemark_model::{BrokerError, Role, StorageError, route};
use tidemark_wire::api::ApiKey;
use tidemark_wire::batch::BatchBuilder;

use super::kit::{Fixture, ME, OTHER, Shape, at, batch};

#[tokio::test]
async fn records_reach_the_broker_byte_for_byte_in_every_version() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 2);
    let mut client = fixture.client().await;
    for (n, version) in (8..=13).enumerate() {
        let records = batch(&format!("version {version}"));
        let answers = client.produce(version, "t", &[(1, records.clone())]).await;
        assert_eq!((answers[0].error, answers[0].base_offset), (0, n as i64));
        let request = fixture.broker().produced().pop().unwrap();
        assert_eq!((request.gateway, request.revision), (ME, fixture.coordinator.state().revision));
        assert_eq!(request.partitions[0].partition, at("t", 1));
        assert_eq!(request.partitions[0].records, records);
    }
}

#[tokio::test]
async fn each_broker_gets_its_share_and_answers_fall_into_place() {
    let fixture = Fixture::start(Shape { brokers: 3, ..Shape::default() }).await;
    fixture.topic("t", 6);
    let mut client = fixture.client().await;
    fixture.broker_of("t", 3).append(at("t", 3), batch("before"));
    let all: Vec<_> = [5, 0, 3, 9, 1].map(|partition| (partition, batch("a"))).to_vec();
    let answers = client.produce(8, "t", &all).await;
    let outcome: Vec<_> = answers.iter().map(|a| (a.partition, a.error, a.base_offset)).collect();
    assert_eq!(outcome, [(5, 0, 0), (0, 0, 0), (3, 0, 1), (9, 3, -1), (1, 0, 0)]);
    let asked: usize = fixture.brokers.iter().map(|broker| broker.produced().len()).sum();
    let state = fixture.coordinator.state();
    let brokers = [5, 0, 3, 1].map(|p| {
        let journal = state.partition(at("t", p)).unwrap().journal;
        route::broker_for(&state, journal).unwrap().id
    });
    let distinct: std::collections::BTreeSet<_> = brokers.into_iter().collect();
    assert_eq!(asked, distinct.len(), "one call for each broker");
}

#[tokio::test]
async fn wrong_acks_are_refused_and_nothing_is_appended() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let mut client = fixture.client().await;
    for acks in [2, -2, 100] {
        let id = client.send_produce(8, acks, "t", &[(0, batch("a"))]).await;
        assert_eq!(client.produce_answer(id, 8).await[0].error, 21, "INVALID_REQUIRED_ACKS");
    }
    assert!(fixture.broker().produced().is_empty());
}

#[tokio::test]
async fn unknown_topics_and_partitions_have_the_code_of_how_they_were_named() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let mut client = fixture.client().await;
    for (version, topic, partition, error) in
        [(8, "none", 0, 3), (8, "t", 1, 3), (8, "t", -1, 3), (13, "none", 0, 100), (13, "t", 1, 3)]
    {
        let answers = client.produce(version, topic, &[(partition, batch("a"))]).await;
        assert_eq!(answers[0].error, error, "{topic}-{partition} in version {version}");
        assert_eq!(answers[0].base_offset, -1);
    }
}

#[tokio::test]
async fn what_another_gateway_leads_is_refused_with_who_leads_it() {
    let fixture = Fixture::start(Shape { gateways: 2, ..Shape::default() }).await;
    fixture.topic("t", 20);
    let (mine, other) = (fixture.partition_of("t", ME), fixture.partition_of("t", OTHER));
    let mut client = fixture.client().await;
    for version in [8, 10, 13] {
        let answers = client.produce(version, "t", &[(mine, batch("a")), (other, batch("b"))]).await;
        assert_eq!((answers[0].error, answers[1].error), (0, 6), "version {version}");
        let leader = (version >= 10).then_some((OTHER.0, 5));
        assert_eq!(answers[1].leader, leader, "version {version}");
        assert_eq!(answers[0].leader, None);
    }
}

#[tokio::test]
async fn a_journal_without_a_broker_is_retried_by_the_client() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    fixture
        .coordinator
        .change(|state| state.remove(tidemark_model::RecordKey::Node(Role::Broker, tidemark_model::NodeId(0))));
    let mut client = fixture.client().await;
    let answers = client.produce(8, "t", &[(0, batch("a"))]).await;
    assert_eq!(answers[0].error, 6, "NOT_LEADER_OR_FOLLOWER");
    assert!(answers[0].message.as_deref().unwrap().contains("no broker"));
}

#[tokio::test]
async fn what_the_broker_says_reaches_the_client() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 2);
    let mut client = fixture.client().await;
    let too_large = BrokerError::Rejected { fault: BatchFault::TooLarge, message: "over 1000 bytes".into() };
    fixture.broker().fail(at("t", 0), too_large);
    fixture.broker().fail(at("t", 1), StorageError::OutOfOrderSequence { producer_id: 7, expected: 1, got: 3 });
    let answers = client.produce(8, "t", &[(0, batch("a")), (1, batch("a"))]).await;
    assert_eq!((answers[0].error, answers[0].message.as_deref()), (10, Some("over 1000 bytes")));
    assert_eq!(answers[1].error, 45);
}

#[tokio::test]
async fn transactions_are_refused_where_they_begin() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let mut client = fixture.client().await;
    let transactional = BatchBuilder::new().producer(1, 0, 0).attributes(0x10).record(None, None).wire();
    let answers = client.produce(8, "t", &[(0, transactional)]).await;
    assert_eq!(answers[0].error, 48, "INVALID_TXN_STATE");
    let body = super::kit::produce(8, -1, Some("my-transactions"), "t", &[(0, batch("a"))]);
    let id = client.send(ApiKey::Produce, 8, &body).await;
    assert_eq!(client.produce_answer(id, 8).await[0].error, 48);
    assert!(fixture.broker().produced().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_never_answers_is_not_waited_for_for_ever() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let _never = fixture.broker().hold_produce();
    let mut client = fixture.client().await;
    assert_eq!(client.produce(8, "t", &[(0, batch("a"))]).await[0].error, 7, "REQUEST_TIMED_OUT");
}
