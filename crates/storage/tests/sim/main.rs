//! The simulation of the storage service: a node on a disk and an object store that fail, crashes at any moment, and
//! clients that compare what they are told with a plain model of a log. One seed is one run, to the byte of its log.
//!
//! A run meets the modules in this order: [`run`] makes a [`world`] of a [`coordinator`], an object [`store`] and a disk
//! whose writes are watched for [`names`]; [`producers`] and [`readers`] tell the [`model`] what they do and hear; all of
//! it decided by chance and written down in a trace.
//!
//! `cargo xtask sim` runs more seeds, or one again.

#![allow(unreachable_pub, reason = "the modules of a test are seen by it alone")]

mod batches;
mod coordinator;
mod model;
mod names;
mod producers;
mod readers;
mod run;
mod store;
mod world;

use tidemark_segment::testing::sim;

use run::simulate;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 500;

/// What each seed in a hundred, at least, goes through. Otherwise the runs prove little.
const COVERED: &[&str] = &[
    "acknowledged",
    "checkpoints that build on others",
    "crashes at a request to the object store",
    "deletions of records",
    "ends of a life",
    "faults of the disk",
    "faults of the object store",
    "partitions checked",
    "partitions with a fold that was opened",
    "partitions with folds",
    "partitions with folds of folds",
    "power losses",
    "power losses that lost writes",
    "reads",
    "reads below the log start",
    "refused for want of room",
    "restarts of a node that had ended",
    "tail events",
    "topics deleted",
];

#[test]
fn what_is_acknowledged_is_there_once_in_order_for_ever() {
    sim::explore("cargo xtask sim", SEEDS, COVERED, simulate);
}

#[test]
fn the_same_seed_is_the_same_run() {
    sim::is_repeatable(7..=9, 500, simulate);
}
