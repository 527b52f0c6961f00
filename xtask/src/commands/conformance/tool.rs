//! The clients that are command line tools.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use xtask::sh;

use super::client::{Record, Way};

/// What stands between a key and its value. No case's text holds one.
pub(super) const TAB: char = '\t';

/// The lines that a tool reads records from.
pub(super) fn lines(records: &[Record], way: Way) -> String {
    let mut lines = String::new();
    for record in records {
        if let (Way::Key, Some(key)) = (way, &record.key) {
            lines.push_str(key);
            lines.push(TAB);
        }
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{}", record.value);
    }
    lines
}

/// What a tool printed to its outputs, given its input.
pub(super) struct Said {
    pub(super) output: String,
    pub(super) errors: String,
}

/// Runs a tool that must not take longer than `seconds`.
pub(super) fn run(command: &mut Command, seconds: u32, input: &str) -> Result<Said> {
    let mut limited = Command::new("timeout");
    limited.arg(seconds.to_string()).arg(command.get_program()).args(command.get_args());
    limited.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = limited.spawn().context("cannot run timeout of coreutils")?;
    let mut pipe = child.stdin.take().context("its input is a pipe")?;
    let text = input.to_owned();
    // Beside, because a tool may print before it has read all.
    let writing = std::thread::spawn(move || pipe.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    // A tool that ended early says itself why.
    let _ = writing.join();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = Said { output: text(&output.stdout), errors: text(&output.stderr) };
    if output.status.code() == Some(124) {
        bail!("it did not end within {seconds} s: {}", sh::last_lines(&said.errors, 10));
    }
    if !output.status.success() {
        bail!("{}: {}", output.status, sh::last_lines(&(said.errors + &said.output), 10));
    }
    Ok(said)
}
