//! A group in its slot: what of it is on the way to the store, and who waits for that.

use std::collections::VecDeque;

use tidemark_model::group::GroupAnswer;
use tokio::time::Instant;

use super::Outcome;
use crate::groups::{Group, Ticket, Writes};
use crate::slots::Urgency;

/// Writes of one group that are on their way. What changes meanwhile waits, and is then written once.
const MAX_WRITES_IN_FLIGHT: u64 = 4;

#[derive(Debug)]
pub(super) struct Hosted {
    pub(super) group: Group,
    /// When it is woken.
    pub(super) armed: Option<Instant>,
    /// The last write that was handed out, and the last that is stored.
    written: u64,
    stored: u64,
    /// Answers that wait for the store, by the write that they wait for, in its order.
    waiting: VecDeque<(u64, Ticket, Outcome)>,
    /// Of the next write: of a membership that somebody waits for.
    urgency: Urgency,
}

impl Hosted {
    pub(super) fn new(group: Group) -> Self {
        Self { group, armed: None, written: 0, stored: 0, waiting: VecDeque::new(), urgency: Urgency::default() }
    }

    /// What is to be written now. `at_once` is for a last write, which does not wait for others.
    pub(super) fn take_writes(&mut self, at_once: bool) -> Option<(Writes, Urgency)> {
        if !at_once && self.written - self.stored >= MAX_WRITES_IN_FLIGHT {
            return None;
        }
        let writes = self.group.take_writes()?;
        self.written = writes.number;
        Some((writes, std::mem::take(&mut self.urgency)))
    }

    /// Keeps an answer until all that the group has changed is stored. Gives it back when that is so already.
    pub(super) fn hold(&mut self, ticket: Ticket, outcome: Outcome) -> Option<Outcome> {
        let needs = self.written + u64::from(self.group.has_changes());
        self.hold_for(needs, ticket, outcome)
    }

    /// Keeps an answer until a write, and all before, is stored. Gives it back when that is so already.
    pub(super) fn hold_for(&mut self, needs: u64, ticket: Ticket, outcome: Outcome) -> Option<Outcome> {
        if needs <= self.stored {
            return Some(outcome);
        }
        if needs > self.written && is_of_rebalance(&outcome) {
            self.urgency = Urgency::Urgent;
        }
        let at = self.waiting.partition_point(|(before, ..)| *before <= needs);
        self.waiting.insert(at, (needs, ticket, outcome));
        None
    }

    /// The store has every write up to this one. Returns whether that is news.
    pub(super) fn stored(&mut self, number: u64) -> bool {
        let news = number > self.stored;
        self.stored = self.stored.max(number);
        news
    }

    /// Takes an answer that need not wait any more.
    pub(super) fn settled(&mut self) -> Option<(Ticket, Outcome)> {
        self.waiting.front().filter(|(needs, ..)| *needs <= self.stored)?;
        self.waiting.pop_front().map(|(_, ticket, outcome)| (ticket, outcome))
    }

    /// Those who wait for the store.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Ticket> {
        self.waiting.iter().map(|(_, ticket, _)| *ticket)
    }

    /// Whether it can be forgotten.
    pub(super) fn is_gone(&self) -> bool {
        self.group.is_gone() && self.written == self.stored
    }
}

/// Whether other members wait for what the one who gets this does next.
fn is_of_rebalance(outcome: &Outcome) -> bool {
    match outcome {
        Ok(
            GroupAnswer::Join(_)
            | GroupAnswer::Sync(_)
            | GroupAnswer::Heartbeat
            | GroupAnswer::Leave(_)
            | GroupAnswer::ConsumerHeartbeat(_),
        ) => true,
        Ok(
            GroupAnswer::CommitOffsets(_)
            | GroupAnswer::FetchOffsets(_)
            | GroupAnswer::DeleteOffsets(_)
            | GroupAnswer::Describe(_)
            | GroupAnswer::DescribeConsumer(_)
            | GroupAnswer::Delete
            | GroupAnswer::AlterConfigs
            | GroupAnswer::DescribeConfigs(_),
        )
        | Err(_) => false,
    }
}
