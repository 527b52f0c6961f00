//! franz-go.

use std::process::Command;

use anyhow::Result;
use xtask::{machine, sh};

use super::{Outcome, available, topic};

pub(super) fn check(bootstrap: &str) -> Result<Outcome> {
    if machine::program("go").is_none() {
        return Ok(Outcome::Skipped("there is no Go here (https://go.dev/dl)".to_owned()));
    }
    // Built from a copy, so that the module's sums do not change the checkout.
    let source = sh::target_dir().join("tools").join("franz-go");
    std::fs::create_dir_all(&source)?;
    let checkout = sh::root().join("tests").join("conformance").join("go");
    std::fs::copy(checkout.join("main.go"), source.join("main.go"))?;
    std::fs::copy(checkout.join("go.mod"), source.join("go.mod"))?;
    let go = |words: &[&str]| {
        let mut command = Command::new("go");
        command.current_dir(&source).env("GOFLAGS", "-mod=mod").args(words);
        command
    };
    let modules = ["get", "github.com/twmb/franz-go@v1.19.5", "github.com/twmb/franz-go/pkg/kadm@v1.16.1"];
    if let Err(skipped) = available(&mut go(&modules)) {
        return Ok(skipped);
    }
    sh::quietly(&mut go(&["build", "-o", "check", "."]))?;
    sh::run(Command::new(source.join("check")).args([bootstrap, &topic("go")]))?;
    Ok(Outcome::Passed)
}
