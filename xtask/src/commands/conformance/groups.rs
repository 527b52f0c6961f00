//! Groups: what was produced is read once over two members, and whoever comes later goes on from there.
//!
//! While coordinators are killed a member may be told to join again with a commit of its own not done, in Kafka too: then
//! records are read again. Nothing else is different: none is left out, no commit is lost that was acknowledged, and who
//! comes later reads nothing that was committed.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::client::{Client, From, Group, PARTITIONS, Produce, Received, Record, Shared, Way};
use super::report::Report;
use super::rules;

/// Enough for every partition to have some, of each of the three portions.
const RECORDS: usize = 200;

/// How often a record may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    Once,
    AtLeastOnce,
}

/// A group of each kind that the client has.
pub(super) fn run(client: &mut dyn Client, topic: &str, delivery: Delivery, report: &mut Report) {
    for (protocol, assignor) in client.abilities().groups {
        let topic = format!("{topic}-{protocol}-{assignor}");
        report.step(&format!("a {protocol} group by {assignor}"), || {
            let group = format!("{topic}-group");
            let of = |before, records| Group { group: &group, topic: &topic, protocol, assignor, before, records };
            create(client, &topic, delivery)?;
            produce(client, &topic, &records("first"))?;
            let second = records("second");
            let together = client.group(&of(RECORDS, &second))?;
            let all = client.read(&[&topic], From::Beginning)?;
            shared(&all, &together, delivery)?;

            produce(client, &topic, &records("third"))?;
            let later = client.group(&of(RECORDS, &[]))?;
            let third: Vec<Received> = client.read(&[&topic], From::Beginning)?;
            rules::same(&third, &[all, delivery.records(&later.read)].concat())
        });
    }
}

/// While coordinators are killed a client may not hear that its topic was created, and asks again for what is there.
fn create(client: &mut dyn Client, topic: &str, delivery: Delivery) -> Result<()> {
    let created = client.create(topic);
    match &created {
        Err(error) if delivery == Delivery::AtLeastOnce && already_exists(error) => Ok(()),
        _ => created,
    }
}

/// Each library says so in its own words, and all of them say this.
fn already_exists(error: &anyhow::Error) -> bool {
    format!("{error:#}").to_lowercase().contains("exists")
}

pub(super) fn records(portion: &str) -> Vec<Record> {
    let record = |number: usize| Record {
        key: Some(format!("key-{number}")),
        partition: None,
        value: format!("{portion} {number}"),
    };
    (0..RECORDS).map(record).collect()
}

pub(super) fn produce(client: &mut dyn Client, topic: &str, records: &[Record]) -> Result<()> {
    client.produce(&Produce { topic, acks: None, codec: None, way: Way::Key, records }).map(drop)
}

impl Delivery {
    /// What the members read, by partition in the order in which it counts.
    fn records(self, read: &[Vec<Received>]) -> Vec<Received> {
        let mut records = read.concat();
        if self == Self::AtLeastOnce {
            records.sort_by_key(|record| (record.partition, record.offset));
            // Read again it has to be the same.
            records.dedup();
        }
        records
    }
}

/// Each record was read, and each partition had one member at the end.
fn shared(all: &[Received], together: &Shared, delivery: Delivery) -> Result<()> {
    ensure!(all.len() == 2 * RECORDS, "{} records are there", all.len());
    // What moved from the first member to the second, the first had read before the second did.
    rules::same(all, &delivery.records(&together.read))?;
    let mut owned = together.assigned.concat();
    owned.sort_unstable();
    let each: Vec<u32> = (0..PARTITIONS).collect();
    let fair = together.assigned.len() == 2 && !together.assigned.contains(&Vec::new());
    ensure!(owned == each && fair, "partitions were shared so: {:?}", together.assigned);
    if delivery == Delivery::AtLeastOnce {
        // Partitions may have moved since.
        return Ok(());
    }
    for (read, assigned) in together.read.iter().zip(&together.assigned) {
        let second = read.iter().filter(|record| record.value.starts_with("second"));
        let reached: BTreeSet<u32> = second.map(|record| record.partition).collect();
        ensure!(reached.iter().eq(assigned), "partitions {assigned:?} gave records of {reached:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of two portions, each partition's records in turn: the first member reads the first portion and, of the second,
    /// what `first` says it does.
    fn read(first: &[u32]) -> (Vec<Received>, Shared) {
        let mut all = Vec::new();
        let mut read = vec![Vec::new(), Vec::new()];
        for (portion, name) in ["first", "second"].into_iter().enumerate() {
            for number in 0..RECORDS {
                let partition = (number % PARTITIONS as usize) as u32;
                let offset = all.iter().filter(|record: &&Received| record.partition == partition).count() as i64;
                let value = format!("{name} {number}");
                let topic = "t".to_owned();
                let record = Received { topic, partition, offset, timestamp: 1, key: None, value };
                let member = usize::from(portion == 1 && !first.contains(&partition));
                read[member].push(record.clone());
                all.push(record);
            }
        }
        let second = (0..PARTITIONS).filter(|partition| !first.contains(partition)).collect();
        (all, Shared { read, assigned: vec![first.to_vec(), second] })
    }

    #[test]
    fn each_record_is_read_once_by_who_has_its_partition() {
        let (all, together) = read(&[0, 2, 4]);
        shared(&all, &together, Delivery::Once).expect("well shared");

        let (all, mut together) = read(&[0, 2, 4]);
        let again = together.read[0][RECORDS - 1].clone();
        together.read[1].insert(0, again);
        assert!(shared(&all, &together, Delivery::Once).is_err(), "doubled");
        shared(&all, &together, Delivery::AtLeastOnce).expect("it may be");
        together.read[1][0].value = "another".to_owned();
        assert!(shared(&all, &together, Delivery::AtLeastOnce).is_err(), "doubled and different");

        let (all, mut together) = read(&[0, 2, 4]);
        together.read[1].pop();
        for delivery in [Delivery::Once, Delivery::AtLeastOnce] {
            assert!(shared(&all, &together, delivery).is_err(), "lost");
        }

        let (all, mut together) = read(&[0, 2, 4]);
        together.assigned[0].push(1);
        assert!(shared(&all, &together, Delivery::Once).is_err(), "a partition of two members");

        let (all, mut together) = read(&[0, 2, 4]);
        together.assigned.reverse();
        assert!(shared(&all, &together, Delivery::Once).is_err(), "another's records");

        let (all, together) = read(&[0, 1, 2, 3, 4, 5]);
        assert!(shared(&all, &together, Delivery::Once).is_err(), "a member without partitions");
    }
}
