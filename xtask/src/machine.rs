//! What the machine has, and getting what it lacks.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::sh;

/// A program of `PATH`.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

pub fn is_root() -> bool {
    // The owner of our own process directory is whom we run as; std has no getuid.
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|proc| proc.uid() == 0)
}

/// Whether packages can be installed here without asking anybody.
pub fn has_apt() -> bool {
    is_root() && program("apt-get").is_some()
}

/// Installs Debian packages.
pub fn apt_install(packages: &[&str]) -> Result<()> {
    if !has_apt() {
        bail!(
            "missing here: {}. Install them (on Debian: apt-get install {})",
            packages.join(", "),
            packages.join(" ")
        );
    }
    eprintln!("installing {}", packages.join(" "));
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-o", "Dpkg::Use-Pty=0"]);
        command
    };
    sh::quietly(apt().arg("update"))?;
    sh::quietly(apt().args(["install", "--yes", "--no-install-recommends"]).args(packages))?;
    Ok(())
}

/// Sees to it that a program exists, from a Debian package if need be.
pub fn need(program_name: &str, packages: &[&str]) -> Result<PathBuf> {
    if let Some(found) = program(program_name) {
        return Ok(found);
    }
    apt_install(packages)?;
    match program(program_name) {
        Some(found) => Ok(found),
        None => bail!("{program_name} is not there after installing {}", packages.join(", ")),
    }
}
