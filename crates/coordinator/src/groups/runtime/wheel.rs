//! When each group of a slot wants to be woken.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

/// One entry at most for each group. A deadline that moves away, as with every heartbeat, stays where it was: the group
/// is then looked at in vain, once, instead of being moved each time.
#[derive(Debug, Default)]
pub(super) struct Wheel {
    due: BTreeSet<(Instant, Arc<str>)>,
}

impl Wheel {
    /// `armed` is when the group is woken as it is.
    pub(super) fn arm(&mut self, group: &Arc<str>, armed: &mut Option<Instant>, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        if let Some(before) = *armed {
            if before <= deadline {
                return;
            }
            self.due.remove(&(before, Arc::clone(group)));
        }
        self.due.insert((deadline, Arc::clone(group)));
        *armed = Some(deadline);
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(deadline, _)| *deadline)
    }

    /// Takes a group that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Arc<str>> {
        self.due.first().filter(|(deadline, _)| *deadline <= now)?;
        self.due.pop_first().map(|(_, group)| group)
    }

    pub(super) fn disarm(&mut self, group: &Arc<str>, armed: Option<Instant>) {
        if let Some(armed) = armed {
            self.due.remove(&(armed, Arc::clone(group)));
        }
    }
}
