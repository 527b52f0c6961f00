//! The console tools that come with Kafka, one process of Java for each step.

mod groups;

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use xtask::tools::kafka::{Jars, jars};

use super::client::{Abilities, CODECS, Client, From, PARTITIONS, Placed, Produce, Received, Way};
use super::report::Report;
use super::tool::{self, Said, TAB};

const HEAP: &str = "128m";
const PATIENCE_SECONDS: u32 = 90;

/// How many records the performance test sends.
const MANY: u64 = 50_000;

pub(super) struct Console {
    bootstrap: String,
    jars: Jars,
}

impl Console {
    pub(super) fn new(bootstrap: &str) -> Result<Self> {
        Ok(Self { bootstrap: bootstrap.to_owned(), jars: jars()? })
    }

    /// A class of `org.apache.kafka.tools`.
    fn tool(&self, class: &str, arguments: &[&str]) -> Command {
        let mut command = self.jars.java(HEAP, &format!("org.apache.kafka.tools.{class}"));
        command.args(["--bootstrap-server", &self.bootstrap]).args(arguments);
        command
    }

    fn run(&self, class: &str, arguments: &[&str], input: &str) -> Result<Said> {
        let said = tool::run(&mut self.tool(class, arguments), PATIENCE_SECONDS, input)?;
        // The tools end with 0 whatever became of their records, but say so.
        let failed = said.errors.lines().any(|line| line.contains(" ERROR ") || line.contains("Exception"));
        ensure!(!failed, "{}", xtask::sh::last_lines(&said.errors, 10));
        Ok(said)
    }

    /// Partition to offset, as `kafka-get-offsets` prints them. Partitions without such an offset are left out.
    fn offsets(&self, topic: &str, time: &str) -> Result<BTreeMap<u32, i64>> {
        let said = self.run("GetOffsetShell", &["--topic", topic, "--time", time], "")?;
        let mut offsets = BTreeMap::new();
        for line in said.output.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let [_, partition, offset] = fields[..] else { continue };
            if !offset.is_empty() {
                offsets.insert(partition.parse()?, offset.parse().with_context(|| line.to_owned())?);
            }
        }
        Ok(offsets)
    }

    fn read_partition(&self, topic: &str, partition: u32, offset: i64, count: i64) -> Result<Vec<Received>> {
        let (number, offset, count) = (partition.to_string(), offset.to_string(), count.to_string());
        let mut arguments = vec!["--topic", topic, "--partition", &number, "--offset", &offset];
        arguments.extend(["--max-messages", &count, "--timeout-ms", "30000"]);
        for property in ["timestamp", "offset", "key"] {
            arguments.extend(["--formatter-property", property_name(property)]);
        }
        let said = self.run("consumer.ConsoleConsumer", &arguments, "")?;
        let lines = said.output.lines();
        lines.map(|line| parse(topic, partition, line).with_context(|| format!("printed: {line}"))).collect()
    }
}

fn property_name(what: &str) -> &'static str {
    match what {
        "timestamp" => "print.timestamp=true",
        "offset" => "print.offset=true",
        _ => "print.key=true",
    }
}

impl Client for Console {
    fn abilities(&self) -> Abilities {
        Abilities { codecs: CODECS, to_partition: false, several_topics: false, slow: true, groups: &[] }
    }

    fn create(&mut self, topic: &str) -> Result<()> {
        let partitions = PARTITIONS.to_string();
        self.run("TopicCommand", &["--create", "--topic", topic, "--partitions", &partitions], "").map(drop)
    }

    fn produce(&mut self, produce: &Produce<'_>) -> Result<Vec<Placed>> {
        let mut arguments = vec!["--topic".to_owned(), produce.topic.to_owned()];
        if let Some(codec) = produce.codec {
            arguments.extend(["--compression-codec".to_owned(), codec.to_owned()]);
        }
        let mut property = |text: String| arguments.extend(["--command-property".to_owned(), text]);
        if let Some(acks) = produce.acks {
            property(format!("acks={acks}"));
        }
        if produce.way == Way::RoundRobin {
            property("partitioner.class=org.apache.kafka.clients.producer.RoundRobinPartitioner".to_owned());
        }
        if produce.way == Way::Key {
            arguments.extend(["--reader-property".to_owned(), "parse.key=true".to_owned()]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.run("ConsoleProducer", &arguments, &tool::lines(produce.records, produce.way))?;
        Ok(Vec::new())
    }

    fn read(&mut self, topics: &[&str], from: From) -> Result<Vec<Received>> {
        let mut records = Vec::new();
        for topic in topics {
            let ends = self.offsets(topic, "latest")?;
            ensure!(ends.len() == PARTITIONS as usize, "kafka-get-offsets knows {} partitions", ends.len());
            let starts = match from {
                From::Beginning => self.offsets(topic, "earliest")?,
                From::Offset(offset) => ends.keys().map(|partition| (*partition, offset)).collect(),
                From::Timestamp(timestamp) => self.offsets(topic, &timestamp.to_string())?,
            };
            for (partition, end) in ends {
                let start = starts.get(&partition).copied().unwrap_or(end);
                if start < end {
                    records.extend(self.read_partition(topic, partition, start, end - start)?);
                }
            }
        }
        Ok(records)
    }

    fn own_steps(&mut self, topic: &str, all: &[Received], report: &mut Report) {
        report.step("kafka-topics lists and describes", || {
            let listed = self.run("TopicCommand", &["--list"], "")?.output;
            ensure!(listed.lines().any(|line| line == topic), "--list: {listed}");
            let described = self.run("TopicCommand", &["--describe", "--topic", topic], "")?.output;
            ensure!(described.contains("PartitionCount: 6"), "--describe: {described}");
            ensure!(described.lines().filter(|line| line.contains("Leader: ")).count() == 6, "--describe: {described}");
            Ok(())
        });
        report.step("kafka-get-offsets finds the newest record", || {
            let found = self.offsets(topic, "max-timestamp")?;
            for (partition, offset) in found {
                let newest = all.iter().filter(|record| record.partition == partition);
                let newest = newest.map(|record| record.timestamp).max();
                let at = all.iter().find(|record| record.partition == partition && record.offset == offset);
                ensure!(at.map(|record| record.timestamp) == newest, "partition {partition}: {offset} is {at:?}");
            }
            Ok(())
        });
        report.step("kafka-producer-perf-test", || {
            let topic = format!("{topic}-perf");
            self.create(&topic)?;
            let many = MANY.to_string();
            let mut arguments = vec!["--topic", &topic, "--num-records", &many, "--record-size", "100"];
            arguments.extend(["--throughput", "-1"]);
            let said = self.run("ProducerPerformance", &arguments, "")?;
            ensure!(said.output.contains(&format!("{MANY} records sent")), "{}", said.output);
            let total: i64 = self.offsets(&topic, "latest")?.values().sum();
            ensure!(total == MANY as i64, "{total} records are there");
            Ok(())
        });
        self.group_steps(topic, all, report);
    }
}

/// `CreateTime:1700000000000<TAB>Offset:5<TAB>key<TAB>value`
fn parse(topic: &str, partition: u32, line: &str) -> Result<Received> {
    let mut fields = line.splitn(4, TAB);
    let mut field = || fields.next().context("a field is missing");
    let (_, timestamp) = field()?.split_once(':').context("a timestamp")?;
    let (_, offset) = field()?.split_once(':').context("an offset")?;
    let (timestamp, offset) = (timestamp.parse()?, offset.parse()?);
    let key = field()?;
    let key = (key != "null").then(|| key.to_owned());
    Ok(Received { topic: topic.to_owned(), partition, offset, timestamp, key, value: field()?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_record() {
        let record = parse("t", 2, "CreateTime:5\tOffset:7\tnull\ta\tb").expect("a good line");
        assert_eq!((record.timestamp, record.offset, record.key, record.value.as_str()), (5, 7, None, "a\tb"));
        assert!(parse("t", 2, "Processed a total of 5 messages").is_err());
    }
}
