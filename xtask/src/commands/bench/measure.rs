//! What is measured of one system, from its start on an empty directory to its end.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use xtask::sh;

use super::system::{Kind, System};

/// What can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum What {
    /// Produce and catch-up consume of 1 KiB, 16 KiB and 100 B to 6 partitions, and both at once.
    Throughput,
    /// 1 KiB to 100 and to 1,000 partitions, in client batches of 4 KiB and of 16 KiB.
    Partitions,
    /// 1,000 messages a second.
    Latency,
    /// 16 consumers that read one partition from its start at the same time.
    Fanout,
    /// Minutes of produce and consume at once to a topic that keeps little, tiering and retention included.
    Sustained,
}

/// Consumers of one partition.
const CONSUMERS: u64 = 16;
/// What the topic of the sustained load keeps of each partition.
const KEPT_BYTES: u64 = 256 << 20;

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Volumes {
    pub(super) megabytes: u64,
    pub(super) warm_up_megabytes: u64,
    pub(super) latency_seconds: u32,
    pub(super) sustained_seconds: u32,
}

/// Gives each figure to `add` under the name of its row.
pub(super) fn all(
    what: &[What],
    volumes: &Volumes,
    kind: Kind,
    binaries: &Path,
    dir: &Path,
    add: &mut dyn FnMut(&str, f64),
) -> Result<()> {
    let system = System::start(kind, binaries, dir)?;
    add("start, ms", system.started_in().as_secs_f64() * 1e3);
    system.settle();
    add("RSS idle, MB", system.resident() / 1e6);
    let measured = each(what, volumes, kind, &system, add);
    measured.inspect_err(|_| eprintln!("{}", sh::last_lines(&system.log(), 60)))?;
    add("RSS peak, MB", system.peak_resident() / 1e6);
    Ok(())
}

fn each(what: &[What], volumes: &Volumes, kind: Kind, system: &System, add: &mut dyn FnMut(&str, f64)) -> Result<()> {
    if volumes.warm_up_megabytes > 0 {
        Work::new("warm-up", 1024, volumes.warm_up_megabytes).produce(system, &[])?;
    }
    let mut what = what.to_vec();
    what.sort_unstable();
    for what in what {
        match what {
            What::Throughput => throughput(volumes, kind, system, add)?,
            What::Partitions => partitions(volumes, system, add)?,
            What::Latency => latency(volumes, system, add)?,
            What::Fanout => fanout(volumes, system, add)?,
            What::Sustained => sustained(volumes, system, add)?,
        }
    }
    Ok(())
}

fn partitions(volumes: &Volumes, system: &System, add: &mut dyn FnMut(&str, f64)) -> Result<()> {
    for partitions in [100, 1000] {
        for kib in [4, 16] {
            let topic = format!("partitions-{partitions}-{kib}");
            let work = Work { partitions, ..Work::new(&topic, 1024, volumes.megabytes / 2) };
            let label = format!("1 KiB to {partitions} partitions in batches of {kib} KiB");
            let produced = work.produce(system, &["--batch-bytes", &(kib * 1024).to_string()])?;
            add(&format!("produce {label}, MB/s"), produced.mb_per_s);
            add(&format!("produce {label}, server CPU-s per GB"), produced.server_cpu);
            let consumed = work.consume(system)?;
            add(&format!("consume {label}, MB/s"), consumed.mb_per_s);
            add(&format!("consume {label}, server CPU-s per GB"), consumed.server_cpu);
        }
    }
    Ok(())
}

fn fanout(volumes: &Volumes, system: &System, add: &mut dyn FnMut(&str, f64)) -> Result<()> {
    let work = Work { partitions: 1, ..Work::new("fanout", 1024, volumes.megabytes / 4) };
    work.produce(system, &[])?;
    let mut consumed = work.measured(
        system,
        &["consume", "--messages", &work.messages.to_string(), "--consumers", &CONSUMERS.to_string()],
    )?;
    consumed.server_cpu /= CONSUMERS as f64;
    add("16 consumers of one partition, MB/s of all", consumed.mb_per_s);
    add("16 consumers of one partition, server CPU-s per GB of all", consumed.server_cpu);
    Ok(())
}

fn sustained(volumes: &Volumes, system: &System, add: &mut dyn FnMut(&str, f64)) -> Result<()> {
    let seconds = volumes.sustained_seconds.to_string();
    let keeps = format!("retention.bytes={KEPT_BYTES}");
    // Kafka deletes whole segments only.
    let rolls = format!("segment.bytes={}", KEPT_BYTES / 4);
    let before = system.cpu();
    let measure =
        ["produce", "--size", "1024", "--seconds", &seconds, "--follow", "--config", &keeps, "--config", &rolls];
    let output = client(system, "sustained", 6, &measure)?;
    let cpu = system.cpu().saturating_sub(before).as_secs_f64();
    let label = format!("{} s of produce and consume at once", volumes.sustained_seconds);
    let rate = number(&output, "mb_per_s")?;
    add(&format!("{label}, MB/s"), rate);
    add(&format!("{label}, server CPU-s per GB"), cpu / (rate * number(&output, "seconds")? / 1e3));
    add(&format!("{label}, RSS at the end, MB"), system.resident() / 1e6);
    Ok(())
}

fn throughput(volumes: &Volumes, kind: Kind, system: &System, add: &mut dyn FnMut(&str, f64)) -> Result<()> {
    let megabytes = volumes.megabytes;
    for (label, size, megabytes) in
        [("1 KiB", 1024, megabytes), ("16 KiB", 16 * 1024, megabytes), ("100 B", 100, megabytes / 5)]
    {
        let work = Work::new(&format!("produce-{size}"), size, megabytes);
        let produced = work.produce(system, &[])?;
        add(&format!("produce {label}, MB/s"), produced.mb_per_s);
        add(&format!("produce {label}, server CPU-s per GB"), produced.server_cpu);
        add(&format!("produce {label}, client CPU-s per GB"), produced.client_cpu);
        if size == 1024 {
            let durable = if kind == Kind::Kafka {
                let work = Work::new("durable", size, megabytes);
                work.produce(system, &["--config", "flush.messages=1"])?
            } else {
                // Nothing else there is.
                produced
            };
            add("produce 1 KiB, Kafka with flush.messages=1, MB/s", durable.mb_per_s);
        }
        let consumed = work.consume(system)?;
        add(&format!("consume {label} from the start, MB/s"), consumed.mb_per_s);
        add(&format!("consume {label} from the start, server CPU-s per GB"), consumed.server_cpu);
    }
    let both = Work::new("both", 1024, megabytes / 2).produce(system, &["--follow"])?;
    add("produce and consume 1 KiB at once, MB/s", both.mb_per_s);
    add("produce and consume 1 KiB at once, server CPU-s per GB", both.server_cpu);
    Ok(())
}

fn latency(volumes: &Volumes, system: &System, add: &mut dyn FnMut(&str, f64)) -> Result<()> {
    let seconds = volumes.latency_seconds.to_string();
    let output = client(system, "latency", 6, &["latency", "--rate", "1000", "--seconds", &seconds])?;
    for (label, name) in [("ack", "ack"), ("end to end", "end_to_end")] {
        for percentile in ["p50", "p99", "p999"] {
            let micros = number(&output, &format!("{name}_{percentile}_us"))?;
            add(&format!("{label} at 1,000/s, {percentile} ms"), micros / 1e3);
        }
    }
    Ok(())
}

/// A topic and what goes through it.
struct Work {
    topic: String,
    size: u64,
    messages: u64,
    partitions: u32,
}

#[derive(Debug, Clone, Copy)]
struct Measured {
    mb_per_s: f64,
    /// CPU-seconds per GB, as with the client's. What the server does afterwards with the same bytes is in it.
    server_cpu: f64,
    client_cpu: f64,
}

impl Work {
    fn new(topic: &str, size: u64, megabytes: u64) -> Self {
        Self { topic: topic.to_owned(), size, messages: megabytes * 1_000_000 / size, partitions: 6 }
    }

    fn produce(&self, system: &System, more: &[&str]) -> Result<Measured> {
        let (size, messages) = (self.size.to_string(), self.messages.to_string());
        let measure = ["produce", "--size", &size, "--messages", &messages];
        self.measured(system, &[&measure[..], more].concat())
    }

    fn consume(&self, system: &System) -> Result<Measured> {
        self.measured(system, &["consume", "--messages", &self.messages.to_string()])
    }

    fn measured(&self, system: &System, measure: &[&str]) -> Result<Measured> {
        let before = system.cpu();
        let output = client(system, &self.topic, self.partitions, measure)?;
        system.settle();
        let gigabytes = (self.messages * self.size) as f64 / 1e9;
        Ok(Measured {
            mb_per_s: number(&output, "mb_per_s")?,
            server_cpu: system.cpu().saturating_sub(before).as_secs_f64() / gigabytes,
            client_cpu: number(&output, "client_cpu_s")? / gigabytes,
        })
    }
}

fn client(system: &System, topic: &str, partitions: u32, measure: &[&str]) -> Result<String> {
    let mut client = Command::new(sh::target_dir().join("release").join("bench-client"));
    client.args(["--bootstrap", system.bootstrap(), "--topic", topic, "--partitions", &partitions.to_string()]);
    client.args(measure);
    sh::quietly(&mut client)
}

/// A value of the client's `name=value` lines.
pub(super) fn number(output: &str, name: &str) -> Result<f64> {
    let value = output.lines().find_map(|line| line.split_once('=').filter(|(key, _)| *key == name));
    Ok(value.with_context(|| format!("no {name} in {output}"))?.1.parse()?)
}
