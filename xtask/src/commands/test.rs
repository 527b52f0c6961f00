//! `cargo xtask test`

use anyhow::Result;
use xtask::tools::etcd;
use xtask::{check, machine, sh};

use super::sim::{Subject, simulation};

/// Seeds of the simulation of groups, which is built optimized for them; the workspace's tests run a few.
const GROUP_SEEDS: u64 = 500;

/// Tests at a time, of which the long ones mostly wait: for sessions to expire, for members to come.
pub(crate) const AT_ONCE: usize = 8;

/// What building the tests needs beyond Rust and a C compiler: librdkafka is C++ in part, and comes with a makefile.
pub(crate) fn need_build_tools() -> Result<()> {
    machine::need("make", &["make"])?;
    machine::need("g++", &["g++"])?;
    Ok(())
}

pub(crate) fn run() -> Result<()> {
    need_build_tools()?;
    check::all()?;
    let etcd = etcd::binary()?;

    sh::step("build");
    sh::run(sh::cargo().args(["build", "--workspace", "--bins"]))?;

    sh::step("test");
    let mut test = sh::cargo();
    // The suite starts what we have just built, and the contract test of the metadata store needs a real etcd.
    test.env("TIDEMARK_E2E_BIN_DIR", sh::target_dir().join("debug")).env("TIDEMARK_ETCD_BIN", etcd);
    sh::run(test.args(["test", "--workspace", "--", &format!("--test-threads={AT_ONCE}")]))?;

    sh::step("simulation of consumer groups");
    sh::run(&mut simulation(Subject::Groups, &sh::root(), 1, GROUP_SEEDS))
}
