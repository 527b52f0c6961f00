//! The load of `cargo xtask bench groups`: members that speak the protocol themselves, thousands in one process. Works on
//! what `TIDEMARK_E2E_BOOTSTRAP` names, and prints `name=value` lines.

#![allow(clippy::print_stdout, reason = "its output is its result")]

mod crowd;
mod etcd;
mod figures;
mod rebalance;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Debug, Subcommand)]
enum Measure {
    /// Groups of both protocols heartbeat as their clients do, and members of the classic ones commit.
    Crowd(crowd::Options),
    /// From the first request of the tenth member until all have their shares.
    Rebalance(rebalance::Options),
}

fn main() -> Result<()> {
    match Cli::parse().measure {
        Measure::Crowd(options) => crowd::run(&options),
        Measure::Rebalance(options) => rebalance::run(&options),
    }
}
