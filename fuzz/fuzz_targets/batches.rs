//! The records of a Produce request, with the checksum made right so that what is behind it is reached.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidemark_model::Batch;
use tidemark_wire::batch::{BatchRules, check_produce_version, records, validate};

const RULES: BatchRules = BatchRules {
    max_message_bytes: 1024 * 1024,
    now_ms: 1_700_000_000_000,
    log_append_time: false,
    timestamp_before_max_ms: i64::MAX,
    timestamp_after_max_ms: 3_600_000,
};

fuzz_target!(|data: &[u8]| {
    let mut sealed = data.to_vec();
    if sealed.len() > 21 {
        let crc = crc32c::crc32c(&sealed[21..]);
        sealed[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    for wire in [Bytes::copy_from_slice(data), Bytes::from(sealed)] {
        let _ = check_produce_version(3, &wire);
        if let Ok(batch) = validate(wire.clone(), &RULES) {
            assert_eq!([&batch.prefix()[..], batch.body()].concat(), wire);
            assert_eq!(batch.next_offset(), i64::from(batch.record_count()));
        }
        for batch in Batch::split_all(wire).unwrap_or_default() {
            let _ = (batch.last_sequence(), batch.crc_matches());
            records(&batch).for_each(drop);
        }
    }
});
