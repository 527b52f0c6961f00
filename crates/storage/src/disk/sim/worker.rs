//! A thread that runs only when it is told to, and up to where it says it waits: a disk's I/O loop as a coroutine.
//!
//! Exactly one of the two threads runs at a time, so a run is as repeatable as on one thread; and what blocks in a step
//! takes time on tokio's clock, in which everything else goes on.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use tokio::runtime::Handle;

/// The thread and whose turn it is.
#[derive(Debug)]
pub(super) struct Worker {
    baton: Arc<Baton>,
    thread: Mutex<Option<JoinHandle<()>>>,
    id: ThreadId,
}

#[derive(Debug)]
struct Baton {
    turn: Mutex<Turn>,
    passed: Condvar,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Turn {
    /// The worker runs, or may.
    Worker,
    /// The worker stopped here, and the others run.
    Others(Yield),
    /// The worker is to go no further.
    Stop,
    /// It has come to its end.
    Ended,
}

/// Why the worker gave back its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Yield {
    /// It waits for this long.
    Wait(Duration),
    /// The step is over.
    Done,
    /// It panicked with these words.
    Panicked(String),
}

/// What unwinds a worker that is stopped.
struct Stopped;

thread_local! {
    static BATON: RefCell<Option<Arc<Baton>>> = const { RefCell::new(None) };
}

impl Worker {
    /// Makes a thread that runs `step` whenever it is [resumed](Self::resume) after the last one was done.
    pub(super) fn spawn(mut step: Box<dyn FnMut() + Send>) -> std::io::Result<Self> {
        let baton = Arc::new(Baton { turn: Mutex::new(Turn::Others(Yield::Done)), passed: Condvar::new() });
        let (mine, runtime) = (baton.clone(), Handle::current());
        let run = move || {
            // For its clock, and to wake tasks.
            let _entered = runtime.enter();
            BATON.set(Some(mine.clone()));
            while mine.wait_for_worker() {
                let after = match catch_unwind(AssertUnwindSafe(&mut step)) {
                    Ok(()) => Yield::Done,
                    Err(cause) if cause.is::<Stopped>() => break,
                    Err(cause) => Yield::Panicked(words(&*cause)),
                };
                mine.yield_turn(after);
            }
            drop(step);
            *mine.lock() = Turn::Ended;
            mine.passed.notify_all();
        };
        let thread = thread::Builder::new().name("sim-io".into()).spawn(run)?;
        let id = thread.thread().id();
        Ok(Self { baton, thread: Mutex::new(Some(thread)), id })
    }

    /// Lets the worker run until it waits or is done. One that is stopped does nothing more.
    pub(super) fn resume(&self) -> Yield {
        let mut turn = self.baton.lock();
        if matches!(*turn, Turn::Others(_)) {
            *turn = Turn::Worker;
            self.baton.passed.notify_all();
        }
        loop {
            match &*turn {
                Turn::Others(why) => return why.clone(),
                Turn::Stop | Turn::Ended => return Yield::Done,
                Turn::Worker => turn = self.baton.passed.wait(turn).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// The thread goes no further than where it is. From the thread itself, its next wait is its end.
    pub(super) fn stop(&self) {
        if thread::current().id() == self.id {
            return;
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        {
            let mut turn = self.baton.lock();
            if *turn != Turn::Ended {
                *turn = Turn::Stop;
                self.baton.passed.notify_all();
            }
        }
        // It only ever unwinds with what it caught itself.
        let _ = thread.join();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits on a worker's thread, and does nothing on others.
pub(super) fn wait(duration: Duration) {
    let baton = BATON.with_borrow(Clone::clone);
    if let Some(baton) = baton.filter(|_| !thread::panicking()) {
        baton.yield_turn(Yield::Wait(duration));
        if !baton.wait_for_worker() {
            resume_unwind(Box::new(Stopped));
        }
    }
}

/// Ends a worker's step where it is, when it is one.
pub(super) fn end_step() {
    if BATON.with_borrow(Option::is_some) && !thread::panicking() {
        resume_unwind(Box::new(Stopped));
    }
}

impl Baton {
    fn lock(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn yield_turn(&self, why: Yield) {
        let mut turn = self.lock();
        if *turn == Turn::Worker {
            *turn = Turn::Others(why);
            self.passed.notify_all();
        }
    }

    /// Whether the worker may run.
    fn wait_for_worker(&self) -> bool {
        let mut turn = self.lock();
        loop {
            match *turn {
                Turn::Worker => return true,
                Turn::Stop | Turn::Ended => return false,
                Turn::Others(_) => turn = self.passed.wait(turn).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

fn words(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| cause.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".into())
}
