//! Fetch sessions as clients use them.

use super::kit::{FetchAnswer, FetchQuery, Fixture, Shape, at, batch};

const V11: i16 = 11;

fn partitions(answer: &FetchAnswer) -> Vec<i32> {
    answer.partitions.iter().map(|partition| partition.partition).collect()
}

fn incremental(session: i32, epoch: i32) -> FetchQuery {
    FetchQuery { session: (session, epoch), partitions: vec![], ..FetchQuery::default() }
}

#[tokio::test]
async fn a_session_carries_only_what_changed() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 3);
    let mut client = fixture.client().await;
    let full = FetchQuery { session: (0, 0), partitions: vec![(0, 0), (1, 0), (2, 0)], ..FetchQuery::default() };
    let answer = client.fetch(V11, &full).await;
    assert_eq!(partitions(&answer), [0, 1, 2]);
    let id = answer.session;
    assert_ne!(id, 0);

    assert!(partitions(&client.fetch(V11, &incremental(id, 1)).await).is_empty(), "nothing changed");
    fixture.broker().append(at("t", 1), batch("a"));
    let answer = client.fetch(V11, &incremental(id, 2)).await;
    assert_eq!((partitions(&answer), answer.session), (vec![1], id));
    // The client has read it and says so.
    let read = FetchQuery { partitions: vec![(1, 1)], ..incremental(id, 3) };
    assert!(partitions(&client.fetch(V11, &read).await).is_empty());

    let forget = FetchQuery { forgotten: vec![1], ..incremental(id, 4) };
    assert!(partitions(&client.fetch(V11, &forget).await).is_empty());
    fixture.broker().append(at("t", 1), batch("b"));
    fixture.broker().append(at("t", 2), batch("c"));
    assert_eq!(partitions(&client.fetch(V11, &incremental(id, 5)).await), [2]);
}

#[tokio::test]
async fn a_session_long_polls() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 2);
    let mut client = fixture.client().await;
    let full = FetchQuery { session: (0, 0), partitions: vec![(0, 0), (1, 0)], ..FetchQuery::default() };
    let id = client.fetch(V11, &full).await.session;
    let polled = client.send_fetch(V11, &FetchQuery { max_wait_ms: 600_000, ..incremental(id, 1) }).await;
    fixture.broker().until(|broker| broker.fetches().len() == 2).await;
    fixture.broker().append(at("t", 1), batch("a"));
    assert_eq!(partitions(&client.fetch_answer(polled, V11).await), [1]);
}

#[tokio::test]
async fn a_session_that_is_not_there_or_not_in_step_is_refused() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let mut client = fixture.client().await;
    let id = client.fetch(V11, &FetchQuery { session: (0, 0), ..FetchQuery::default() }).await.session;
    let refused = [(V11, id + 1, 1, 70), (V11, id, 7, 71), (13, id, 1, 106)];
    for (version, id, epoch, error) in refused {
        let answer = client.fetch(version, &incremental(id, epoch)).await;
        assert_eq!((answer.error, answer.session, answer.partitions.len()), (error, 0, 0));
    }
    // A session is the gateway's, not the connection's.
    let mut other = fixture.client().await;
    assert_eq!(other.fetch(V11, &incremental(id, 1)).await.error, 0);
    // Its end is told by the last epoch.
    let last = FetchQuery { session: (id, -1), ..FetchQuery::default() };
    assert_eq!(client.fetch(V11, &last).await.session, 0);
    assert_eq!(client.fetch(V11, &incremental(id, 2)).await.error, 70);
}

#[tokio::test]
async fn topics_by_id_have_sessions_too() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let mut client = fixture.client().await;
    let id = client.fetch(16, &FetchQuery { session: (0, 0), ..FetchQuery::default() }).await.session;
    fixture.broker().append(at("t", 0), batch("a"));
    assert_eq!(partitions(&client.fetch(16, &incremental(id, 1)).await), [0]);
    assert_eq!(client.fetch(V11, &incremental(id, 2)).await.error, 106, "FETCH_SESSION_TOPIC_ID_ERROR");
}
