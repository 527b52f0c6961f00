//! A conditional transaction and its bounds.

use bytes::Bytes;

use super::{Entry, LeaseId, StoreError};

/// etcd's default `--max-txn-ops`, which counts conditions and operations each for themselves.
pub const MAX_TXN_OPERATIONS: usize = 128;

/// Less than etcd's default `--max-request-bytes` of 1.5 MiB by what the encoding adds.
pub const MAX_TXN_BYTES: usize = 1_400_000;

/// Operations that are committed together when every condition holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    pub conditions: Vec<Condition>,
    pub operations: Vec<Operation>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    Absent(String),
    /// The key is there and its last change was at this revision.
    Unchanged(String, u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    Put { key: String, value: Bytes, lease: Option<LeaseId> },
    Delete { key: String },
}

impl Txn {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn if_absent(mut self, key: impl Into<String>) -> Self {
        self.conditions.push(Condition::Absent(key.into()));
        self
    }

    /// Holds when `key` is still what it was when `read` was read.
    pub fn if_still(mut self, key: impl Into<String>, read: Option<&Entry>) -> Self {
        let key = key.into();
        self.conditions.push(match read {
            Some(entry) => Condition::Unchanged(key, entry.revision),
            None => Condition::Absent(key),
        });
        self
    }

    pub fn put(mut self, key: impl Into<String>, value: Bytes) -> Self {
        self.operations.push(Operation::Put { key: key.into(), value, lease: None });
        self
    }

    pub fn put_leased(mut self, key: impl Into<String>, value: Bytes, lease: LeaseId) -> Self {
        self.operations.push(Operation::Put { key: key.into(), value, lease: Some(lease) });
        self
    }

    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.operations.push(Operation::Delete { key: key.into() });
        self
    }

    /// Adds the conditions and operations of another.
    pub fn and(mut self, other: Self) -> Self {
        self.conditions.extend(other.conditions);
        self.operations.extend(other.operations);
        self
    }

    /// Whether this and `other` together are within the bounds.
    pub fn fits_with(&self, other: &Self) -> bool {
        self.conditions.len() + other.conditions.len() <= MAX_TXN_OPERATIONS
            && self.operations.len() + other.operations.len() <= MAX_TXN_OPERATIONS
            && self.bytes() + other.bytes() <= MAX_TXN_BYTES
    }

    /// Both stores have the same bounds, so that what works on one works on the other.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let count = self.operations.len().max(self.conditions.len());
        if count > MAX_TXN_OPERATIONS {
            return Err(StoreError::TooLarge(format!("{count} operations, {MAX_TXN_OPERATIONS} allowed")));
        }
        let bytes = self.bytes();
        if bytes > MAX_TXN_BYTES {
            return Err(StoreError::TooLarge(format!("{bytes} bytes, {MAX_TXN_BYTES} allowed")));
        }
        Ok(())
    }

    /// What the bounds count: keys and values.
    pub(crate) fn bytes(&self) -> usize {
        let conditions = self.conditions.iter().map(|condition| match condition {
            Condition::Absent(key) | Condition::Unchanged(key, _) => key.len(),
        });
        conditions.chain(self.operations.iter().map(Operation::bytes)).sum()
    }
}

impl Operation {
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
        }
    }
}
