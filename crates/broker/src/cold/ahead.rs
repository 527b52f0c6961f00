//! Who reads on where they stopped, and how far it is worth reading ahead of them. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use tidemark_model::TopicPartition;
use tokio::time::Instant;

/// Readers that are remembered: more than consume history at a time. The one that read longest ago is forgotten.
const READERS: usize = 1024;

/// Bytes ahead of a reader that has read on once. They double each time that it does so again.
const FIRST: u64 = 1 << 20;

/// The most bytes ahead of one reader: some round trips to an object store at the speed at which one consumer reads.
const MOST: u64 = 16 << 20;

/// Who has not read for so long shares the room with nobody: it is done, or too slow to wait for an object store.
const RESTS: Duration = Duration::from_secs(1);

/// Readers of history, the one that read last at the back.
#[derive(Debug, Default)]
pub(super) struct Readers(VecDeque<Reader>);

#[derive(Debug)]
struct Reader {
    partition: TopicPartition,
    /// Where it reads on, if it does.
    next: i64,
    ahead: u64,
    read_at: Instant,
}

impl Readers {
    /// A reader has read a partition from `offset` up to `next`: how many bytes to read ahead of it. Nothing for one that
    /// came from elsewhere, which may go elsewhere again. `room`: bytes for all readers together.
    pub(super) fn read(&mut self, partition: TopicPartition, offset: i64, next: i64, room: u64, now: Instant) -> u64 {
        let known = self.0.iter().rposition(|one| one.partition == partition && one.next == offset);
        let ahead = match known.and_then(|at| self.0.remove(at)) {
            Some(reader) => (reader.ahead * 2).clamp(FIRST, MOST),
            None => 0,
        };
        if self.0.len() >= READERS {
            self.0.pop_front();
        }
        self.0.push_back(Reader { partition, next, ahead, read_at: now });
        let lately = self.0.iter().rev().take_while(|one| now.saturating_duration_since(one.read_at) < RESTS);
        let reading_on = lately.filter(|one| one.ahead > 0).count().max(1) as u64;
        ahead.min(room / reading_on)
    }
}

#[cfg(test)]
mod tests {
    use tidemark_model::TopicId;
    use uuid::Uuid;

    use super::*;

    fn at(partition: i32) -> TopicPartition {
        TopicPartition::new(TopicId(Uuid::from_u128(1)), partition)
    }

    #[test]
    fn it_grows_with_who_reads_on_and_is_nothing_for_who_jumps() {
        let mut readers = Readers::default();
        let room = 1 << 40;
        let now = Instant::now();
        let mut read = |partition, offset| readers.read(at(partition), offset, offset + 10, room, now);
        let ahead: Vec<u64> = (0..7).map(|n| read(0, n * 10) >> 20).collect();
        assert_eq!(ahead, [0, 1, 2, 4, 8, 16, 16]);
        assert_eq!(read(0, 5_000), 0, "somewhere else");
        assert_eq!(read(0, 900), 0);
        assert_eq!(read(1, 70), 0, "another partition");
        assert_eq!(read(0, 70) >> 20, 16, "the first one goes on");
    }

    #[test]
    fn readers_share_the_room_and_are_bounded() {
        let mut readers = Readers::default();
        let mut now = Instant::now();
        for partition in 0..4 {
            readers.read(at(partition), 0, 1, 8 << 20, now);
            readers.read(at(partition), 1, 2, 8 << 20, now);
        }
        for next in 2..8 {
            assert!(readers.read(at(0), next, next + 1, 8 << 20, now) <= 2 << 20);
        }
        now += RESTS;
        assert_eq!(readers.read(at(0), 8, 9, 8 << 20, now), 8 << 20, "the others have stopped");
        for partition in 0..2 * READERS as i32 {
            readers.read(at(partition), 100, 101, 1, now);
        }
        assert_eq!(readers.0.len(), READERS);
    }
}
