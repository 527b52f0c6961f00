//! What a disk may do to reads, and a log without room.

use std::path::PathBuf;

use super::*;

/// Where the n-th batch of the first partition is: in the log's first file.
fn place(world: &World, service: &Service, n: usize) -> (PathBuf, usize) {
    let file = PathBuf::from(format!("/data/wal/{:016x}/0001.wal", world.coordinator.logs()[0]));
    let core = service.journal().lock();
    let location = core.slots[&at(0, 0)].log.iter().nth(n).unwrap().location;
    assert_eq!(location.sequence, 1);
    (file, location.position as usize)
}

/// Appends more than memory keeps, so that the first are read from the disk.
async fn fill(service: &Service, count: usize) {
    for _ in 0..count {
        append(service, at(0, 0), plain(2_000)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_failed_is_told_and_the_next_is_a_new_try() {
    let world = World::new(1);
    let service = world.start().await.unwrap();
    fill(&service, 40).await;
    world.disk.inject(Operation::Read, [Fault::Io]);
    let failed = service.read(read_request(at(0, 0), 0)).await.unwrap_err();
    assert!(matches!(failed, StorageError::Unavailable(_)), "{failed}");
    append(&service, at(0, 0), plain(10)).await.unwrap();
    assert_eq!(read_all(&world, &service, at(0, 0)).await.len(), 41);
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_is_never_given_out_and_harms_nothing_else() {
    let world = World::new(1);
    let service = world.start().await.unwrap();
    append(&service, at(0, 1), plain(10)).await.unwrap();
    fill(&service, 40).await;
    let (file, position) = place(&world, &service, 2);
    let flip = |bytes: &mut Vec<u8>| bytes[position + 1_000] ^= 4;
    world.disk.edit(&file, flip);
    let mut request = read_request(at(0, 0), 0);
    request.max_bytes = 3_000;
    assert!(matches!(service.read(request).await.unwrap().records, Records::Batches(batches) if batches.len() == 1));
    request.offset = 2;
    let refused = service.read(request).await.unwrap_err();
    assert!(matches!(&refused, StorageError::Corrupt(why) if why.contains("0001.wal")), "{refused}");
    request.offset = 3;
    assert!(service.read(request).await.is_ok());
    let query = query(at(0, 0), OffsetSpec::Latest);
    assert_eq!(service.list_offsets(vec![query]).await.remove(0).unwrap().offset, 40);
    append(&service, at(0, 0), plain(10)).await.unwrap();
    service.shutdown().await;
    drop(service);
    // What was acknowledged is damaged: that is not a torn tail.
    let refused = world.start().await.unwrap_err().to_string();
    assert!(refused.contains("0001.wal is damaged at offset") && refused.contains("entry 7 is not valid"), "{refused}");
    world.disk.edit(&file, flip);
    let service = world.start().await.unwrap();
    assert_eq!(read_all(&world, &service, at(0, 0)).await.len(), 41);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_not_tiered_and_stays() {
    let mut world = World::new(1);
    let service = world.start().await.unwrap();
    fill(&service, 40).await;
    service.shutdown().await;
    drop(service);
    world.config.segment_bytes = 1_000;
    let service = world.start().await.unwrap();
    let (file, position) = place(&world, &service, 2);
    let flip = |bytes: &mut Vec<u8>| bytes[position + 1_000] ^= 4;
    world.disk.edit(&file, flip);
    service.tier_health().wait_for(Result::is_err).await.unwrap();
    let tiered = service.journal().lock().state.tiered_through;
    append(&service, at(0, 1), plain(10)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(service.journal().lock().state.tiered_through, tiered, "not past it");
    world.disk.edit(&file, flip);
    service.tier_health().wait_for(Result::is_ok).await.unwrap();
    until("all is tiered but the small one", || service.journal().lock().untiered_bytes() < 1_000).await;
    assert_eq!(read_all(&world, &service, at(0, 0)).await.len(), 40);
}

#[tokio::test(start_paused = true)]
async fn without_room_an_append_waits_and_is_then_refused() {
    let mut world = World::new(1);
    world.config.wal_max_bytes = 100_000;
    let service = world.start().await.unwrap();
    let mut acked = 0;
    let waited = loop {
        let started = tokio::time::Instant::now();
        match append(&service, at(0, 0), sequenced(acked * 5, 5)).await {
            Ok(_) => acked += 1,
            Err(error) => {
                assert!(matches!(error, StorageError::Full(_)), "{error}");
                break started.elapsed();
            }
        }
    };
    assert!(waited >= Duration::from_secs(4), "back-pressure first: {waited:?}");
    // Those that wait keep their order, and are taken in when there is room.
    let waiting: Vec<_> = (0..3).map(|n| append(&service, at(0, 0), sequenced((acked + n) * 5, 5))).collect();
    let short = {
        let mut request = request(vec![(at(0, 1), plain(10))]);
        request.timeout = Duration::from_millis(100);
        service.append(request)
    };
    assert!(matches!(short.await.remove(0), Err(StorageError::Full(_))), "no longer than half of its own time");
    let journal = service.journal();
    let last = journal.lock().state.last.index;
    assert!(journal.files.trim(last) > 0);
    for (n, answer) in waiting.into_iter().enumerate() {
        assert_eq!(answer.await.unwrap().base_offset, i64::from(acked) * 5 + n as i64 * 5);
    }
}

#[tokio::test(start_paused = true)]
async fn whose_time_is_up_before_an_earlier_one_does_not_overtake_it() {
    let mut world = World::new(1);
    world.config.wal_max_bytes = 100_000;
    let service = world.start().await.unwrap();
    // The log's first file, and a part of the second.
    for size in [30_000, 30_000, 10_000] {
        append(&service, at(0, 0), plain(size)).await.unwrap();
    }
    // Too large for what room is left, and then one that would fit, but may not pass it.
    let earlier = append(&service, at(0, 0), plain(60_000));
    let later = append(&service, at(0, 0), plain(1));
    assert!(matches!(later.await, Err(StorageError::Full(_))), "refused when its time is up");
    // Tiering makes the room, and the first of them has the first offset.
    assert_eq!(earlier.await.unwrap().base_offset, 3);
}
