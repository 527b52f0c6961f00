//! What the simulations of several crates have in common: chance from one seed, the log of a run, a runtime whose clock
//! stands while anybody is busy, and many seeds on all cores.

use std::collections::BTreeMap;
use std::fmt::{Arguments, Write as _};
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemark_model::{Clock, Entropy};
use tokio::time::Instant;

use super::Seeded;

/// When every run begins.
const BEGINNING_MS: i64 = 1_700_000_000_000;
/// Longer than any run. Of one that waits for what never comes the clock makes nothing of that.
const STANDSTILL: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Lines of a failing seed's log that are printed.
const TAIL: usize = 60;

/// What decides: numbers of one seed. Each part of a run has a stream of its own, so that one does not shift the others.
/// Clones share theirs.
#[derive(Debug, Clone)]
pub struct Chance(Arc<Seeded>);

/// The log of a run: what happened, when on the run's clock, and what of it was wrong. Clones share it.
#[derive(Debug, Clone)]
pub struct Trace(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    log: String,
    lines: usize,
    most_lines: usize,
    counts: BTreeMap<&'static str, u64>,
    wrong: Option<String>,
}

/// What became of a run.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub log: String,
    pub counts: BTreeMap<&'static str, u64>,
    pub wrong: Option<String>,
}

impl Chance {
    /// The stream of a part of the run of a seed.
    pub fn of(seed: u64, part: u64) -> Self {
        let mixed = Seeded::new(seed ^ part.wrapping_mul(0xD1B5_4A32_D192_ED03)).next_u64();
        Self(Arc::new(Seeded::new(mixed)))
    }

    pub fn entropy(&self) -> Arc<dyn Entropy> {
        self.0.clone()
    }

    /// A number below `end`.
    pub fn below(&self, end: u64) -> u64 {
        self.0.next_u64() % end.max(1)
    }

    /// Never where 0.
    pub fn one_in(&self, n: u64) -> bool {
        n > 0 && self.below(n) == 0
    }

    pub fn up_to(&self, longest: Duration) -> Duration {
        Duration::from_micros(self.below(longest.as_micros() as u64 + 1))
    }

    pub fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

impl Trace {
    /// `most_lines`: many times what a run has that comes to its end.
    pub fn new(most_lines: usize) -> Self {
        let began = Instant::now();
        Self(Arc::new(Mutex::new(Inner {
            began,
            log: String::new(),
            lines: 0,
            most_lines,
            counts: BTreeMap::new(),
            wrong: None,
        })))
    }

    /// # Panics
    /// When there are more lines than a run has: somebody goes round in circles.
    pub fn note(&self, what: Arguments<'_>) {
        let mut inner = self.lock();
        let at = inner.began.elapsed();
        let _ = writeln!(inner.log, "{:4}.{:06} {what}", at.as_secs(), at.subsec_micros());
        inner.lines += 1;
        if inner.lines > inner.most_lines {
            inner.wrong.get_or_insert_with(|| "it does not come to an end".into());
            // A line more ends it, whoever that is.
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

    /// The time of day, in milliseconds since the epoch.
    pub fn now_ms(&self) -> i64 {
        BEGINNING_MS + self.lock().began.elapsed().as_millis() as i64
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for Trace {
    fn now_ms(&self) -> i64 {
        Self::now_ms(self)
    }
}

/// Runs a seed: `story`, of a world that is made with the run's log, on one thread and a clock of its own.
///
/// # Panics
/// When there is no runtime to be had.
pub fn run<W>(
    seed: u64,
    most_lines: usize,
    world: impl FnOnce(Trace) -> W,
    story: impl AsyncFnOnce(&W) -> Result<(), String>,
) -> Report {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime without I/O starts");
    let (trace, world) = {
        let _entered = runtime.enter();
        let trace = Trace::new(most_lines);
        (trace.clone(), world(trace))
    };
    let story = async {
        match tokio::time::timeout(STANDSTILL, Box::pin(story(&world))).await {
            Ok(Ok(())) => {}
            Ok(Err(wrong)) => trace.wrong(wrong),
            Err(_) => trace.wrong("it stands still: nobody does anything, and somebody is waited for".into()),
        }
    };
    if catch_unwind(AssertUnwindSafe(|| runtime.block_on(story))).is_err() {
        let _entered = runtime.enter();
        trace.wrong("it panicked".into());
    }
    // Who is still there is dropped with the runtime.
    drop(runtime);
    drop(world);
    let mut inner = trace.lock();
    let (log, counts) = (std::mem::take(&mut inner.log), std::mem::take(&mut inner.counts));
    Report { seed, log, counts, wrong: inner.wrong.clone() }
}

/// Runs as many seeds as the environment says, or `seeds`, and fails with the first that does. What is `covered` each seed
/// in a hundred, at least, has to go through: otherwise the runs prove little. `command` runs a seed again.
///
/// # Panics
/// When a seed fails, or too little is covered.
#[allow(clippy::print_stdout, reason = "what was done is shown")]
pub fn explore(command: &str, seeds: u64, covered: &[&str], simulate: impl Fn(u64) -> Report + Sync) {
    let first = setting("TIDEMARK_SIM_SEED").unwrap_or(1);
    let count = setting("TIDEMARK_SIM_SEEDS").unwrap_or(seeds);
    let began = std::time::Instant::now();
    let (done, failed) = run_all(first, count, simulate);
    if let Some(report) = failed {
        show(command, &report);
        panic!("seed {}: {}", report.seed, report.wrong.unwrap_or_default());
    }
    println!("{count} seeds from {first} on in {:.1} s: {done:#?}", began.elapsed().as_secs_f64());
    for what in covered {
        let enough = count < 100 || done.get(what).is_some_and(|times| *times >= count / 100);
        assert!(enough, "{what}: {:?} times in {count} seeds", done.get(what));
    }
}

/// The same seed is the same run, to the byte of its log, which has more than `lines`; another is another.
///
/// # Panics
/// When it is not.
pub fn is_repeatable(seeds: std::ops::RangeInclusive<u64>, lines: usize, simulate: impl Fn(u64) -> Report) {
    for seed in seeds.clone() {
        let (one, other) = (simulate(seed), simulate(seed));
        let differs = one.log.lines().zip(other.log.lines()).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}: the first line that differs");
        assert_eq!(one.log, other.log, "seed {seed}");
        assert!(one.log.lines().count() > lines, "seed {seed}: little happens in it");
    }
    assert_ne!(simulate(*seeds.start()).log, simulate(seeds.start() + 1).log);
}

/// Runs seeds on all cores, until one fails; of those that did, the first is given back.
fn run_all(
    first: u64,
    count: u64,
    simulate: impl Fn(u64) -> Report + Sync,
) -> (BTreeMap<&'static str, u64>, Option<Report>) {
    let next = AtomicU64::new(0);
    let done = Mutex::new((BTreeMap::new(), None::<Report>));
    let work = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= count {
                return;
            }
            let report = simulate(first + n);
            let mut done = done.lock().expect("no thread panics with it");
            for (what, times) in &report.counts {
                *done.0.entry(*what).or_default() += times;
            }
            if report.wrong.is_some() {
                // Those before it are under way, and none is begun after it.
                next.fetch_max(count, Ordering::Relaxed);
                if done.1.as_ref().is_none_or(|failed| failed.seed > report.seed) {
                    done.1 = Some(report);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(work);
        }
    });
    done.into_inner().expect("no thread panics with it")
}

#[allow(clippy::print_stderr, reason = "a failing seed is printed")]
fn show(command: &str, report: &Report) {
    let lines: Vec<&str> = report.log.lines().collect();
    eprintln!("\nseed {} failed. The end of its log:\n", report.seed);
    lines[lines.len().saturating_sub(TAIL)..].iter().for_each(|line| eprintln!("{line}"));
    if let Some(path) = std::env::var_os("TIDEMARK_SIM_LOG") {
        std::fs::write(&path, &report.log).expect("the log can be written");
        eprintln!("\nAll of it is in {}", path.display());
    }
    eprintln!("\nAgain: {command} --seed {} --seeds 1 --log sim.log\n", report.seed);
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value}")))
}
