//! What every client goes through.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::client::{Client, From, Produce, Received, Record, Way};
use super::groups::{self, Delivery};
use super::report::Report;
use super::rules::{self, Run};

const ACKS: [&str; 3] = ["all", "1", "0"];

/// Records of one producer by key, with so many keys, and in the other ways.
const BY_KEY: usize = 300;
const KEYS: usize = 20;
const OTHERWISE: usize = 120;

/// Enough for many batches and several requests in flight.
const MANY: usize = 20_000;

/// How long a new topic may take to be ready, and what nobody acknowledges to arrive.
const PATIENCE: Duration = Duration::from_secs(20);

/// A topic with all that a client read from it.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) client: &'static str,
    pub(super) topic: String,
    pub(super) all: Vec<Received>,
}

/// Takes a client through all cases. Topics begin with `prefix`.
pub(super) fn run(
    client: &mut dyn Client,
    name: &'static str,
    prefix: &str,
    delivery: Delivery,
    report: &mut Report,
) -> Option<Written> {
    report.client(name);
    let topic = format!("{prefix}-{name}");
    report.step("create a topic with 6 partitions, and find it empty", || create(client, &topic))?;
    let runs = produce_in_every_way(client, &topic, report);
    let all = report.step("read all from the beginning", || {
        let all = read_all(client, &topic, &runs)?;
        rules::whole(&runs, &all).map(|()| all)
    })?;

    let middle = middle_offset(&all);
    report.step(&format!("read from offset {middle}"), || {
        let from = From::Offset(middle);
        rules::same(&rules::expected(&all, from), &client.read(&[&topic], from)?)
    });
    let mut times: Vec<i64> = all.iter().map(|record| record.timestamp).collect();
    times.sort_unstable();
    for (what, time) in [
        ("in the middle", times[times.len() / 2]),
        ("before all", times[0] - 3_600_000),
        ("after all", times[times.len() - 1] + 1),
    ] {
        if client.abilities().slow && time < times[0] {
            continue;
        }
        report.step(&format!("read from a timestamp {what}"), || {
            let from = From::Timestamp(time);
            rules::same(&rules::expected(&all, from), &client.read(&[&topic], from)?)
        });
    }
    several_topics(client, &topic, &all, report);
    many(client, &topic, report);
    groups::run(client, &topic, delivery, report);
    client.own_steps(&topic, &all, report);
    Some(Written { client: name, topic, all })
}

/// Reads what the other clients wrote, in their codecs and by their batching.
pub(super) fn read_others(client: &mut dyn Client, name: &'static str, written: &[Written], report: &mut Report) {
    report.client(name);
    if client.abilities().slow {
        report.without("does not read what the others wrote: it takes long, and its library has done it");
        return;
    }
    for other in written.iter().filter(|other| other.client != name) {
        report.step(&format!("read what {} wrote", other.client), || {
            rules::same(&other.all, &client.read(&[&other.topic], From::Beginning)?)
        });
    }
}

/// Creates a topic and waits until all its partitions can be read. While a leader is not ready, Apache Kafka too loses
/// what nobody acknowledges, and a producer that is not idempotent sends in another order what it has to send again.
fn create(client: &mut dyn Client, topic: &str) -> Result<()> {
    client.create(topic)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.read(&[topic], From::Beginning) {
            Ok(all) if all.is_empty() => return Ok(()),
            Ok(all) => bail!("it has {} records", all.len()),
            Err(error) if Instant::now() > deadline => return Err(error.context("it is not readable")),
            Err(_) => {}
        }
    }
}

fn produce_in_every_way(client: &mut dyn Client, topic: &str, report: &mut Report) -> Vec<Run> {
    let abilities = client.abilities();
    if !abilities.to_partition {
        report.without("has no way to send to a given partition");
    }
    let mut runs = Vec::new();
    for acks in ACKS {
        for codec in abilities.codecs {
            let partition = Way::Partition(runs.len() as u32 % super::client::PARTITIONS);
            for way in [Way::Key, Way::RoundRobin, partition] {
                if matches!(way, Way::Partition(_)) && !abilities.to_partition {
                    continue;
                }
                let label = format!("acks={acks} {codec} by {}", way.name());
                let records = records(&label, way);
                let produce = Produce { topic, acks: Some(acks), codec: Some(codec), way, records: &records };
                let placed = report.step(&format!("produce {label}"), || client.produce(&produce));
                let acknowledged = placed.is_some();
                runs.push(Run { way, records, placed: placed.unwrap_or_default(), acknowledged });
            }
        }
    }
    runs
}

fn records(label: &str, way: Way) -> Vec<Record> {
    let count = if way == Way::Key { BY_KEY } else { OTHERWISE };
    let record = |number: usize| Record {
        key: (way == Way::Key).then(|| format!("key-{}", number % KEYS)),
        partition: if let Way::Partition(partition) = way { Some(partition) } else { None },
        value: format!("{label} {number}"),
    };
    (0..count).map(record).collect()
}

/// Reads again until everything is there, because nobody knows when what nobody acknowledges will be.
fn read_all(client: &mut dyn Client, topic: &str, runs: &[Run]) -> Result<Vec<Received>> {
    let promised: usize = runs.iter().filter(|run| run.acknowledged).map(|run| run.records.len()).sum();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = client.read(&[topic], From::Beginning)?;
        if all.len() >= promised || Instant::now() > deadline {
            return Ok(all);
        }
    }
}

/// Within every partition that holds anything.
fn middle_offset(all: &[Received]) -> i64 {
    let ends = (0..super::client::PARTITIONS).map(|partition| {
        all.iter().filter(|record| record.partition == partition).map(|record| record.offset + 1).max().unwrap_or(0)
    });
    ends.filter(|end| *end > 0).min().unwrap_or(0) / 2
}

fn several_topics(client: &mut dyn Client, topic: &str, all: &[Received], report: &mut Report) {
    if !client.abilities().several_topics {
        report.without("reads one topic at a time in stand-alone mode");
        return;
    }
    report.step("read two topics at once", || {
        let other = format!("{topic}-other");
        create(client, &other)?;
        let runs = [produce_by_default(client, &other, records("the other topic", Way::Key))?];
        let both = client.read(&[topic, &other], From::Beginning)?;
        let (of_other, of_topic): (Vec<_>, Vec<_>) = both.into_iter().partition(|record| record.topic == other);
        rules::whole(&runs, &of_other).context("of the second topic")?;
        rules::same(all, &of_topic).context("of the first topic")
    });
}

/// As many records as fill batches and pipelines, with nothing but defaults.
fn many(client: &mut dyn Client, topic: &str, report: &mut Report) {
    report.step(&format!("{MANY} records with default settings"), || {
        let topic = format!("{topic}-many");
        create(client, &topic)?;
        let padding = "x".repeat(150);
        let record = |number: usize| Record {
            key: Some(format!("key-{}", number % 1000)),
            partition: None,
            value: format!("{number} {padding}"),
        };
        let runs = [produce_by_default(client, &topic, (0..MANY).map(record).collect())?];
        rules::whole(&runs, &client.read(&[&topic], From::Beginning)?)
    });
}

fn produce_by_default(client: &mut dyn Client, topic: &str, records: Vec<Record>) -> Result<Run> {
    let way = Way::Key;
    let placed = client.produce(&Produce { topic, acks: None, codec: None, way, records: &records })?;
    Ok(Run { way, records, placed, acknowledged: true })
}
