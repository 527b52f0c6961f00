//! `cargo xtask tools`

use anyhow::Result;
use xtask::tools::{etcd, kafka, versitygw};

pub(crate) fn run() -> Result<()> {
    println!("etcd       {}", etcd::binary()?.display());
    println!("versitygw  {}", versitygw::binary()?.display());
    println!("kafka      {}", kafka::jars()?.class_path());
    Ok(())
}
