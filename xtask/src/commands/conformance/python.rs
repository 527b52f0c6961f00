//! kafka-python from PyPI, in a virtual environment of its own.

use std::process::Command;

use anyhow::Result;
use xtask::{machine, sh};

use super::{Outcome, available, topic};

pub(super) fn check(bootstrap: &str) -> Result<Outcome> {
    if machine::program("python3").is_none() {
        return Ok(Outcome::Skipped("there is no python3 here".to_owned()));
    }
    let environment = sh::target_dir().join("tools").join("python");
    let python = environment.join("bin").join("python");
    if !environment.join("complete").is_file() {
        let mut venv = Command::new("python3");
        if let Err(skipped) = available(venv.args(["-m", "venv", "--clear"]).arg(&environment)) {
            return Ok(skipped);
        }
        // kafka-python leaves the codecs to other packages.
        let packages = ["kafka-python", "python-snappy", "lz4", "zstandard"];
        let mut pip = Command::new(&python);
        if let Err(skipped) = available(pip.args(["-m", "pip", "install", "--quiet"]).args(packages)) {
            return Ok(skipped);
        }
        std::fs::write(environment.join("complete"), "")?;
    }
    let script = sh::root().join("tests").join("conformance").join("check.py");
    sh::run(Command::new(python).arg(script).args([bootstrap, &topic("python")]))?;
    Ok(Outcome::Passed)
}
