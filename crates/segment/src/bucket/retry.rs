//! Trying again: jittered exponential backoff within a budget of time, and a deadline for each attempt.

use std::future::Future;
use std::time::Duration;

use tidemark_model::Entropy;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::{Bucket, StoreError, error};
use crate::metrics::{self, Operation, Outcome};

/// A transfer slower than this is given up and tried again: a connection that still moves, at a thousandth of its speed.
const MIN_BYTES_PER_SECOND: u64 = 1024 * 1024;

/// How long an operation is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How long one attempt may take, besides a second per MiB that it moves.
    pub attempt_timeout: Duration,
    /// No attempt starts later than this after the first did. Zero: one attempt.
    pub budget: Duration,
    /// The longest pause after the first failure; it doubles with each one that follows.
    pub first_backoff: Duration,
    pub max_backoff: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempt_timeout: Duration::from_secs(10),
            budget: Duration::from_secs(60),
            first_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(10),
        }
    }
}

impl RetryPolicy {
    /// How long to wait after the `failures`th failure: anything up to the bound, so that clients which failed together
    /// do not come back together.
    fn pause(&self, failures: u32, entropy: &dyn Entropy) -> Duration {
        let factor = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let bound = self.first_backoff.saturating_mul(factor).min(self.max_backoff);
        let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(entropy.next_u64() % micros.saturating_add(1).max(1))
    }
}

/// The attempts at one operation.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    bucket: &'a Bucket,
    operation: Operation,
    key: &'a str,
    started: Instant,
    failures: u32,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(bucket: &'a Bucket, operation: Operation, key: &'a str) -> Self {
        Self { bucket, operation, key, started: Instant::now(), failures: 0 }
    }

    /// Makes one attempt that moves about `bytes` bytes.
    pub(super) async fn once<T>(
        &self,
        bytes: u64,
        request: impl Future<Output = object_store::Result<T>> + Send,
    ) -> Result<T, StoreError> {
        let _permit = self.bucket.inner.in_flight.acquire().await.expect("the semaphore is never closed");
        let started = Instant::now();
        let limit = self.bucket.retry.attempt_timeout + Duration::from_secs(bytes / MIN_BYTES_PER_SECOND);
        let result = match timeout(limit, request).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(error::classify(&self.bucket.inner.url, self.key, error)),
            Err(_) => {
                metrics::request_done(self.operation, Outcome::TimedOut, started.elapsed());
                let text = format!("{}/{}: no answer within {limit:?}", self.bucket.inner.url, self.key);
                return Err(StoreError::Unavailable(text));
            }
        };
        let outcome = match &result {
            Ok(_) => Outcome::Ok,
            Err(e) if e.is_retriable() => Outcome::Failed,
            Err(_) => Outcome::Refused,
        };
        metrics::request_done(self.operation, outcome, started.elapsed());
        result
    }

    /// Waits before the next attempt, or gives `error` back when there is to be none.
    pub(super) async fn pause(&mut self, error: StoreError) -> Result<(), StoreError> {
        if !error.is_retriable() {
            return Err(error);
        }
        self.failures += 1;
        let pause = self.bucket.retry.pause(self.failures, &*self.bucket.inner.entropy);
        if self.started.elapsed() + pause > self.bucket.retry.budget {
            return Err(error);
        }
        metrics::request_retried(self.operation);
        debug!(operation = self.operation.as_str(), failures = self.failures, ?pause, %error, "object store request failed, will retry");
        sleep(pause).await;
        Ok(())
    }

    /// Makes attempts until one succeeds or there is no use or time for another.
    pub(super) async fn until_done<T, F>(mut self, bytes: u64, mut request: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = object_store::Result<T>> + Send,
    {
        loop {
            match self.once(bytes, request()).await {
                Ok(done) => return Ok(done),
                Err(error) => self.pause(error).await?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Seeded;

    #[test]
    fn pauses_are_jittered_and_bounded() {
        let policy = RetryPolicy::default();
        let entropy = Seeded::new(1);
        let pauses: Vec<_> = (1..200).map(|failures| policy.pause(failures, &entropy)).collect();
        assert!(pauses.iter().all(|pause| *pause <= policy.max_backoff));
        assert!(pauses[0] <= policy.first_backoff);
        assert!(pauses[50..].iter().any(|pause| *pause < policy.max_backoff / 2), "no jitter");
        assert!(pauses[50..].iter().any(|pause| *pause > policy.max_backoff / 2), "no growth");
    }
}
