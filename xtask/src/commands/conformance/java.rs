//! Java: the clients in a program, and Kafka's own console tools.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use xtask::tools::kafka::{Jars, jars};
use xtask::{machine, sh};

use super::{Outcome, topic};

const HEAP: &str = "256m";

pub(super) fn check(bootstrap: &str) -> Result<Outcome> {
    let jars = match jars() {
        Ok(jars) => jars,
        Err(error) => return Ok(Outcome::Skipped(format!("Kafka's jars cannot be had: {error:#}"))),
    };
    console_tools(&jars, bootstrap)?;
    println!("java: console tools passed");
    // The one-file launcher is the compiler's.
    if machine::program("javac").is_none() {
        println!(
            "java: clients skipped, because there is no JDK here (Debian: apt-get install openjdk-17-jdk-headless)"
        );
        return Ok(Outcome::Passed);
    }
    let source = sh::root().join("tests").join("conformance").join("Check.java");
    sh::run(jars.java(HEAP, &source.display().to_string()).args([bootstrap, &topic("java")]))?;
    Ok(Outcome::Passed)
}

fn console_tools(jars: &Jars, bootstrap: &str) -> Result<()> {
    let topic = topic("console");
    let tool = |class: &str| {
        let mut command = jars.java(HEAP, &format!("org.apache.kafka.tools.{class}"));
        command.args(["--bootstrap-server", bootstrap]);
        command
    };
    sh::quietly(tool("TopicCommand").args(["--create", "--topic", &topic, "--partitions", "6"]))?;
    let described = sh::quietly(tool("TopicCommand").args(["--describe", "--topic", &topic]))?;
    ensure!(described.contains("PartitionCount: 6"), "{described}");

    let mut sent = BTreeSet::new();
    for (acks, codec) in [("0", "none"), ("1", "gzip"), ("all", "snappy"), ("all", "lz4"), ("all", "zstd")] {
        let values: Vec<String> = (0..50).map(|n| format!("{acks} {codec} {n}")).collect();
        let lines: String = values.iter().enumerate().map(|(n, value)| format!("key-{}:{value}\n", n % 7)).collect();
        let mut producer = tool("ConsoleProducer");
        producer.args([
            "--topic",
            &topic,
            "--compression-codec",
            codec,
            "--producer-property",
            &format!("acks={acks}"),
        ]);
        producer.args(["--property", "parse.key=true", "--property", "key.separator=:"]);
        with_input(&mut producer, &lines)?;
        sent.extend(values);
    }

    let mut read = BTreeSet::new();
    let mut ends = Vec::new();
    let offsets = sh::quietly(tool("GetOffsetShell").args(["--topic", &topic]))?;
    for line in offsets.lines().filter(|line| line.starts_with(&topic)) {
        let mut parts = line.split(':').skip(1);
        let mut number = || parts.next().context("a number")?.parse::<usize>().context("a number");
        ends.push((number()?, number()?));
    }
    ensure!(ends.len() == 6, "{offsets}");
    for (partition, end) in &ends {
        if *end == 0 {
            continue;
        }
        let values = consume(&tool, &topic, *partition, "earliest", *end)?;
        ensure!(values.len() == *end, "{} of {end} records of partition {partition}", values.len());
        if *end > 1 {
            let half = consume(&tool, &topic, *partition, &(end / 2).to_string(), end - end / 2)?;
            ensure!(half == values[end / 2..], "partition {partition} from offset {}", end / 2);
        }
        read.extend(values);
    }
    ensure!(read == sent, "{} read of {} sent", read.len(), sent.len());
    let long_ago = sh::quietly(tool("GetOffsetShell").args(["--topic", &topic, "--time", "1000000000000"]))?;
    for (partition, _) in ends.iter().filter(|(_, end)| *end > 0) {
        ensure!(long_ago.contains(&format!("{topic}:{partition}:0")), "{long_ago}");
    }
    Ok(())
}

fn consume(
    tool: &impl Fn(&str) -> Command,
    topic: &str,
    partition: usize,
    offset: &str,
    count: usize,
) -> Result<Vec<String>> {
    let mut consumer = tool("consumer.ConsoleConsumer");
    consumer.args(["--topic", topic, "--partition", &partition.to_string(), "--offset", offset]);
    consumer.args(["--max-messages", &count.to_string(), "--timeout-ms", "30000"]);
    Ok(sh::quietly(&mut consumer)?.lines().map(str::to_owned).collect())
}

fn with_input(command: &mut Command, input: &str) -> Result<()> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    child.stdin.take().context("a pipe")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    // It exits with 0 whatever became of its records, but says so.
    ensure!(output.status.success() && !said.contains("ERROR"), "{said}");
    Ok(())
}
