//! The object store's faults, and the crashes that happen at its requests.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemark_segment::testing::sim::{Chance, Trace};
use tidemark_segment::testing::{Fault, Faults, Request};
use tokio::sync::Notify;

use crate::world::Pulse;

/// How the object store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    Fine,
    /// Some requests fail, each in its own way.
    Flaky,
    /// All requests take seconds.
    Slow,
    /// None is answered well.
    Gone,
}

/// Where a crash is to meet a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashAt {
    /// The request is never carried out.
    Before,
    /// It is carried out, and nobody learns so: between a PUT and the manifest.
    After,
}

/// The object store's mind, for all lives of a node.
pub struct Skies {
    inner: Mutex<Inner>,
    chance: Chance,
    trace: Trace,
    /// A request has met its crash.
    pub crash: Notify,
}

#[derive(Debug)]
struct Inner {
    weather: Weather,
    crash_at: Option<(CrashAt, Request)>,
}

/// The object store as one life of the node has it.
#[derive(Debug)]
pub struct Seen {
    pub skies: std::sync::Arc<Skies>,
    pub pulse: Pulse,
}

/// A request that is carried out late is so within this, less than an object's grace.
const LATEST: Duration = Duration::from_secs(4);

impl Skies {
    pub fn new(chance: Chance, trace: Trace) -> Self {
        let inner = Mutex::new(Inner { weather: Weather::Fine, crash_at: None });
        Self { inner, chance, trace, crash: Notify::new() }
    }

    pub fn set(&self, weather: Weather) {
        self.trace.note(format_args!("object store: {weather:?}"));
        self.lock().weather = weather;
    }

    /// The next request of this kind for a segment meets a crash. Nothing: none does.
    pub fn crash_at(&self, at: Option<(CrashAt, Request)>) {
        self.lock().crash_at = at;
    }

    fn next(&self, request: Request, key: &str) -> Fault {
        let mut inner = self.lock();
        if let Some((at, _)) = inner.crash_at.filter(|(_, of)| *of == request && !key.is_empty()) {
            inner.crash_at = None;
            self.crash.notify_one();
            self.trace.count("crashes at a request to the object store");
            return if at == CrashAt::After { Fault::Silence } else { Fault::Hang };
        }
        let writes = matches!(request, Request::Put | Request::Delete);
        match (inner.weather, self.chance.below(20)) {
            (Weather::Fine, _) => Fault::Delay(self.chance.up_to(Duration::from_millis(30))),
            (Weather::Slow, _) => Fault::Delay(self.chance.up_to(Duration::from_secs(2))),
            (Weather::Gone, n) => [Fault::SlowDown, Fault::Hang][n as usize % 2].clone(),
            (Weather::Flaky, 0 | 1) => Fault::SlowDown,
            (Weather::Flaky, 2 | 3) => Fault::LostAnswer,
            (Weather::Flaky, 4) => Fault::Hang,
            (Weather::Flaky, 5) => Fault::Truncated,
            (Weather::Flaky, 7 | 8) if writes => Fault::Late(self.chance.up_to(LATEST)),
            (Weather::Flaky, _) => Fault::Delay(self.chance.up_to(Duration::from_millis(200))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Faults for Seen {
    fn next(&self, request: Request, key: &str) -> Fault {
        if self.pulse.is_dead() {
            return Fault::Hang;
        }
        let fault = self.skies.next(request, key);
        let name = key.rsplit('/').next().unwrap_or_default();
        self.skies.trace.note(format_args!("object store: {request:?} {name}: {fault:?}"));
        if !matches!(fault, Fault::None | Fault::Delay(_)) {
            self.skies.trace.count("faults of the object store");
        }
        fault
    }
}

impl fmt::Debug for Skies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Skies").finish_non_exhaustive()
    }
}
