//! `message.timestamp.type=LogAppendTime` (KIP-32): the log's own time in a batch instead of the producer's.

use bytes::{BufMut, BytesMut};
use tidemark_model::Batch;
use tidemark_model::batch::PREFIX_LEN;

/// Bit 3 of the attributes: timestamps are of the append.
const LOG_APPEND_TIME: i16 = 0x08;
const CRC_AT: usize = 17 - PREFIX_LEN;
const ATTRIBUTES_AT: usize = 21 - PREFIX_LEN;
const MAX_TIMESTAMP_AT: usize = 35 - PREFIX_LEN;

/// The batch with `now_ms` as the time of all its records. Copies it: the one rewrite there is on the way of a produce.
pub(crate) fn stamped(batch: &Batch, now_ms: i64) -> Batch {
    let mut body = BytesMut::from(&batch.body()[..]);
    let attributes = batch.attributes() | LOG_APPEND_TIME;
    (&mut body[ATTRIBUTES_AT..]).put_i16(attributes);
    (&mut body[MAX_TIMESTAMP_AT..]).put_i64(now_ms);
    let crc = crc32c::crc32c(&body[ATTRIBUTES_AT..]);
    (&mut body[CRC_AT..]).put_u32(crc);
    Batch::from_body(batch.base_offset, batch.leader_epoch, body.freeze()).expect("a body of the same form")
}

/// Whether all records of the batch have the time of the append. Brokers refuse a producer's batch that claims so.
pub(crate) fn is_stamped(batch: &Batch) -> bool {
    batch.attributes() & LOG_APPEND_TIME != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamped_batch_is_valid_and_has_the_time() {
        let batch = crate::entry::tests::sample_batch((7, 1, 2), 3, 100, b"records");
        let stamped = stamped(&batch, 5_000);
        assert!(stamped.crc_matches());
        assert_eq!((stamped.max_timestamp(), stamped.base_timestamp()), (5_000, 100));
        assert_eq!(stamped.attributes(), LOG_APPEND_TIME);
        assert_eq!((stamped.producer_id(), stamped.base_sequence(), stamped.record_count()), (7, 2, 3));
    }
}
