//! When a request may begin, beside the earlier ones of its connection.
//!
//! Kafka begins a request of a connection when the one before is answered. Here they overlap where nobody can tell:
//! produce requests among themselves, and reads among themselves.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::watch;

/// What a request may overlap with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Begins at once: appends keep their order by the order in which they are issued.
    Append,
    /// Begins when every earlier append and change is done, so that it sees them.
    Read,
    /// A read with a large answer. Also waits until earlier answers of its kind are in the socket, so that a client
    /// that does not read holds one such answer at most.
    LargeRead,
    /// Begins when everything earlier is done.
    Change,
}

/// How far a connection's answers have got. Both count requests from the first one on.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    answered: u64,
    written: u64,
}

/// The reader's side: gives each request its turn.
#[derive(Debug)]
pub(super) struct Turns {
    progress: watch::Receiver<Progress>,
    next: u64,
    /// How many requests there were up to and with the last one that changes something.
    changes: u64,
    large_reads: u64,
    at_the_tail: Arc<AtomicBool>,
}

/// The writer's side: says how far it has got.
#[derive(Debug)]
pub(super) struct Done {
    progress: watch::Sender<Progress>,
}

/// When one request may begin.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    progress: watch::Receiver<Progress>,
    answered: u64,
    written: u64,
    /// Whether the connection's last large read found little: the next will wait for more to come.
    pub(crate) at_the_tail: Arc<AtomicBool>,
}

impl Turns {
    pub(super) fn new() -> (Self, Done) {
        let (sender, progress) = watch::channel(Progress::default());
        (Self { progress, next: 0, changes: 0, large_reads: 0, at_the_tail: Arc::default() }, Done { progress: sender })
    }

    pub(super) fn take(&mut self, order: Order) -> Turn {
        let earlier = self.next;
        self.next += 1;
        let (answered, written) = match order {
            Order::Append => (0, 0),
            Order::Read => (self.changes, 0),
            Order::LargeRead => (self.changes, self.large_reads),
            Order::Change => (earlier, 0),
        };
        match order {
            Order::Append | Order::Change => self.changes = self.next,
            Order::LargeRead => self.large_reads = self.next,
            Order::Read => {}
        }
        Turn { progress: self.progress.clone(), answered, written, at_the_tail: Arc::clone(&self.at_the_tail) }
    }
}

impl Done {
    pub(super) fn answered(&self) {
        self.progress.send_modify(|progress| progress.answered += 1);
    }

    pub(super) fn written(&self, requests: u64) {
        self.progress.send_modify(|progress| progress.written += requests);
    }
}

impl Turn {
    /// Returns when the request may begin. The connection's end drops whoever waits.
    pub(crate) async fn come(mut self) {
        let come = |progress: &Progress| progress.answered >= self.answered && progress.written >= self.written;
        if self.progress.wait_for(come).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn has_come(turn: &Turn) -> bool {
        turn.clone().come().now_or_never().is_some()
    }

    #[tokio::test]
    async fn reads_wait_for_changes_and_changes_for_everything() {
        let (mut turns, done) = Turns::new();
        let all = [Order::Read, Order::Append, Order::Append, Order::Read, Order::Change, Order::Read];
        let turn: Vec<Turn> = all.into_iter().map(|order| turns.take(order)).collect();
        let come = || turn.iter().map(has_come).collect::<Vec<_>>();
        assert_eq!(come(), [true, true, true, false, false, false]);
        for _ in 0..3 {
            done.answered();
        }
        assert_eq!(come(), [true, true, true, true, false, false], "both appends are done");
        done.answered();
        assert_eq!(come(), [true, true, true, true, true, false]);
        done.answered();
        assert!(has_come(&turn[5]));
    }

    #[tokio::test]
    async fn a_large_read_waits_until_the_one_before_is_written() {
        let (mut turns, done) = Turns::new();
        let (first, second) = (turns.take(Order::LargeRead), turns.take(Order::LargeRead));
        assert!(has_come(&first) && !has_come(&second));
        done.answered();
        assert!(!has_come(&second));
        done.written(1);
        assert!(has_come(&second));
    }
}
