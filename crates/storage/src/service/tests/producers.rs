//! How long and how many producers are remembered.

use super::*;

const DAY_MS: i64 = 86_400_000;

/// A batch of one record of a producer, as of a time.
fn of(producer: i64, sequence: i32, timestamp: i64) -> Batch {
    sample_batch((producer, 0, sequence), 1, timestamp, b"record")
}

fn known(service: &Service) -> usize {
    service.journal().lock().state.producers
}

#[tokio::test(start_paused = true)]
async fn a_producer_is_forgotten_a_day_after_its_last_record_also_by_a_log_that_is_read_again() {
    let world = World::new(1);
    world.clock.set(DAY_MS);
    let service = world.start().await.unwrap();
    append(&service, at(0, 0), of(7, 0, DAY_MS)).await.unwrap();
    append(&service, at(0, 0), of(8, 0, DAY_MS + 1)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(known(&service), 2, "not before the time, however often it is looked");
    world.clock.set(2 * DAY_MS);
    until("the older is forgotten", || known(&service) == 1).await;
    // As of one that nobody knows, anything is taken; of the other, only what is next.
    assert_eq!(append(&service, at(0, 0), of(7, 5, 2 * DAY_MS)).await.unwrap().base_offset, 2);
    assert!(matches!(
        append(&service, at(0, 0), of(8, 5, 2 * DAY_MS)).await,
        Err(StorageError::OutOfOrderSequence { expected: 1, .. })
    ));
    let before = service.journal().lock().state.clone();
    world.crash(service).await;
    world.clock.set(0);
    let service = world.start().await.unwrap();
    let after = service.journal().lock().state.clone();
    assert_eq!(after.partitions, before.partitions, "time is in the entries");
}

#[tokio::test(start_paused = true)]
async fn where_there_are_too_many_the_oldest_are_forgotten_at_once() {
    let world = World::new(1);
    let service = world.start().await.unwrap();
    service.journal().lock().remember_producers(100);
    for producer in 0..150 {
        append(&service, at(0, producer % 3), of(producer.into(), 0, producer.into())).await.unwrap();
    }
    until("some are forgotten", || known(&service) <= 100).await;
    assert!(known(&service) > 50, "and no more than needed: {}", known(&service));
    let core = service.journal().lock();
    let oldest = core.state.partitions.values().flat_map(|state| state.producers.keys()).min();
    assert_eq!(oldest.copied(), Some(150 - core.state.producers as i64), "those whose last record is oldest");
}
