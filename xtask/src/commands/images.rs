//! `cargo xtask images`: container images from the local build.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use xtask::docker::{Docker, debian_base};
use xtask::sh;
use xtask::tools::{etcd, versitygw};

#[derive(Debug, clap::Args)]
#[group(id = "images")]
pub(crate) struct Args {
    /// The profile of the binaries in the image.
    #[arg(long, default_value = "release")]
    profile: String,
    /// The base image, with a glibc as new as this machine's. Without it one is made of Debian's packages.
    #[arg(long)]
    base: Option<String>,
}

const BINARIES: [&str; 5] =
    ["tidemark", "tidemark-gateway", "tidemark-broker", "tidemark-storage", "tidemark-coordinator"];

pub(crate) fn run(args: &Args) -> Result<()> {
    build(&Docker::get()?, args)
}

/// Builds `tidemark:local`, and the images of etcd and of the S3 server beside it.
pub(crate) fn build(docker: &Docker, args: &Args) -> Result<()> {
    sh::step("build");
    let packages = BINARIES.iter().flat_map(|name| ["--package", *name]);
    sh::run(sh::cargo().args(["build", "--profile", &args.profile, "--bins"]).args(packages))?;
    let base = match &args.base {
        Some(base) => base.clone(),
        None => debian_base(docker)?,
    };
    let built = sh::target_dir().join(if args.profile == "dev" { "debug" } else { &args.profile });
    let ours: Vec<_> = BINARIES.iter().map(|name| built.join(name)).collect();
    for (image, file, binaries) in [
        ("tidemark:local", "Dockerfile", ours),
        ("tidemark-etcd:local", "Dockerfile.etcd", vec![etcd::binary()?]),
        ("tidemark-versitygw:local", "Dockerfile.versitygw", vec![versitygw::binary()?]),
    ] {
        sh::step(&format!("image {image}"));
        let context = tempfile::Builder::new().prefix("image-").tempdir_in(sh::target_dir())?;
        for binary in &binaries {
            gather(binary, context.path())?;
        }
        let dockerfile = sh::root().join("deploy").join(file);
        let mut build = docker.command();
        build.args(["build", "--quiet", "--tag", image, "--build-arg", &format!("BASE={base}"), "--file"]);
        sh::quietly(build.arg(dockerfile).arg(context.path()))?;
    }
    Ok(())
}

/// Puts a binary into the context; linked where it is on the same file system, since a debug build is large.
fn gather(binary: &Path, context: &Path) -> Result<()> {
    let target = context.join(binary.file_name().context("a binary has a name")?);
    if fs::hard_link(binary, &target).is_err() {
        fs::copy(binary, &target)?;
    }
    Ok(())
}
