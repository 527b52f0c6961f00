//! What a leader knows of a partition's recent batches: where each is in the write-ahead log, and the batch itself while
//! it is in memory. Made from the log's entries; not part of the state.

use std::collections::VecDeque;

use tidemark_model::{Batch, TopicPartition};

use crate::entry::EntryId;
use crate::wal::Location;

/// A committed batch that is in the write-ahead log or in memory.
#[derive(Debug, Clone)]
pub(crate) struct BatchRef {
    pub(crate) index: u64,
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) location: Location,
    /// The batch, while it is in memory.
    pub(crate) batch: Option<Batch>,
}

/// A partition's recent batches, without gaps, up to the high watermark.
#[derive(Debug, Default)]
pub(crate) struct PartitionLog {
    refs: VecDeque<BatchRef>,
    /// How many at the front are not in memory: batches leave it in the order in which they came.
    evicted: usize,
    /// How many at the front are in the object store.
    tiered: usize,
}

/// Which batches are in memory, of all partitions, oldest first.
#[derive(Debug)]
pub(crate) struct Memory {
    batches: VecDeque<(TopicPartition, u32)>,
    bytes: u64,
    budget: u64,
}

impl BatchRef {
    pub(crate) fn new(id: EntryId, batch: &Batch, location: Location, in_memory: bool) -> Self {
        Self {
            index: id.index,
            base_offset: batch.base_offset,
            last_offset: batch.last_offset(),
            max_timestamp: batch.max_timestamp(),
            location,
            batch: in_memory.then(|| batch.clone()),
        }
    }

    /// Bytes of the batch, about: those of its entry.
    pub(crate) fn len(&self) -> usize {
        self.location.length as usize
    }
}

impl PartitionLog {
    pub(crate) fn push(&mut self, batch: BatchRef) {
        if batch.batch.is_none() {
            self.evicted = self.refs.len() + 1;
        }
        self.refs.push_back(batch);
    }

    /// The batch that leaves memory next leaves it.
    pub(crate) fn evict_one(&mut self) {
        if let Some(batch) = self.refs.get_mut(self.evicted) {
            batch.batch = None;
            self.evicted += 1;
            self.forget();
        }
    }

    /// Batches up to an index are in the object store.
    pub(crate) fn tiered_through(&mut self, index: u64) {
        self.tiered = self.refs.partition_point(|batch| batch.index <= index);
        self.forget();
    }

    /// The first offset that is here.
    pub(crate) fn first_offset(&self) -> Option<i64> {
        Some(self.refs.front()?.base_offset)
    }

    /// The batches from the one that holds `offset` on; none when it is not here.
    pub(crate) fn starting_at(&self, offset: i64) -> impl Iterator<Item = &BatchRef> {
        let here = self.first_offset().is_some_and(|first| first <= offset);
        let at = if here { self.refs.partition_point(|batch| batch.last_offset < offset) } else { self.refs.len() };
        self.refs.range(at..)
    }

    /// The batches that end at `offset` or behind it.
    pub(crate) fn starting_at_or_after(&self, offset: i64) -> impl Iterator<Item = &BatchRef> {
        self.refs.range(self.refs.partition_point(|batch| batch.last_offset < offset)..)
    }

    /// The batches of indexes in `after < index <= through`.
    pub(crate) fn of_indexes(&self, after: u64, through: u64) -> impl Iterator<Item = &BatchRef> {
        let start = self.refs.partition_point(|batch| batch.index <= after);
        let end = self.refs.partition_point(|batch| batch.index <= through);
        self.refs.range(start..end.max(start))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &BatchRef> {
        self.refs.iter()
    }

    /// Drops what is neither in memory nor needed from the write-ahead log.
    fn forget(&mut self) {
        let count = self.evicted.min(self.tiered);
        self.refs.drain(..count);
        self.evicted -= count;
        self.tiered -= count;
    }
}

impl Memory {
    pub(crate) fn new(budget: u64) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, budget }
    }

    pub(crate) fn admit(&mut self, partition: TopicPartition, len: u32) {
        self.batches.push_back((partition, len));
        self.bytes += u64::from(len);
    }

    /// The partition whose oldest batch has to leave, while there is too much.
    pub(crate) fn next_to_leave(&mut self) -> Option<TopicPartition> {
        if self.bytes <= self.budget {
            return None;
        }
        let (partition, len) = self.batches.pop_front()?;
        self.bytes -= u64::from(len);
        Some(partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(index: u64, in_memory: bool) -> BatchRef {
        let mut batch = crate::entry::tests::sample_batch((-1, -1, -1), 10, 0, b"");
        batch.base_offset = index as i64 * 10;
        let location = Location { sequence: 1, position: 0, length: 100 };
        BatchRef::new(EntryId { epoch: 1, index }, &batch, location, in_memory)
    }

    fn bases<'a>(refs: impl Iterator<Item = &'a BatchRef>) -> Vec<i64> {
        refs.map(|batch| batch.base_offset).collect()
    }

    #[test]
    fn a_batch_is_forgotten_when_it_is_tiered_and_out_of_memory_and_not_before() {
        let mut log = PartitionLog::default();
        (0..4).for_each(|n| log.push(batch(n, true)));
        log.tiered_through(1);
        assert_eq!(log.first_offset(), Some(0));
        log.evict_one();
        assert_eq!(bases(log.iter()), [10, 20, 30]);
        log.evict_one();
        log.evict_one();
        assert_eq!(bases(log.iter()), [20, 30], "20 is out of memory and only in the log");
        assert_eq!(bases(log.starting_at(25)), [20, 30]);
        assert_eq!(bases(log.starting_at(15)), [0i64; 0]);
        log.tiered_through(3);
        assert_eq!(bases(log.iter()), [30]);
        log.push(batch(4, true));
        assert_eq!(bases(log.of_indexes(3, 4)), [40]);
        log.evict_one();
        assert_eq!(bases(log.iter()), [40]);
        assert!(log.iter().all(|batch| batch.batch.is_some()));
    }

    #[test]
    fn memory_gives_back_the_oldest_first_down_to_its_budget() {
        let at = |n| TopicPartition::new(tidemark_model::TopicId(uuid::Uuid::nil()), n);
        let mut memory = Memory::new(250);
        (0..4).for_each(|n| memory.admit(at(n), 100));
        let left: Vec<i32> = std::iter::from_fn(|| memory.next_to_leave()).map(|at| at.partition).collect();
        assert_eq!(left, [0, 1]);
    }
}
