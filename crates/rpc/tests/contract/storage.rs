//! The storage node's contract.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::join_all;
use futures::stream::{self, StreamExt as _};
use tidemark_model::storage::*;
use tidemark_model::{JournalId, Storage, StorageError};
use tokio::sync::mpsc;

use crate::fakes::{Fake, append, at, batch, landed};
use crate::hop::{storage_at, storage_server, until, within};

async fn either_way<F, Fut>(test: F)
where
    F: Fn(Arc<dyn Storage>, Arc<Fake>) -> Fut,
    Fut: Future<Output = ()>,
{
    let fake = Fake::new();
    test(fake.clone(), fake).await;
    let fake = Fake::new();
    let served = storage_server(fake.clone()).await;
    test(storage_at(served.address), fake).await;
}

fn bounds(high_watermark: i64) -> Bounds {
    Bounds { leader_epoch: 1, log_start_offset: 0, high_watermark, last_stable_offset: high_watermark }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_appends_at_once_keep_the_order_in_which_they_were_made() {
    either_way(|storage, fake| async move {
        let calls: Vec<_> = (0..1_000).map(|n| storage.append(append(n, n as usize * 10))).collect();
        let answers = within("answers", join_all(calls)).await;
        for (n, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer, vec![Ok(landed(n as u64))]);
        }
        assert_eq!(fake.written(), (0..1_000).collect::<Vec<u64>>());
        let body = |n: usize| n * 10 + 61;
        assert_eq!(fake.bytes.load(Ordering::Relaxed), (0..1_000).map(body).sum::<usize>());
    })
    .await;
}

#[tokio::test]
async fn reads_and_queries_are_answered() {
    either_way(|storage, _| async move {
        let read = |offset| ReadRequest {
            journal: JournalId(1),
            partition: at(3),
            revision: 4,
            offset,
            max_bytes: 5_000,
            current_leader_epoch: Some(6),
        };
        let unknown = within("read", storage.read(read(-1))).await.unwrap_err();
        assert_eq!(unknown, StorageError::UnknownPartition(at(3)));
        match within("read", storage.read(read(0))).await.unwrap().records {
            Records::Tiered(runs) => assert_eq!((runs[0].position, runs[0].object_size), (10, 40)),
            Records::Batches(batches) => panic!("{batches:?}"),
        }
        match within("read", storage.read(read(1))).await.unwrap().records {
            Records::Batches(batches) => assert_eq!(batches, vec![batch(5_000)]),
            Records::Tiered(runs) => panic!("{runs:?}"),
        }

        let (journal, partition) = (JournalId(1), at(0));
        let query = |spec| OffsetQuery { journal, partition, revision: 3, current_leader_epoch: None, spec };
        let found =
            within("offsets", storage.list_offsets(vec![query(OffsetSpec::Latest), query(OffsetSpec::Earliest)]));
        let expected = FoundOffset { leader_epoch: 1, offset: 3, timestamp: -1 };
        assert_eq!(found.await, vec![Ok(expected), Err(StorageError::NotLeader("moved".into()))]);
        let query = EpochQuery { journal, partition, revision: 1, current_leader_epoch: None, leader_epoch: 5 };
        let ends = within("epochs", storage.epoch_ends(vec![query])).await;
        assert_eq!(ends, vec![Ok(EpochEnd { leader_epoch: 5, end_offset: 12 })]);

        let timeout = std::time::Duration::from_millis(7);
        let deletion = |before| RecordDeletion { journal, partition, revision: 1, before, timeout };
        let deleted = within("deletions", storage.delete_records(vec![deletion(Some(50)), deletion(None)])).await;
        assert_eq!(deleted, vec![Ok(57), Err(StorageError::NotLeader("moved".into()))]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_carries_commands_there_and_events_back_until_the_commands_end() {
    either_way(|storage, fake| async move {
        let (commands, receiver) = mpsc::unbounded_channel();
        let receiver = stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
        let mut events = storage.tail(receiver.boxed());
        let subscribe = |n| TailCommand::Subscribe {
            journal: JournalId(1),
            partition: at(n),
            revision: 1,
            offset: 5,
            credit: 1 << 20,
        };
        commands.send(subscribe(1)).unwrap();
        commands.send(TailCommand::Credit { partition: at(1), bytes: 9 }).unwrap();
        commands.send(TailCommand::Seen { partition: at(1), log_start_offset: 3 }).unwrap();
        commands.send(TailCommand::Unsubscribe { partition: at(1) }).unwrap();
        // The stream opens when it is first asked for an event.
        let first = tokio::spawn(async move {
            let event = events.next().await;
            (event, events)
        });
        until("commands arrive", || fake.commands.lock().unwrap().len() == 4).await;
        assert_eq!(fake.commands.lock().unwrap()[0], format!("{:?}", subscribe(1)));
        let seen = TailCommand::Seen { partition: at(1), log_start_offset: 3 };
        assert_eq!(fake.commands.lock().unwrap()[2], format!("{seen:?}"));

        let sender = fake.events.lock().unwrap().clone().unwrap();
        for n in 0..100 {
            let batches = vec![batch(100_000)];
            sender
                .send(Ok(TailEvent::Batches { partition: at(1), bounds: bounds(n), batches, aborted: vec![] }))
                .unwrap();
        }
        let reason = StorageError::NotLeader("moved".into());
        sender.send(Ok(TailEvent::Ended { partition: at(1), reason: reason.clone() })).unwrap();
        let (first, mut events) = within("first event", first).await.unwrap();
        let mut next = first;
        for n in 0..100 {
            match next {
                Some(Ok(TailEvent::Batches { bounds, batches, .. })) => {
                    assert_eq!((bounds.high_watermark, batches), (n, vec![batch(100_000)]));
                }
                other => panic!("{other:?}"),
            }
            next = within("event", events.next()).await;
        }
        match next {
            Some(Ok(TailEvent::Ended { reason: told, .. })) => assert_eq!(told, reason),
            other => panic!("{other:?}"),
        }
        drop(commands);
        assert!(within("end", events.next()).await.is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_a_tail_ends_it_and_a_node_that_cannot_go_on_says_so() {
    either_way(|storage, fake| async move {
        let mut events = storage.tail(stream::pending().boxed());
        let polled = tokio::spawn(async move { events.next().await.is_none() });
        until("the tail is open", || fake.polling.load(Ordering::SeqCst) == 1).await;
        polled.abort();
        until("the tail is closed", || fake.polling.load(Ordering::SeqCst) == 0).await;

        *fake.events.lock().unwrap() = None;
        let mut events = storage.tail(stream::pending().boxed());
        let all = tokio::spawn(async move {
            let first = events.next().await;
            (first, events.next().await)
        });
        until("the tail is open", || fake.events.lock().unwrap().is_some()).await;
        let error = StorageError::Unavailable("stopping".into());
        let sender = fake.events.lock().unwrap().take().unwrap();
        sender.send(Err(error.clone())).unwrap();
        drop(sender);
        let (first, second) = within("error", all).await.unwrap();
        assert_eq!(first.unwrap().unwrap_err(), error);
        assert!(second.is_none(), "{second:?}");
    })
    .await;
}
