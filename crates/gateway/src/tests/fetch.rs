//! Fetch: waiting, limits, several brokers, and errors.

use bytes::Bytes;
use tidemark_model::{Batch, BrokerError, StorageError};

use super::kit::{FetchAnswer, FetchQuery, Fixture, ME, OTHER, Shape, at, batch};

fn records(answer: &FetchAnswer) -> Vec<(i32, usize)> {
    answer.partitions.iter().map(|p| (p.partition, Batch::split_all(p.records.clone()).unwrap().len())).collect()
}

#[tokio::test]
async fn records_come_back_byte_for_byte_but_for_offset_and_epoch() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let mut client = fixture.client().await;
    let sent = [batch("one"), batch("two")];
    for wire in &sent {
        client.produce(8, "t", &[(0, wire.clone())]).await;
    }
    for version in [7, 11, 12, 13, 16, 18] {
        if version < 11 {
            continue;
        }
        let answer = client.fetch(version, &FetchQuery::default()).await;
        assert_eq!((answer.error, answer.partitions[0].error, answer.partitions[0].high_watermark), (0, 0, 2));
        let batches = Batch::split_all(answer.partitions[0].records.clone()).unwrap();
        for (n, (batch, wire)) in batches.iter().zip(&sent).enumerate() {
            assert_eq!((batch.base_offset, batch.leader_epoch), (n as i64, 5), "version {version}");
            assert_eq!(batch.body(), &wire.slice(16..));
        }
        assert_eq!(batches.len(), 2);
    }
}

#[tokio::test]
async fn a_long_poll_wakes_on_data_and_ends_with_its_time() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let mut client = fixture.client().await;
    let id = client.send_fetch(11, &FetchQuery { max_wait_ms: 600_000, ..FetchQuery::default() }).await;
    fixture.broker().until(|broker| !broker.fetches().is_empty()).await;
    fixture.broker().append(at("t", 0), batch("woken"));
    assert_eq!(records(&client.fetch_answer(id, 11).await), [(0, 1)]);

    let query = FetchQuery { max_wait_ms: 20, partitions: vec![(0, 1)], ..FetchQuery::default() };
    let answer = client.fetch(11, &query).await;
    assert_eq!((records(&answer), answer.partitions[0].error), (vec![(0, 0)], 0));
}

#[tokio::test]
async fn of_several_brokers_any_wakes_the_poll_and_all_are_read_again() {
    let fixture = Fixture::start(Shape { brokers: 8, ..Shape::default() }).await;
    fixture.topic("t", 8);
    let (one, other) = (0..8)
        .flat_map(|a| (0..8).map(move |b| (a, b)))
        .find(|(a, b)| !std::ptr::eq(fixture.broker_of("t", *a), fixture.broker_of("t", *b)))
        .unwrap();
    let mut client = fixture.client().await;
    let partitions = vec![(one, 0), (other, 0)];
    let query = FetchQuery { max_wait_ms: 600_000, partitions: partitions.clone(), ..FetchQuery::default() };
    let id = client.send_fetch(11, &query).await;
    let waits = |broker: &super::kit::FakeBroker| broker.fetches().iter().any(|fetch| !fetch.max_wait.is_zero());
    fixture.broker_of("t", one).until(waits).await;
    fixture.broker_of("t", other).until(waits).await;
    fixture.broker_of("t", other).append(at("t", other), batch("a"));
    assert_eq!(records(&client.fetch_answer(id, 11).await), [(one, 0), (other, 1)]);

    // What is there already is answered without anyone waiting.
    fixture.broker_of("t", one).append(at("t", one), batch("b"));
    let before = fixture.broker_of("t", one).fetches().len();
    let answer = client.fetch(11, &query).await;
    assert_eq!(records(&answer), [(one, 1), (other, 1)]);
    let asked = fixture.broker_of("t", one).fetches();
    assert!(asked[before..].iter().all(|fetch| fetch.max_wait.is_zero()));

    // Together they give no more than was asked for, and the first batch always.
    let query = FetchQuery { max_bytes: 1, partitions, ..FetchQuery::default() };
    assert_eq!(records(&client.fetch(11, &query).await), [(one, 1), (other, 0)]);
}

/// What a batch of this many bytes of records looks like to a broker.
fn large(bytes: usize) -> Bytes {
    batch(&"x".repeat(bytes))
}

#[tokio::test]
async fn clients_that_read_nothing_hold_little_and_stall_nobody() {
    const MIB: usize = 1 << 20;
    // What the kernel takes is not held any more, and is given out again: Linux takes 4 MiB for a socket.
    const SOCKET: usize = 4 * MIB;
    /// And one that reads are all connections that there may be.
    const STUCK: usize = 99;
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let one = large(MIB / 4);
    for _ in 0..64 {
        fixture.broker().append(at("t", 0), one.clone());
    }
    let query = FetchQuery { max_wait_ms: 600_000, max_bytes: 64 << 20, ..FetchQuery::default() };
    let mut stuck = Vec::new();
    for n in 1..=STUCK {
        let mut client = fixture.narrow_client().await;
        client.send_fetch(11, &query).await;
        fixture.broker().until(|broker| broker.fetches().len() == n).await;
        stuck.push(client);
    }
    let asked: usize = fixture.broker().fetches().iter().map(|fetch| fetch.max_bytes).sum();
    assert!(asked <= 64 * MIB + STUCK * ((64 << 10) + SOCKET), "{asked}");

    let mut reader = fixture.client().await;
    let mut offset = 0;
    while offset < 64 {
        let answer = reader.fetch(11, &FetchQuery { partitions: vec![(0, offset)], ..query.clone() }).await;
        let [(0, batches)] = records(&answer)[..] else { panic!("{answer:?}") };
        assert!(batches > 0, "at offset {offset}");
        offset += batches as i64;
    }
    // What they held is free when they go.
    drop(stuck);
    let before = fixture.broker().fetches().len();
    loop {
        reader.fetch(11, &query).await;
        if fixture.broker().fetches()[before..].iter().any(|fetch| fetch.max_bytes == 16 * MIB) {
            break;
        }
    }
}

#[tokio::test]
async fn a_client_at_the_tail_is_waited_for_with_one_call_and_one_that_is_behind_gets_much_at_once() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let mut client = fixture.client().await;
    let query = FetchQuery { max_wait_ms: 600_000, ..FetchQuery::default() };
    for n in 0..2 {
        let id = client.send_fetch(11, &FetchQuery { partitions: vec![(0, n)], ..query.clone() }).await;
        fixture
            .broker()
            .until(|broker| broker.fetches().iter().filter(|f| !f.max_wait.is_zero()).count() > n as usize)
            .await;
        fixture.broker().append(at("t", 0), batch("small"));
        assert_eq!(records(&client.fetch_answer(id, 11).await), [(0, 1)]);
    }
    let waited: Vec<bool> = fixture.broker().fetches().iter().map(|fetch| !fetch.max_wait.is_zero()).collect();
    assert_eq!(waited, [false, true, true], "only the first had to find out that there is nothing");
    for _ in 0..4 {
        fixture.broker().append(at("t", 0), large(100_000));
    }
    let behind = FetchQuery { partitions: vec![(0, 2)], ..query };
    assert_eq!(records(&client.fetch(11, &behind).await), [(0, 1)]);
    assert_eq!(records(&client.fetch(11, &behind).await), [(0, 4)]);
}

#[tokio::test]
async fn an_error_is_told_at_once() {
    let fixture = Fixture::start(Shape { gateways: 2, ..Shape::default() }).await;
    fixture.topic("t", 20);
    let (mine, other) = (fixture.partition_of("t", ME), fixture.partition_of("t", OTHER));
    let mut client = fixture.client().await;
    for version in [11, 12, 16] {
        let partitions = vec![(mine, 0), (other, 0), (99, 0)];
        let query = FetchQuery { max_wait_ms: 600_000, partitions, ..FetchQuery::default() };
        let answer = client.fetch(version, &query).await;
        let errors: Vec<_> = answer.partitions.iter().map(|p| (p.partition, p.error)).collect();
        assert_eq!(errors, [(mine, 0), (other, 6), (99, 3)], "version {version}");
        assert_eq!(answer.partitions[1].leader, (version >= 12).then_some((OTHER.0, 5)));
        assert_eq!(answer.endpoints, if version >= 16 { vec![OTHER.0] } else { vec![] });
    }
    for (version, topic, error) in [(12, "none", 3), (13, "none", 100)] {
        let query = FetchQuery { topic, max_wait_ms: 600_000, ..FetchQuery::default() };
        assert_eq!(client.fetch(version, &query).await.partitions[0].error, error);
    }
}

#[tokio::test]
async fn what_the_broker_says_reaches_the_client() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let mut client = fixture.client().await;
    let query = FetchQuery { max_wait_ms: 50, ..FetchQuery::default() };
    let out_of_range = FetchQuery { partitions: vec![(0, 7)], ..query.clone() };
    let answer = client.fetch(11, &out_of_range).await;
    assert_eq!((answer.partitions[0].error, answer.partitions[0].records.clone()), (1, Bytes::new()));
    let failures: [(BrokerError, i16); 4] = [
        (StorageError::FencedEpoch(6).into(), 74),
        (StorageError::UnknownEpoch(3).into(), 75),
        (StorageError::NotLeader("moved".into()).into(), 6),
        (BrokerError::Unavailable("gone".into()), 56),
    ];
    for (failure, code) in failures {
        fixture.broker().fail(at("t", 0), failure);
        assert_eq!(client.fetch(11, &query).await.partitions[0].error, code);
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_is_not_asked_as_fast_as_the_client_can() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    fixture.broker().fail(at("t", 0), BrokerError::Unavailable("gone".into()));
    let mut client = fixture.client().await;
    let started = tokio::time::Instant::now();
    for _ in 0..10 {
        client.fetch(11, &FetchQuery { max_wait_ms: 500, ..FetchQuery::default() }).await;
    }
    assert!(started.elapsed().as_millis() >= 1_000, "{:?}", started.elapsed());
}
