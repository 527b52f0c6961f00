//! A process: it can be stopped and go on, and it dies once.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Default)]
pub struct Process {
    paused: AtomicBool,
    /// Those who wait are woken in the order in which they came, as `watch` would not.
    changed: Notify,
    pub dead: CancellationToken,
}

impl Process {
    pub fn pause(&self) {
        self.paused.store(true, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    pub fn resume(&self) {
        self.paused.store(false, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    pub fn kill(&self) {
        self.dead.cancel();
        self.changed.notify_waiters();
    }

    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    pub fn is_dead(&self) -> bool {
        self.dead.is_cancelled()
    }

    /// Returns when it runs; never, once it is dead.
    pub async fn runs(&self) {
        loop {
            if self.is_dead() {
                std::future::pending::<()>().await;
            }
            let changed = self.changed.notified();
            if !self.is_paused() {
                return;
            }
            changed.await;
        }
    }

    /// Returns when nothing can be expected of it.
    pub async fn is_gone(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_paused() || self.is_dead() {
                return;
            }
            tokio::select! {
                biased;
                () = self.dead.cancelled() => return,
                () = changed => {}
            }
        }
    }
}
