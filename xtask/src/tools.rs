//! The servers of others that we test with, built or fetched once into `target/tools`.

pub mod etcd;
pub mod kafka;
pub mod versitygw;

use std::path::PathBuf;

use anyhow::Result;

use crate::sh;

fn directory() -> Result<PathBuf> {
    let dir = sh::target_dir().join("tools");
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}
