//! The clients that are libraries: a program of `tests/conformance` for each, spoken to in lines of JSON.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use xtask::sh;

use super::client::{Abilities, CODECS, Client, From, Group, PARTITIONS, Placed, Produce, Received, Shared};

/// Longer than any program waits by itself.
const PATIENCE: Duration = Duration::from_secs(150);

pub(super) struct Driver {
    command: Command,
    log: PathBuf,
    abilities: Abilities,
    running: Option<Running>,
}

struct Running {
    child: Child,
    answers: Receiver<String>,
}

impl Driver {
    /// A program that `command` starts, with its standard error in `log`.
    pub(super) fn new(command: Command, log: PathBuf) -> Self {
        let abilities =
            Abilities { codecs: CODECS, to_partition: true, several_topics: true, slow: false, groups: &[] };
        Self { command, log, abilities, running: None }
    }

    pub(super) fn with_codecs(mut self, codecs: &'static [&'static str]) -> Self {
        self.abilities.codecs = codecs;
        self
    }

    pub(super) fn with_groups(mut self, groups: &'static [(&'static str, &'static str)]) -> Self {
        self.abilities.groups = groups;
        self
    }

    /// Sends a command and waits for its answer.
    pub(super) fn ask<T: DeserializeOwned>(&mut self, command: &Value) -> Result<T> {
        let answer = match self.exchange(command) {
            Ok(answer) => answer,
            Err(error) => {
                // It may be anywhere in what it was doing. The next command finds a new one.
                self.stop();
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                bail!("{error:#}\n{}", sh::last_lines(&log, 10));
            }
        };
        let answer: Value = serde_json::from_str(&answer).with_context(|| format!("an answer: {answer}"))?;
        if let Some(error) = answer.get("error") {
            bail!("{}", error.as_str().map_or_else(|| error.to_string(), str::to_owned));
        }
        Ok(serde_json::from_value(answer)?)
    }

    fn exchange(&mut self, command: &Value) -> Result<String> {
        if self.running.is_none() {
            self.running = Some(self.start()?);
        }
        let running = self.running.as_mut().context("it was started")?;
        let input = running.child.stdin.as_mut().context("its input is a pipe")?;
        writeln!(input, "{command}").and_then(|()| input.flush()).context("the client ended")?;
        running.answers.recv_timeout(PATIENCE).with_context(|| format!("no answer within {PATIENCE:?}"))
    }

    fn start(&mut self) -> Result<Running> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = self.command.spawn().context("the client does not start")?;
        let output = BufReader::new(child.stdout.take().context("its output is a pipe")?);
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Running { child, answers })
    }

    fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            // Already gone is as good.
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Deserialize)]
struct Nothing {}

#[derive(Deserialize)]
struct AllPlaced {
    // Go leaves out what is empty.
    #[serde(default)]
    placed: Vec<Placed>,
}

#[derive(Deserialize)]
struct AllRead {
    #[serde(default)]
    records: Vec<Received>,
}

impl Client for Driver {
    fn abilities(&self) -> Abilities {
        self.abilities
    }

    fn create(&mut self, topic: &str) -> Result<()> {
        let Nothing {} = self.ask(&json!({"do": "create", "topic": topic, "partitions": PARTITIONS}))?;
        Ok(())
    }

    fn produce(&mut self, produce: &Produce<'_>) -> Result<Vec<Placed>> {
        let Produce { topic, acks, codec, way, records } = produce;
        let way = way.name();
        let command =
            json!({"do": "produce", "topic": topic, "acks": acks, "codec": codec, "way": way, "records": records});
        let AllPlaced { placed } = self.ask(&command)?;
        Ok(placed)
    }

    fn read(&mut self, topics: &[&str], from: From) -> Result<Vec<Received>> {
        let (from, value) = match from {
            From::Beginning => ("beginning", 0),
            From::Offset(offset) => ("offset", offset),
            From::Timestamp(timestamp) => ("timestamp", timestamp),
        };
        let AllRead { records } = self.ask(&json!({"do": "read", "topics": topics, "from": from, "value": value}))?;
        Ok(records)
    }

    fn group(&mut self, group: &Group<'_>) -> Result<Shared> {
        let Group { group, topic, protocol, assignor, before, records } = group;
        self.ask(&json!({
            "do": "group", "group": group, "topic": topic, "protocol": protocol, "assignor": assignor,
            "before": before, "way": "key", "acks": null, "codec": null, "records": records,
        }))
    }
}
