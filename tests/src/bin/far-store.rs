//! An object store that is some milliseconds away, for `cargo xtask bench cold`: `far-store HOST:PORT MILLISECONDS` passes on
//! to the server there, every answer so much later. Prints where it listens, and ends with its standard input.

#![allow(clippy::print_stdout, reason = "its output is its result")]

use std::io::{Read as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tidemark_tests::proxy::{Fault, Proxy};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let upstream = args.next().context("which server? far-store HOST:PORT MILLISECONDS")?;
    let delay = args.next().context("how far away? far-store HOST:PORT MILLISECONDS")?.parse()?;
    let proxy = Proxy::start(&upstream)?;
    proxy.set(&[Fault::Slow(Duration::from_millis(delay))]);
    println!("{}", proxy.address);
    std::io::stdout().flush()?;
    let mut end = Vec::new();
    std::io::stdin().read_to_end(&mut end)?;
    Ok(())
}
