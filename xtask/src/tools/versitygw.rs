//! versitygw: an S3 server over a directory.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{machine, sh};

const MODULE: &str = "github.com/versity/versitygw/cmd/versitygw@v1.8.0";

/// The path of the server.
pub fn binary() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("TIDEMARK_VERSITYGW_BIN") {
        return Ok(given.into());
    }
    let dir = super::directory()?;
    let built = dir.join("versitygw");
    if built.is_file() {
        return Ok(built);
    }
    if !super::has_go() {
        if let Some(found) = machine::program("versitygw") {
            return Ok(found);
        }
        bail!(
            "no S3 server: install Go 1.24 or later (https://go.dev/dl) to have versitygw built, or put versitygw in PATH"
        );
    }
    sh::step(&format!("building {MODULE}, once"));
    // Installed beside and renamed into place, so that an interrupted build leaves no half of it.
    let unfinished = dir.join("versitygw-new");
    sh::quietly(Command::new("go").env("GOBIN", &unfinished).args(["install", MODULE]))?;
    fs::rename(unfinished.join("versitygw"), &built)?;
    fs::remove_dir_all(unfinished)?;
    Ok(built)
}
