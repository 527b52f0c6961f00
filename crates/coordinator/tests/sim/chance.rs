//! What decides: numbers of one seed. Each part of a run has a stream of its own, so that one does not shift the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidemark_model::Entropy;

/// SplitMix64 (Steele, Lea and Flood, 2014). Clones share it.
#[derive(Debug, Clone)]
pub struct Chance(Arc<AtomicU64>);

impl Chance {
    /// The stream of a part of the run of a seed.
    pub fn of(seed: u64, part: u64) -> Self {
        let part = Self(Arc::new(AtomicU64::new(part.wrapping_mul(0xd1b5_4a32_d192_ed03)))).next_u64();
        Self(Arc::new(AtomicU64::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ part)))
    }

    pub fn entropy(&self) -> Arc<dyn Entropy> {
        Arc::new(self.clone())
    }

    /// A number below `end`.
    pub fn below(&self, end: u64) -> u64 {
        self.next_u64() % end.max(1)
    }

    /// Never where 0.
    pub fn one_in(&self, n: u64) -> bool {
        n > 0 && self.below(n) == 0
    }

    pub fn up_to(&self, longest: Duration) -> Duration {
        Duration::from_micros(self.below(longest.as_micros() as u64 + 1))
    }

    pub fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

impl Entropy for Chance {
    fn next_u64(&self) -> u64 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
