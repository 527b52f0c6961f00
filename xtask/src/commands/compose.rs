//! `cargo xtask compose`: the cluster of `deploy/docker-compose.yml`, up, scaled, checked by a client, and down.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use xtask::docker::Docker;
use xtask::{process, sh};

use super::images;
use super::test::need_build_tools;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    images: images::Args,
    /// Leaves it running.
    #[arg(long)]
    keep: bool,
}

const PROJECT: &str = "tidemark-xtask";

/// Where the compose file lets clients of this machine in.
const BOOTSTRAP: &str = "127.0.0.1:9092";

/// How long all containers may take to be healthy.
const HEALTHY: Duration = Duration::from_secs(120);

pub(crate) fn run(args: &Args) -> Result<()> {
    need_build_tools()?;
    if process::accepts(BOOTSTRAP) {
        bail!("somebody listens on {BOOTSTRAP} already");
    }
    let docker = Docker::get()?;
    images::build(&docker, &args.images)?;
    let result = up_and_checked(&docker);
    if result.is_err() {
        let _ = sh::run(compose(&docker)?.args(["logs", "--no-color", "--tail", "40"]));
    }
    if !args.keep {
        sh::step("down");
        sh::quietly(compose(&docker)?.args(["down", "--volumes", "--timeout", "10"]))?;
    }
    result
}

fn up_and_checked(docker: &Docker) -> Result<()> {
    sh::step("up");
    // What an interrupted run left behind would be an old cluster.
    sh::quietly(compose(docker)?.args(["down", "--volumes", "--timeout", "10"]))?;
    let began = Instant::now();
    sh::run(compose(docker)?.args(["up", "-d"]))?;
    wait_healthy(docker, 6)?;
    eprintln!("healthy after {:.1?}", began.elapsed());
    client_check("produce::")?;

    sh::step("three brokers");
    sh::run(compose(docker)?.args(["up", "-d", "--scale", "broker=3"]))?;
    wait_healthy(docker, 8)?;
    client_check("produce::")?;
    client_check("read::")
}

fn compose(docker: &Docker) -> Result<Command> {
    let mut compose = docker.compose()?;
    compose.current_dir(sh::root().join("deploy")).args(["--project-name", PROJECT]);
    Ok(compose)
}

/// Waits until so many containers are there and all of them are healthy.
fn wait_healthy(docker: &Docker, count: usize) -> Result<()> {
    let began = Instant::now();
    loop {
        let filter = format!("label=com.docker.compose.project={PROJECT}");
        let format = "{{.Names}}\t{{.Status}}";
        let all = sh::quietly(docker.command().args(["ps", "--all", "--filter", &filter, "--format", format]))?;
        let well = all.lines().filter(|line| line.contains("(healthy)")).count();
        if well == count && all.lines().count() == count {
            return Ok(());
        }
        if began.elapsed() > HEALTHY {
            bail!("{well} of {count} containers are healthy after {HEALTHY:?}:\n{all}");
        }
        sleep(Duration::from_millis(500));
    }
}

/// Part of the end-to-end suite, from this host through the published port.
fn client_check(part: &str) -> Result<()> {
    let mut test = sh::cargo();
    test.env("TIDEMARK_E2E_BOOTSTRAP", BOOTSTRAP);
    sh::run(test.args(["test", "--workspace", "--test", "e2e", "--", part]))
}
