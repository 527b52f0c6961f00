//! What is wrong with a batch is found before it is appended, and said with Kafka's code.

use tidemark_tests::clients::*;
use tidemark_tests::raw::{self, Batch, Connection, End, Reader, Writer, code, ready_topic};
use tidemark_tests::target::target;

/// Sends records to a new topic, and sees to it that a refusal leaves nothing behind and the connection usable.
fn refused(records: &[u8]) -> i16 {
    let (topic, description) = ready_topic("bad", 1);
    let mut connection = Connection::open(&description.leaders[0].0);
    let answer = raw::produce(&mut connection, &topic, 0, records);
    assert_ne!(answer.error, code::NONE, "taken at offset {}", answer.base_offset);
    assert_eq!(answer.base_offset, -1);
    let good = raw::produce(&mut connection, &topic, 0, &Batch::new(&["good"]).encode());
    assert_eq!((good.error, good.base_offset), (code::NONE, 0));
    assert_eq!(read_topic(&topic, 1)[0].len(), 1);
    answer.error
}

#[test]
fn a_correct_batch_is_taken_with_its_time() {
    let (topic, description) = ready_topic("good", 1);
    let mut connection = Connection::open(&description.leaders[0].0);
    let answer = raw::produce(&mut connection, &topic, 0, &Batch::new(&["a", "b"]).at(1_600_000_000_000).encode());
    assert_eq!((answer.error, answer.base_offset, answer.log_append_time), (code::NONE, 0, -1));
    let read = &read_topic(&topic, 1)[0];
    assert_eq!((read[1].value.as_str(), read[1].timestamp), ("b", 1_600_000_000_000));
}

#[test]
fn log_append_time_is_the_servers() {
    let topic = topic_with("append-time", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let leader = raw::await_leaders(&topic, 1).leaders.remove(0).0;
    let mut connection = Connection::open(&leader);
    let answer = raw::produce(&mut connection, &topic, 0, &Batch::new(&["a"]).at(1_600_000_000_000).encode());
    assert_eq!(answer.error, code::NONE);
    assert!(answer.log_append_time > 1_700_000_000_000, "{}", answer.log_append_time);
    assert_eq!(read_topic(&topic, 1)[0][0].timestamp, answer.log_append_time);
}

#[test]
fn a_bad_checksum() {
    let mut batch = Batch::new(&["flipped"]);
    batch.crc_flips = 0x10;
    assert_eq!(refused(&batch.encode()), code::CORRUPT_MESSAGE);
}

#[test]
fn a_flipped_bit_in_a_record() {
    let mut bytes = Batch::new(&["flipped"]).encode();
    let last = bytes.len() - 3;
    bytes[last] ^= 4;
    assert_eq!(refused(&bytes), code::CORRUPT_MESSAGE);
}

#[test]
fn a_count_that_is_not_the_offsets() {
    let mut more = Batch::new(&["a", "b"]);
    more.count = 3;
    assert_eq!(refused(&more.encode()), code::INVALID_RECORD);
    let mut fewer = Batch::new(&["a", "b"]);
    fewer.last_offset_delta = 0;
    assert_eq!(refused(&fewer.encode()), code::INVALID_RECORD);
    let mut negative = Batch::new(&["a", "b"]);
    (negative.count, negative.last_offset_delta) = (-1, -2);
    assert_eq!(refused(&negative.encode()), code::INVALID_RECORD);
}

#[test]
fn a_batch_of_no_records() {
    assert_eq!(refused(&Batch::new::<&str>(&[]).encode()), code::INVALID_RECORD);
}

#[test]
fn two_batches_where_one_may_be() {
    let batch = Batch::new(&["one"]).encode();
    assert_eq!(refused(&[batch.clone(), batch].concat()), code::INVALID_RECORD);
}

#[test]
fn no_batch_at_all() {
    assert_eq!(refused(&[]), code::INVALID_RECORD);
}

#[test]
fn the_magic_of_older_and_of_no_formats() {
    let mut batch = Batch::new(&["old", "older", "oldest"]);
    for magic in [0, 1] {
        batch.magic = magic;
        assert_eq!(refused(&batch.encode()), code::INVALID_RECORD, "magic {magic}");
    }
    batch.magic = 3;
    assert_eq!(refused(&batch.encode()), code::CORRUPT_MESSAGE);
}

#[test]
fn a_codec_that_does_not_exist() {
    for codec in [5, 6, 7] {
        let mut batch = Batch::new(&["packed"]);
        batch.attributes = codec;
        // Kafka trips over it, and says only that. Tidemark says what is wrong.
        let error = refused(&batch.encode());
        let said = [code::UNKNOWN_SERVER_ERROR, code::UNSUPPORTED_COMPRESSION_TYPE].contains(&error);
        assert!(said, "codec {codec}: {error}");
    }
}

#[test]
fn zstd_in_a_request_too_old_for_it() {
    let (topic, description) = ready_topic("zstd-old", 1);
    let mut connection = Connection::open(&description.leaders[0].0);
    let mut batch = Batch::new(&["packed"]);
    batch.attributes = 4;
    // Version 3: no compact types, no record errors.
    let records = batch.encode();
    let body = Writer::new().i16(-1).i16(-1).i32(30_000).i32(1).string(&topic).i32(1).i32(0);
    let body = body.i32(records.len() as i32).raw(&records);
    let answer = connection.call(0, 3, &body);
    let mut reader = Reader::new(&answer);
    assert_eq!((reader.i32(), reader.string(), reader.i32(), reader.i32()), (1, topic, 1, 0));
    assert_eq!(reader.i16(), code::UNSUPPORTED_COMPRESSION_TYPE);
}

#[test]
fn lengths_that_are_not_the_batchs() {
    let mut batch = Batch::new(&["cut"]);
    batch.length_off_by = 1;
    let longer = refused(&batch.encode());
    batch.length_off_by = -1;
    let shorter = refused(&batch.encode());
    let mut cut = Batch::new(&["cut"]).encode();
    cut.truncate(30);
    assert_eq!([longer, refused(&cut)], [code::INVALID_RECORD; 2]);
    // The byte left over: Kafka would cut it off, and finds the checksum wrong. Tidemark refuses bytes after a batch first.
    assert!([code::CORRUPT_MESSAGE, code::INVALID_RECORD].contains(&shorter), "{shorter}");
}

#[test]
fn a_control_batch_is_not_for_clients() {
    let mut batch = Batch::new(&["marker"]);
    batch.attributes = 0x20;
    assert_eq!(refused(&batch.encode()), code::INVALID_RECORD);
}

#[test]
fn a_time_far_in_the_future() {
    let mut batch = Batch::new(&["tomorrow"]);
    batch.base_timestamp += 24 * 3_600_000;
    batch.max_timestamp = batch.base_timestamp;
    assert_eq!(refused(&batch.encode()), code::INVALID_TIMESTAMP);
}

#[test]
fn too_large() {
    assert_eq!(refused(&Batch::new(&["x".repeat(1_100_000)]).encode()), code::MESSAGE_TOO_LARGE);
}

#[test]
fn unknown_topics_partitions_and_ids() {
    let (topic, description) = ready_topic("known", 1);
    let mut connection = Connection::open(&description.leaders[0].0);
    let batch = Batch::new(&["lost"]).encode();
    let mut error = |topic: &str, partition| raw::produce(&mut connection, topic, partition, &batch).error;
    assert_eq!(error(&unique("nowhere"), 0), code::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(error(&topic, 1), code::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(error(&topic, -1), code::UNKNOWN_TOPIC_OR_PARTITION);
    let mut unknown = description.id;
    unknown[0] ^= 0xff;
    assert_eq!(raw::produce_by_id(&mut connection, &unknown, 0, &batch).error, code::UNKNOWN_TOPIC_ID);
    let good = raw::produce_by_id(&mut connection, &description.id, 0, &batch);
    assert_eq!((good.error, good.base_offset), (code::NONE, 0));
}

#[test]
fn acks_other_than_three() {
    let (topic, description) = ready_topic("acks", 1);
    let mut connection = Connection::open(&description.leaders[0].0);
    let batch = Batch::new(&["lost"]).encode();
    let answer = raw::produced(&connection.call(0, 9, &raw::produce_body(&topic, 0, 2, Some(&batch))));
    assert_eq!(answer.error, code::INVALID_REQUIRED_ACKS);
}

#[test]
fn an_error_where_no_answer_is_wanted_closes_the_connection() {
    let (topic, description) = ready_topic("silent", 1);
    let mut connection = Connection::open(&description.leaders[0].0);
    let mut batch = Batch::new(&["flipped"]);
    batch.crc_flips = 1;
    connection.send(0, 9, &raw::produce_body(&topic, 0, 0, Some(&batch.encode())));
    assert_eq!(connection.end(), End::Closed);
    drop(connection);
    Connection::open(&target().bootstrap);
}
