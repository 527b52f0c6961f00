//! Seeded runs against a plain model of a log: appends, failures of the disk and the object store, crashes, restarts.
//! What was acknowledged is there, once, in order, and offsets have no gaps.

use std::collections::BTreeMap;

use tidemark_model::Entropy as _;
use tidemark_segment::testing::{Fault as StoreFault, Faults, Request, Seeded};

use super::*;

const SEEDS: u64 = 60;
const STEPS: usize = 120;

/// A producer as a client is: idempotent, one batch after the other, each sent again until it is answered.
struct Client {
    partition: TopicPartition,
    id: i64,
    /// The next batch's first sequence.
    sequence: i32,
    /// Batches that were acknowledged: offset and CRC.
    acked: Vec<(i64, u32)>,
    /// The batch that is not answered, or was refused in a way that may have appended it.
    pending: Option<Batch>,
}

#[derive(Debug)]
struct StoreByChance {
    entropy: Arc<Seeded>,
}

impl Faults for StoreByChance {
    fn next(&self, _: Request, _: &str) -> StoreFault {
        match self.entropy.next_u64() % 10 {
            0 => StoreFault::SlowDown,
            1 => StoreFault::LostAnswer,
            _ => StoreFault::None,
        }
    }
}

impl Client {
    fn next_batch(&mut self, entropy: &Seeded) -> Batch {
        if let Some(batch) = &self.pending {
            return batch.clone();
        }
        let count = 1 + (entropy.next_u64() % 5) as i32;
        let records: Vec<u8> = (0..entropy.next_u64() % 3_000).map(|n| (n ^ entropy.next_u64()) as u8).collect();
        let batch = sample_batch((self.id, 0, self.sequence), count, 5, &records);
        self.sequence += count;
        self.pending = Some(batch.clone());
        batch
    }

    fn answered(&mut self, answer: Result<Appended, StorageError>, seed: u64) {
        match answer {
            Ok(appended) => {
                let batch = self.pending.take().expect("one was sent");
                self.acked.push((appended.base_offset, batch.crc()));
            }
            Err(StorageError::Full(_) | StorageError::Unavailable(_) | StorageError::NotLeader(_)) => {}
            Err(error) => panic!("seed {seed}: {error} for {:?}", self.partition),
        }
    }
}

async fn check(world: &World, service: &Service, clients: &[Client], seed: u64) {
    let mut logs: BTreeMap<TopicPartition, Vec<Batch>> = BTreeMap::new();
    for client in clients {
        if let std::collections::btree_map::Entry::Vacant(log) = logs.entry(client.partition) {
            log.insert(read_all(world, service, client.partition).await);
        }
    }
    for log in logs.values() {
        let mut next = 0;
        for batch in log {
            assert_eq!(batch.base_offset, next, "seed {seed}: offsets have no gaps");
            assert!(batch.crc_matches(), "seed {seed}");
            next = batch.next_offset();
        }
    }
    for client in clients {
        let log = &logs[&client.partition];
        let mine: Vec<(i64, u32)> = log
            .iter()
            .filter(|batch| batch.producer_id() == client.id)
            .map(|batch| (batch.base_offset, batch.crc()))
            .collect();
        let unanswered = client.pending.as_ref().map(Batch::crc);
        let acked = client.acked.len();
        assert!(mine.len() >= acked && mine[..acked] == client.acked[..], "seed {seed}: {} of {acked}", mine.len());
        let rest: Vec<u32> = mine[acked..].iter().map(|(_, crc)| *crc).collect();
        assert!(rest.is_empty() || (rest.len() == 1 && Some(rest[0]) == unanswered), "seed {seed}: {rest:?}");
    }
}

async fn run(seed: u64) -> usize {
    let entropy = Arc::new(Seeded::new(seed));
    let mut world = World::with_store_faults(seed, Arc::new(StoreByChance { entropy: Arc::new(Seeded::new(!seed)) }));
    world.config.segment_bytes = 30_000;
    world.config.segment_ms = 2_000;
    world.config.wal_file_bytes = 16 << 10;
    world.config.wal_max_bytes = 400_000;
    let client = |n: i64| Client {
        partition: at(n as u128 % 2, n as i32 % 3),
        id: n,
        sequence: 0,
        acked: Vec::new(),
        pending: None,
    };
    let mut clients: Vec<Client> = (0..6).map(client).chain([client(6)]).collect();
    let mut service = start(&world).await;
    let mut crashes = 0;
    for _ in 0..STEPS {
        match entropy.next_u64() % 20 {
            0 => world.disk.fail_by_chance(entropy.clone(), [0, 0, 3, 10, 30][entropy.next_u64() as usize % 5]),
            1 => tokio::time::sleep(Duration::from_millis(entropy.next_u64() % 20_000)).await,
            2 => {
                crashes += 1;
                // With appends under way.
                let mut under_way = Vec::new();
                for client in &mut clients {
                    under_way.push(append(&service, client.partition, client.next_batch(&entropy)));
                }
                for _ in 0..entropy.next_u64() % 4 {
                    tokio::task::yield_now().await;
                }
                world.disk.fail_by_chance(entropy.clone(), 0);
                world.crash(service).await;
                // What was answered before the crash was answered.
                for (client, answer) in clients.iter_mut().zip(under_way) {
                    if let Some(answer) = futures::FutureExt::now_or_never(answer) {
                        client.answered(answer, seed);
                    }
                }
                service = start(&world).await;
                check(&world, &service, &clients, seed).await;
            }
            _ => {
                let mut sent = Vec::new();
                for client in &mut clients {
                    if entropy.next_u64().is_multiple_of(2) {
                        let answer = append(&service, client.partition, client.next_batch(&entropy));
                        sent.push((client, answer));
                    }
                }
                for (client, answer) in sent {
                    client.answered(answer.await, seed);
                }
            }
        }
    }
    world.disk.fail_by_chance(entropy.clone(), 0);
    world.crash(service).await;
    let service = start(&world).await;
    check(&world, &service, &clients, seed).await;
    assert!(
        clients.iter().map(|client| client.acked.len()).sum::<usize>() > 0,
        "seed {seed}: nothing was acknowledged"
    );
    crashes
}

/// The object store may fail while the node starts; an operator, or a supervisor, starts it again.
async fn start(world: &World) -> Arc<Service> {
    loop {
        match world.start().await {
            Ok(service) => return service,
            Err(StartError::Store(error)) if error.is_retriable() => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_acknowledged_is_lost_doubled_or_reordered() {
    let mut crashes = 0;
    for seed in 0..SEEDS {
        crashes += Box::pin(run(seed)).await;
    }
    assert!(crashes > 100, "{crashes} crashes test little");
}
