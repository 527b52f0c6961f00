//! kcat, an older librdkafka at the command line.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use xtask::machine;

use super::{Outcome, create_topic, topic};

const PARTITIONS: u32 = 6;
const COUNT: usize = 30;

pub(super) fn check(bootstrap: &str) -> Result<Outcome> {
    if machine::need("kcat", &["kcat"]).is_err() {
        return Ok(Outcome::Skipped("kcat is not installed (Debian: apt-get install kcat)".to_owned()));
    }
    let topic = topic("kcat");
    create_topic(bootstrap, &topic, PARTITIONS)?;
    let mut sent = BTreeSet::new();
    for acks in ["0", "1", "all"] {
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
            for (way, options) in [("key", &["-K:"][..]), ("any", &[]), ("to", &["-p", "4"])] {
                let values: Vec<String> = (0..COUNT).map(|n| format!("{acks} {codec} {way} {n}")).collect();
                let key = |n: usize| if way == "key" { format!("key-{}:", n % 7) } else { String::new() };
                let lines: String = values.iter().enumerate().map(|(n, value)| key(n) + value + "\n").collect();
                let settings = ["-X", &format!("acks={acks}"), "-z", codec];
                kcat(bootstrap, &topic, &[&["-P"], &settings[..], options].concat(), &lines)?;
                sent.extend(values);
            }
        }
    }

    let format = "%p %o %T %k|%s\n";
    let mut records = Vec::new();
    // What was sent with acks=0 may still be on its way.
    for _ in 0..50 {
        let output = kcat(bootstrap, &topic, &["-C", "-o", "beginning", "-e", "-q", "-f", format], "")?;
        records = parse(&output)?;
        if records.len() >= sent.len() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let read: BTreeSet<String> = records.iter().map(|record| record.value.clone()).collect();
    ensure!(records.len() == sent.len() && read == sent, "{} read of {} sent", records.len(), sent.len());
    for partition in 0..PARTITIONS {
        let mine: Vec<&Record> = records.iter().filter(|record| record.partition == partition).collect();
        ensure!(mine.iter().enumerate().all(|(n, record)| record.offset == n), "partition {partition} has holes");
    }
    for key in (0..7).map(|n| format!("key-{n}")) {
        let of_key = records.iter().filter(|record| record.key == key).map(|record| record.partition);
        ensure!(of_key.collect::<BTreeSet<_>>().len() == 1, "{key} is in several partitions");
    }

    let output = kcat(bootstrap, &topic, &["-C", "-p", "4", "-o", "17", "-e", "-q", "-f", format], "")?;
    let tail = parse(&output)?;
    let fourth: Vec<&Record> = records.iter().filter(|record| record.partition == 4).collect();
    ensure!(
        tail.first().is_some_and(|record| record.offset == 17) && tail.len() == fourth.len() - 17,
        "from offset 17"
    );

    let wanted = fourth[fourth.len() / 2].timestamp;
    let first = fourth.iter().find(|record| record.timestamp >= wanted).context("a record of that time")?;
    let from = format!("s@{wanted}");
    let output = kcat(bootstrap, &topic, &["-C", "-p", "4", "-o", &from, "-e", "-q", "-f", format], "")?;
    let found = parse(&output)?;
    ensure!(found.first().is_some_and(|record| record.offset == first.offset), "from timestamp {wanted}");
    Ok(Outcome::Passed)
}

struct Record {
    partition: u32,
    offset: usize,
    timestamp: i64,
    key: String,
    value: String,
}

fn parse(output: &str) -> Result<Vec<Record>> {
    let records = output.lines().map(|line| {
        let (head, value) = line.split_once('|').context("a bar")?;
        let mut head = head.splitn(4, ' ');
        let mut word = || head.next().context("a word");
        Ok(Record {
            partition: word()?.parse()?,
            offset: word()?.parse()?,
            timestamp: word()?.parse()?,
            key: word()?.to_owned(),
            value: value.to_owned(),
        })
    });
    records.collect()
}

fn kcat(bootstrap: &str, topic: &str, options: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new("kcat");
    command.args(["-b", bootstrap, "-t", topic]).args(options);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    child.stdin.take().context("a pipe")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kcat {}: {error}", options.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}
