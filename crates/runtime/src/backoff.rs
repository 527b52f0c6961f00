//! Bounded exponential backoff with jitter, for whoever tries again.

use std::time::Duration;

use tidemark_model::Entropy;

/// How long to wait before the next attempt: doubles from `first` up to `limit`, each wait shortened by a random part
/// of up to a half, so that many who failed together do not come back together.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    failures: u32,
}

impl Backoff {
    pub fn new(first: Duration, limit: Duration) -> Self {
        Self { first, limit, failures: 0 }
    }

    /// Counts a failure and says how long to wait after it.
    pub fn next(&mut self, entropy: &dyn Entropy) -> Duration {
        let doublings = self.failures.min(31);
        self.failures = self.failures.saturating_add(1);
        let full = self.first.saturating_mul(1 << doublings).min(self.limit);
        let half = full / 2;
        let span = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).saturating_add(1);
        full - Duration::from_nanos(entropy.next_u64() % span)
    }

    /// How many failures there were since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts a success: the next wait is short again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Fixed(u64);

    impl Entropy for Fixed {
        fn next_u64(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn waits_double_up_to_the_limit_and_start_over_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(500));
        let waits: Vec<u128> = (0..5).map(|_| backoff.next(&Fixed(0)).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 500, 500]);
        backoff.reset();
        assert_eq!(backoff.next(&Fixed(0)), Duration::from_millis(100));
    }

    #[test]
    fn jitter_takes_off_up_to_a_half_and_never_more() {
        for value in [1, 49_999_999, 50_000_000, 50_000_001, u64::MAX] {
            let wait = Backoff::new(Duration::from_millis(100), Duration::from_secs(1)).next(&Fixed(value));
            assert!((50..=100).contains(&wait.as_millis()), "{value} gave {wait:?}");
        }
    }

    #[test]
    fn a_thousand_failures_overflow_nothing() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::MAX);
        for _ in 0..1_000 {
            assert!(backoff.next(&Fixed(0)) >= Duration::from_secs(1));
        }
    }
}
