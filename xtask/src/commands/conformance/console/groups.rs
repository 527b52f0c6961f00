//! What the console tools do with groups.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use xtask::sh;

use super::Console;
use crate::commands::conformance::client::{PARTITIONS, Received};
use crate::commands::conformance::report::Report;

/// How long the members of a process that ended may be seen.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many records the first member reads, which are more than it is given at once and fewer than there are.
const FIRST: usize = 700;

/// Partition to what stands in a column of `--describe`.
type Column = BTreeMap<u32, String>;

impl Console {
    /// Reads so many records in a group, and gives their values.
    fn read_in_group(&self, group: &str, protocol: &str, topic: &str, count: usize) -> Result<Vec<String>> {
        let (limit, protocol) = (count.to_string(), format!("group.protocol={protocol}"));
        let mut arguments =
            vec!["--topic", topic, "--group", group, "--from-beginning", "--command-property", &protocol];
        arguments.extend(["--max-messages", &limit, "--timeout-ms", "30000"]);
        let said = self.run("consumer.ConsoleConsumer", &arguments, "")?;
        let values: Vec<String> = said.output.lines().map(str::to_owned).collect();
        ensure!(values.len() == count, "{} records of {count}: {}", values.len(), sh::last_lines(&said.errors, 5));
        Ok(values)
    }

    fn groups(&self, arguments: &[&str]) -> Result<String> {
        let said = self.run("consumer.group.ConsumerGroupCommand", arguments, "")?;
        ensure!(!said.output.contains("Error: "), "{}", said.output);
        Ok(said.output)
    }

    /// A column of the description of a group's offsets in a topic.
    fn described(&self, group: &str, topic: &str, column: &str) -> Result<Column> {
        let said = self.groups(&["--describe", "--group", group])?;
        let mut lines = said.lines().filter(|line| !line.trim().is_empty());
        // Where there is nothing to tell of there is no heading either.
        let Some(heading) = lines.find(|line| line.contains("CURRENT-OFFSET")) else { return Ok(Column::new()) };
        let at = |name: &str| heading.split_whitespace().position(|found| found == name).context("no such column");
        let (partition_at, column_at) = (at("PARTITION")?, at(column)?);
        let mut found = Column::new();
        for line in lines.filter(|line| line.contains(topic)) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let field = |at: usize| fields.get(at).copied().with_context(|| line.to_owned());
            found.insert(field(partition_at)?.parse()?, field(column_at)?.to_owned());
        }
        Ok(found)
    }

    fn until_empty(&self, group: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.groups(&["--describe", "--state", "--group", group])?;
            if said.contains("Empty") {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("it is not empty: {said}");
            }
        }
    }

    pub(super) fn group_steps(&self, topic: &str, all: &[Received], report: &mut Report) {
        for protocol in ["classic", "consumer"] {
            let group = format!("{topic}-{protocol}");
            report.step(&format!("kafka-consumer-groups with a {protocol} group"), || {
                self.life_of_a_group(&group, protocol, topic, all)
            });
        }
    }

    fn life_of_a_group(&self, group: &str, protocol: &str, topic: &str, all: &[Received]) -> Result<()> {
        let mut values = self.read_in_group(group, protocol, topic, FIRST)?;
        values.extend(self.read_in_group(group, protocol, topic, all.len() - FIRST)?);
        let mut wanted: Vec<String> = all.iter().map(|record| record.value.clone()).collect();
        values.sort_unstable();
        wanted.sort_unstable();
        ensure!(values == wanted, "the two that followed each other did not read each record once");

        self.until_empty(group)?;
        let listed = self.groups(&["--list"])?;
        ensure!(listed.lines().any(|line| line == group), "--list: {listed}");
        let ends = (0..PARTITIONS).map(|partition| {
            let end = all.iter().filter(|record| record.partition == partition).count();
            (partition, end.to_string())
        });
        let ends: Column = ends.collect();
        let same = |value: &str| -> Column { ends.keys().map(|partition| (*partition, value.to_owned())).collect() };
        let committed = |wanted: &Column, after: &str| -> Result<()> {
            let found = self.described(group, topic, "CURRENT-OFFSET")?;
            ensure!(found == *wanted, "{after} the offsets are {found:?}, not {wanted:?}");
            Ok(())
        };
        committed(&ends, "when all was read")?;
        let lag = self.described(group, topic, "LAG")?;
        ensure!(lag == same("0"), "the lag is {lag:?}");

        let of = ["--group", group, "--topic", topic];
        self.groups(&[&["--reset-offsets", "--to-earliest", "--execute"], &of[..]].concat())?;
        committed(&same("0"), "after --reset-offsets")?;
        self.groups(&[&["--delete-offsets"], &of[..]].concat())?;
        committed(&Column::new(), "after --delete-offsets")?;
        self.groups(&["--delete", "--group", group])?;
        let listed = self.groups(&["--list"])?;
        ensure!(!listed.lines().any(|line| line == group), "--list after --delete: {listed}");
        Ok(())
    }
}
