//! The simulation of consumer groups: several coordinators, the service itself, on one store that fails, with members of
//! both protocols, while everybody is killed and stopped at any moment. One seed is one run, to the byte of its log.
//!
//! A run meets the modules in this order: [`run`] starts [`coordinators`], each a [`process`] with a line to the [`store`], which is in [`memory`],
//! and a [`world`] of groups, whose members ([`classic`], [`consumer`], [`loner`]; what they share is a [`member`]) ask
//! through a [`gateway`] and tell the [`model`] what they hear; all of it decided by chance and written down in a
//! trace.
//!
//! `cargo xtask sim groups` runs more seeds, or one again.

#![allow(unreachable_pub, reason = "the modules of a test are seen by it alone")]

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
mod world;

use tidemark_segment::testing::sim;

use run::simulate;

/// Seeds of an ordinary test run. `cargo xtask test` runs 500 more quickly, optimized.
const SEEDS: u64 = 20;

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
    "members in a group that came back to their protocol",
    "members in a group that went over to the other protocol",
    "members killed",
    "members paused",
    "members that left",
    "members that took their time to give partitions back",
    "memberships lost",
    "partitions added",
    "partitions taken from who has not heard of it",
    "static members fenced",
    "static members restarted",
    "static members that came back undisturbed",
    "static members that waited for their instance id",
    "transactions of unknown outcome",
];

#[test]
fn whatever_breaks_groups_keep_their_promises() {
    sim::explore("cargo xtask sim groups", SEEDS, COVERED, simulate);
}

#[test]
fn the_same_seed_is_the_same_run() {
    sim::is_repeatable(7..=12, 200, simulate);
}
