//! A server in a process of its own: its log, its readiness, what it uses, its end.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use crate::sh;

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(20);

/// The ports we hand out lie below Linux's ephemeral range, so that no client's own port takes a server's while that is
/// being restarted.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Sends a signal without the program `kill`, which a minimal Debian lacks.
pub fn signal(child: &Child, signal: Signal) -> Result<()> {
    kill_process(Pid::from_child(child), signal)
        .with_context(|| format!("sending {signal:?} to process {}", child.id()))
}

/// A port of 127.0.0.1 that nobody listens on.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run side by side start at different places.
    let start = (std::process::id() as u16).wrapping_mul(37);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(start) % (PORTS.end - PORTS.start);
        let port = PORTS.start + step;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Waits until `condition` holds.
pub fn wait_for(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + timeout;
    while !condition() {
        if Instant::now() > deadline {
            bail!("waited {timeout:?} for {what}");
        }
        sleep(POLL);
    }
    Ok(())
}

/// Whether somebody accepts connections there.
pub fn accepts(address: &str) -> bool {
    let Ok(address) = address.parse::<SocketAddr>() else { return false };
    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
}

/// The status and body of a GET, as simple as our own health endpoints need it.
pub fn http_get(address: &str, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address.parse()?, Duration::from_millis(500))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_whitespace().nth(1).context("no status line")?.parse()?;
    Ok((status, body.to_owned()))
}

/// How much memory and CPU a process has used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time of all its threads.
    pub cpu: Duration,
    pub resident_bytes: u64,
    pub peak_resident_bytes: u64,
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts a command with both outputs appended to `log`.
    pub fn start(name: &str, log: &Path, command: &mut Command) -> Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let err = out.try_clone()?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), log: log.to_owned(), child })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until `ready` holds, and fails with the end of the log when the process exits before.
    pub fn wait_ready(&mut self, timeout: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let mut exited = None;
        let waited = wait_for("it to be ready", timeout, || {
            exited = self.child.try_wait().ok().flatten();
            exited.is_some() || ready()
        });
        match (exited, waited) {
            (None, Ok(())) => Ok(()),
            (Some(status), _) => bail!("{} exited ({status}):\n{}", self.name, sh::last_lines(&self.log(), 40)),
            (None, Err(error)) => bail!("{}: {error}:\n{}", self.name, sh::last_lines(&self.log(), 40)),
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn signal(&self, what: Signal) -> Result<()> {
        signal(&self.child, what)
    }

    /// SIGTERM, and then the exit status.
    pub fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus> {
        signal(&self.child, Signal::TERM)?;
        let mut status = None;
        wait_for(&format!("{} to exit after SIGTERM", self.name), timeout, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        })?;
        status.context("it exited without a status")
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub fn usage(&self) -> Usage {
        usage(self.id()).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn usage(pid: u32) -> Option<Usage> {
    /// `getconf CLK_TCK` of every Linux we know.
    const TICKS_PER_SECOND: u64 = 100;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in brackets and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let cpu = Duration::from_millis((ticks(11)? + ticks(12)?) * 1000 / TICKS_PER_SECOND);

    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kilobytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    Some(Usage { cpu, resident_bytes: kilobytes("VmRSS")? * 1024, peak_resident_bytes: kilobytes("VmHWM")? * 1024 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_usage_is_read() {
        let usage = usage(std::process::id()).expect("this process is there");
        assert!(usage.resident_bytes > 100_000 && usage.peak_resident_bytes >= usage.resident_bytes);
    }

    #[test]
    fn free_ports_differ() {
        assert_ne!(free_port(), free_port());
    }
}
