//! Memory for large reads that is used again: to get it from the operating system costs as much as the read.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Pieces of memory that wait to be used again: one is filled while another is worked on.
const KEPT: usize = 2;

/// Memory that was given back.
#[derive(Debug, Default)]
pub struct Pool(Mutex<Vec<Vec<u8>>>);

/// Memory of a pool, to which it goes back, and the part of it that is in use.
#[derive(Debug)]
pub(super) struct Pooled {
    pub(super) memory: Vec<u8>,
    pub(super) used: Range<usize>,
    pub(super) pool: Arc<Pool>,
}

impl Pool {
    /// Memory of this length, with anything in it.
    pub(super) fn take(&self, len: usize) -> Vec<u8> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.iter().position(|memory| memory.len() == len) {
            Some(at) => kept.swap_remove(at),
            None => vec![0; len],
        }
    }
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.used.clone()]
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let mut kept = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(std::mem::take(&mut self.memory));
        }
    }
}
