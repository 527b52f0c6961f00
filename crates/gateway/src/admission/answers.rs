//! Room for answers with records: how many bytes of them the process holds for clients that have yet to read them.
//!
//! A fetch takes room before it asks for records, gives back what it did not need, and holds the rest until its answer is
//! in the socket. The more is held, the less each gets, but a little always: clients that do not read make the answers of
//! others smaller, and hold up nobody. While a fetch waits for records to come it holds nothing.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that all answers may hold, beyond the least of each: a few of the largest.
const ANSWER_BYTES: usize = 64 << 20;
/// The least that a fetch may answer, and one batch if that is larger. A connection has one such answer at most.
pub(crate) const LEAST_ANSWER: usize = 64 << 10;
/// The part of what is left that one answer may take.
const SHARE: usize = 4;

#[derive(Debug, Clone)]
pub(crate) struct Answers(Arc<Semaphore>);

/// What one answer may hold.
#[derive(Debug)]
pub(crate) struct Room(Option<OwnedSemaphorePermit>);

impl Default for Answers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ANSWER_BYTES)))
    }
}

impl Answers {
    /// Room for an answer that would like to have `bytes`.
    pub(crate) fn room(&self, bytes: usize) -> Room {
        let more = bytes.saturating_sub(LEAST_ANSWER).min(self.0.available_permits() / SHARE);
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        // Another may have taken it just now.
        Room((more > 0).then(|| Arc::clone(&self.0).try_acquire_many_owned(more).ok()).flatten())
    }
}

impl Room {
    pub(crate) fn bytes(&self) -> usize {
        LEAST_ANSWER + self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// The answer has `bytes`: the rest is given back.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.0 {
            let rest = permit.num_permits().saturating_sub(bytes.saturating_sub(LEAST_ANSWER));
            drop(permit.split(rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_get_smaller_as_more_is_held_and_never_nothing() {
        let answers = Answers::default();
        let mut held: Vec<Room> = (0..100).map(|_| answers.room(16 << 20)).collect();
        let bytes: Vec<usize> = held.iter().map(Room::bytes).collect();
        assert_eq!(bytes[0], 16 << 20);
        assert!(bytes.is_sorted_by(|a, b| a >= b) && bytes[99] < 2 * LEAST_ANSWER, "{bytes:?}");
        assert!(bytes.iter().sum::<usize>() <= ANSWER_BYTES + 100 * LEAST_ANSWER);
        held[0].shrink_to(LEAST_ANSWER - 1);
        assert_eq!(held[0].bytes(), LEAST_ANSWER);
        assert!(answers.room(16 << 20).bytes() > 3 << 20, "what one gives back others have");
        held.clear();
        assert_eq!(answers.room(1 << 20).bytes(), 1 << 20);
    }
}
