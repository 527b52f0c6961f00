//! Producers leave the state: those that have not written for long, and the oldest where there are too many. A leader says
//! so in an entry, by its clock; replicas have none.

use std::time::Duration;

use super::Journal;
use super::core::{Core, Phase};
use crate::entry::Entry;

/// How often it is looked for producers that expire, as in Kafka (`producer.id.expiration.check.interval.ms`).
pub(super) const INTERVAL: Duration = Duration::from_secs(600);
/// Where there are too many, this part of them goes at once: not one for each that comes.
const SURPLUS_SHARE: usize = 8;

/// How long and how many producers are remembered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// `producer.id.expiration.ms`: a producer whose last record is older is forgotten.
    pub(crate) expiration_ms: i64,
    /// Most producers in all partitions together.
    pub(crate) max: usize,
}

impl Journal {
    pub(super) fn expire_producers(&self) {
        if self.lock().expire_producers() {
            self.wake();
        }
    }
}

impl Core {
    /// Whether there are more than are remembered, and nothing under way about it.
    pub(super) fn has_too_many_producers(&self) -> bool {
        self.state.producers > self.remembered.max && self.expiring.is_none()
    }

    /// Names an entry by which producers go, where there are some to go.
    fn expire_producers(&mut self) -> bool {
        if self.phase != Phase::Serving || self.expiring.is_some() {
            return false;
        }
        let mut through_ms = self.clock.now_ms().saturating_sub(self.remembered.expiration_ms);
        let mut last: Vec<i64> = self
            .state
            .partitions
            .values()
            .flat_map(|partition| partition.producers.values().map(|producer| producer.last_timestamp()))
            .collect();
        if last.len() > self.remembered.max {
            let surplus = (last.len() - self.remembered.max + last.len() / SURPLUS_SHARE).min(last.len() - 1);
            let (_, oldest, _) = last.select_nth_unstable(surplus);
            through_ms = through_ms.max(*oldest);
            tracing::warn!(journal = %self.journal, producers = last.len(), through_ms, "too many producers, forgetting the oldest");
        }
        if !last.iter().any(|last| *last <= through_ms) {
            return false;
        }
        let id = self.name(Entry::ProducersExpired { through_ms });
        self.expiring = Some(id.index);
        true
    }

    #[cfg(test)]
    pub(crate) fn remember_producers(&mut self, max: usize) {
        self.remembered.max = max;
    }

    /// Entries up to this one are committed.
    pub(super) fn expired(&mut self, index: u64) {
        if self.expiring.is_some_and(|expiring| expiring <= index) {
            self.expiring = None;
        }
    }
}
