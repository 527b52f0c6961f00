//! Numbers that are handed out once, ever.

use std::ops::Range;

use tidemark_model::CoordinatorError;

use crate::error::{lost_races, unreadable};
use crate::metrics;
use crate::records::{Counter, decode_counter, encode_counter};
use crate::service::{ATTEMPTS, Shared};
use crate::store::{Commit, Txn};

/// The most producer ids that one call gets: a thousand times Kafka's block, in case someone counts down from 2^63.
const MAX_PRODUCER_IDS: u32 = 1_000_000;

pub(crate) async fn allocate_producer_ids(shared: &Shared, count: u32) -> Result<Range<i64>, CoordinatorError> {
    if !(1..=MAX_PRODUCER_IDS).contains(&count) {
        return Err(CoordinatorError::InvalidRequest(format!("{count} producer ids, 1 to {MAX_PRODUCER_IDS} allowed")));
    }
    for _ in 0..ATTEMPTS {
        // When the outcome of the commit is not known, the ids may be gone: nobody gets them.
        let (first, txn) = next(shared, Counter::Producers, 0, i64::from(count)).await?;
        if let Commit::Done(_) = shared.store.commit(txn).await? {
            return Ok(first..first + i64::from(count));
        }
        metrics::write_conflict();
    }
    Err(lost_races("producer ids"))
}

/// The next `count` numbers of a counter that begins with `start`, and the transaction that takes them.
pub(crate) async fn next(
    shared: &Shared,
    counter: Counter,
    start: i64,
    count: i64,
) -> Result<(i64, Txn), CoordinatorError> {
    let key = shared.keys.counter(counter);
    let entry = shared.store.get(&key).await?;
    let next = match &entry {
        Some(entry) => decode_counter(&entry.value).map_err(|error| unreadable(&key, error))?,
        None => start,
    };
    let after = next.checked_add(count).ok_or_else(|| CoordinatorError::Unavailable(format!("{key} is used up")))?;
    Ok((next, Txn::new().if_still(&key, entry.as_ref()).put(&key, encode_counter(after))))
}
