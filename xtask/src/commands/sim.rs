//! `cargo xtask sim`

mod mutants;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use xtask::sh;

/// The one test that runs seeds (`crates/storage/tests/sim`).
const TEST: &str = "what_is_acknowledged_is_there_once_in_order_for_ever";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many seeds to run, on all cores.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the whole log of the first seed that fails is written.
    #[arg(long)]
    log: Option<PathBuf>,
    /// Puts bugs into a copy of the sources, one after the other, and says after how many seeds each is caught.
    #[arg(long)]
    mutants: bool,
    /// Only the mutants whose names contain this.
    #[arg(long, requires = "mutants")]
    only: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.mutants {
        return mutants::run(args.seed, args.seeds, args.only.as_deref());
    }
    let mut test = simulation(&sh::root(), args.seed, args.seeds);
    if let Some(log) = &args.log {
        test.env("TIDEMARK_SIM_LOG", std::path::absolute(log)?);
    }
    sh::run(&mut test)
}

/// The command that runs seeds of the sources at `root`.
fn simulation(root: &Path, first: u64, count: u64) -> Command {
    let mut test = sh::cargo();
    test.current_dir(root).env("TIDEMARK_SIM_SEED", first.to_string()).env("TIDEMARK_SIM_SEEDS", count.to_string());
    test.args(["test", "--quiet", "-p", "tidemark-storage", "--test", "sim", "--", "--exact", "--nocapture", TEST]);
    test
}
