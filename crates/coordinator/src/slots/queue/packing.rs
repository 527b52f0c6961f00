//! What fits into one transaction.

use std::collections::BTreeMap;

use super::Write;
use crate::store::{MAX_TXN_BYTES, MAX_TXN_OPERATIONS, Operation};

/// What a transaction has so far.
#[derive(Default)]
pub(super) struct Packing {
    pub(super) operations: BTreeMap<String, Operation>,
    overhead: usize,
    bytes: usize,
}

impl Packing {
    pub(super) fn has_room(&self) -> bool {
        self.operations.len() + self.overhead < MAX_TXN_OPERATIONS
    }

    pub(super) fn fits(&self, write: &Write, (operations, bytes): (usize, usize)) -> bool {
        let new = write.operations.iter().filter(|operation| !self.operations.contains_key(operation.key())).count();
        self.operations.len() + new + self.overhead + operations <= MAX_TXN_OPERATIONS
            && self.bytes + write.bytes + bytes <= MAX_TXN_BYTES
    }

    pub(super) fn add(&mut self, write: &Write, (operations, bytes): (usize, usize)) {
        self.overhead += operations;
        self.bytes += bytes + write.bytes;
        for operation in &write.operations {
            if let Some(before) = self.operations.insert(operation.key().to_owned(), operation.clone()) {
                self.bytes -= before.bytes();
            }
        }
    }
}
