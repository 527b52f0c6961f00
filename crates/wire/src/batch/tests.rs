use proptest::prelude::*;
use tidemark_model::batch::PREFIX_LEN;

use super::*;

const NOW: i64 = 1_700_000_000_000;

const RULES: BatchRules = BatchRules {
    max_message_bytes: 1_048_588,
    now_ms: NOW,
    log_append_time: false,
    timestamp_before_max_ms: 3_600_000,
    timestamp_after_max_ms: 60_000,
};

fn two_records() -> BatchBuilder {
    BatchBuilder::new().timestamp(NOW).record(Some(b"k"), Some(b"v")).timestamp(NOW + 5).record(None, None)
}

/// The batch with some bytes replaced, and its CRC made right again.
fn patched(at: usize, bytes: &[u8]) -> Bytes {
    let mut wire = two_records().wire().to_vec();
    wire[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&wire[21..]);
    wire[17..21].copy_from_slice(&crc.to_be_bytes());
    wire.into()
}

#[track_caller]
fn refused(records: Bytes, rules: &BatchRules, code: ErrorCode, message: &str) {
    let rejected = validate(records, rules).unwrap_err();
    assert_eq!(rejected.code(), code, "{rejected}");
    assert!(rejected.to_string().contains(message), "{rejected}");
}

#[test]
fn a_good_batch_is_taken_without_copying() {
    let wire = two_records().producer(9, 1, 0).wire();
    let batch = validate(wire.clone(), &RULES).unwrap();
    assert_eq!(batch.body().as_ptr(), wire[PREFIX_LEN..].as_ptr());
    assert_eq!((batch.record_count(), batch.producer_id(), batch.max_timestamp()), (2, 9, NOW + 5));
    let transactional = two_records().producer(9, 0, 3).attributes(0x10).wire();
    assert!(validate(transactional, &RULES).is_ok());
}

#[test]
fn exactly_one_batch_is_allowed() {
    let wire = two_records().wire();
    refused(Bytes::new(), &RULES, ErrorCode::InvalidRecord, "no batch");
    refused([&wire[..], &wire].concat().into(), &RULES, ErrorCode::InvalidRecord, "77 bytes from byte 77 on");
    refused([&wire[..], b"x"].concat().into(), &RULES, ErrorCode::InvalidRecord, "1 bytes from byte 77 on");
    for cut in [1, 16, 17, 60, 61, wire.len() - 1] {
        refused(wire.slice(..cut), &RULES, ErrorCode::InvalidRecord, &format!("and {cut} are there"));
    }
}

#[test]
fn other_formats_are_refused() {
    refused(patched(16, &[0]), &RULES, ErrorCode::InvalidRecord, "magic 0");
    refused(patched(16, &[1]), &RULES, ErrorCode::InvalidRecord, "magic 1");
    refused(patched(16, &[3]), &RULES, ErrorCode::CorruptMessage, "magic 3");
    refused(patched(8, &48_i32.to_be_bytes()), &RULES, ErrorCode::CorruptMessage, "length 48");
    refused(patched(8, &(-1_i32).to_be_bytes()), &RULES, ErrorCode::CorruptMessage, "length -1");
    refused(patched(0, &7_i64.to_be_bytes()), &RULES, ErrorCode::InvalidRecord, "base offset is 7");
}

#[test]
fn a_bad_checksum_is_corruption_whatever_else_is_wrong() {
    for at in 21..77 {
        let mut wire = two_records().wire().to_vec();
        wire[at] ^= 0x40;
        refused(wire.into(), &RULES, ErrorCode::CorruptMessage, "CRC");
    }
}

#[test]
fn the_whole_batch_counts_for_its_size() {
    let size = two_records().wire().len();
    let exactly = BatchRules { max_message_bytes: size, ..RULES };
    assert!(validate(two_records().wire(), &exactly).is_ok());
    let less = BatchRules { max_message_bytes: size - 1, ..RULES };
    refused(two_records().wire(), &less, ErrorCode::MessageTooLarge, "batch of 77 bytes");
}

#[test]
fn attributes_a_producer_may_not_set_are_refused() {
    for codec in 1..=4 {
        assert!(validate(two_records().attributes(codec).wire(), &RULES).is_ok());
    }
    for codec in 5..=7 {
        let wire = two_records().attributes(codec).wire();
        refused(wire, &RULES, ErrorCode::UnsupportedCompressionType, "no codec");
    }
    refused(two_records().attributes(0x20).wire(), &RULES, ErrorCode::InvalidRecord, "control");
    refused(two_records().attributes(0x40).wire(), &RULES, ErrorCode::InvalidRecord, "delete horizon");
    refused(two_records().attributes(0x08).wire(), &RULES, ErrorCode::InvalidTimestamp, "LogAppendTime");
    refused(two_records().attributes(0x10).wire(), &RULES, ErrorCode::InvalidRecord, "no producer id");
}

#[test]
fn counts_that_do_not_fit_are_refused() {
    refused(BatchBuilder::new().wire(), &RULES, ErrorCode::InvalidRecord, "record count at byte 57 is 0");
    refused(patched(57, &(-2_i32).to_be_bytes()), &RULES, ErrorCode::InvalidRecord, "is -2");
    refused(patched(57, &3_i32.to_be_bytes()), &RULES, ErrorCode::InvalidRecord, "last offset delta 1");
    refused(patched(23, &i32::MAX.to_be_bytes()), &RULES, ErrorCode::InvalidRecord, "last offset delta 2147483647");
    let mut claims = two_records().wire().to_vec();
    claims[23..27].copy_from_slice(&999_i32.to_be_bytes());
    claims[57..61].copy_from_slice(&1000_i32.to_be_bytes());
    let crc = crc32c::crc32c(&claims[21..]);
    claims[17..21].copy_from_slice(&crc.to_be_bytes());
    refused(claims.into(), &RULES, ErrorCode::InvalidRecord, "1000 records do not fit into 16 bytes");
}

#[test]
fn an_idempotent_producer_has_a_sequence() {
    refused(two_records().producer(9, 0, -1).wire(), &RULES, ErrorCode::InvalidRecord, "sequence -1");
    refused(two_records().producer(9, -1, 0).wire(), &RULES, ErrorCode::InvalidRecord, "epoch -1");
    assert!(validate(two_records().producer(-1, -1, -1).wire(), &RULES).is_ok());
}

#[test]
fn timestamps_stay_within_the_topics_bounds() {
    let at = |timestamp| BatchBuilder::new().timestamp(timestamp).record(None, None).wire();
    for good in [NOW, NOW - 3_600_000, NOW + 60_000, -1] {
        assert!(validate(at(good), &RULES).is_ok(), "{good}");
    }
    for bad in [NOW - 3_600_001, NOW + 60_001, 0, i64::MAX, i64::MIN] {
        refused(at(bad), &RULES, ErrorCode::InvalidTimestamp, &format!("timestamp {bad}"));
        assert!(validate(at(bad), &BatchRules { log_append_time: true, ..RULES }).is_ok());
    }
    let unbounded = BatchRules { timestamp_before_max_ms: i64::MAX, timestamp_after_max_ms: i64::MAX, ..RULES };
    for any in [i64::MIN, 0, i64::MAX] {
        assert!(validate(at(any), &unbounded).is_ok(), "{any}");
    }
}

#[test]
fn zstd_needs_a_produce_request_that_knows_it() {
    let zstd = two_records().attributes(4).wire();
    let rejected = check_produce_version(6, &zstd).unwrap_err();
    assert_eq!(rejected.code(), ErrorCode::UnsupportedCompressionType);
    assert!(check_produce_version(7, &zstd).is_ok());
    assert!(check_produce_version(3, &two_records().attributes(3).wire()).is_ok());
    assert!(check_produce_version(3, &Bytes::from_static(b"garbage")).is_ok());
}

/// What `MemoryRecords.withRecords` of Kafka 4.2.0 makes of one record with timestamp 1, key `k` and value `v`.
#[test]
fn the_builder_writes_kafkas_bytes() {
    let kafka = "00000000000000000000003affffffff026f484c23000000000000000000000000000100000000000000\
                 01ffffffffffffffffffffffffffff0000000110000000026b027600";
    let wire = BatchBuilder::new().timestamp(1).record(Some(b"k"), Some(b"v")).wire();
    assert_eq!(wire.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), kafka);
}

#[test]
fn records_are_read_as_they_were_built() {
    let mut batch = two_records().build();
    batch.base_offset = 40;
    let read = records(&batch).collect::<Result<Vec<_>, _>>().unwrap();
    let record = |offset, timestamp, key, value| Record { offset, timestamp, key, value, headers: Vec::new() };
    let first = record(40, NOW, Some(Bytes::from_static(b"k")), Some(Bytes::from_static(b"v")));
    assert_eq!(read, [first, record(41, NOW + 5, None, None)]);
    let compressed = two_records().attributes(1).build();
    assert_eq!(records(&compressed).collect::<Vec<_>>(), [Err(BadRecord(0))]);
}

proptest! {
    #[test]
    fn no_bytes_make_validation_or_reading_panic(
        mut wire in prop_oneof![
            Just(two_records().wire().to_vec()),
            proptest::collection::vec(any::<u8>(), 0..200),
        ],
        patches in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 0..6),
        seal: bool,
    ) {
        for (at, value) in patches {
            if !wire.is_empty() {
                let at = at.index(wire.len());
                wire[at] = value;
            }
        }
        if seal && wire.len() > 21 {
            let crc = crc32c::crc32c(&wire[21..]);
            wire[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        let wire = Bytes::from(wire);
        let _ = check_produce_version(3, &wire);
        let _ = validate(wire.clone(), &RULES);
        for batch in Batch::split_all(wire).unwrap_or_default() {
            records(&batch).for_each(drop);
        }
    }
}
