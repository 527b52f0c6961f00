//! The groups with something that may leave.

use std::collections::VecDeque;
use std::sync::Arc;

use tidemark_model::SlotId;

use crate::slots::Urgency;

/// A group with something that may leave.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    pub(super) slot: SlotId,
    pub(super) tenure: u64,
    pub(super) group: Arc<str>,
    /// Of the most urgent of its writes.
    pub(super) urgency: Urgency,
}

/// By when they came to be ready, each once.
#[derive(Debug, Default)]
pub(super) struct Departures {
    groups: VecDeque<Ready>,
    urgent: usize,
}

impl Departures {
    pub(super) fn any_urgent(&self) -> bool {
        self.urgent > 0
    }

    pub(super) fn push_back(&mut self, ready: Ready) {
        self.urgent += usize::from(ready.urgency == Urgency::Urgent);
        self.groups.push_back(ready);
    }

    pub(super) fn push_front(&mut self, ready: Ready) {
        self.urgent += usize::from(ready.urgency == Urgency::Urgent);
        self.groups.push_front(ready);
    }

    pub(super) fn pop_front(&mut self) -> Option<Ready> {
        let ready = self.groups.pop_front()?;
        self.urgent -= usize::from(ready.urgency == Urgency::Urgent);
        Some(ready)
    }

    /// A group that is ready has something urgent now. That is rare where many are ready: offset commits are not.
    pub(super) fn hurry(&mut self, slot: SlotId, group: &str) {
        let patient =
            |ready: &&mut Ready| ready.slot == slot && *ready.group == *group && ready.urgency == Urgency::Patient;
        if let Some(ready) = self.groups.iter_mut().find(patient) {
            ready.urgency = Urgency::Urgent;
            self.urgent += 1;
        }
    }

    /// A slot is gone.
    pub(super) fn forget(&mut self, slot: SlotId, tenure: u64) {
        self.groups.retain(|ready| (ready.slot, ready.tenure) != (slot, tenure));
        self.urgent = self.groups.iter().filter(|ready| ready.urgency == Urgency::Urgent).count();
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Ready> {
        self.groups.iter()
    }
}
