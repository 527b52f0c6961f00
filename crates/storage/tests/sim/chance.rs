//! What decides: numbers of one seed. Each part of a run has a stream of its own, so that one does not shift the others.

use std::sync::Arc;
use std::time::Duration;

use tidemark_model::Entropy;
use tidemark_segment::testing::Seeded;

#[derive(Debug, Clone)]
pub struct Chance(Arc<Seeded>);

impl Chance {
    /// The stream of a part of the run of a seed.
    pub fn of(seed: u64, part: u64) -> Self {
        let mixed = Seeded::new(seed ^ part.wrapping_mul(0xD1B5_4A32_D192_ED03)).next_u64();
        Self(Arc::new(Seeded::new(mixed)))
    }

    pub fn entropy(&self) -> Arc<dyn Entropy> {
        self.0.clone()
    }

    /// A number below `end`.
    pub fn below(&self, end: u64) -> u64 {
        self.0.next_u64() % end.max(1)
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
