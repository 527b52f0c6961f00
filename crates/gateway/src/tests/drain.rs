//! Shutdown: what is under way is finished, and nothing new is begun.

use super::kit::{FetchQuery, Fixture, Shape, batch};

#[tokio::test]
async fn what_is_under_way_is_answered_and_then_the_connection_ends() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let gate = fixture.broker().hold_produce();
    let mut producer = fixture.client().await;
    let produced = producer.send_produce(8, -1, "t", &[(0, batch("a"))]).await;
    let mut idle = fixture.client().await;
    idle.fetch(11, &FetchQuery::default()).await;
    fixture.broker().until(|broker| broker.produced().len() == 1).await;

    fixture.shutdown.cancel();
    assert!(idle.receive().await.is_none(), "who waits for nothing is let go");
    gate.send(()).unwrap();
    assert_eq!(producer.produce_answer(produced, 8).await[0].error, 0);
    assert!(producer.receive().await.is_none());
    fixture.service.drained().await;
    let refused = tokio::net::TcpStream::connect(fixture.address).await;
    assert!(refused.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_long_poll_does_not_hold_up_shutdown() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let mut client = fixture.client().await;
    let polled = client.send_fetch(11, &FetchQuery { max_wait_ms: 600_000, ..FetchQuery::default() }).await;
    fixture.broker().until(|broker| !broker.fetches().is_empty()).await;
    fixture.shutdown.cancel();
    assert_eq!(client.fetch_answer(polled, 11).await.partitions[0].error, 0);
    fixture.service.drained().await;
}

#[tokio::test(start_paused = true)]
async fn what_never_ends_is_cut_off() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let _never = fixture.broker().hold_produce();
    let mut client = fixture.client().await;
    client.send_produce(8, -1, "t", &[(0, batch("a"))]).await;
    fixture.broker().until(|broker| broker.produced().len() == 1).await;
    fixture.shutdown.cancel();
    fixture.service.drained().await;
    assert!(client.receive().await.is_none());
}
