//! `cargo xtask integration`

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use xtask::sh;
use xtask::tools::{etcd, versitygw};

use super::chaos;
use super::test::{AT_ONCE, need_build_tools};

/// How long groups are disturbed. `cargo xtask chaos groups` does so for as long as one likes.
const CHAOS: Duration = Duration::from_secs(75);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Tests a release build.
    #[arg(long)]
    release: bool,
    /// Passed to the test programs: a filter, --nocapture, …
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    need_build_tools()?;
    let (etcd, versitygw) = (etcd::binary()?, versitygw::binary()?);
    sh::step("build");
    let profile = if args.release { "release" } else { "dev" };
    sh::run(sh::cargo().args(["build", "--workspace", "--bins", "--profile", profile]))?;
    let binaries = sh::target_dir().join(if args.release { "release" } else { "debug" });

    // Kept outside the tests' own hands, so that the logs are there when one fails.
    let dir = tempfile::Builder::new().prefix("tidemark-integration-").tempdir()?;
    let test = |program: &str, more: &[&str]| {
        let mut test = sh::cargo();
        test.env("TIDEMARK_E2E_BIN_DIR", &binaries).env("TIDEMARK_E2E_CLUSTER", "1");
        test.env("TIDEMARK_E2E_DIR", dir.path());
        test.env("TIDEMARK_ETCD_BIN", &etcd).env("TIDEMARK_VERSITYGW_BIN", &versitygw);
        // Of the whole workspace, so that what `cargo xtask test` built is not built again with fewer features.
        test.args(["test", "--workspace", "--test", program, "--"]);
        sh::run(test.args(more).args(&args.rest))
    };
    sh::step("the end-to-end suite on the four services");
    let at_once = format!("--test-threads={AT_ONCE}");
    let suite = test("e2e", &[&at_once]);
    sh::step("consumer groups on the four services");
    let groups = test("groups", &[&at_once]);
    sh::step("the same services while things are killed and away");
    // One at a time: each has a cluster of its own, and two cores to run it on.
    let faults = test("faults", &["--ignored", "--test-threads=1"]);
    let coordinators = test("coordinators", &["--ignored", "--test-threads=1"]);
    sh::step("consumer groups while coordinators are killed");
    let chaos = if args.rest.is_empty() { chaos::on_services(&binaries, CHAOS) } else { Ok(()) };
    sh::step("the same services made again from their bucket");
    let rebuild = test("rebuild", &["--ignored", "--test-threads=1"]);
    sh::step("one process on an object store with every fault");
    let store = test("object_store", &["--ignored", "--test-threads=1"]);
    let result = suite.and(groups).and(faults).and(coordinators).and(chaos).and(rebuild).and(store);
    if result.is_err() {
        print_logs(dir.path());
    }
    result
}

/// The end of every log under a directory.
fn print_logs(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        let is_log = path.file_name().is_some_and(|name| name == "log") || path.extension().is_some_and(|e| e == "log");
        if path.is_dir() && path.file_name().is_none_or(|name| name != "data" && name != "buckets") {
            print_logs(&path);
        } else if is_log && path.is_file() {
            let text = std::fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            eprintln!("--- the end of {}\n{}", path.display(), sh::last_lines(&text, 30));
        }
    }
}
