//! Bugs that are put in on purpose: what the simulation does not catch, it does not test.
//!
//! They are edits of a copy of the sources, so that nothing of them is in the product.

mod groups;
mod storage;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use xtask::sh;

use super::{Subject, simulation};

/// A bug.
struct Mutant {
    name: &'static str,
    /// Below the `src` of the crate that is simulated.
    edits: &'static [Edit],
}

struct Edit {
    file: &'static str,
    /// Is there once.
    find: &'static str,
    replace: &'static str,
}

impl Subject {
    fn mutants(self) -> &'static [Mutant] {
        match self {
            Self::Storage => storage::MUTANTS,
            Self::Groups => groups::MUTANTS,
        }
    }

    fn source(self, root: &Path, edit: &Edit) -> PathBuf {
        root.join("crates").join(self.place().0).join("src").join(edit.file)
    }
}

/// Runs each mutant until a seed catches it.
pub(super) fn run(what: Subject, first: u64, seeds: u64, only: Option<&str>) -> Result<()> {
    let tree = sh::target_dir().join("mutants");
    copy(&sh::root(), &tree)?;
    let mut missed = Vec::new();
    let chosen = what.mutants().iter().filter(|mutant| only.is_none_or(|part| mutant.name.contains(part)));
    for mutant in chosen {
        let began = Instant::now();
        match attempt(what, mutant, &tree, first, seeds)? {
            Some((seed, why)) => println!(
                "caught by seed {seed:>4}, {:>3} s: {}\n{:20}{}",
                began.elapsed().as_secs(),
                mutant.name,
                "",
                why.chars().take(160).collect::<String>()
            ),
            None => {
                println!("NOT caught by {seeds} seeds: {}", mutant.name);
                missed.push(mutant.name);
            }
        }
    }
    ensure!(missed.is_empty(), "the simulation does not see: {}", missed.join("; "));
    Ok(())
}

fn attempt(what: Subject, mutant: &Mutant, tree: &Path, first: u64, seeds: u64) -> Result<Option<(u64, String)>> {
    let mut before = Vec::new();
    for edit in mutant.edits {
        let path = what.source(tree, edit);
        let text = fs::read_to_string(&path)?;
        fs::write(&path, edited(&text, edit).with_context(|| format!("mutant {:?}", mutant.name))?)?;
        before.push((path, text));
    }
    let caught = run_mutant(what, mutant, tree, first, seeds);
    // Whatever came of it, the next one begins with the sources as they were: ours may be others by now, half changed.
    for (path, text) in before.into_iter().rev() {
        fs::write(path, text)?;
    }
    caught
}

fn run_mutant(what: Subject, mutant: &Mutant, tree: &Path, first: u64, seeds: u64) -> Result<Option<(u64, String)>> {
    let mut test = simulation(what, tree, first, seeds);
    // Of its own: the crates there have the names and paths of ours, and each would take the other's for built.
    test.env("CARGO_TARGET_DIR", tree.join("target")).env("RUST_BACKTRACE", "0");
    let output = test.output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        return Ok(None);
    }
    match said.lines().find_map(failure) {
        Some(caught) => Ok(Some(caught)),
        None => bail!("the mutant {:?} does not run:\n{}", mutant.name, sh::last_lines(&said, 40)),
    }
}

fn edited(text: &str, edit: &Edit) -> Result<String> {
    let times = text.matches(edit.find).count();
    ensure!(times == 1, "{} has {times} times what is to be replaced:\n{}", edit.file, edit.find);
    Ok(text.replace(edit.find, edit.replace))
}

/// The seed and the reason in a line `seed N: reason`.
fn failure(line: &str) -> Option<(u64, String)> {
    let (seed, why) = line.strip_prefix("seed ")?.split_once(": ")?;
    Some((seed.parse().ok()?, why.to_owned()))
}

/// Makes `to` the sources as they are in `from`, touching only what differs, so that little is built again.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut list = Command::new("git");
    let listed = sh::quietly(list.current_dir(from).args(["ls-files", "-co", "--exclude-standard"]))?;
    for name in listed.lines() {
        let (source, copy) = (from.join(name), to.join(name));
        // One that is deleted and not committed yet.
        let Ok(bytes) = fs::read(&source) else { continue };
        if fs::read(&copy).is_ok_and(|there| there == bytes) {
            continue;
        }
        let dir: PathBuf = copy.parent().context("a file is in a directory")?.into();
        fs::create_dir_all(dir)?;
        // With its permissions, as some are programs.
        fs::copy(source, copy)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_still_finds_its_place() {
        for what in [Subject::Storage, Subject::Groups] {
            for mutant in what.mutants() {
                for edit in mutant.edits {
                    let text = fs::read_to_string(what.source(&sh::root(), edit)).expect("the file is there");
                    edited(&text, edit).unwrap_or_else(|error| panic!("{}: {error}", mutant.name));
                }
            }
        }
    }

    #[test]
    fn a_failing_seed_is_found_in_what_the_test_says() {
        assert_eq!(failure("seed 12: batch 3 is lost"), Some((12, "batch 3 is lost".into())));
        assert_eq!(failure("seed 12 failed. The end of its log:"), None);
    }
}
