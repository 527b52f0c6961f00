use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Entropy for Counting {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1 << 33, Ordering::Relaxed)
    }
}

fn sessions(max: usize) -> Sessions {
    Sessions::new(Arc::new(Counting::default()), max)
}

fn wanted(partition: i32, offset: i64) -> Wanted {
    Wanted {
        topic: TopicKey::Name("t".into()),
        partition,
        offset,
        max_bytes: 100,
        current_leader_epoch: None,
        last_fetched_epoch: None,
    }
}

fn quiet(high_watermark: i64) -> Summary {
    Summary { error: false, diverging: false, high_watermark, log_start_offset: 0, bytes: 0 }
}

fn request(id: i32, epoch: i32) -> SessionRequest {
    SessionRequest { id, epoch, by_id: false }
}

fn open(sessions: &Sessions, partitions: i32) -> i32 {
    let all: Vec<Wanted> = (0..partitions).map(|p| wanted(p, 0)).collect();
    let context = sessions.begin(request(0, 0), all, &[]).unwrap();
    let results = vec![quiet(5); partitions as usize];
    let finished = sessions.finish(context, &results).unwrap();
    assert!(finished.include.iter().all(|included| *included), "a full answer has everything");
    finished.session_id
}

fn partitions(context: &Context) -> Vec<(i32, i64)> {
    context.partitions.iter().map(|wanted| (wanted.partition, wanted.offset)).collect()
}

#[tokio::test]
async fn an_incremental_fetch_carries_what_changed_both_ways() {
    let sessions = sessions(10);
    let id = open(&sessions, 3);
    assert_ne!(id, 0);

    let context = sessions.begin(request(id, 1), vec![wanted(1, 7)], &[]).unwrap();
    assert_eq!(partitions(&context), [(0, 0), (1, 7), (2, 0)]);
    let results = [quiet(5), Summary { bytes: 10, ..quiet(5) }, quiet(6)];
    let finished = sessions.finish(context, &results).unwrap();
    assert_eq!(finished, Finished { session_id: id, include: vec![false, true, true] });

    let context = sessions.begin(request(id, 2), vec![], &[]).unwrap();
    assert_eq!(partitions(&context), [(0, 0), (2, 0), (1, 7)], "what gave records goes last");
    let finished = sessions.finish(context, &[quiet(5), quiet(6), quiet(5)]).unwrap();
    assert_eq!(finished.include, [false, false, false]);
}

#[tokio::test]
async fn forgotten_partitions_go_and_an_empty_session_ends() {
    let sessions = sessions(10);
    let id = open(&sessions, 2);
    let topic = TopicKey::Name("t".into());
    let context = sessions.begin(request(id, 1), vec![wanted(5, 1)], &[(topic.clone(), 0)]).unwrap();
    assert_eq!(partitions(&context), [(1, 0), (5, 1)]);
    let context = sessions.begin(request(id, 2), vec![], &[(topic.clone(), 1), (topic, 5)]).unwrap();
    assert!(context.partitions.is_empty());
    assert_eq!(sessions.finish(context, &[]).unwrap().session_id, 0);
    assert_eq!(sessions.begin(request(id, 3), vec![], &[]).unwrap_err(), SessionError::NotFound);
    assert_eq!(sessions.lock().partitions, 0);
}

#[tokio::test]
async fn epochs_ids_and_topic_ids_are_checked() {
    let sessions = sessions(10);
    let id = open(&sessions, 1);
    assert_eq!(sessions.begin(request(id + 1, 1), vec![], &[]).unwrap_err(), SessionError::NotFound);
    assert_eq!(sessions.begin(request(id, 2), vec![], &[]).unwrap_err(), SessionError::InvalidEpoch);
    let by_id = SessionRequest { by_id: true, ..request(id, 1) };
    assert_eq!(sessions.begin(by_id, vec![], &[]).unwrap_err(), SessionError::TopicId);

    let first = sessions.begin(request(id, 1), vec![], &[]).unwrap();
    let second = sessions.begin(request(id, 2), vec![], &[]).unwrap();
    assert_eq!(sessions.finish(first, &[quiet(5)]).unwrap_err(), SessionError::InvalidEpoch, "overtaken");
    sessions.finish(second, &[quiet(5)]).unwrap();
}

#[tokio::test]
async fn a_full_request_closes_the_session_it_names() {
    let sessions = sessions(10);
    let id = open(&sessions, 1);
    let context = sessions.begin(request(id, -1), vec![wanted(0, 3)], &[]).unwrap();
    assert_eq!(sessions.finish(context, &[quiet(5)]).unwrap().session_id, 0);
    assert_eq!(sessions.begin(request(id, 1), vec![], &[]).unwrap_err(), SessionError::NotFound);
}

#[tokio::test]
async fn an_error_is_told_and_so_is_its_end() {
    let sessions = sessions(10);
    let id = open(&sessions, 1);
    let failed = Summary { error: true, high_watermark: -1, log_start_offset: -1, ..quiet(0) };
    for (epoch, result, told) in [(1, failed, true), (2, failed, true), (3, quiet(5), true), (4, quiet(5), false)] {
        let context = sessions.begin(request(id, epoch), vec![], &[]).unwrap();
        assert_eq!(sessions.finish(context, &[result]).unwrap().include, [told], "epoch {epoch}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_cache_evicts_the_stale_then_the_smaller_and_never_the_new() {
    let sessions = sessions(2);
    let small = open(&sessions, 1);
    let large = open(&sessions, 5);
    assert_eq!(open(&sessions, 9), 0, "both are new");

    tokio::time::advance(EVICTION_AGE).await;
    // Used just now, so neither is stale.
    for id in [small, large] {
        sessions.begin(request(id, 1), vec![], &[]).unwrap();
    }
    assert_eq!(open(&sessions, 1), 0, "none is smaller");
    let third = open(&sessions, 3);
    assert_ne!(third, 0);
    assert_eq!(sessions.begin(request(small, 2), vec![], &[]).unwrap_err(), SessionError::NotFound);

    tokio::time::advance(EVICTION_AGE + Duration::from_millis(1)).await;
    sessions.begin(request(large, 2), vec![], &[]).unwrap();
    assert_ne!(open(&sessions, 1), 0, "a stale one goes whatever its size");
    assert_eq!(sessions.begin(request(third, 1), vec![], &[]).unwrap_err(), SessionError::NotFound);
}

#[test]
fn epochs_wrap_to_one() {
    assert_eq!(next_epoch(i32::MAX), 1);
    assert_eq!(next_epoch(0), 1);
}
