//! The clock and the entropy of production: the operating system's. A simulation hands `run` others.

use std::time::{SystemTime, UNIX_EPOCH};

use rand::Rng as _;
use tidemark_model::{Clock, Entropy};

/// The wall clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// Random numbers of a generator that the operating system seeds.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        // A machine whose clock stands before 1970 counts as standing at the epoch.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }
}

impl Entropy for OsEntropy {
    fn next_u64(&self) -> u64 {
        rand::rng().next_u64()
    }
}
