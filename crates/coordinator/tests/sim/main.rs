//! The simulation of consumer groups: several coordinators, the service itself, on one store that fails, with members of
//! both protocols, while everybody is killed and stopped at any moment. One seed is one run, to the byte of its log.
//!
//! A run meets the modules in this order: [`run`] starts [`coordinators`], each a [`process`] with a line to the [`store`], which is in [`memory`],
//! and a [`world`] of groups, whose members ([`classic`], [`consumer`], [`loner`]; what they share is a [`member`]) ask
//! through a [`gateway`] and tell the [`model`] what they hear; all of it decided by [`chance`] and written down in a
//! [`trace`].
//!
//! `cargo xtask sim groups` runs more seeds, or one again.

#![allow(unreachable_pub, reason = "the modules of a test are seen by it alone")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a failing seed is printed")]

mod chance;
mod classic;
mod consumer;
mod coordinators;
mod gateway;
mod loner;
mod member;
mod memory;
mod model;
mod process;
mod run;
mod store;
mod trace;
mod world;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use run::{Report, simulate};

/// Seeds of an ordinary test run. `cargo xtask test` runs 500 more quickly, optimized.
const SEEDS: u64 = 20;
/// Lines of a failing seed's log that are printed.
const TAIL: usize = 60;

/// What each seed in a hundred, at least, goes through. Otherwise the runs prove little.
const COVERED: &[&str] = &[
    "assignments",
    "clean shutdowns in peace",
    "commits acknowledged",
    "commits and fetches that failed",
    "committed offsets fetched",
    "coordinators cut off from the store",
    "coordinators killed",
    "coordinators paused",
    "coordinators shut down",
    "deaths in peace",
    "groups that outlived their coordinator undisturbed",
    "leases lost",
    "members killed",
    "members paused",
    "members that left",
    "memberships lost",
    "partitions added",
    "partitions taken from who has not heard of it",
    "transactions of unknown outcome",
];

#[test]
fn whatever_breaks_groups_keep_their_promises() {
    let first = setting("TIDEMARK_SIM_SEED").unwrap_or(1);
    let count = setting("TIDEMARK_SIM_SEEDS").unwrap_or(SEEDS);
    let began = std::time::Instant::now();
    let (done, failed) = run_all(first, count);
    if let Some(report) = failed {
        show(&report);
        panic!("seed {}: {}", report.seed, report.wrong.unwrap_or_default());
    }
    println!("{count} seeds from {first} on in {:.1} s: {done:#?}", began.elapsed().as_secs_f64());
    for what in COVERED {
        let enough = count < 100 || done.get(what).is_some_and(|times| *times >= count / 100);
        assert!(enough, "{what}: {:?} times in {count} seeds", done.get(what));
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 7..=12 {
        let (one, other) = (simulate(seed), simulate(seed));
        let differs = one.log.lines().zip(other.log.lines()).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}: the first line that differs");
        assert_eq!(one.log, other.log, "seed {seed}");
        assert!(one.log.lines().count() > 200, "seed {seed}: little happens in it");
    }
    assert_ne!(simulate(7).log, simulate(8).log);
}

/// Runs seeds on all cores, until one fails; of those that did, the first is given back.
fn run_all(first: u64, count: u64) -> (BTreeMap<&'static str, u64>, Option<Report>) {
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

fn show(report: &Report) {
    let lines: Vec<&str> = report.log.lines().collect();
    eprintln!("\nseed {} failed. The end of its log:\n", report.seed);
    lines[lines.len().saturating_sub(TAIL)..].iter().for_each(|line| eprintln!("{line}"));
    if let Some(path) = std::env::var_os("TIDEMARK_SIM_LOG") {
        std::fs::write(&path, &report.log).expect("the log can be written");
        eprintln!("\nAll of it is in {}", path.display());
    }
    eprintln!("\nAgain: cargo xtask sim groups --seed {} --seeds 1 --log sim.log\n", report.seed);
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value}")))
}
