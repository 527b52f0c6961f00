//! Takes what waits to be written to the store: few transactions, a few of them at a time.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

use super::confirm::records;
use super::hub::Hub;
use super::queue::{Flight, Outcome};
use crate::metrics;
use crate::store::{Commit, StoreError};

/// Transactions under way. With one alone, what arrives just after it left waits for two; many make the store slower, not
/// faster.
const MAX_FLIGHTS: usize = 4;

/// Transactions that are not full leave this far apart when there are many: 200 a second.
const SPACING: Duration = Duration::from_millis(5);

/// How many may leave without waiting after a pause.
const BURST: u32 = 40;

/// What is urgent may leave this far apart, taking along what else waits. A rebalance is a chain of writes each of which
/// waits for the one before, so that spacing would delay it as often as it has members; this only bounds what a thousand
/// groups that rebalance at the same time cost the store.
const URGENT_SPACING: Duration = Duration::from_millis(1);

/// How long to wait before the store is asked again after an error, doubled from the least to the most.
const LEAST_BACKOFF: Duration = Duration::from_millis(50);
const MOST_BACKOFF: Duration = Duration::from_secs(1);

/// Writes for as long as it is polled.
pub(super) async fn run(hub: &Hub) {
    let mut flights = FuturesUnordered::new();
    let mut pace = Pace::new(Instant::now());
    let mut backoff = Backoff::default();
    loop {
        if backoff.over(Instant::now()) && !hub.queue().doubted().is_empty() {
            // Nothing else leaves meanwhile. That is well: a store that fails one transaction is slow with the next.
            backoff.note(assure(hub).await);
        }
        let now = Instant::now();
        while flights.len() < MAX_FLIGHTS && backoff.over(now) && may_leave(hub, &pace, now) {
            let Some(flight) = hub.queue().take(&hub.keys) else { break };
            pace.left(now);
            flights.push(fly(hub, flight));
        }
        let urgent = hub.queue().is_urgent();
        tokio::select! {
            biased;
            Some((flight, result)) = flights.next() => {
                let outcome = outcome(&result);
                hub.queue().finish(flight, outcome);
                backoff.note(result.map(drop));
            }
            () = hub.queued.notified() => {}
            () = sleep_until(pace.next(urgent)), if now < pace.next(urgent) => {}
            () = sleep_until(backoff.until), if !backoff.over(now) => {}
        }
    }
}

fn may_leave(hub: &Hub, pace: &Pace, now: Instant) -> bool {
    let queue = hub.queue();
    pace.next(queue.is_urgent()) <= now || queue.full()
}

async fn fly(hub: &Hub, flight: Flight) -> (Flight, Result<Commit, StoreError>) {
    let (txn, begun) = (flight.txn.clone(), Instant::now());
    let (operations, bytes) = (txn.operations.len(), txn.bytes());
    let result = hub.store.commit(txn).await;
    metrics::slots_written(operations, bytes, begun.elapsed(), result.is_ok());
    (flight, result)
}

fn outcome(result: &Result<Commit, StoreError>) -> Outcome {
    match result {
        Ok(Commit::Done(revision)) => Outcome::Done(*revision),
        Ok(Commit::Conflict) => Outcome::Conflict,
        Err(_) => Outcome::Unknown,
    }
}

/// Reads the records of the slots of which a transaction failed: some were lost, the others go on.
async fn assure(hub: &Hub) -> Result<(), StoreError> {
    let doubted = hub.queue().doubted();
    let records = records(hub).await?;
    for (slot, tenure) in doubted {
        match records.get(&slot.id) {
            Some((now, entry)) if *now == slot => hub.queue().assured(slot.id, tenure, entry.revision),
            _ => hub.lose(slot.id, tenure),
        }
    }
    Ok(())
}

/// When transactions may leave that are not full.
struct Pace {
    /// When the transactions that have left, [`SPACING`] apart, would have left.
    spent: Instant,
    /// And [`URGENT_SPACING`] apart.
    spent_urgently: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { spent: now, spent_urgently: now }
    }

    /// When the next may leave.
    fn next(&self, urgent: bool) -> Instant {
        let patient = self.spent - SPACING * (BURST - 1);
        if urgent { patient.min(self.spent_urgently - URGENT_SPACING * (BURST - 1)) } else { patient }
    }

    /// Whatever leaves takes along all that waits. So what is urgent puts off what is not, but never by more than
    /// [`SPACING`].
    fn left(&mut self, now: Instant) {
        self.spent = (self.spent.max(now) + SPACING).min(now + SPACING * BURST);
        self.spent_urgently = (self.spent_urgently.max(now) + URGENT_SPACING).min(now + URGENT_SPACING * BURST);
    }
}

/// When the store may be asked again after it failed.
struct Backoff {
    until: Instant,
    next: Duration,
    failures: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { until: Instant::now(), next: LEAST_BACKOFF, failures: 0 }
    }
}

impl Backoff {
    fn over(&self, now: Instant) -> bool {
        self.until <= now
    }

    fn note(&mut self, result: Result<(), StoreError>) {
        let Err(error) = result else {
            *self = Self::default();
            return;
        };
        // An outage is told at its start, and then ever more rarely.
        self.failures = self.failures.saturating_add(1);
        if self.failures.is_power_of_two() {
            tracing::warn!(%error, failures = self.failures, "cannot write to slots, trying again");
        }
        self.until = Instant::now() + self.next;
        self.next = (self.next * 2).min(MOST_BACKOFF);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many leave in a second, where there is always something.
    async fn leave_for_a_second(pace: &mut Pace, urgent: bool) -> u32 {
        let (start, mut left) = (Instant::now(), 0);
        while Instant::now() < start + Duration::from_secs(1) {
            while pace.next(urgent) <= Instant::now() {
                pace.left(Instant::now());
                left += 1;
            }
            assert!(left >= BURST, "a burst waits for nothing");
            tokio::time::advance(Duration::from_micros(500)).await;
        }
        left
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_leave_at_once_and_many_are_spaced() {
        let left = leave_for_a_second(&mut Pace::new(Instant::now()), false).await;
        assert!((200..=200 + BURST).contains(&left), "{left}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_urgent_is_spaced_less_and_puts_off_the_rest_for_a_moment() {
        let mut pace = Pace::new(Instant::now());
        let left = leave_for_a_second(&mut pace, true).await;
        assert!((1000..=1000 + BURST).contains(&left), "{left}");
        let (now, next) = (Instant::now(), pace.next(false));
        assert!(now < next && next <= now + SPACING, "{:?}", next - now);
    }
}
