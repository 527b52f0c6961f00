//! An HTTP proxy in front of an object store, which does to its requests what networks and overloaded servers do.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long the answer of a server behind the proxy may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// It is answered, this much later.
    Slow(Duration),
    /// 503 SlowDown, and it is not carried out.
    SlowDown,
    /// It is never answered, and not carried out.
    Hang,
    /// It is carried out, and half of the answer's body comes before the connection ends.
    Truncated,
    /// It is carried out, and the connection is reset instead of an answer.
    ResetAfter,
    /// The connection is reset in the middle of the request.
    Reset,
}

/// A running proxy. Its threads end with the process.
#[derive(Debug)]
pub struct Proxy {
    pub address: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    /// Taken in turn, again and again.
    faults: Mutex<Vec<Fault>>,
    next: AtomicUsize,
    /// Requests that met a fault.
    met: AtomicUsize,
}

/// A request or an answer up to its body.
struct Head {
    bytes: Vec<u8>,
    length: Option<u64>,
    chunked: bool,
}

impl Proxy {
    pub fn start(upstream: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            faults: Mutex::new(vec![Fault::None]),
            next: AtomicUsize::new(0),
            met: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                // A connection that breaks is what this is for.
                std::thread::spawn(move || drop(shared.serve(&client)));
            }
        });
        Ok(Self { address, shared })
    }

    /// What happens to requests from now on: these in turn, again and again.
    pub fn set(&self, faults: &[Fault]) {
        *self.shared.faults.lock().expect("no holder panics") = faults.to_vec();
    }

    /// How many requests met a fault by now.
    pub fn met(&self) -> usize {
        self.shared.met.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn serve(&self, client: &TcpStream) -> io::Result<()> {
        let mut requests = BufReader::new(client);
        let server = TcpStream::connect(&self.upstream)?;
        server.set_read_timeout(Some(PATIENCE))?;
        let mut answers = BufReader::new(&server);
        while let Some(request) = Head::read(&mut requests)? {
            let fault = self.fault();
            let mut body = request.body();
            match fault {
                Fault::SlowDown => {
                    io::copy(&mut requests.by_ref().take(body), &mut io::sink())?;
                    (&*client).write_all(slow_down().as_bytes())?;
                    continue;
                }
                Fault::Hang => {
                    io::copy(&mut requests, &mut io::sink())?;
                    return Ok(());
                }
                Fault::Reset => {
                    io::copy(&mut requests.by_ref().take(body / 2), &mut io::sink())?;
                    return reset(client);
                }
                Fault::None | Fault::Slow(_) | Fault::Truncated | Fault::ResetAfter => {}
            }
            (&server).write_all(&request.bytes)?;
            // A client that asks before it sends is told to go on by the server, through us.
            while body > 0 {
                let sent = io::copy(&mut requests.by_ref().take(body.min(1 << 20)), &mut &server)?;
                if sent == 0 {
                    return Ok(());
                }
                body -= sent;
            }
            let Some(answer) = Head::read(&mut answers)? else { return Ok(()) };
            let bodiless = request.bytes.starts_with(b"HEAD ") || answer.is_bodiless();
            match fault {
                Fault::ResetAfter => return reset(client),
                Fault::Slow(delay) => std::thread::sleep(delay),
                _ => {}
            }
            (&*client).write_all(&answer.bytes)?;
            if bodiless {
                continue;
            }
            if fault == Fault::Truncated {
                io::copy(&mut answers.by_ref().take(answer.body() / 2), &mut &*client)?;
                return client.shutdown(Shutdown::Both);
            }
            if answer.chunked {
                copy_chunks(&mut answers, client)?;
            } else {
                io::copy(&mut answers.by_ref().take(answer.body()), &mut &*client)?;
            }
        }
        Ok(())
    }

    fn fault(&self) -> Fault {
        let faults = self.faults.lock().expect("no holder panics");
        let fault = faults[self.next.fetch_add(1, Ordering::Relaxed) % faults.len()];
        if fault != Fault::None {
            self.met.fetch_add(1, Ordering::Relaxed);
        }
        fault
    }
}

/// What an S3 server says that has too much to do.
fn slow_down() -> String {
    let body =
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>SlowDown</Code><Message>Slow down</Message></Error>";
    let length = body.len();
    format!("HTTP/1.1 503 Slow Down\r\ncontent-type: application/xml\r\ncontent-length: {length}\r\n\r\n{body}")
}

impl Head {
    /// Nothing when the other side has ended.
    fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = Self { bytes: Vec::new(), length: None, chunked: false };
        loop {
            let mut line = Vec::new();
            if from.read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            head.bytes.extend_from_slice(&line);
            let line = String::from_utf8_lossy(&line).trim().to_ascii_lowercase();
            if let Some(length) = line.strip_prefix("content-length:") {
                head.length = length.trim().parse().ok();
            }
            head.chunked |= line.strip_prefix("transfer-encoding:").is_some_and(|coding| coding.contains("chunked"));
            if line.is_empty() {
                return Ok(Some(head));
            }
        }
    }

    fn body(&self) -> u64 {
        self.length.unwrap_or(0)
    }

    fn is_bodiless(&self) -> bool {
        let status = self.bytes.get(9..12).unwrap_or_default();
        status == b"204" || status == b"304" || status.starts_with(b"1")
    }
}

fn copy_chunks(from: &mut impl BufRead, mut to: &TcpStream) -> io::Result<()> {
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        to.write_all(line.as_bytes())?;
        let size = u64::from_str_radix(line.trim().split(';').next().unwrap_or("0"), 16).unwrap_or(0);
        // With the line end that follows the chunk.
        io::copy(&mut from.by_ref().take(size + 2), &mut to)?;
        if size == 0 {
            return Ok(());
        }
    }
}

/// Has the connection end with a reset, when the caller drops it.
fn reset(client: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(client).set_linger(Some(Duration::ZERO))
}
