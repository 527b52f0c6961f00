//! The broker's contract.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use tidemark_model::broker::*;
use tidemark_model::storage::{EpochEnd, FoundOffset, OffsetSpec};
use tidemark_model::{Broker, BrokerError, StorageError};

use crate::fakes::{Fake, at, landed, produce};
use crate::hop::{broker_at, broker_server, until, within};

/// Runs a test on the fake itself, and on the fake behind a hop.
async fn either_way<F, Fut>(test: F)
where
    F: Fn(Arc<dyn Broker>, Arc<Fake>) -> Fut,
    Fut: Future<Output = ()>,
{
    let fake = Fake::new();
    test(fake.clone(), fake).await;
    let fake = Fake::new();
    let served = broker_server(fake.clone()).await;
    test(broker_at(served.address), fake).await;
}

fn fetch(offset: i64, max_bytes: usize, min_bytes: usize) -> FetchRequest {
    let partition =
        FetchPartition { partition: at(0), offset, max_bytes, current_leader_epoch: Some(1), last_fetched_epoch: None };
    FetchRequest {
        revision: 1,
        max_wait: Duration::from_secs(3_600),
        min_bytes,
        max_bytes: 1_000_000,
        isolation: Isolation::ReadCommitted,
        partitions: vec![partition],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_calls_at_once_keep_the_order_in_which_they_were_made() {
    either_way(|broker, fake| async move {
        // Sizes from nothing to more than a message takes.
        let mut calls: Vec<_> =
            (0..1_000).map(|n| broker.produce(produce(n, (n as usize * 7_919) % 40_000))).map(tokio::spawn).collect();
        calls.push(tokio::spawn(broker.produce(produce(1_000, 3_000_000))));
        // The order of the calls counts, not that in which somebody waits for them.
        calls.reverse();
        let answers = within("answers", join_all(calls)).await;
        for (n, answer) in answers.into_iter().rev().enumerate() {
            assert_eq!(answer.unwrap(), vec![Ok(landed(n as u64))]);
        }
        assert_eq!(fake.written(), (0..=1_000).collect::<Vec<u64>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_takes_its_place_without_being_polled_and_is_not_undone_by_dropping_it() {
    either_way(|broker, fake| async move {
        let unpolled = broker.produce(produce(1, 10));
        drop(broker.produce(produce(2, 10)));
        until("both are written", || fake.written() == [1, 2]).await;
        assert_eq!(within("answer", unpolled).await, vec![Ok(landed(1))]);
    })
    .await;
}

#[tokio::test]
async fn errors_survive() {
    let errors = [
        BrokerError::Rejected { fault: BatchFault::Corrupt, message: "crc".into() },
        BrokerError::Storage(StorageError::OutOfOrderSequence { producer_id: 5, expected: 6, got: 8 }),
        BrokerError::Storage(StorageError::NotEnoughReplicas(1)),
        BrokerError::ObjectStore("503".into()),
        BrokerError::Unavailable("full".into()),
    ];
    either_way(move |broker, fake| {
        let errors = errors.clone();
        async move {
            for error in errors {
                *fake.error.lock().unwrap() = Some(error.clone());
                assert_eq!(within("answer", broker.produce(produce(1, 1))).await, vec![Err(error)]);
            }
            let out_of_range = StorageError::OffsetOutOfRange { log_start_offset: 5, high_watermark: 9 };
            let fetched = within("fetch", broker.fetch(fetch(-1, 1, 0))).await;
            assert_eq!(fetched.len(), 1);
            assert_eq!(fetched.into_iter().next().unwrap().unwrap_err(), out_of_range.into());
        }
    })
    .await;
}

#[tokio::test]
async fn queries_are_answered_each_in_its_place() {
    either_way(|broker, _| async move {
        let query = |spec| PartitionOffsetQuery { partition: at(1), revision: 2, current_leader_epoch: None, spec };
        let queries = vec![query(OffsetSpec::Timestamp(5)), query(OffsetSpec::Earliest)];
        let found = within("offsets", broker.list_offsets(queries)).await;
        let expected = FoundOffset { leader_epoch: 1, offset: 2, timestamp: 5 };
        assert_eq!(found, vec![Ok(expected), Err(BrokerError::Unavailable("moved".into()))]);

        let query = |current_leader_epoch| PartitionEpochQuery {
            partition: at(1),
            revision: 2,
            current_leader_epoch,
            leader_epoch: 3,
        };
        let ends = within("epochs", broker.epoch_ends(vec![query(None), query(Some(4))])).await;
        let end = EpochEnd { leader_epoch: 3, end_offset: 12 };
        assert_eq!(ends, vec![Ok(end), Err(StorageError::FencedEpoch(4).into())]);
        assert!(within("nothing", broker.epoch_ends(vec![])).await.is_empty());

        let timeout = Duration::from_millis(7);
        let deletion = |before| PartitionRecordDeletion { partition: at(1), revision: 2, before, timeout };
        let deleted = within("deletions", broker.delete_records(vec![deletion(None), deletion(Some(50))])).await;
        assert_eq!(deleted, vec![Err(BrokerError::Unavailable("moved".into())), Ok(57)]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_fetch_comes_whole() {
    either_way(|broker, _| async move {
        let size = 20 << 20;
        let fetched = within("fetch", broker.fetch(fetch(0, size, 0))).await;
        let [Ok(fetched)] = &fetched[..] else { panic!("{} answers", fetched.len()) };
        assert_eq!(fetched.batches[0].body().len(), size + 45);
        assert_eq!((fetched.leader_epoch, fetched.last_stable_offset), (4, 2));
        assert_eq!(fetched.diverging, Some(EpochEnd { leader_epoch: 3, end_offset: 8 }));
    })
    .await;
}

/// In several messages, where it goes over a wire.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_of_many_partitions_answers_each_in_its_place() {
    either_way(|broker, _| async move {
        let sizes = [0, 700_000, 10, 700_000, 3 << 20, 0, 1, 2 << 20];
        let asked = |(n, size): (usize, usize)| FetchPartition {
            // The sixth is out of range.
            offset: if n == 5 { -1 } else { 0 },
            max_bytes: size,
            ..fetch(0, size, 0).partitions[0]
        };
        let partitions = sizes.into_iter().enumerate().map(asked).collect();
        let fetched = within("fetch", broker.fetch(FetchRequest { partitions, ..fetch(0, 1 << 30, 0) })).await;
        let got = fetched.iter().map(|one| one.as_ref().map_or(0, |fetched| fetched.batches[0].body().len() - 45));
        assert_eq!(got.collect::<Vec<_>>(), sizes);
        assert!(fetched[5].is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_a_fetch_ends_its_wait() {
    either_way(|broker, fake| async move {
        // More than a connection takes by default, and more resets than it bears by default.
        let polls: Vec<_> = (0..500)
            .map(|_| {
                let broker = Arc::clone(&broker);
                tokio::spawn(async move { broker.fetch(fetch(0, 1, 1)).await.len() })
            })
            .collect();
        until("all wait", || fake.polling.load(Ordering::SeqCst) == 500).await;
        polls.iter().for_each(tokio::task::JoinHandle::abort);
        until("nobody waits", || fake.polling.load(Ordering::SeqCst) == 0).await;
        assert!(within("fetch", broker.fetch(fetch(0, 1, 0))).await[0].is_ok());
    })
    .await;
}
