//! The last changes, in memory, for watches to go through.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::store::{Changes, Event, StoreError};

/// A watch that falls behind by more than this reads the state again: cheaper than keeping more.
const MAX_REVISIONS: usize = 8_192;
const MAX_BYTES: usize = 16 << 20;

#[derive(Debug)]
pub(super) struct History {
    /// Everything after this revision is here.
    base: u64,
    latest: u64,
    changes: VecDeque<Arc<Changes>>,
    bytes: usize,
}

impl History {
    pub(super) fn new(revision: u64) -> Self {
        Self { base: revision, latest: revision, changes: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn latest(&self) -> u64 {
        self.latest
    }

    pub(super) fn push(&mut self, changes: Changes) {
        self.latest = changes.revision;
        self.bytes += size(&changes);
        self.changes.push_back(Arc::new(changes));
        while self.changes.len() > MAX_REVISIONS || self.bytes > MAX_BYTES {
            self.pop();
        }
    }

    /// The first changes of a revision above `after`, when there are any yet.
    pub(super) fn after(&self, after: u64) -> Result<Option<Arc<Changes>>, StoreError> {
        if after < self.base {
            return Err(StoreError::Compacted);
        }
        let at = self.changes.partition_point(|changes| changes.revision <= after);
        Ok(self.changes.get(at).cloned())
    }

    pub(super) fn compact(&mut self, revision: u64) {
        while self.changes.front().is_some_and(|changes| changes.revision <= revision) {
            self.pop();
        }
        self.base = self.base.max(revision.min(self.latest));
    }

    fn pop(&mut self) {
        if let Some(changes) = self.changes.pop_front() {
            self.base = changes.revision;
            self.bytes -= size(&changes);
        }
    }
}

fn size(changes: &Changes) -> usize {
    let events = changes.events.iter().map(|event| match event {
        Event::Put(entry) => size_of::<Event>() + entry.key.len() + entry.value.len(),
        Event::Delete(key) => size_of::<Event>() + key.len(),
    });
    size_of::<Changes>() + events.sum::<usize>()
}
