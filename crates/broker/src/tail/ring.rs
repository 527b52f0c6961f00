//! The recent records of one partition, as its leader's tail stream delivers them. Pure: no locks, no I/O.

use std::collections::VecDeque;

use bytes::Bytes;
use tidemark_model::Batch;
use tidemark_model::storage::{AbortedTransaction, Bounds};

/// How far the stream may run ahead of the furthest reader at most. A reader that catches up is served from here, so this
/// is its read-ahead: large enough that a round trip to the leader does not show.
pub(crate) const WINDOW: u64 = 4 << 20;

/// How far it runs ahead of a reader that may yet turn out to read only once. It doubles with each read that goes on.
const FIRST_WINDOW: u64 = WINDOW / 8;

/// Credit is topped up in steps of at least this part of the window, so that its messages are few.
const STEPS: u64 = 4;

/// A body of less is copied when it comes to stay: it is a slice of a message, or of a request, which it would keep whole.
/// What a longer one may keep is counted as the operator's margin.
const COPIED: usize = 16 << 10;

/// Bytes that a batch takes beside its body.
const BESIDE_BODY: u64 = 128;

#[derive(Debug)]
pub(crate) struct Ring {
    batches: VecDeque<Held>,
    /// Bytes of memory that `batches` take.
    bytes: u64,
    /// Bytes received since the ring began.
    received: u64,
    /// The offset after the last batch received.
    next: i64,
    bounds: Bounds,
    aborted: VecDeque<AbortedTransaction>,
    /// Where, in bytes received, the furthest reader is.
    read_up_to: u64,
    /// How far the stream may run ahead of it.
    window: u64,
    /// Bytes of credit the leader still has: below zero, as at the leader, after a batch that was larger than what was left.
    credit: i64,
}

#[derive(Debug)]
struct Held {
    batch: Batch,
    /// Bytes received up to the end of this batch.
    end: u64,
}

/// What a ring has at an offset.
#[derive(Debug)]
pub(crate) enum Found {
    Batches {
        batches: Vec<Batch>,
        aborted: Vec<AbortedTransaction>,
    },
    /// The offset is where the stream goes on: wait.
    End,
    /// Not here: the leader knows.
    Elsewhere,
}

/// The stream sent something that does not continue what is here: start over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Discontinuous;

impl Ring {
    /// A ring whose stream begins at `next`.
    pub(crate) fn new(next: i64, bounds: Bounds) -> Self {
        Self {
            batches: VecDeque::new(),
            bytes: 0,
            received: 0,
            next,
            bounds,
            aborted: VecDeque::new(),
            read_up_to: 0,
            window: FIRST_WINDOW,
            credit: 0,
        }
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes received since the ring began.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    pub(crate) fn next(&self) -> i64 {
        self.next
    }

    /// Takes what the stream delivered. Whether anything that a reader may wait for is new.
    pub(crate) fn push(
        &mut self,
        bounds: Bounds,
        batches: Vec<Batch>,
        aborted: Vec<AbortedTransaction>,
    ) -> Result<bool, Discontinuous> {
        if bounds.leader_epoch != self.bounds.leader_epoch {
            return Err(Discontinuous);
        }
        let before = (self.next, self.bounds.last_stable_offset);
        for batch in batches {
            // What is not tiered yet has no holes. Only the first batch may begin below: it holds the offset that the
            // stream began at. This also keeps out what an earlier subscription still had under way.
            let holds_first =
                self.batches.is_empty() && batch.base_offset < self.next && batch.next_offset() > self.next;
            let continues = batch.base_offset == self.next || holds_first;
            if !continues {
                return Err(Discontinuous);
            }
            let size = batch.wire_len() as u64;
            self.next = batch.next_offset();
            self.bytes += weight(&batch);
            self.received += size;
            self.credit -= size as i64;
            self.batches.push_back(Held { batch, end: self.received });
        }
        self.aborted.extend(aborted);
        self.bounds = bounds;
        while let Some(deleted) = self.batches.front().filter(|held| held.batch.last_offset() < bounds.log_start_offset)
        {
            self.bytes -= weight(&deleted.batch);
            self.read_up_to = self.read_up_to.max(deleted.end);
            self.batches.pop_front();
        }
        Ok(before != (self.next, bounds.last_stable_offset))
    }

    /// Batches from the one that holds `offset` on, below `limit`, at most `max_bytes` of them but at least one.
    pub(crate) fn read(&mut self, offset: i64, limit: i64, max_bytes: usize) -> Found {
        let first = self.batches.front().map_or(self.next, |held| held.batch.base_offset);
        if offset > self.next || offset < first.max(self.bounds.log_start_offset) {
            return Found::Elsewhere;
        }
        let start = self.batches.partition_point(|held| held.batch.last_offset() < offset);
        let mut batches = Vec::new();
        let mut bytes = 0;
        let before = self.read_up_to;
        // What lies before the offset this reader has, also where it was the leader that gave it: nobody is about to read
        // that here, and credit that waits for it would never be given.
        let passed = self.batches.get(start).map_or(self.received, |held| held.end - held.batch.wire_len() as u64);
        self.read_up_to = before.max(passed);
        for held in self.batches.range(start..) {
            let size = held.batch.wire_len();
            if held.batch.next_offset() > limit || (!batches.is_empty() && bytes + size > max_bytes) {
                break;
            }
            bytes += size;
            self.read_up_to = self.read_up_to.max(held.end);
            batches.push(held.batch.clone());
        }
        if self.read_up_to > before {
            self.window = (self.window * 2).min(WINDOW);
        }
        match batches.last() {
            None => Found::End,
            Some(last) => {
                let last = last.last_offset();
                let overlaps = |a: &&AbortedTransaction| a.last_offset >= offset && a.first_offset <= last;
                let aborted = self.aborted.iter().filter(overlaps).copied().collect();
                Found::Batches { batches, aborted }
            }
        }
    }

    /// Drops the batches received up to `end`. False when the furthest reader had yet to read one of them.
    ///
    /// At the end of the log the stream runs on whether it is read or not; there no reader is waited for.
    pub(crate) fn evict_through(&mut self, end: u64) -> bool {
        let mut were_read = true;
        let caught_up = self.caught_up();
        while let Some(oldest) = self.batches.front().filter(|oldest| oldest.end <= end) {
            were_read &= caught_up || oldest.end <= self.read_up_to;
            self.bytes -= weight(&oldest.batch);
            let gone = oldest.batch.last_offset();
            self.batches.pop_front();
            while self.aborted.front().is_some_and(|a| a.last_offset <= gone) {
                self.aborted.pop_front();
            }
        }
        were_read
    }

    /// Credit to give the leader now, so that it sends on; 0 when there is enough, or a reader has to read first. `most`:
    /// the window that the partition may have among others.
    pub(crate) fn take_credit(&mut self, most: u64) -> u64 {
        let (ahead, window) =
            if self.caught_up() { (0, most) } else { (self.received - self.read_up_to, self.window.min(most)) };
        if ahead >= window {
            return 0;
        }
        // What the last batch took beyond its credit is missing at the leader, too.
        let wanted = ((window - ahead) as i64 - self.credit).max(0) as u64;
        if wanted < (window / STEPS).max(1) {
            return 0;
        }
        self.credit += wanted as i64;
        wanted
    }

    /// Whether all that is known to be there has come.
    pub(crate) fn caught_up(&self) -> bool {
        self.next >= self.bounds.high_watermark
    }
}

/// The batch as it comes to stay.
pub(crate) fn settled(batch: Batch) -> Batch {
    if batch.body().len() >= COPIED {
        return batch;
    }
    let copy = Bytes::copy_from_slice(batch.body());
    // The same bytes are a batch again.
    Batch::from_body(batch.base_offset, batch.leader_epoch, copy).unwrap_or(batch)
}

fn weight(batch: &Batch) -> u64 {
    batch.body().len() as u64 + BESIDE_BODY
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes, BytesMut};

    use super::*;

    /// A window that is smaller than a batch.
    const SMALL: u64 = 16 << 10;

    fn bounds(high_watermark: i64) -> Bounds {
        Bounds { leader_epoch: 1, log_start_offset: 0, high_watermark, last_stable_offset: high_watermark }
    }

    /// A batch of `count` records and `size` bytes on the wire.
    fn batch(base_offset: i64, count: i32, size: usize) -> Batch {
        let mut wire = BytesMut::new();
        wire.put_i64(base_offset);
        wire.put_i32(size as i32 - 12);
        wire.put_i32(1);
        wire.put_u8(2);
        wire.put_u32(0);
        wire.put_i16(0);
        wire.put_i32(count - 1);
        wire.resize(size, 0);
        Batch::split_from(&mut Bytes::from(wire)).unwrap()
    }

    fn offsets(found: Found) -> Vec<i64> {
        match found {
            Found::Batches { batches, .. } => batches.iter().map(|b| b.base_offset).collect(),
            Found::End => vec![],
            Found::Elsewhere => vec![-1],
        }
    }

    #[test]
    fn reads_from_the_batch_that_holds_the_offset_within_the_limits() {
        let mut ring = Ring::new(10, bounds(30));
        assert!(ring.push(bounds(30), vec![batch(10, 10, 100), batch(20, 5, 100), batch(25, 5, 100)], vec![]).unwrap());
        assert_eq!(offsets(ring.read(12, i64::MAX, 1)), [10], "at least one batch, however small the limit");
        assert_eq!(offsets(ring.read(20, i64::MAX, 200)), [20, 25]);
        assert_eq!(offsets(ring.read(10, 25, 1_000)), [10, 20], "nothing above the isolation's limit");
        assert_eq!(offsets(ring.read(30, i64::MAX, 1_000)), [] as [i64; 0]);
        assert_eq!(offsets(ring.read(9, i64::MAX, 1_000)), [-1]);
        assert_eq!(offsets(ring.read(31, i64::MAX, 1_000)), [-1]);
    }

    #[test]
    fn refuses_what_does_not_continue() {
        let mut ring = Ring::new(15, bounds(30));
        assert_eq!(ring.push(bounds(30), vec![batch(10, 10, 100)], vec![]), Ok(true), "holds the first offset");
        assert_eq!(ring.push(bounds(30), vec![batch(10, 10, 100)], vec![]), Err(Discontinuous));
        assert_eq!(ring.push(bounds(30), vec![batch(21, 9, 100)], vec![]), Err(Discontinuous), "a hole");
        let newer = Bounds { leader_epoch: 2, ..bounds(30) };
        assert_eq!(ring.push(newer, vec![], vec![]), Err(Discontinuous));
    }

    #[test]
    fn what_was_deleted_is_not_read_from_here() {
        let mut ring = Ring::new(0, bounds(30));
        ring.push(bounds(30), vec![batch(0, 10, 100), batch(10, 10, 100), batch(20, 10, 100)], vec![]).unwrap();
        ring.push(Bounds { log_start_offset: 15, ..bounds(30) }, vec![], vec![]).unwrap();
        assert_eq!(ring.bytes(), 2 * (100 - 16 + BESIDE_BODY), "the first lies below whole");
        assert_eq!(offsets(ring.read(14, i64::MAX, 1_000)), [-1]);
        assert_eq!(offsets(ring.read(15, i64::MAX, 1_000)), [10, 20]);
        ring.push(Bounds { log_start_offset: 30, ..bounds(30) }, vec![], vec![]).unwrap();
        assert_eq!(offsets(ring.read(30, i64::MAX, 1_000)), [] as [i64; 0]);
        assert_eq!(offsets(ring.read(29, i64::MAX, 1_000)), [-1]);
    }

    #[test]
    fn credit_stops_ahead_of_the_readers_grows_with_them_and_flows_at_the_end_of_the_log() {
        let size = 1 << 20;
        let mut ring = Ring::new(0, bounds(100));
        assert_eq!(ring.take_credit(WINDOW), FIRST_WINDOW);
        let all: Vec<Batch> = (0..4).map(|n| batch(n, 1, size)).collect();
        ring.push(bounds(100), all, vec![]).unwrap();
        assert_eq!(ring.take_credit(WINDOW), 0, "nothing was read yet");
        for offset in 0..3 {
            assert_eq!(offsets(ring.read(offset, i64::MAX, size)), [offset]);
        }
        assert_eq!(offsets(ring.read(0, i64::MAX, size)), [0], "a reader behind does not make it grow");
        let beyond = 4 * size as u64 - FIRST_WINDOW;
        assert_eq!(ring.take_credit(WINDOW), (3 << 20) + beyond, "of what one may be ahead, one is unread");
        assert_eq!(ring.take_credit(WINDOW), 0);
        ring.push(bounds(4), vec![], vec![]).unwrap();
        assert_eq!(ring.take_credit(WINDOW), 1 << 20, "at the end of the log the stream needs no reader");
        assert!(ring.evict_through(ring.received()));
        assert_eq!(ring.bytes(), 0);
        assert_eq!(offsets(ring.read(4, i64::MAX, size)), [] as [i64; 0]);
    }

    #[test]
    fn batches_larger_than_the_credit_do_not_stop_the_stream() {
        // A leader sends a batch whenever any credit is left, however little.
        let size = (1 << 20) - 100;
        for most in [SMALL, 3 * SMALL, WINDOW] {
            let mut ring = Ring::new(0, bounds(1_000));
            let mut leader = ring.take_credit(most) as i64;
            for offset in 0..500 {
                assert!(leader > 0, "nothing comes after batch {offset}, with windows of {most}");
                ring.push(bounds(1_000), vec![batch(offset, 1, size)], vec![]).unwrap();
                leader -= size as i64;
                assert_eq!(offsets(ring.read(offset, i64::MAX, size)), [offset]);
                leader += ring.take_credit(most) as i64;
                ring.evict_through(ring.received());
            }
        }
    }

    #[test]
    fn a_reader_that_comes_to_the_end_by_another_way_has_it_go_on() {
        let size = 1 << 20;
        let mut ring = Ring::new(0, bounds(100));
        let mut leader = ring.take_credit(WINDOW) as i64;
        ring.push(bounds(100), vec![batch(0, 1, size), batch(1, 1, size)], vec![]).unwrap();
        leader -= 2 * size as i64;
        assert_eq!(ring.take_credit(WINDOW), 0, "more than the window is there and not read");
        assert_eq!(offsets(ring.read(2, i64::MAX, size)), [] as [i64; 0], "the leader gave it what is here");
        leader += ring.take_credit(WINDOW) as i64;
        assert!(leader > 0, "nothing comes any more");
        ring.push(bounds(100), vec![batch(2, 1, size), batch(3, 1, size), batch(4, 1, size)], vec![]).unwrap();
        assert_eq!(offsets(ring.read(4, i64::MAX, size)), [4], "and again, into the middle");
        assert!(ring.evict_through(ring.received()), "all of it was read by somebody, here or elsewhere");
    }

    #[test]
    fn a_partition_among_many_has_a_small_window() {
        let mut ring = Ring::new(0, bounds(100));
        assert_eq!(ring.take_credit(20_000), 20_000);
        ring.push(bounds(100), vec![batch(0, 1, 18_000)], vec![]).unwrap();
        assert_eq!(ring.take_credit(20_000), 0);
        assert_eq!(offsets(ring.read(0, i64::MAX, 1)), [0]);
        assert_eq!(ring.take_credit(20_000), 18_000);
    }

    #[test]
    fn what_goes_before_it_was_read_is_told() {
        let mut ring = Ring::new(0, bounds(100));
        ring.push(bounds(100), vec![batch(0, 1, 100)], vec![]).unwrap();
        let first = ring.received();
        ring.push(bounds(100), vec![batch(1, 1, 100)], vec![]).unwrap();
        assert_eq!(offsets(ring.read(0, i64::MAX, 100)), [0]);
        assert!(ring.evict_through(first), "it was read");
        assert_eq!(offsets(ring.read(1, i64::MAX, 0)), [1]);
        ring.push(bounds(100), vec![batch(2, 1, 100)], vec![]).unwrap();
        assert!(!ring.evict_through(ring.received()));
        assert_eq!(offsets(ring.read(1, i64::MAX, 100)), [-1]);
    }

    #[test]
    fn a_small_batch_does_not_keep_the_message_that_it_came_in() {
        let (small, large) = (batch(0, 1, 16 + COPIED - 1), batch(1, 1, 16 + COPIED));
        let message: Bytes = [&small.prefix()[..], small.body(), &large.prefix(), large.body()].concat().into();
        let batches: Vec<Batch> = Batch::split_all(message.clone()).unwrap().into_iter().map(settled).collect();
        let within = |batch: &Batch| message.as_ptr_range().contains(&batch.body().as_ptr());
        assert_eq!(batches.iter().map(within).collect::<Vec<_>>(), [false, true]);
        assert_eq!(batches[0], small);
    }
}
