//! One etcd beside the load: what a put takes, and how many transactions it does. By its JSON gateway, because only the
//! coordinator knows its protocol.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tidemark_tests::metrics::metric;

use crate::figures::Latencies;

/// Between two puts.
const PACE: Duration = Duration::from_millis(10);

pub(crate) struct Etcd {
    address: String,
    stream: BufReader<TcpStream>,
}

impl Etcd {
    pub(crate) fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { address: address.to_owned(), stream: BufReader::new(stream) })
    }

    /// Puts of a hundred bytes, one at a time, until it is enough.
    pub(crate) fn puts(&mut self, latencies: &Latencies, mut enough: impl FnMut() -> bool) -> Result<()> {
        // `bench` and a hundred zero bytes, in base64.
        let body = format!("{{\"key\":\"YmVuY2g=\",\"value\":\"{}\"}}", "A".repeat(132) + "AA==");
        while !enough() {
            let began = Instant::now();
            self.post("/v3/kv/put", &body)?;
            latencies.since(began);
            std::thread::sleep(PACE);
        }
        Ok(())
    }

    fn post(&mut self, path: &str, body: &str) -> Result<()> {
        let head = format!("POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n", self.address, body.len());
        self.stream.get_mut().write_all((head + body).as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        ensure!(line.contains(" 200 "), "etcd answers {line}");
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
        }
        self.stream.read_exact(&mut vec![0; length])?;
        Ok(())
    }

    /// How many transactions clients have asked it for so far. Single puts are none.
    pub(crate) fn transactions(&self) -> Result<f64> {
        let handled = metric(&self.address, "grpc_server_handled_total", &["\"Txn\"", "\"OK\""])?;
        Ok(handled.unwrap_or(0.0))
    }
}
