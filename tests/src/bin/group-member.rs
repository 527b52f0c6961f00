//! A member of a group in a process of its own, to be killed and paused by `group-chaos`.

use clap::Parser as _;
use tidemark_tests::groups::member::{Options, run};

fn main() -> anyhow::Result<()> {
    run(&Options::parse())
}
