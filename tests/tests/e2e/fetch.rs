//! Fetch, to the letter: limits, waiting, sessions, epochs.

use std::time::{Duration, Instant};

use tidemark_tests::clients::*;
use tidemark_tests::raw::{self, Batch, Connection, Fetch, code, ready_topic};

/// Base offset and count of each whole batch.
fn batches(records: &[u8]) -> Vec<(i64, i32)> {
    let mut found = Vec::new();
    let mut rest = records;
    while rest.len() >= 61 {
        let number = |at: usize| i32::from_be_bytes(rest[at..at + 4].try_into().expect("four bytes"));
        let length = 12 + number(8) as usize;
        if length > rest.len() {
            break;
        }
        let base = i64::from_be_bytes(rest[..8].try_into().expect("eight bytes"));
        found.push((base, number(57)));
        rest = &rest[length..];
    }
    found
}

fn filled(prefix: &str, values: &[&str]) -> (String, raw::Topic, Connection) {
    let (topic, description) = ready_topic(prefix, 1);
    let mut connection = Connection::open(&description.leaders[0].0);
    for value in values {
        assert_eq!(raw::produce(&mut connection, &topic, 0, &Batch::new(&[value, value]).encode()).error, code::NONE);
    }
    (topic, description, connection)
}

#[test]
fn batches_come_back_byte_for_byte() {
    let (topic, description) = ready_topic("bytes", 1);
    let mut connection = Connection::open(&description.leaders[0].0);
    let sent = Batch::new(&["a", "b", "c"]).encode();
    raw::produce(&mut connection, &topic, 0, &sent);
    raw::produce(&mut connection, &topic, 0, &sent);
    let fetched = Fetch::patient().call(&mut connection, &topic, &[(0, 0)]);
    let partition = &fetched.partitions[0];
    assert_eq!((partition.error, partition.high_watermark, partition.log_start_offset), (code::NONE, 6, 0));
    assert_eq!(batches(&partition.records), [(0, 3), (3, 3)]);
    // All but base offset, length (the same) and leader epoch are the producer's.
    let (first, second) = partition.records.split_at(sent.len());
    assert_eq!(first[16..], sent[16..]);
    assert_eq!(second[16..], sent[16..]);
}

#[test]
fn an_offset_inside_a_batch_brings_the_whole_batch() {
    let (topic, _, mut connection) = filled("inside", &["a", "b"]);
    let fetched = Fetch::patient().call(&mut connection, &topic, &[(0, 1)]);
    assert_eq!(batches(&fetched.partitions[0].records), [(0, 2), (2, 2)]);
    let fetched = Fetch::patient().call(&mut connection, &topic, &[(0, 3)]);
    assert_eq!(batches(&fetched.partitions[0].records), [(2, 2)]);
}

#[test]
fn offsets_out_of_range() {
    let (topic, _, mut connection) = filled("range", &["a"]);
    for (offset, error) in [(-1, code::OFFSET_OUT_OF_RANGE), (2, code::NONE), (3, code::OFFSET_OUT_OF_RANGE)] {
        let fetched = Fetch::default().call(&mut connection, &topic, &[(0, offset)]);
        assert_eq!(fetched.partitions[0].error, error, "offset {offset}");
        assert!(fetched.partitions[0].records.is_empty());
    }
}

#[test]
fn unknown_topics_partitions_and_ids() {
    let (topic, description, mut connection) = filled("known", &["a"]);
    let error = |fetched: raw::Fetched| fetched.partitions[0].error;
    let fetch = Fetch::default();
    assert_eq!(error(fetch.call(&mut connection, &topic, &[(7, 0)])), code::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(error(fetch.call(&mut connection, &unique("nowhere"), &[(0, 0)])), code::UNKNOWN_TOPIC_OR_PARTITION);
    let mut unknown = description.id;
    unknown[3] ^= 0xff;
    assert_eq!(error(fetch.call_by_id(&mut connection, &unknown, &[(0, 0)])), code::UNKNOWN_TOPIC_ID);
    assert_eq!(error(fetch.call_by_id(&mut connection, &description.id, &[(0, 0)])), code::NONE);
}

#[test]
fn the_first_batch_comes_even_when_it_is_larger_than_the_limit() {
    let large = "x".repeat(10_000);
    let (topic, _, mut connection) = filled("limit", &[&large, &large, &large]);
    let small = Fetch { partition_max_bytes: 100, ..Fetch::patient() };
    let fetched = small.call(&mut connection, &topic, &[(0, 0)]);
    assert_eq!(batches(&fetched.partitions[0].records), [(0, 2)]);
    let small = Fetch { max_bytes: 100, ..Fetch::patient() };
    let fetched = small.call(&mut connection, &topic, &[(0, 2)]);
    assert_eq!(batches(&fetched.partitions[0].records), [(2, 2)]);
    let two = Fetch { partition_max_bytes: 45_000, ..Fetch::patient() };
    let fetched = two.call(&mut connection, &topic, &[(0, 0)]);
    assert_eq!(batches(&fetched.partitions[0].records), [(0, 2), (2, 2)]);
}

#[test]
fn a_fetch_at_the_end_waits_and_wakes_on_data() {
    let (topic, description, mut connection) = filled("wakes", &["a"]);
    // Longer than the test would be patient.
    let waiting = Fetch { max_wait_ms: 3 * PATIENCE.as_millis() as i32, min_bytes: 1, ..Fetch::default() };
    let body = waiting.body(&topic, &[(0, 2)]);
    let correlation = connection.send(1, 12, &body);
    assert!(connection.is_silent_for(Duration::from_millis(300)), "nothing to say yet");
    let mut other = Connection::open(&description.leaders[0].0);
    raw::produce(&mut other, &topic, 0, &Batch::new(&["b"]).encode());
    let fetched = raw::fetched(&connection.answer(1, 12, correlation), 12);
    assert_eq!(batches(&fetched.partitions[0].records), [(2, 1)]);
}

#[test]
fn a_fetch_waits_for_as_much_as_it_wants() {
    let (topic, description, mut connection) = filled("wants", &[]);
    let waiting = Fetch { max_wait_ms: 3 * PATIENCE.as_millis() as i32, min_bytes: 5_000, ..Fetch::default() };
    let correlation = connection.send(1, 12, &waiting.body(&topic, &[(0, 0)]));
    let mut other = Connection::open(&description.leaders[0].0);
    let batch = Batch::new(&["x".repeat(3_000)]).encode();
    raw::produce(&mut other, &topic, 0, &batch);
    assert!(connection.is_silent_for(Duration::from_millis(300)), "too little still");
    raw::produce(&mut other, &topic, 0, &batch);
    let fetched = raw::fetched(&connection.answer(1, 12, correlation), 12);
    assert_eq!(batches(&fetched.partitions[0].records), [(0, 1), (1, 1)]);
}

#[test]
fn a_fetch_that_gets_nothing_answers_when_its_time_is_over() {
    let (topic, _, mut connection) = filled("over", &[]);
    let waiting = Fetch { max_wait_ms: 300, min_bytes: 1, ..Fetch::default() };
    let began = Instant::now();
    let fetched = waiting.call(&mut connection, &topic, &[(0, 0)]);
    assert_eq!((fetched.partitions[0].error, batches(&fetched.partitions[0].records).len()), (code::NONE, 0));
    assert!(began.elapsed() >= Duration::from_millis(290), "{:?}", began.elapsed());
}

#[test]
fn a_session_tells_only_what_changed() {
    let (topic, description) = ready_topic("session", 2);
    // Sessions are with one broker; this one may lead only the first partition.
    let mut connection = Connection::open(&description.leaders[0].0);
    let batch = Batch::new(&["a"]).encode();
    raw::produce(&mut connection, &topic, 0, &batch);
    let full = Fetch { session: (0, 0), ..Fetch::patient() };
    let first = full.call(&mut connection, &topic, &[(0, 0)]);
    assert_eq!(first.error, code::NONE);
    assert_ne!(first.session, 0, "a session was made");
    assert_eq!(batches(&first.partitions[0].records), [(0, 1)]);

    let incremental = |epoch| Fetch { session: (first.session, epoch), ..Fetch::default() };
    let second = incremental(1).call(&mut connection, &topic, &[(0, 1)]);
    assert_eq!((second.error, second.partitions.len()), (code::NONE, 0), "nothing has changed");
    raw::produce(&mut connection, &topic, 0, &batch);
    let third = Fetch { session: (first.session, 2), ..Fetch::patient() }.call(&mut connection, &topic, &[]);
    assert_eq!(batches(&third.partitions[0].records), [(1, 1)]);

    assert_eq!(incremental(7).call(&mut connection, &topic, &[]).error, code::INVALID_FETCH_SESSION_EPOCH);
    let unknown = Fetch { session: (first.session ^ 0x5555_5555, 1), ..Fetch::default() };
    assert_eq!(unknown.call(&mut connection, &topic, &[]).error, code::FETCH_SESSION_ID_NOT_FOUND);
    // A client closes its session with the last epoch.
    assert_eq!(incremental(-1).call(&mut connection, &topic, &[]).error, code::NONE);
    assert_eq!(incremental(3).call(&mut connection, &topic, &[]).error, code::FETCH_SESSION_ID_NOT_FOUND);
}

#[test]
fn leader_epochs_are_checked() {
    let (topic, description, mut connection) = filled("epochs", &["a", "b"]);
    let epoch = description.leaders[0].1;
    assert!(epoch >= 0);
    let error = |connection: &mut Connection, leader_epoch| {
        Fetch { leader_epoch, ..Fetch::default() }.call(connection, &topic, &[(0, 0)]).partitions[0].error
    };
    assert_eq!(error(&mut connection, epoch), code::NONE);
    assert_eq!(error(&mut connection, epoch + 1), code::UNKNOWN_LEADER_EPOCH);
    if epoch > 0 {
        assert_eq!(error(&mut connection, epoch - 1), code::FENCED_LEADER_EPOCH);
    }
    assert_eq!(raw::offset_for_leader_epoch(&mut connection, &topic, epoch), (code::NONE, epoch, 4));
    assert_eq!(raw::offset_for_leader_epoch(&mut connection, &topic, epoch + 1), (code::NONE, -1, -1));
}
