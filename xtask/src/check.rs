//! What holds for the whole workspace and needs no test to run.

mod layers;
mod licences;

use anyhow::{Result, bail};

use crate::{machine, sh};

/// Runs every check, and says at the end which of them failed.
pub fn all() -> Result<()> {
    type Check = (&'static str, fn() -> Result<()>);
    let checks: [Check; 6] = [
        ("format", format),
        ("layers", layers::check),
        ("licences", licences::check),
        ("advisories", advisories),
        ("clippy", clippy),
        ("documentation", documentation),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        sh::step(&format!("check: {name}"));
        match check() {
            Ok(()) => eprintln!("{name}: ok"),
            Err(error) => {
                eprintln!("{name}: FAILED: {error:#}");
                failed.push(name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("checks that failed: {}", failed.join(", "));
    }
    Ok(())
}

fn format() -> Result<()> {
    sh::run(sh::cargo().args(["fmt", "--all", "--", "--check"]))
}

fn clippy() -> Result<()> {
    sh::run(sh::cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"]))
}

fn documentation() -> Result<()> {
    let mut doc = sh::cargo();
    doc.env("RUSTDOCFLAGS", "--deny warnings");
    sh::run(doc.args(["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"]))
}

/// Known vulnerabilities, from cargo-deny's copy of the advisory database. Nothing is fetched here, so that the check
/// works offline and gives the same answer twice.
fn advisories() -> Result<()> {
    if machine::program("cargo-deny").is_none() {
        eprintln!("skipped: cargo-deny is not installed (cargo install cargo-deny; cargo deny fetch)");
        return Ok(());
    }
    let home = std::env::var_os("CARGO_HOME").map(std::path::PathBuf::from);
    let home = home.or_else(|| Some(std::path::PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    if !home.is_some_and(|home| home.join("advisory-dbs").is_dir()) {
        eprintln!("skipped: no advisory database here (cargo deny fetch)");
        return Ok(());
    }
    sh::run(sh::cargo().args(["deny", "--offline", "check", "--disable-fetch", "advisories", "bans", "sources"]))
}
