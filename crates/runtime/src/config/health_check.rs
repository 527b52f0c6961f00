//! One HTTP GET, for a container's health check in an image that has no client.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// A health check that takes longer counts as failed.
const DEADLINE: Duration = Duration::from_secs(3);

/// More than any page of conditions.
const MAX_ANSWER: u64 = 1024 * 1024 * 4;

/// Why the service does not count as well.
#[derive(Debug, thiserror::Error)]
pub enum Unwell {
    #[error("{0} is no http://HOST:PORT/PATH")]
    Url(String),
    #[error("no answer: {0}")]
    NoAnswer(#[from] std::io::Error),
    #[error("answered {status}: {body}")]
    Refused { status: String, body: String },
}

/// Gets `url` and says what it answered, on the right stream. The result is the exit code.
pub(super) fn report(url: &str) -> i32 {
    match check(url) {
        Ok(_) => 0,
        Err(error) => {
            eprintln!("{url}: {error}");
            1
        }
    }
}

/// The body that `url` answers with 2xx.
pub fn check(url: &str) -> Result<String, Unwell> {
    let rest = url.strip_prefix("http://").ok_or_else(|| Unwell::Url(url.to_owned()))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = authority.to_socket_addrs().ok().and_then(|mut all| all.next());
    let address = address.ok_or_else(|| Unwell::Url(url.to_owned()))?;

    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {authority}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;

    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().and_then(|line| line.split_once(' ')).map_or("", |(_, status)| status);
    if status.starts_with('2') {
        return Ok(body.to_owned());
    }
    Err(Unwell::Refused { status: status.to_owned(), body: body.trim_end().to_owned() })
}
