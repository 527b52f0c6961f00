//! `cargo xtask up`

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};
use xtask::sh;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Passed to `tidemark standalone`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    sh::run(sh::cargo().args(["build", "--release", "--package", "tidemark"]))?;
    let mut tidemark = Command::new(sh::target_dir().join("release").join("tidemark"));
    // Replaces us, so that signals reach it and its exit status is ours.
    let error = tidemark.arg("standalone").args(&args.rest).exec();
    Err(error).context("cannot run tidemark")
}
