//! What a hop does that a call in the same process does not: it breaks, fills up, and has limits.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use tidemark_model::broker::BatchFault;
use tidemark_model::{BrokerError, Dial as _, NodeId, StorageError};
use tidemark_rpc::limits::MAX_MESSAGE;
use tidemark_rpc::{RemoteBrokers, serve_broker};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::fakes::{Fake, append, landed, produce};
use crate::hop::{Proxy, broker_at, broker_server, entropy, listen, storage_at, storage_server, until, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_fails_what_is_outstanding_and_the_next_call_connects_again() {
    let fake = Fake::new();
    let served = broker_server(fake.clone()).await;
    let proxy = Proxy::to(served.address).await;
    let broker = broker_at(proxy.address);
    assert_eq!(within("answer", broker.produce(produce(0, 10))).await, vec![Ok(landed(0))]);
    for round in 0..5 {
        fake.answering.send_replace(false);
        let base = round * 100;
        let calls: Vec<_> = (1..=50).map(|n| broker.produce(produce(base + n, 1_000))).collect();
        until("all arrive", || fake.written().last() == Some(&(base + 50))).await;
        proxy.cut();
        for answer in within("failures", join_all(calls)).await {
            assert!(matches!(&answer[..], [Err(BrokerError::Unavailable(_))]), "{answer:?}");
        }
        fake.answering.send_replace(true);
        let answer = within("answer", broker.produce(produce(base + 51, 10))).await;
        assert_eq!(answer, vec![Ok(landed(base + 51))], "after the cut of round {round}");
    }
    let expected: Vec<u64> =
        std::iter::once(0).chain((0..5).flat_map(|r| (1..=51).map(move |n| r * 100 + n))).collect();
    assert_eq!(fake.written(), expected, "nothing is lost, sent again or reordered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cuts_at_any_moment_never_double_or_reorder() {
    let fake = Fake::new();
    let served = storage_server(fake.clone()).await;
    let proxy = Proxy::to(served.address).await;
    let storage = storage_at(proxy.address);
    let mut outcomes = Vec::new();
    let answered = |outcomes: &[Vec<_>]| outcomes.iter().filter(|outcome| matches!(&outcome[..], [Ok(_)])).count();
    for burst in 0.. {
        let calls: Vec<_> = (0..20).map(|n| storage.append(append(burst * 20 + n, 5_000))).collect();
        if burst % 10 == 5 {
            proxy.cut();
        }
        outcomes.extend(within("outcomes", join_all(calls)).await);
        if answered(&outcomes) > 2_000 && burst > 100 {
            break;
        }
        // A peer that cannot be reached is left alone for a while.
        if answered(&outcomes[outcomes.len() - 20..]) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let written = fake.written();
    assert!(written.windows(2).all(|pair| pair[0] < pair[1]), "doubled or reordered");
    for (tag, outcome) in outcomes.into_iter().enumerate() {
        match &outcome[..] {
            [Ok(appended)] => {
                assert_eq!(*appended, landed(tag as u64));
                assert!(written.binary_search(&(tag as u64)).is_ok());
            }
            [Err(StorageError::Unavailable(_))] => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_request_above_a_message_is_refused_and_nothing_else_suffers() {
    let fake = Fake::new();
    let served = broker_server(fake.clone()).await;
    let broker = broker_at(served.address);
    let answer = broker.produce(produce(1, MAX_MESSAGE)).await;
    assert!(matches!(&answer[..], [Err(BrokerError::Rejected { fault: BatchFault::TooLarge, .. })]), "{answer:?}");
    assert_eq!(within("answer", broker.produce(produce(2, 10))).await, vec![Ok(landed(2))]);
    assert_eq!(fake.written(), [2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_kafka_frame_passes() {
    let fake = Fake::new();
    let served = broker_server(fake.clone()).await;
    let broker = broker_at(served.address);
    let size = 100 << 20;
    assert_eq!(within("answer", broker.produce(produce(1, size))).await, vec![Ok(landed(1))]);
    assert_eq!(fake.bytes.load(Ordering::Relaxed), size);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_answer_fills_up_and_the_rest_fails_at_once() {
    let fake = Fake::new();
    let served = broker_server(fake.clone()).await;
    let broker = broker_at(served.address);
    fake.answering.send_replace(false);
    let calls: Vec<_> = (0..100).map(|n| broker.produce(produce(n, 1 << 20))).collect();
    // 64 MiB are unanswered at most.
    let (taken, refused): (Vec<_>, Vec<_>) = calls.into_iter().enumerate().partition(|(n, _)| *n < 63);
    for (n, call) in refused.into_iter().filter(|(n, _)| *n > 64) {
        let answer = within("refusal", call).await;
        assert!(matches!(&answer[..], [Err(BrokerError::Unavailable(_))]), "{n}: {answer:?}");
    }
    fake.answering.send_replace(true);
    for (n, call) in taken {
        assert_eq!(within("answer", call).await, vec![Ok(landed(n as u64))]);
    }
    assert_eq!(within("answer", broker.produce(produce(200, 1 << 20))).await, vec![Ok(landed(200))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_peer_fails_at_once_and_is_found_when_it_comes() {
    let (listener, address) = listen().await;
    drop(listener);
    let broker = broker_at(address);
    for n in 0..200 {
        let answer = within("failure", broker.produce(produce(n, 10))).await;
        assert!(matches!(&answer[..], [Err(BrokerError::Unavailable(_))]), "{answer:?}");
    }
    let fake = Fake::new();
    let listener = TcpListener::bind(address).await.unwrap();
    let shutdown = CancellationToken::new();
    tokio::spawn(serve_broker(listener, fake.clone(), shutdown));
    let found = async {
        let mut n = 1_000;
        while broker.produce(produce(n, 10)).await[0].is_err() {
            n += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the peer is found", found).await;
    assert_eq!(fake.written().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_shuts_down_answers_what_it_began_and_ends() {
    let fake = Fake::new();
    let mut served = broker_server(fake.clone()).await;
    let broker = broker_at(served.address);
    fake.answering.send_replace(false);
    let calls: Vec<_> = (0..10).map(|n| broker.produce(produce(n, 10))).collect();
    until("all arrive", || fake.written().len() == 10).await;
    served.shutdown.cancel();
    let late = broker.produce(produce(99, 10));
    fake.answering.send_replace(true);
    for (n, answer) in within("answers", join_all(calls)).await.into_iter().enumerate() {
        assert_eq!(answer, vec![Ok(landed(n as u64))]);
    }
    assert!(matches!(&within("too late", late).await[..], [Err(BrokerError::Unavailable(_))]));
    assert_eq!(fake.written().len(), 10);
    within("the server ends", &mut served.ended).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dials_share_a_connection_until_the_node_moves() {
    let brokers = RemoteBrokers::new(entropy());
    let (first, second) = (Fake::new(), Fake::new());
    let (one, two) = (broker_server(first.clone()).await, broker_server(second.clone()).await);
    let broker = brokers.dial(NodeId(1), &one.address.to_string());
    let again = brokers.dial(NodeId(1), &one.address.to_string());
    assert!(std::sync::Arc::ptr_eq(&broker, &again));
    let moved = brokers.dial(NodeId(1), &two.address.to_string());
    assert_eq!(within("answer", moved.produce(produce(1, 1))).await, vec![Ok(landed(1))]);
    assert_eq!(within("answer", broker.produce(produce(2, 1))).await, vec![Ok(landed(2))]);
    assert_eq!((first.written(), second.written()), (vec![2], vec![1]));
    let nowhere = brokers.dial(NodeId(2), "not an address");
    let answer = nowhere.produce(produce(1, 1)).await;
    assert!(matches!(&answer[..], [Err(BrokerError::Unavailable(text))] if text.contains("HOST:PORT")), "{answer:?}");
}
