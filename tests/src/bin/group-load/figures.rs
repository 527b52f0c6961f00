//! Latencies and what is said of them.

use std::sync::Mutex;
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(crate) struct Latencies {
    all: Mutex<Vec<Duration>>,
}

impl Latencies {
    pub(crate) fn since(&self, began: Instant) {
        self.all.lock().expect("no holder panics").push(began.elapsed());
    }

    pub(crate) fn clear(&self) {
        self.all.lock().expect("no holder panics").clear();
    }

    /// Prints count and percentiles in microseconds.
    pub(crate) fn print(&self, name: &str) {
        let mut all = self.all.lock().expect("no holder panics").clone();
        all.sort_unstable();
        println!("{name}_count={}", all.len());
        for (label, permille) in [("p50", 500), ("p99", 990)] {
            let at = all.get((all.len() * permille / 1000).min(all.len().saturating_sub(1)));
            println!("{name}_{label}_us={}", at.map_or(0, Duration::as_micros));
        }
    }
}
