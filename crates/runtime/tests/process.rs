//! A whole process around a service, from outside: what it prints, answers and exits with.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tidemark_runtime::config::health_check::check;

/// The example that cargo builds along with the tests, unless it is told to build one test alone.
fn idle() -> Command {
    let test = std::env::current_exe().unwrap();
    let path: PathBuf = test.parent().unwrap().parent().unwrap().join("examples/idle");
    assert!(path.exists(), "{} is not built: `cargo build -p tidemark-runtime --examples`", path.display());
    let mut command = Command::new(path);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A process that runs, killed when the test is done with it.
struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// Reads the log up to a line that has `text`, and gives that line.
    fn logged(&mut self, text: &str) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "the log ended without {text:?}:\n{all}");
            if line.contains(text) {
                return line;
            }
            all.push_str(&line);
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        // The log is read to its end, so that the process never waits for a reader.
        let mut rest = Vec::new();
        self.log.read_to_end(&mut rest).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already in every test that passes.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn output(command: &mut Command) -> (Output, String, String) {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout).into(), String::from_utf8_lossy(&output.stderr).into());
    (output, out, err)
}

/// An address nobody else uses: the listener is given up just before the process takes it.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn it_serves_its_pages_and_a_signal_ends_it_cleanly() {
    for signal in [Signal::TERM, Signal::INT] {
        let http = free_address();
        let mut idle = Running::start(idle().env("TIDEMARK_HTTP", &http));
        idle.logged("ready");
        assert!(check(&format!("http://{http}/readyz")).unwrap().contains("ok       idle"));
        assert!(check(&format!("http://{http}/metrics")).unwrap().contains("service=\"tidemark-idle\""));
        let (health, _, error) = output(self::idle().args(["--health", &format!("http://{http}/readyz")]));
        assert!(health.status.success(), "{error}");
        idle.signal(signal);
        assert_eq!(idle.end().code(), Some(0), "after {signal:?}");
        let (health, _, error) = output(self::idle().args(["--health", &format!("http://{http}/readyz")]));
        assert!(health.status.code() == Some(1) && error.contains("no answer"), "{error}");
    }
}

#[test]
fn while_it_drains_it_is_alive_but_not_ready_and_a_second_signal_ends_it_at_once() {
    let http = free_address();
    let mut idle = Running::start(idle().env("TIDEMARK_HTTP", &http).env("TIDEMARK_HANG", "true"));
    let line = idle.logged("ready");
    assert!(!line.contains('\u{1b}'), "colours in a pipe: {line:?}");
    idle.signal(Signal::TERM);
    idle.logged("shutting down");
    // The log line and the page are two tasks: asking again is waiting for the second.
    let refusal = loop {
        match check(&format!("http://{http}/readyz")) {
            Ok(_) => std::thread::yield_now(),
            Err(refusal) => break refusal.to_string(),
        }
    };
    assert!(refusal.contains("503") && refusal.contains("shutting down"), "{refusal}");
    assert!(check(&format!("http://{http}/livez")).is_ok());
    idle.signal(Signal::TERM);
    assert_eq!(idle.end().code(), Some(130));
}

#[test]
fn a_configuration_that_cannot_be_used_is_exit_code_2_and_says_why() {
    let (output_, _, error) = output(idle().env("TIDEMARK_LISTN", "127.0.0.1:1"));
    assert_eq!(output_.status.code(), Some(2), "{error}");
    assert!(error.contains("TIDEMARK_LISTN") && error.contains("did you mean TIDEMARK_LISTEN"), "{error}");
}

#[test]
fn a_port_in_use_is_exit_code_1_and_says_which() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for key in ["TIDEMARK_HTTP", "TIDEMARK_LISTEN"] {
        let (output_, _, error) = output(idle().env(key, &address));
        assert_eq!(output_.status.code(), Some(1), "{error}");
        assert!(error.contains(&address) && error.contains("in use") && error.contains(key), "{error}");
    }
}

#[test]
fn it_prints_its_version_and_its_configuration() {
    let (_, version, _) = output(idle().arg("--version"));
    assert_eq!(version.trim(), format!("tidemark-idle {}", env!("CARGO_PKG_VERSION")));
    let (_, config, error) = output(idle().arg("--print-config").env("TIDEMARK_TELEMETRY__LOG", "debug"));
    assert!(config.contains("[telemetry]") && config.contains("log = \"debug\""), "{config}{error}");
}

#[test]
fn logs_are_json_when_asked_for() {
    let mut idle = Running::start(idle().env("TIDEMARK_TELEMETRY__LOG_FORMAT", "json"));
    let line = idle.logged("ready");
    assert!(line.starts_with('{') && line.contains("\"message\":\"ready\""), "{line}");
    idle.signal(Signal::TERM);
    assert_eq!(idle.end().code(), Some(0));
}

#[test]
fn spans_reach_the_collector_before_the_process_ends() {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let mut idle = Running::start(idle().env("TIDEMARK_TELEMETRY__OTLP_ENDPOINT", endpoint));
    idle.logged("ready");
    idle.signal(Signal::TERM);
    let (mut connection, _) = collector.accept().unwrap();
    // An HTTP/2 server's empty SETTINGS frame, so that the client goes on.
    connection.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
    let mut got = Vec::new();
    let mut chunk = [0; 4096];
    let has = |got: &[u8], text: &str| got.windows(text.len()).any(|window| window == text.as_bytes());
    while !(has(&got, "tidemark-idle") && has(&got, "idling")) {
        let n = connection.read(&mut chunk).unwrap();
        assert_ne!(n, 0, "the connection ended without the span");
        got.extend_from_slice(&chunk[..n]);
    }
    drop(connection);
    assert_eq!(idle.end().code(), Some(0), "an export that fails does not fail the process");
}
