//! The log of a run: what happened, when on the run's clock, and what of it was wrong.

use std::collections::BTreeMap;
use std::fmt::{Arguments, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemark_model::Clock;
use tokio::time::Instant;

/// When every run begins.
const BEGINNING_MS: i64 = 1_700_000_000_000;
/// Many times what a run has that comes to its end.
const MAX_LINES: usize = 200_000;

/// Clones share it.
#[derive(Debug, Clone)]
pub struct Trace(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    log: String,
    lines: usize,
    counts: BTreeMap<&'static str, u64>,
    wrong: Option<String>,
}

impl Trace {
    pub fn new() -> Self {
        let (log, counts) = (String::new(), BTreeMap::new());
        Self(Arc::new(Mutex::new(Inner { began: Instant::now(), log, lines: 0, counts, wrong: None })))
    }

    pub fn note(&self, what: Arguments<'_>) {
        let mut inner = self.lock();
        let at = inner.began.elapsed();
        let _ = writeln!(inner.log, "{:4}.{:06} {what}", at.as_secs(), at.subsec_micros());
        inner.lines += 1;
        if inner.lines > MAX_LINES {
            inner.wrong.get_or_insert_with(|| "it does not come to an end".into());
            // Somebody goes round in circles. This ends it, whoever that is.
            drop(inner);
            panic!("it does not come to an end");
        }
    }

    /// Counts something that shows what the run went through.
    pub fn count(&self, what: &'static str) {
        *self.lock().counts.entry(what).or_default() += 1;
    }

    /// Something that must not be. The first one ends the run.
    pub fn wrong(&self, what: String) {
        self.note(format_args!("WRONG: {what}"));
        self.lock().wrong.get_or_insert(what);
    }

    pub fn anything_wrong(&self) -> Option<String> {
        self.lock().wrong.clone()
    }

    /// The log, and what was counted.
    pub fn take(&self) -> (String, BTreeMap<&'static str, u64>) {
        let mut inner = self.lock();
        (std::mem::take(&mut inner.log), std::mem::take(&mut inner.counts))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for Trace {
    fn now_ms(&self) -> i64 {
        BEGINNING_MS + self.lock().began.elapsed().as_millis() as i64
    }
}
