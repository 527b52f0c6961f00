//! Docker: the daemon that runs, or one of our own for as long as we need it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::process::Process;
use crate::{machine, sh};

/// How long a daemon may take to be ready.
const START: Duration = Duration::from_secs(60);

/// A daemon to talk to. Ours ends with this.
#[derive(Debug)]
pub struct Docker {
    host: Option<String>,
    daemon: Option<Process>,
}

impl Docker {
    /// Finds a running daemon, or starts one, with its data under `target/tools`.
    pub fn get() -> Result<Self> {
        machine::need("docker", &["docker.io"])?;
        let mut docker = Self { host: None, daemon: None };
        if docker.answers() {
            return Ok(docker);
        }
        if !machine::is_root() {
            bail!("no docker daemon answers, and starting one needs root");
        }
        machine::need("dockerd", &["docker.io", "iptables"])?;
        let dir = sh::target_dir().join("tools").join("docker");
        fs::create_dir_all(&dir)?;
        let host = format!("unix://{}", dir.join("socket").display());
        docker.host = Some(host.clone());
        let log = dir.join("dockerd.log");
        let _ = fs::remove_file(&log);
        let mut command = Command::new("dockerd");
        command.args(["--host", &host, "--data-root"]).arg(dir.join("data"));
        command.arg("--exec-root").arg(dir.join("exec")).arg("--pidfile").arg(dir.join("pid"));
        let mut daemon = Process::start("dockerd", &log, &mut command)?;
        daemon.wait_ready(START, || docker.answers()).context("dockerd does not start here")?;
        docker.daemon = Some(daemon);
        Ok(docker)
    }

    /// `docker …`
    pub fn command(&self) -> Command {
        self.of("docker")
    }

    /// `docker-compose …`, or the plugin where only that is.
    pub fn compose(&self) -> Result<Command> {
        if machine::program("docker-compose").is_some() {
            return Ok(self.of("docker-compose"));
        }
        if sh::quietly(self.command().args(["compose", "version"])).is_ok() {
            let mut command = self.command();
            command.arg("compose");
            return Ok(command);
        }
        machine::need("docker-compose", &["docker-compose"])?;
        Ok(self.of("docker-compose"))
    }

    pub fn has_image(&self, name: &str) -> bool {
        sh::quietly(self.command().args(["image", "inspect", name])).is_ok()
    }

    fn of(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // Debian's daemon has no buildkit.
        command.env("DOCKER_BUILDKIT", "0").envs(self.host.as_ref().map(|host| ("DOCKER_HOST", host)));
        command
    }

    fn answers(&self) -> bool {
        sh::quietly(self.command().args(["version", "--format", "{{.Server.Version}}"])).is_ok()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            // It unmounts and removes its networks on the way out.
            if let Err(error) = daemon.terminate(START) {
                eprintln!("{error:#}");
            }
        }
    }
}

/// The name and version of this Debian, such as `bookworm`.
pub fn debian_codename() -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").ok()?;
    let line = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    release.contains("ID=debian").then(|| line.trim_matches('"').to_owned())
}

/// A base image of the same Debian as this machine, made from its packages without any registry of images.
pub fn debian_base(docker: &Docker) -> Result<String> {
    let codename = debian_codename().context("this is not Debian: name a base image with --base")?;
    let image = format!("tidemark-base:{codename}");
    if docker.has_image(&image) {
        return Ok(image);
    }
    if !machine::is_root() {
        bail!("making a base image needs root: name one with --base");
    }
    machine::need("debootstrap", &["debootstrap"])?;
    sh::step(&format!("making a base image of Debian {codename}, once"));
    let dir = tempfile::Builder::new().prefix("base-").tempdir_in(sh::target_dir())?;
    let root: PathBuf = dir.path().join("root");
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", "--include=ca-certificates", &codename]).arg(&root);
    sh::quietly(&mut debootstrap)?;
    let archive = dir.path().join("base.tar");
    let mut tar = Command::new("tar");
    tar.args(["--exclude=./var/cache/apt/archives/*.deb", "--exclude=./var/lib/apt/lists/*", "-C"]).arg(&root);
    sh::quietly(tar.arg("-cf").arg(&archive).arg("."))?;
    sh::quietly(docker.command().arg("import").arg(&archive).arg(&image))?;
    Ok(image)
}
