//! The servers of others that we test with, built or fetched once into `target/tools`.

pub mod etcd;
pub mod kafka;
pub mod versitygw;

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{machine, sh};

/// The first Go that fetches the version a module asks for.
const FIRST_GO: (u32, u32) = (1, 21);

fn directory() -> Result<PathBuf> {
    let dir = sh::target_dir().join("tools");
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Whether there is a Go to build with, if need be after installing Debian's where that is new enough.
fn has_go() -> bool {
    if machine::program("go").is_some() {
        return true;
    }
    if !machine::has_apt() {
        return false;
    }
    // A fresh machine knows no packages yet. Where it cannot learn of them, there is no candidate.
    let _ = sh::quietly(Command::new("apt-get").args(["-qq", "update"]));
    let policy = sh::quietly(Command::new("apt-cache").args(["policy", "golang-go"])).unwrap_or_default();
    let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"));
    if candidate.and_then(go_version).is_none_or(|version| version < FIRST_GO) {
        return false;
    }
    machine::need("go", &["golang-go"]).is_ok()
}

/// Major and minor of a Debian version such as `2:1.24~2`.
fn go_version(text: &str) -> Option<(u32, u32)> {
    let text = text.trim();
    let text = text.split_once(':').map_or(text, |(_, rest)| rest);
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_go_is_new_enough_or_not() {
        assert_eq!(go_version(" 2:1.24~2"), Some((1, 24)));
        assert!(go_version("2:1.19~1").is_some_and(|version| version < FIRST_GO));
        assert_eq!(go_version("(none)"), None);
    }
}
