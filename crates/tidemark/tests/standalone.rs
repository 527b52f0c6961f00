//! The `tidemark` binary from outside: what it says, and how it ends.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const FREE: &str = "127.0.0.1:0";

/// A standalone, killed when dropped.
struct Running {
    child: Child,
    /// The address in the line that says it is ready.
    address: String,
}

fn command(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark"));
    command.arg("standalone").arg("--data-dir").arg(data_dir).args(["--listen", FREE, "--http", FREE]);
    // Only what is wrong is said.
    command.env("TIDEMARK_TELEMETRY__LOG", "error").stdin(Stdio::null());
    command
}

impl Running {
    fn start(data_dir: &Path) -> Self {
        let mut child = command(data_dir).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("ready") && line.contains("kcat"), "{line:?}");
        let address = line.split_once("ready on ").unwrap().1.split_once(',').unwrap().0.to_owned();
        Self { child, address }
    }

    fn terminate(mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs one that must refuse, with one line that says why.
fn refusal(command: &mut Command, code: i32) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(status.code(), Some(code), "{stdout}{stderr}");
    assert_eq!((stdout.as_str(), stderr.lines().count()), ("", 1), "{stderr}");
    stderr
}

#[test]
fn it_says_when_it_is_ready_ends_by_sigterm_and_starts_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for _ in 0..3 {
        let running = Running::start(&data);
        TcpStream::connect(&running.address).unwrap();
        assert_eq!(running.terminate().code(), Some(0));
    }
    assert!(["storage", "objects", "metadata"].iter().all(|name| data.join(name).is_dir()));
}

#[test]
fn it_starts_again_after_being_killed_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        drop(Running::start(dir.path()));
    }
    // Also in the middle of a start.
    for microseconds in [100, 5_000, 20_000, 40_000, 80_000] {
        let mut child = command(dir.path()).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(microseconds));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(Running::start(dir.path()).terminate().code(), Some(0));
}

#[test]
fn what_cannot_work_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let (data, other) = (dir.path().join("data"), dir.path().join("other"));
    let _running = Running::start(&data);
    let said = refusal(&mut command(&data), 1);
    assert!(said.contains("in use") && said.contains(data.to_str().unwrap()), "{said}");

    let taken = TcpListener::bind(FREE).unwrap().local_addr().unwrap().to_string();
    let taken = TcpListener::bind(taken).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--http"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark"));
        let rest = if flag == "--listen" { ["--http", FREE] } else { ["--listen", FREE] };
        command.arg("standalone").arg("--data-dir").arg(&other).args(rest).args([flag, &address]);
        let said = refusal(command.env("TIDEMARK_TELEMETRY__LOG", "error"), 1);
        assert!(said.contains("in use") && said.contains(&address), "{said}");
    }

    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let said = refusal(&mut command(&file.join("data")), 1);
    assert!(said.contains(file.to_str().unwrap()), "{said}");

    std::fs::create_dir_all(other.join("storage")).unwrap();
    std::fs::write(other.join("storage").join("node"), "format = 99\n").unwrap();
    let said = refusal(&mut command(&other), 1);
    assert!(said.contains("newer") && said.contains("99"), "{said}");

    let said = refusal(command(&dir.path().join("third")).env("TIDEMARK_LISTENN", "x"), 2);
    assert!(said.contains("LISTENN"), "{said}");
}

#[test]
fn the_configuration_is_printed_as_it_results() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidemark.toml");
    std::fs::write(&file, "num_partitions = 6\nhttp = \"127.0.0.1:1\"\n").unwrap();
    let mut child = command(&dir.path().join("data"))
        .args(["--print-config", "--config"])
        .arg(&file)
        .env("TIDEMARK_SEGMENT_MS", "5")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut printed = String::new();
    child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert!(child.wait().unwrap().success());
    for line in ["num_partitions = 6", "segment_ms = 5", "http = \"127.0.0.1:0\"", "auto_create_topics = true"] {
        assert!(printed.lines().any(|printed| printed == line), "{line} in {printed}");
    }
    assert!(!dir.path().join("data").exists());
}
