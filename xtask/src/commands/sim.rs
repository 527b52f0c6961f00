//! `cargo xtask sim`

mod mutants;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use xtask::sh;

/// Crates that most of a run of groups is spent in. Optimized, their seeds take a fifth of the time; those of the storage
/// service wait for nothing but themselves.
const OPTIMIZED: &[&str] = &["tidemark-coordinator", "tidemark-model", "serde_json"];

/// What is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Subject {
    /// The storage service (`crates/storage/tests/sim`).
    Storage,
    /// Consumer groups on coordinators (`crates/coordinator/tests/sim`).
    Groups,
}

impl Subject {
    /// The directory below `crates`, and the one test that runs seeds.
    fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Storage => ("storage", "what_is_acknowledged_is_there_once_in_order_for_ever"),
            Self::Groups => ("coordinator", "whatever_breaks_groups_keep_their_promises"),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(value_enum, default_value_t = Subject::Storage)]
    what: Subject,
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
        return mutants::run(args.what, args.seed, args.seeds, args.only.as_deref());
    }
    let mut test = simulation(args.what, &sh::root(), args.seed, args.seeds);
    if let Some(log) = &args.log {
        test.env("TIDEMARK_SIM_LOG", std::path::absolute(log)?);
    }
    sh::run(&mut test)
}

/// The command that runs seeds of the sources at `root`.
pub(crate) fn simulation(what: Subject, root: &Path, first: u64, count: u64) -> Command {
    let (place, name) = what.place();
    let mut test = sh::cargo();
    test.current_dir(root).env("TIDEMARK_SIM_SEED", first.to_string()).env("TIDEMARK_SIM_SEEDS", count.to_string());
    test.arg("test");
    if what == Subject::Groups {
        for package in OPTIMIZED {
            test.args(["--config", &format!("profile.dev.package.{package}.opt-level=2")]);
        }
    }
    test.args(["--quiet", "-p", &format!("tidemark-{place}"), "--test", "sim", "--", "--exact", "--nocapture", name]);
    test
}
