//! kcat: an older librdkafka at the command line.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use xtask::machine;

use super::client::{Abilities, CODECS, Client, From, Placed, Produce, Received, Way};
use super::console::Console;
use super::groups;
use super::languages::Available;
use super::report::Report;
use super::rules;
use super::tool::{self, Said, TAB};

const PATIENCE_SECONDS: u32 = 60;

/// Key lengths are -1 for records without a key. The value comes last.
const FORMAT: &str = "%p\t%o\t%T\t%K\t%k\t%s\n";

pub(super) struct Kcat {
    bootstrap: String,
    // kcat creates no topics.
    admin: Console,
}

pub(super) fn install(bootstrap: &str) -> Result<Available> {
    if let Err(error) = machine::need("kcat", &["kcat"]) {
        return Ok(Available::No(format!("{error:#}")));
    }
    Ok(match Console::new(bootstrap) {
        Ok(admin) => Available::Yes(Box::new(Kcat { bootstrap: bootstrap.to_owned(), admin })),
        Err(error) => Available::No(format!("it creates no topics, and what does it here is missing: {error:#}")),
    })
}

impl Kcat {
    fn run(&self, arguments: &[&str], input: &str) -> Result<Said> {
        let mut kcat = Command::new("kcat");
        tool::run(kcat.args(["-b", &self.bootstrap]).args(arguments), PATIENCE_SECONDS, input)
    }

    /// Everything that the group has not read yet.
    fn read_in_group(&self, group: &str, topic: &str) -> Result<Vec<Received>> {
        let reset = "auto.offset.reset=earliest";
        let said = self.run(&["-G", group, "-X", reset, "-e", "-q", "-f", FORMAT, topic], "")?;
        parse_all(topic, &said)
    }
}

impl Client for Kcat {
    fn abilities(&self) -> Abilities {
        Abilities { codecs: CODECS, to_partition: true, several_topics: false, slow: false, groups: &[] }
    }

    fn create(&mut self, topic: &str) -> Result<()> {
        self.admin.create(topic)
    }

    fn produce(&mut self, produce: &Produce<'_>) -> Result<Vec<Placed>> {
        let mut arguments = vec!["-P".to_owned(), "-t".to_owned(), produce.topic.to_owned()];
        if let Some(acks) = produce.acks {
            arguments.extend(["-X".to_owned(), format!("acks={acks}")]);
        }
        if let Some(codec) = produce.codec {
            arguments.extend(["-z".to_owned(), codec.to_owned()]);
        }
        match produce.way {
            Way::Key => arguments.push(format!("-K{TAB}")),
            // By default it stays with a partition for 10 ms, which is all that a case takes.
            Way::RoundRobin => arguments.extend(["-X".to_owned(), "sticky.partitioning.linger.ms=0".to_owned()]),
            Way::Partition(partition) => arguments.extend(["-p".to_owned(), partition.to_string()]),
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let said = self.run(&arguments, &tool::lines(produce.records, produce.way))?;
        // It ends with 0 also where some records were not delivered.
        ensure!(!said.errors.contains("ERROR"), "{}", said.errors);
        Ok(Vec::new())
    }

    fn read(&mut self, topics: &[&str], from: From) -> Result<Vec<Received>> {
        let from = match from {
            From::Beginning => "beginning".to_owned(),
            From::Offset(offset) => offset.to_string(),
            From::Timestamp(timestamp) => format!("s@{timestamp}"),
        };
        let mut records = Vec::new();
        for topic in topics {
            let said = self.run(&["-C", "-t", topic, "-o", &from, "-e", "-q", "-f", FORMAT], "")?;
            records.extend(parse_all(topic, &said)?);
        }
        Ok(records)
    }

    fn own_steps(&mut self, topic: &str, _all: &[Received], report: &mut Report) {
        report.step("read in a group, and go on from there", || {
            let (group, topic) = (format!("{topic}-group"), format!("{topic}-many"));
            let all = self.read(&[&topic], From::Beginning)?;
            rules::same(&all, &self.read_in_group(&group, &topic)?)?;
            let more = groups::records("more");
            groups::produce(self, &topic, &more)?;
            let later = self.read_in_group(&group, &topic)?;
            rules::same(&self.read(&[&topic], From::Beginning)?, &[all, later].concat())
        });
    }
}

fn parse_all(topic: &str, said: &Said) -> Result<Vec<Received>> {
    said.output.lines().map(|line| parse(topic, line).with_context(|| format!("kcat printed {line:?}"))).collect()
}

fn parse(topic: &str, line: &str) -> Result<Received> {
    let mut fields = line.splitn(6, TAB);
    let mut field = || fields.next().context("a field is missing");
    Ok(Received {
        topic: topic.to_owned(),
        partition: field()?.parse()?,
        offset: field()?.parse()?,
        timestamp: field()?.parse()?,
        key: {
            let (length, key) = (field()?, field()?);
            (length != "-1").then(|| key.to_owned())
        },
        value: field()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_record() {
        let record = parse("t", "3\t17\t1700000000000\t-1\t\ta value").expect("a good line");
        assert_eq!((record.partition, record.offset, record.key.as_deref()), (3, 17, None));
        assert_eq!(parse("t", "0\t0\t5\t1\tk\tv").expect("a good line").key.as_deref(), Some("k"));
        assert!(parse("t", "% Reached end of topic").is_err());
    }
}
