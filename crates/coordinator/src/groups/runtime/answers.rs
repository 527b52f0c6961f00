//! Who waits for an answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tidemark_model::GroupError;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Outcome;
use crate::groups::Ticket;

/// How long an answer waits for the store. Kafka's `offsets.commit.timeout.ms`.
pub(super) const STORE_PATIENCE: Duration = Duration::from_secs(5);

/// Calls of a slot that wait, for their groups or for the store.
const MAX_WAITING: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Answers {
    last: u64,
    waiting: BTreeMap<Ticket, oneshot::Sender<Outcome>>,
    /// Of those who wait for the store, in the order of time.
    patience: VecDeque<(Instant, Ticket)>,
}

impl Answers {
    /// Gives the way to answer back when too many wait.
    pub(super) fn expect(&mut self, answer: oneshot::Sender<Outcome>) -> Result<Ticket, oneshot::Sender<Outcome>> {
        if self.waiting.len() >= MAX_WAITING {
            return Err(answer);
        }
        self.last += 1;
        self.waiting.insert(Ticket(self.last), answer);
        Ok(Ticket(self.last))
    }

    /// Answers, unless that was done already, for want of patience.
    pub(super) fn give(&mut self, ticket: Ticket, outcome: Outcome) {
        if let Some(waiting) = self.waiting.remove(&ticket) {
            // Who asked may have gone away.
            let _ = waiting.send(outcome);
        }
    }

    /// From now on it is the store that the caller waits for.
    pub(super) fn begin_patience(&mut self, ticket: Ticket, now: Instant) {
        self.patience.push_back((now + STORE_PATIENCE, ticket));
    }

    pub(super) fn next_out_of_patience(&self) -> Option<Instant> {
        self.patience.front().map(|(until, _)| *until)
    }

    /// Tells those who have waited for too long that it may have been done.
    pub(super) fn give_up(&mut self, now: Instant) {
        while self.next_out_of_patience().is_some_and(|until| until <= now)
            && let Some((_, ticket)) = self.patience.pop_front()
        {
            self.give(ticket, Err(GroupError::TimedOut("the metadata store does not answer".into())));
        }
    }

    /// The slot goes to another coordinator, which is to be asked by all but those who wait for the store.
    pub(super) fn dismiss_all_but(&mut self, written: &[Ticket]) {
        let keep: BTreeSet<Ticket> = written.iter().copied().collect();
        for (_, waiting) in self.waiting.extract_if(.., |ticket, _| !keep.contains(ticket)) {
            let _ = waiting.send(Err(GroupError::NotCoordinator));
        }
    }

    /// The slot is another coordinator's. What was on its way to the store may be there.
    pub(super) fn dismiss(&mut self, written: &[Ticket]) {
        for ticket in written {
            self.give(*ticket, Err(GroupError::TimedOut("the group moves to another coordinator".into())));
        }
        self.dismiss_all_but(&[]);
    }
}
