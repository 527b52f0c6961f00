//! Requests of one connection overlap, and nobody can tell.

use tidemark_model::storage::Acks;
use tidemark_wire::api::ApiKey;
use tidemark_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use tidemark_wire::messages::{ListOffsetsRequest, ListOffsetsResponse, decode, encode};
use tidemark_wire::messages::{MetadataRequest, build};

use super::kit::{FakeBroker, FetchQuery, Fixture, Shape, at, batch, fetch, produce};

/// A version of Produce that names topics.
const V8: i16 = 8;

#[tokio::test]
async fn appends_are_issued_in_order_and_answered_in_order_however_they_complete() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let gates: Vec<_> = (0..5).map(|_| fixture.broker().hold_produce()).collect();
    let mut client = fixture.client().await;
    let mut sent = Vec::new();
    for n in 0..5 {
        sent.push(client.send_produce(V8, -1, "t", &[(0, batch(&format!("value {n}")))]).await);
    }
    fixture.broker().until(|broker| broker.produced().len() == 5).await;
    let issued: Vec<_> = fixture.broker().produced().iter().map(|r| r.partitions[0].records.clone()).collect();
    let expected: Vec<_> = (0..5).map(|n| batch(&format!("value {n}"))).collect();
    assert_eq!(issued, expected, "all five are under way at once");

    for gate in gates.into_iter().rev() {
        gate.send(()).unwrap();
    }
    for (n, id) in sent.into_iter().enumerate() {
        assert_eq!(client.produce_answer(id, V8).await[0].base_offset, n as i64);
    }
}

#[tokio::test]
async fn a_read_sees_what_was_produced_before_it() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let gate = fixture.broker().hold_produce();
    let mut client = fixture.client().await;
    let append = produce(V8, -1, None, "t", &[(0, batch("a"))]);
    let read = fetch(11, &FetchQuery::default());
    let sent = client.send_together(&[(ApiKey::Produce, V8, append), (ApiKey::Fetch, 11, read)]).await;
    let [produced, fetched] = sent[..] else { panic!("two were sent") };
    fixture.broker().until(|broker| broker.produced().len() == 1).await;
    assert!(fixture.broker().fetches().is_empty(), "the fetch waits for the append");
    gate.send(()).unwrap();
    assert_eq!(client.produce_answer(produced, V8).await[0].error, 0);
    let answer = client.fetch_answer(fetched, 11).await;
    assert_eq!(answer.partitions[0].high_watermark, 1);
}

#[tokio::test]
async fn an_answer_that_is_ready_waits_for_a_long_poll_before_it() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let mut client = fixture.client().await;
    let polled = client.send_fetch(11, &FetchQuery { max_wait_ms: 60_000, ..FetchQuery::default() }).await;
    let metadata = encode(&MetadataRequest::default(), 5).unwrap();
    let described = client.send(ApiKey::Metadata, 5, &metadata).await;
    fixture.broker().until(|broker| !broker.fetches().is_empty()).await;
    fixture.broker().append(at("t", 0), batch("at last"));
    assert_eq!(client.fetch_answer(polled, 11).await.partitions[0].high_watermark, 1);
    client.answer(described, ApiKey::Metadata, 5).await;
}

#[tokio::test]
async fn a_second_fetch_begins_when_the_first_is_answered() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let mut client = fixture.client().await;
    let query = FetchQuery { max_wait_ms: 60_000, ..FetchQuery::default() };
    let twice = [(ApiKey::Fetch, 11, fetch(11, &query)), (ApiKey::Fetch, 11, fetch(11, &query))];
    let [first, second] = client.send_together(&twice).await[..] else { panic!("two were sent") };
    let waiting = |broker: &FakeBroker| broker.fetches().iter().filter(|fetch| !fetch.max_wait.is_zero()).count();
    fixture.broker().until(|broker| waiting(broker) > 0).await;
    assert_eq!(waiting(fixture.broker()), 1);
    fixture.broker().append(at("t", 0), batch("a"));
    client.fetch_answer(first, 11).await;
    client.fetch_answer(second, 11).await;
    assert_eq!(waiting(fixture.broker()), 2);
}

#[tokio::test]
async fn acks_0_has_no_answer_and_keeps_its_place() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let mut client = fixture.client().await;
    client.send_produce(V8, 0, "t", &[(0, batch("a"))]).await;
    let asked = build(|request: &mut ListOffsetsRequest| {
        request.replica_id = -1;
        request.topics = vec![build(|topic: &mut ListOffsetsTopic| {
            topic.name = "t".into();
            topic.partitions = vec![build(|partition: &mut ListOffsetsPartition| partition.timestamp = -1)];
        })];
    });
    let id = client.send(ApiKey::ListOffsets, 1, &encode(&asked, 1).unwrap()).await;
    let body = client.answer(id, ApiKey::ListOffsets, 1).await;
    let answer: ListOffsetsResponse = decode(body, 1).unwrap();
    assert_eq!(answer.topics[0].partitions[0].offset, 1);
    assert_eq!(fixture.broker().produced()[0].acks, Acks::None);
}

#[tokio::test]
async fn a_failed_append_with_acks_0_closes_the_connection_after_what_was_asked_before() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let mut client = fixture.client().await;
    let before = client.send_produce(V8, 1, "t", &[(0, batch("a"))]).await;
    client.send_produce(V8, 0, "unknown", &[(0, batch("a"))]).await;
    assert_eq!(client.produce_answer(before, V8).await[0].error, 0);
    assert!(client.receive().await.is_none());
}

#[tokio::test]
async fn a_client_that_sends_without_end_is_not_read_without_end() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let gates: Vec<_> = (0..200).map(|_| fixture.broker().hold_produce()).collect();
    let mut client = fixture.client().await;
    let mut sent = Vec::new();
    for _ in 0..200 {
        sent.push(client.send_produce(V8, 1, "t", &[(0, batch("a"))]).await);
    }
    fixture.broker().until(|broker| broker.produced().len() == 64).await;
    // What is already in the socket is read no further until answers leave.
    let mut other = fixture.client().await;
    other.fetch(11, &FetchQuery::default()).await;
    assert_eq!(fixture.broker().produced().len(), 64);
    drop(gates);
    for id in sent {
        assert_eq!(client.produce_answer(id, V8).await[0].error, 0);
    }
}

#[tokio::test]
async fn calls_of_brokers_are_made_in_the_span_of_their_request() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let mut client = fixture.client().await;
    client.produce(V8, "t", &[(0, batch("a"))]).await;
    client.fetch(11, &FetchQuery::default()).await;
    assert_eq!(fixture.broker().spans(), [Some("kafka.request"); 2]);
}
