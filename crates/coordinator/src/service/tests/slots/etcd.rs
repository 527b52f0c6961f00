//! What happens to a real etcd: another leader, 200 ms more, away for a while.

use std::time::Duration;

use tidemark_model::route;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::kit::*;
use crate::service::tests::harness::{Store, settings, within};
use crate::store::contract::etcd::Etcd;
use crate::store::{Etcd as EtcdStore, EtcdOptions};

const ALL: usize = route::SLOTS as usize;

async fn write_everywhere(member: &Member, text: &str) {
    let held: Vec<_> = member.user.held.borrow().values().map(|(owned, _)| owned.clone()).collect();
    let writes: Vec<_> = held.iter().map(|owned| write(owned, vec![put(owned, "k", text)])).collect();
    for write in writes {
        within(write).await.unwrap();
    }
}

/// All that they hold is theirs.
async fn all_is_confirmed(members: &[&Member]) {
    for member in members {
        let held: Vec<_> = member.user.held.borrow().values().map(|(owned, _)| owned.clone()).collect();
        for owned in held {
            within(owned.confirm()).await.unwrap();
        }
    }
}

fn epochs(members: &[&Member]) -> Vec<(u32, u32)> {
    let mut epochs: Vec<_> = members
        .iter()
        .flat_map(|member| {
            member.user.held.borrow().values().map(|(owned, _)| (owned.id().0, owned.epoch())).collect::<Vec<_>>()
        })
        .collect();
    epochs.sort_unstable();
    epochs
}

#[tokio::test]
async fn another_leader_of_etcd_makes_nobody_lose_a_slot() {
    let Some(mut etcd) = Etcd::start_three("another_leader").await else { return };
    let store = Etcd::store_of(&etcd).await;
    // Longer than an election, also where the other tests leave three members little of the processors.
    let steady = || crate::Settings { coordinator_lease: Duration::from_secs(10), ..settings() };
    let (a, b) = (Member::start_as(&store, steady()), Member::start_as(&store, steady()));
    a.holds(ALL / 2).await;
    b.holds(ALL / 2).await;
    let before = epochs(&[&a, &b]);
    let mut leader = 0;
    while !etcd[leader].leads().await {
        leader = (leader + 1) % etcd.len();
    }
    let killed = Instant::now();
    etcd[leader].kill();
    // For longer than the lease.
    let mut round = 0;
    while killed.elapsed() < steady().coordinator_lease * 2 {
        write_everywhere(&a, &round.to_string()).await;
        write_everywhere(&b, &round.to_string()).await;
        round += 1;
    }
    all_is_confirmed(&[&a, &b]).await;
    assert_eq!(epochs(&[&a, &b]), before);
}

#[tokio::test]
async fn an_etcd_that_is_away_for_long_loses_no_write_and_no_slot() {
    let Some(mut etcd) = Etcd::start("away_with_slots").await else { return };
    let store = etcd.store().await;
    let a = Member::start(&store);
    a.holds(ALL).await;
    let before = epochs(&[&a]);
    let owned = a.owned(4).unwrap();
    write_everywhere(&a, "before").await;
    etcd.kill();
    let (write, later) = (write(&owned, vec![put(&owned, "k", "1")]), write(&owned, vec![put(&owned, "k", "2")]));
    assert!(within(owned.confirm()).await.is_err(), "nothing is confirmed meanwhile");
    // The lease is over by this process's clock, and by nobody else's.
    while owned.leased() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Away for so long is the case.
    tokio::time::sleep(Duration::from_secs(20)).await;
    etcd.resume().await;
    within(write).await.unwrap();
    within(later).await.unwrap();
    assert_eq!(value(&stored(&store, 4).await, "k").as_deref(), Some("2"));
    within(owned.confirm()).await.unwrap();
    assert_eq!(epochs(&[&a]), before);
}

#[tokio::test]
async fn a_slow_etcd_makes_writes_slow_and_loses_no_slot() {
    let Some(etcd) = Etcd::start("slow").await else { return };
    let delay = Duration::from_millis(200);
    let slow = std::sync::Arc::new(
        EtcdStore::connect(EtcdOptions { endpoints: vec![proxy(etcd.endpoint(), delay).await], user: None })
            .await
            .unwrap(),
    ) as Store;
    let a = Member::start_as(&slow, crate::Settings { coordinator_lease: Duration::from_secs(5), ..settings() });
    a.holds(ALL).await;
    let before = epochs(&[&a]);
    let begun = Instant::now();
    for round in 0..5 {
        write_everywhere(&a, &round.to_string()).await;
    }
    assert!(begun.elapsed() >= delay * 5, "it is slow, or this test tests nothing");
    all_is_confirmed(&[&a]).await;
    assert_eq!(epochs(&[&a]), before);
    assert_eq!(value(&stored(&etcd.store().await, 4).await, "k").as_deref(), Some("4"));
}

/// Passes everything on to `to`, and what comes back later by `delay`.
async fn proxy(to: String, delay: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&to).await.unwrap();
            let ((mut asks, mut answered), (mut answers, mut asked)) = (client.into_split(), server.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut asks, &mut asked).await });
            let (later, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(1_024);
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(count @ 1..) = answers.read(&mut buffer).await {
                    let _ = later.send((Instant::now() + delay, buffer[..count].to_vec())).await;
                }
            });
            tokio::spawn(async move {
                while let Some((at, bytes)) = due.recv().await {
                    sleep_until(at).await;
                    let _ = answered.write_all(&bytes).await;
                }
            });
        }
    });
    address
}
