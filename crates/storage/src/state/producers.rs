//! Idempotent producers (KIP-98): what the log remembers of each to tell the next batch from one that came before.
//!
//! The rules are those of Kafka's `ProducerAppendInfo` and `ProducerStateEntry`. A producer that nobody knows may begin with
//! any sequence: its state may have expired, so Kafka has not answered `UNKNOWN_PRODUCER_ID` since KIP-360.

use tidemark_model::{Batch, StorageError};

/// Batches of a producer that are remembered: as many as a client may have in flight.
pub const BATCHES: usize = 5;
/// Sequences wrap after this.
const SEQUENCES: i64 = 1 << 31;

/// A producer's last batches in a partition. Without any, it has none of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Producer {
    pub epoch: i16,
    batches: [BatchMeta; BATCHES],
    len: u8,
}

/// What is remembered of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchMeta {
    pub last_sequence: i32,
    pub last_offset: i64,
    pub offset_delta: i32,
    pub timestamp: i64,
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Append,
    /// It came before, and is at this offset.
    Duplicate(BatchMeta),
}

impl Producer {
    pub(crate) fn restored(epoch: i16, batches: impl IntoIterator<Item = BatchMeta>) -> Self {
        let mut producer = Self { epoch, ..Self::default() };
        batches.into_iter().for_each(|batch| producer.push(batch));
        producer
    }

    /// The batches remembered, oldest first.
    pub fn batches(&self) -> &[BatchMeta] {
        &self.batches[..usize::from(self.len)]
    }

    /// What a batch of this producer is. `known` is nothing for a producer that was never seen: it may begin anywhere.
    pub fn check(known: Option<&Self>, batch: &Batch) -> Result<Verdict, StorageError> {
        let Some(known) = known else { return Ok(Verdict::Append) };
        let (producer_id, got) = (batch.producer_id(), batch.base_sequence());
        let out_of_order = |expected| Err(StorageError::OutOfOrderSequence { producer_id, expected, got });
        if batch.producer_epoch() < known.epoch {
            let (current, got) = (known.epoch, batch.producer_epoch());
            return Err(StorageError::InvalidProducerEpoch { producer_id, current, got });
        }
        if batch.producer_epoch() > known.epoch {
            return if got == 0 { Ok(Verdict::Append) } else { out_of_order(0) };
        }
        let same = |meta: &&BatchMeta| meta.first_sequence() == got && meta.last_sequence == batch.last_sequence();
        if let Some(duplicate) = known.batches().iter().find(same) {
            return Ok(Verdict::Duplicate(*duplicate));
        }
        let expected = known.batches().last().map_or(0, |newest| next(newest.last_sequence));
        if got == expected { Ok(Verdict::Append) } else { out_of_order(expected) }
    }

    /// The largest timestamp of its last batch: by this a producer expires, as in Kafka.
    pub fn last_timestamp(&self) -> i64 {
        self.batches().last().map_or(-1, |newest| newest.timestamp)
    }

    /// Remembers a batch that [`check`](Self::check) let through.
    pub fn append(&mut self, batch: &Batch) {
        if batch.producer_epoch() != self.epoch {
            self.len = 0;
            self.epoch = batch.producer_epoch();
        }
        self.push(BatchMeta {
            last_sequence: batch.last_sequence(),
            last_offset: batch.last_offset(),
            offset_delta: batch.last_offset_delta(),
            timestamp: batch.max_timestamp(),
        });
    }

    fn push(&mut self, batch: BatchMeta) {
        if usize::from(self.len) == BATCHES {
            self.batches.rotate_left(1);
            self.batches[BATCHES - 1] = batch;
        } else {
            self.batches[usize::from(self.len)] = batch;
            self.len += 1;
        }
    }
}

impl BatchMeta {
    pub fn base_offset(&self) -> i64 {
        self.last_offset - i64::from(self.offset_delta)
    }

    pub fn first_sequence(&self) -> i32 {
        (i64::from(self.last_sequence) - i64::from(self.offset_delta)).rem_euclid(SEQUENCES) as i32
    }
}

/// The sequence after `last`.
fn next(last: i32) -> i32 {
    if last == i32::MAX { 0 } else { last + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::tests::sample_batch;

    fn after(batches: &[(i16, i32, i32)]) -> Producer {
        let mut producer = Producer::default();
        let mut offset = 0;
        for (epoch, sequence, count) in batches {
            let mut batch = sample_batch((7, *epoch, *sequence), *count, 0, b"");
            batch.base_offset = offset;
            offset += i64::from(*count);
            producer.append(&batch);
        }
        producer
    }

    fn check(producer: &Producer, epoch: i16, sequence: i32, count: i32) -> Result<Verdict, StorageError> {
        Producer::check(Some(producer), &sample_batch((7, epoch, sequence), count, 0, b""))
    }

    #[test]
    fn an_unknown_producer_may_begin_anywhere() {
        assert_eq!(Producer::check(None, &sample_batch((7, 3, 100), 2, 0, b"")), Ok(Verdict::Append));
    }

    #[test]
    fn the_next_sequence_is_appended_and_a_gap_is_refused() {
        let producer = after(&[(0, 0, 10)]);
        assert_eq!(check(&producer, 0, 10, 5), Ok(Verdict::Append));
        let expected = StorageError::OutOfOrderSequence { producer_id: 7, expected: 10, got: 11 };
        assert_eq!(check(&producer, 0, 11, 5), Err(expected));
    }

    #[test]
    fn each_of_the_last_five_is_a_duplicate_with_its_offset_and_others_are_out_of_order() {
        let producer = after(&[(0, 0, 10), (0, 10, 10), (0, 20, 10), (0, 30, 10), (0, 40, 10), (0, 50, 10)]);
        for sequence in [10, 20, 30, 40, 50] {
            let Ok(Verdict::Duplicate(meta)) = check(&producer, 0, sequence, 10) else { panic!("{sequence}") };
            assert_eq!((meta.base_offset(), meta.last_offset), (i64::from(sequence), i64::from(sequence) + 9));
        }
        let expected = StorageError::OutOfOrderSequence { producer_id: 7, expected: 60, got: 0 };
        assert_eq!(check(&producer, 0, 0, 10), Err(expected), "as Kafka says of one that came long ago");
        assert!(matches!(check(&producer, 0, 10, 9), Err(StorageError::OutOfOrderSequence { .. })), "another range");
        assert!(matches!(check(&producer, 0, 5, 10), Err(StorageError::OutOfOrderSequence { .. })), "half known");
    }

    #[test]
    fn sequences_wrap() {
        let producer = after(&[(0, i32::MAX - 1, 2)]);
        assert_eq!(check(&producer, 0, 0, 1), Ok(Verdict::Append));
        let producer = after(&[(0, i32::MAX - 1, 4)]);
        assert_eq!(producer.batches()[0].first_sequence(), i32::MAX - 1);
        assert_eq!(check(&producer, 0, 2, 1), Ok(Verdict::Append));
        assert!(matches!(check(&producer, 0, i32::MAX - 1, 4), Ok(Verdict::Duplicate(_))));
    }

    #[test]
    fn a_newer_epoch_begins_at_zero_and_fences_the_older() {
        let mut producer = after(&[(1, 0, 10)]);
        assert!(matches!(check(&producer, 2, 10, 1), Err(StorageError::OutOfOrderSequence { expected: 0, .. })));
        assert_eq!(check(&producer, 2, 0, 1), Ok(Verdict::Append));
        producer.append(&sample_batch((7, 2, 0), 1, 0, b""));
        assert_eq!(producer.batches().len(), 1);
        let fenced = StorageError::InvalidProducerEpoch { producer_id: 7, current: 2, got: 1 };
        assert_eq!(check(&producer, 1, 10, 1), Err(fenced));
    }
}
