//! An hour without the object store, behind the client that tries again.

use std::sync::Mutex;

use tidemark_segment::testing::{Fault as StoreFault, Faults, Memory, Request, Seeded};

use super::tiered::tiering;
use super::*;

/// One fault for all requests, and how many there were.
#[derive(Debug)]
struct Weather(Mutex<(StoreFault, usize)>);

impl Weather {
    fn set(&self, fault: StoreFault) -> usize {
        std::mem::replace(&mut *self.0.lock().unwrap(), (fault, 0)).1
    }
}

impl Faults for Weather {
    fn next(&self, _: Request, _: &str) -> StoreFault {
        let mut weather = self.0.lock().unwrap();
        weather.1 += 1;
        weather.0.clone()
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn an_hour_of_each_kind_is_back_pressure_few_requests_and_no_byte_lost_or_doubled() {
    let (memory, weather) = (Memory::default(), Arc::new(Weather(Mutex::new((StoreFault::None, 0)))));
    let mut world = World::new(1);
    world.bucket = memory.faulty(weather.clone(), Arc::new(Seeded::new(3)));
    tiering(&mut world);
    world.config.wal_max_bytes = 1_000_000;
    let service = world.start().await.unwrap();
    let (mut tier, wal) = (service.tier_health(), service.wal_health());
    let mut sequence = 0;
    for fault in [StoreFault::SlowDown, StoreFault::Hang, StoreFault::Silence, StoreFault::LostAnswer] {
        let usual = weather.set(fault.clone());
        assert!(usual > 0, "it is used");
        let began = tokio::time::Instant::now();
        let mut refused = 0;
        while began.elapsed() < HOUR {
            match append(&service, at(0, 0), sample_batch((9, 0, sequence), 1, 5, &[7; 2_000])).await {
                Ok(_) => sequence += 1,
                // The client comes again with the same batch.
                Err(StorageError::Full(_)) => refused += 1,
                Err(error) => panic!("{fault:?}: {error}"),
            }
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
        assert!(refused > 0, "{fault:?}: the log is full in the end");
        assert!(tier.borrow().is_err(), "{fault:?}: it says so");
        assert!(wal.borrow().is_ok(), "{fault:?}");
        let requests = weather.set(StoreFault::None);
        let minutes = began.elapsed().as_secs() / 60;
        assert!(requests as u64 <= 40 * (minutes + 1), "{fault:?}: {requests} requests in {minutes} minutes");
        tokio::time::timeout(Duration::from_secs(120), tier.wait_for(Result::is_ok)).await.unwrap().unwrap();
        until("it has caught up", || service.journal().files.used() < 700_000).await;
    }
    let batches = read_all(&world, &service, at(0, 0)).await;
    let sequences: Vec<i32> = batches.iter().map(Batch::base_sequence).collect();
    assert_eq!(sequences, (0..sequence).collect::<Vec<_>>());
    assert_eq!(bases(&batches), (0..i64::from(sequence)).collect::<Vec<_>>());
    until("nothing is left of the failed attempts", || service.journal().lock().state.intents.is_empty()).await;
    assert_eq!(world.coordinator.epoch(), 1, "and no journal was opened anew");
}
