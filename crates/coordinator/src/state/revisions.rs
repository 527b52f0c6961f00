//! The revision of the state as it moves.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What tokio's `watch` does, but that those who wait are woken in the order in which they came: a slot's task each, which
/// a simulation has to see in one order.
#[derive(Debug, Default)]
pub(super) struct Latest {
    now: Mutex<Now>,
    moved: Notify,
}

#[derive(Debug, Clone, Copy, Default)]
struct Now {
    /// None until the state was loaded.
    revision: Option<u64>,
    /// How often it was set.
    moves: u64,
}

/// Waits for the revision to move. What has moved before this was made is seen already.
#[derive(Debug)]
pub(crate) struct Revisions {
    latest: Arc<Latest>,
    seen: u64,
}

impl Latest {
    pub(super) fn get(&self) -> Option<u64> {
        self.now().revision
    }

    pub(super) fn set(&self, revision: u64) {
        {
            let mut now = self.now();
            *now = Now { revision: Some(revision), moves: now.moves + 1 };
        }
        self.moved.notify_waiters();
    }

    pub(super) fn follow(self: &Arc<Self>) -> Revisions {
        Revisions { latest: Arc::clone(self), seen: self.now().moves }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Revisions {
    /// Returns when it has moved since this was last seen.
    pub(crate) async fn changed(&mut self) {
        loop {
            // Asked for before it is looked at, so that what comes meanwhile wakes.
            let moved = self.latest.moved.notified();
            let moves = self.latest.now().moves;
            if std::mem::replace(&mut self.seen, moves) != moves {
                return;
            }
            moved.await;
        }
    }

    /// Returns when the revision, as it is or becomes, is what is waited for.
    pub(crate) async fn wait_for(&mut self, mut is_it: impl FnMut(&Option<u64>) -> bool) {
        self.mark_unchanged();
        while !is_it(&self.latest.get()) {
            self.changed().await;
        }
    }

    pub(crate) fn mark_unchanged(&mut self) {
        self.seen = self.latest.now().moves;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn each_move_is_seen_once_by_everybody() {
        let latest = Arc::new(Latest::default());
        let (mut one, mut other) = (latest.follow(), latest.follow());
        assert_eq!(one.changed().now_or_never(), None);
        latest.set(5);
        assert_eq!((one.changed().now_or_never(), one.changed().now_or_never()), (Some(()), None));
        latest.set(6);
        latest.set(6);
        assert_eq!((other.changed().now_or_never(), other.changed().now_or_never()), (Some(()), None));
        one.mark_unchanged();
        assert_eq!(one.changed().now_or_never(), None);
        assert_eq!(one.wait_for(|revision| *revision == Some(6)).now_or_never(), Some(()));
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let latest = Arc::new(Latest::default());
        let mut revisions = latest.follow();
        let waiting = tokio::spawn(async move { revisions.wait_for(|revision| *revision >= Some(7)).await });
        tokio::task::yield_now().await;
        latest.set(6);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        latest.set(7);
        waiting.await.unwrap();
    }
}
