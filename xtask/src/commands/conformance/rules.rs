//! What must hold of a topic that was read, given what was sent to it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};

use super::client::{From, PARTITIONS, Placed, Received, Record, Way};

/// One producer's records, in the order in which it sent them.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) way: Way,
    pub(super) records: Vec<Record>,
    /// As the producer was told, for as many as it was told of.
    pub(super) placed: Vec<Placed>,
    /// Whether the client said that all went well. What did not may be there or not, but not twice.
    pub(super) acknowledged: bool,
}

/// Checks a topic that was read whole.
pub(super) fn whole(runs: &[Run], read: &[Received]) -> Result<()> {
    no_holes(read)?;
    let sent = sent(runs);
    let mut seen: BTreeMap<&str, &Received> = BTreeMap::new();
    for record in read {
        let (run, number) = *sent.get(record.value.as_str()).with_context(|| format!("nobody sent {record:?}"))?;
        ensure!(runs[run].records[number].key == record.key, "the key of {record:?} is not what was sent");
        if let Some(before) = seen.insert(&record.value, record) {
            bail!("doubled: {before:?} and {record:?}");
        }
    }
    for run in runs {
        if run.acknowledged {
            let missing: Vec<&str> = run
                .records
                .iter()
                .map(|record| record.value.as_str())
                .filter(|value| !seen.contains_key(value))
                .collect();
            ensure!(missing.is_empty(), "lost: {} of {}, the first {:?}", missing.len(), run.records.len(), missing[0]);
        }
        for (record, placed) in run.records.iter().zip(&run.placed) {
            let Some(found) = seen.get(record.value.as_str()) else { continue };
            let said = placed.1 < 0 || (placed.0, placed.1) == (found.partition, found.offset);
            ensure!(said, "acknowledged as {placed:?} but read as {found:?}");
        }
        in_order(run, &seen)?;
        if let Way::Partition(wanted) = run.way {
            let elsewhere = run.records.iter().filter_map(|record| seen.get(record.value.as_str()));
            if let Some(found) = elsewhere.into_iter().find(|found| found.partition != wanted) {
                bail!("sent to partition {wanted}, read as {found:?}");
            }
        }
    }
    one_partition_by_key(read)?;
    round_robin_reaches_all(runs, &seen)
}

/// Value to its run and its place in it.
fn sent(runs: &[Run]) -> BTreeMap<&str, (usize, usize)> {
    let numbered = runs.iter().enumerate();
    numbered
        .flat_map(|(run, of)| of.records.iter().enumerate().map(move |(at, record)| (record.value.as_str(), (run, at))))
        .collect()
}

fn no_holes(read: &[Received]) -> Result<()> {
    let mut next: BTreeMap<(&str, u32), i64> = BTreeMap::new();
    for record in read {
        let next = next.entry((&record.topic, record.partition)).or_default();
        ensure!(record.offset == *next, "offset {next} should follow, but this does: {record:?}");
        *next += 1;
    }
    Ok(())
}

/// Records of one producer lie in a partition in the order in which they were sent.
fn in_order(run: &Run, seen: &BTreeMap<&str, &Received>) -> Result<()> {
    let mut last: BTreeMap<u32, &Received> = BTreeMap::new();
    for found in run.records.iter().filter_map(|record| seen.get(record.value.as_str())) {
        if let Some(before) = last.insert(found.partition, found) {
            ensure!(before.offset < found.offset, "sent before but read after: {before:?} and {found:?}");
        }
    }
    Ok(())
}

fn one_partition_by_key(read: &[Received]) -> Result<()> {
    let mut partitions: BTreeMap<&str, u32> = BTreeMap::new();
    for record in read {
        let Some(key) = &record.key else { continue };
        let first = *partitions.entry(key).or_insert(record.partition);
        ensure!(first == record.partition, "key {key} is in partition {first} and in {record:?}");
    }
    Ok(())
}

fn round_robin_reaches_all(runs: &[Run], seen: &BTreeMap<&str, &Received>) -> Result<()> {
    let records = runs.iter().filter(|run| run.way == Way::RoundRobin && run.acknowledged).flat_map(|run| &run.records);
    let reached: BTreeSet<u32> =
        records.filter_map(|record| Some(seen.get(record.value.as_str())?.partition)).collect();
    let none = reached.is_empty() && !runs.iter().any(|run| run.way == Way::RoundRobin && run.acknowledged);
    ensure!(none || reached.len() == PARTITIONS as usize, "round-robin reached partitions {reached:?} only");
    Ok(())
}

/// Those that a reader sees who starts `from`, of all that there is. By Kafka's rule a timestamp finds, in each
/// partition, the first record that is not older.
pub(super) fn expected(all: &[Received], from: From) -> Vec<Received> {
    let mut started: BTreeSet<(&str, u32)> = BTreeSet::new();
    let mut expected = Vec::new();
    for record in all {
        let at = (record.topic.as_str(), record.partition);
        let starts = match from {
            From::Beginning => true,
            From::Offset(offset) => record.offset >= offset,
            From::Timestamp(timestamp) => record.timestamp >= timestamp,
        };
        if starts {
            started.insert(at);
        }
        if started.contains(&at) {
            expected.push(record.clone());
        }
    }
    expected
}

/// Whether two readers saw the same, however their partitions interleaved.
pub(super) fn same(expected: &[Received], read: &[Received]) -> Result<()> {
    let by_partition = |records: &[Received]| {
        let mut sorted: BTreeMap<(String, u32), Vec<Received>> = BTreeMap::new();
        for record in records {
            sorted.entry((record.topic.clone(), record.partition)).or_default().push(record.clone());
        }
        sorted
    };
    let (expected, read) = (by_partition(expected), by_partition(read));
    let partitions: BTreeSet<_> = expected.keys().chain(read.keys()).collect();
    for at in partitions {
        let none = Vec::new();
        let (expected, read) = (expected.get(at).unwrap_or(&none), read.get(at).unwrap_or(&none));
        let differing = expected.iter().zip(read).find(|(one, other)| one != other);
        if let Some((one, other)) = differing {
            bail!("expected {one:?}, read {other:?}");
        }
        let (topic, partition) = at;
        let (wanted, got) = (expected.len(), read.len());
        ensure!(wanted == got, "{got} records of partition {partition} of {topic} were read, expected {wanted}");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
