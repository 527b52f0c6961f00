//! Producers with an id: nothing doubled, nothing out of order, and the old ones fenced.

use std::collections::BTreeSet;

use tidemark_tests::clients::*;
use tidemark_tests::raw::{self, Batch, Connection, code, ready_topic};
use tidemark_tests::target::target;

#[test]
fn an_idempotent_producer_with_five_requests_in_flight() {
    let topic = topic("idempotent", 3);
    let producer = producer(&[
        ("enable.idempotence", "true"),
        ("max.in.flight.requests.per.connection", "5"),
        ("batch.num.messages", "20"),
        ("linger.ms", "1"),
    ]);
    let records: Vec<_> = (0..3000).map(|n| Record::new(format!("{n:05}")).to(n % 3)).collect();
    let acknowledged = produce(&producer, &topic, &records);
    let all = read_topic(&topic, 3);
    for at in &acknowledged {
        assert_eq!(all[at.partition as usize][at.offset as usize].value, at.value);
    }
    for records in &all {
        let values: Vec<&str> = records.iter().map(|record| record.value.as_str()).collect();
        assert!(values.is_sorted(), "in the order in which they were sent");
        assert_eq!(values.len(), 1000);
    }
}

#[test]
fn every_producer_id_is_another() {
    let mut connection = Connection::open(&target().bootstrap);
    let mut ids = BTreeSet::new();
    for _ in 0..50 {
        let (error, id, epoch) = raw::init_producer_id(&mut connection);
        assert_eq!((error, epoch), (code::NONE, 0));
        assert!(ids.insert(id), "{id} was given twice");
    }
}

/// A topic with a leader to talk to, and a producer's id.
fn producer_of(prefix: &str) -> (String, Connection, i64) {
    let (topic, description) = ready_topic(prefix, 1);
    let mut connection = Connection::open(&description.leaders[0].0);
    let (error, id, _) = raw::init_producer_id(&mut connection);
    assert_eq!(error, code::NONE);
    (topic, connection, id)
}

#[test]
fn a_duplicate_gets_the_offset_of_its_original() {
    let (topic, mut connection, id) = producer_of("duplicate");
    let batches: Vec<Vec<u8>> =
        (0..7).map(|n| Batch::new(&["a", "b", "c"]).from_producer(id, 0, n * 3).encode()).collect();
    for (n, batch) in batches.iter().enumerate() {
        let answer = raw::produce(&mut connection, &topic, 0, batch);
        assert_eq!((answer.error, answer.base_offset), (code::NONE, n as i64 * 3));
    }
    // The last five batches are remembered.
    for (n, batch) in batches.iter().enumerate().skip(2) {
        let answer = raw::produce(&mut connection, &topic, 0, batch);
        assert_eq!((answer.error, answer.base_offset), (code::NONE, n as i64 * 3), "batch {n} again");
    }
    // Older ones are not told from what never came.
    for batch in &batches[..2] {
        assert_eq!(raw::produce(&mut connection, &topic, 0, batch).error, code::OUT_OF_ORDER_SEQUENCE_NUMBER);
    }
    // Nor is another cut of the same sequences.
    let other = Batch::new(&["c", "d", "e"]).from_producer(id, 0, 17).encode();
    assert_eq!(raw::produce(&mut connection, &topic, 0, &other).error, code::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(read_topic(&topic, 1)[0].len(), 21, "nothing was appended twice");
}

#[test]
fn sequences_have_no_gaps() {
    let (topic, mut connection, id) = producer_of("gaps");
    let mut send = |sequence, epoch| {
        raw::produce(&mut connection, &topic, 0, &Batch::new(&["x", "y"]).from_producer(id, epoch, sequence).encode())
    };
    assert_eq!(send(0, 0).error, code::NONE);
    assert_eq!(send(4, 0).error, code::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(send(2, 0).error, code::NONE);
    // A new epoch begins at zero, and then the old one is over.
    assert_eq!(send(5, 1).error, code::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(send(0, 1).error, code::NONE);
    assert_eq!(send(4, 0).error, code::INVALID_PRODUCER_EPOCH);
    assert_eq!(read_topic(&topic, 1)[0].len(), 6);
}

#[test]
fn sequences_wrap_after_two_to_the_31st() {
    let (topic, mut connection, id) = producer_of("wrapping");
    let mut send = |sequence, values: &[&str]| {
        let answer =
            raw::produce(&mut connection, &topic, 0, &Batch::new(values).from_producer(id, 0, sequence).encode());
        (answer.error, answer.base_offset)
    };
    // Its sequences are 2^31 - 2, 2^31 - 1, 0 and 1.
    assert_eq!(send(i32::MAX - 1, &["a", "b", "c", "d"]), (code::NONE, 0));
    assert_eq!(send(0, &["x"]).0, code::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(send(2, &["e"]), (code::NONE, 4));
    assert_eq!(send(i32::MAX - 1, &["a", "b", "c", "d"]), (code::NONE, 0), "a duplicate");
    assert_eq!(read_topic(&topic, 1)[0].len(), 5);

    // One that ends with the last sequence.
    let (topic, mut connection, id) = producer_of("wrapping-at-the-end");
    let mut send = |sequence, values: &[&str]| {
        let batch = Batch::new(values).from_producer(id, 0, sequence).encode();
        let answer = raw::produce(&mut connection, &topic, 0, &batch);
        (answer.error, answer.base_offset)
    };
    assert_eq!(send(i32::MAX - 1, &["a", "b"]), (code::NONE, 0));
    assert_eq!(send(0, &["c"]), (code::NONE, 2));
    assert_eq!(send(i32::MAX - 1, &["a", "b"]), (code::NONE, 0), "a duplicate");
}

#[test]
fn a_newer_epoch_has_no_duplicates_of_the_older() {
    let (topic, mut connection, id) = producer_of("epochs");
    let mut send = |epoch, sequence| {
        let batch = Batch::new(&["x", "y"]).from_producer(id, epoch, sequence).encode();
        let answer = raw::produce(&mut connection, &topic, 0, &batch);
        (answer.error, answer.base_offset)
    };
    assert_eq!(send(3, 0), (code::NONE, 0));
    assert_eq!(send(5, 0), (code::NONE, 2), "the same sequences in a newer epoch, which skips one");
    assert_eq!(send(5, 0), (code::NONE, 2));
    assert_eq!(send(3, 0).0, code::INVALID_PRODUCER_EPOCH, "it came, and is not looked for");
    assert_eq!(send(4, 0).0, code::INVALID_PRODUCER_EPOCH);
    assert_eq!(send(5, 2), (code::NONE, 4));
    assert_eq!(read_topic(&topic, 1)[0].len(), 6);
}

#[test]
fn a_batch_refused_leaves_no_trace_in_the_sequences() {
    let (topic, mut connection, id) = producer_of("untouched");
    let mut broken = Batch::new(&["x"]).from_producer(id, 0, 0);
    broken.crc_flips = 1;
    assert_eq!(raw::produce(&mut connection, &topic, 0, &broken.encode()).error, code::CORRUPT_MESSAGE);
    broken.crc_flips = 0;
    let answer = raw::produce(&mut connection, &topic, 0, &broken.encode());
    assert_eq!((answer.error, answer.base_offset), (code::NONE, 0));
}

#[test]
fn a_producer_nobody_knows_may_begin_anywhere() {
    let (topic, mut connection, id) = producer_of("unknown");
    // What Kafka makes of a first batch with a later sequence: its state may have expired, so it is taken.
    let answer = raw::produce(&mut connection, &topic, 0, &Batch::new(&["x"]).from_producer(id, 0, 17).encode());
    assert_eq!((answer.error, answer.base_offset), (code::NONE, 0));
}
