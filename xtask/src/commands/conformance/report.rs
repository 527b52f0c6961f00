//! What became of each step of each client.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::Result;

#[derive(Debug, Default)]
pub(super) struct Report {
    client: String,
    /// Client and what is to be said of it, in order.
    clients: Vec<(String, Tally)>,
}

#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: Vec<String>,
    without: Vec<String>,
}

impl Report {
    /// What follows is this client's.
    pub(super) fn client(&mut self, name: &str) {
        name.clone_into(&mut self.client);
        self.tally();
    }

    /// Runs a step. A failed one is told at once, with its reason, and the case goes on as far as it can.
    pub(super) fn step<T>(&mut self, name: &str, step: impl FnOnce() -> Result<T>) -> Option<T> {
        let began = Instant::now();
        let result = step();
        let took = began.elapsed().as_secs_f64();
        let client = self.client.clone();
        match result {
            Ok(value) => {
                eprintln!("{client}: {name}: passed in {took:.1} s");
                self.tally().passed += 1;
                Some(value)
            }
            Err(error) => {
                eprintln!("{client}: {name}: FAILED after {took:.1} s: {error:#}");
                self.tally().failed.push(format!("{name}: {error:#}"));
                None
            }
        }
    }

    /// Something the client does not have.
    pub(super) fn without(&mut self, what: &str) {
        eprintln!("{}: {what}", self.client);
        self.tally().without.push(what.to_owned());
    }

    pub(super) fn failures(&self) -> usize {
        self.clients.iter().map(|(_, tally)| tally.failed.len()).sum()
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (client, tally) in &self.clients {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{client}: {} steps passed, {} failed", tally.passed, tally.failed.len());
            for failure in &tally.failed {
                let _ = writeln!(text, "    failed: {}", failure.replace('\n', "\n        "));
            }
            for what in &tally.without {
                let _ = writeln!(text, "    {what}");
            }
        }
        text
    }

    fn tally(&mut self) -> &mut Tally {
        let index = self.clients.iter().position(|(name, _)| *name == self.client).unwrap_or_else(|| {
            self.clients.push((self.client.clone(), Tally::default()));
            self.clients.len() - 1
        });
        &mut self.clients[index].1
    }
}
