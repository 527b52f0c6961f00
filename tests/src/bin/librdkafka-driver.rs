//! librdkafka behind the commands of `tests/conformance/README.md`, by way of its crate.

#![allow(clippy::print_stdout, reason = "its output is its result")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidemark_tests::clients::{PATIENCE, Record, admin_for, config_for, consumer_for, create_on, producer_for};
use tidemark_tests::clients::{try_produce, watermarks};

const POLL: Duration = Duration::from_millis(50);
const QUESTION: Duration = Duration::from_secs(20);

#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum Command {
    Create { topic: String, partitions: i32 },
    Produce(Produce),
    Read { topics: Vec<String>, from: String, value: i64 },
    Group(Group),
}

#[derive(Debug, Deserialize)]
struct Produce {
    topic: String,
    acks: Option<String>,
    codec: Option<String>,
    way: String,
    records: Vec<ToSend>,
}

#[derive(Debug, Deserialize)]
struct ToSend {
    key: Option<String>,
    partition: Option<i32>,
    value: String,
}

#[derive(Debug, Deserialize)]
struct Group {
    group: String,
    protocol: String,
    assignor: String,
    before: usize,
    #[serde(flatten)]
    more: Produce,
}

#[derive(Debug, Clone, Serialize)]
struct Received {
    topic: String,
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Option<String>,
    value: String,
}

fn main() -> Result<()> {
    let bootstrap = std::env::args().nth(1).context("the bootstrap servers are its argument")?;
    for line in std::io::stdin().lock().lines() {
        let answer = serde_json::from_str(&line?).map_err(Into::into).and_then(|command| execute(&bootstrap, command));
        println!("{}", answer.unwrap_or_else(|error| json!({"error": format!("{error:#}")})));
    }
    Ok(())
}

fn execute(bootstrap: &str, command: Command) -> Result<Value> {
    match command {
        Command::Create { topic, partitions } => match create_on(&admin_for(bootstrap), &topic, partitions, &[]) {
            Ok(()) => Ok(json!({})),
            Err(code) => bail!("{code}"),
        },
        Command::Produce(command) => produce(bootstrap, &command),
        Command::Read { topics, from, value } => read(bootstrap, &topics, &from, value),
        Command::Group(command) => group(bootstrap, &command),
    }
}

fn produce(bootstrap: &str, command: &Produce) -> Result<Value> {
    let mut settings = Vec::new();
    settings.extend(command.acks.as_deref().map(|acks| ("acks", acks)));
    settings.extend(command.codec.as_deref().map(|codec| ("compression.codec", codec)));
    if command.way == "round-robin" {
        // By default it stays with a partition for 10 ms, which is all that a case takes.
        settings.push(("sticky.partitioning.linger.ms", "0"));
    }
    let records = command.records.iter().map(|record| {
        let ToSend { key, partition, value } = record;
        Record { partition: *partition, key: key.clone(), value: value.clone(), timestamp: None }
    });
    let records: Vec<Record> = records.collect();
    let mut placed = Vec::new();
    for result in try_produce(&producer_for(bootstrap, &settings), &command.topic, &records) {
        let at = result?;
        placed.push((at.partition, if command.acks.as_deref() == Some("0") { -1 } else { at.offset }));
    }
    Ok(json!({"placed": placed}))
}

fn partitions_of(consumer: &BaseConsumer, topic: &str) -> Result<i32> {
    let metadata = consumer.fetch_metadata(Some(topic), QUESTION)?;
    let count = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    Ok(i32::try_from(count)?)
}

fn read(bootstrap: &str, topics: &[String], from: &str, value: i64) -> Result<Value> {
    let consumer = consumer_for(bootstrap, &[]);
    let (mut list, mut ends) = (TopicPartitionList::new(), BTreeMap::new());
    for topic in topics {
        for partition in 0..partitions_of(&consumer, topic)? {
            let (low, high) = watermarks(&consumer, topic, partition);
            let start = if from == "offset" { value } else { low };
            let start = if from == "timestamp" { Offset::Offset(value) } else { Offset::Offset(start) };
            list.add_partition_offset(topic, partition, start)?;
            ends.insert((topic.clone(), partition), high);
        }
    }
    if from == "timestamp" {
        list = consumer.offsets_for_times(list, QUESTION)?;
    }
    let mut unread: BTreeSet<(String, i32)> = BTreeSet::new();
    for element in list.elements() {
        let at = (element.topic().to_owned(), element.partition());
        if matches!(element.offset(), Offset::Offset(start) if start < ends[&at]) {
            unread.insert(at);
        }
    }
    consumer.assign(&list)?;
    let (mut records, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while !unread.is_empty() {
        if Instant::now() > deadline {
            bail!("not read to their ends: {unread:?}");
        }
        let Some(record) = poll(&consumer)? else { continue };
        let at = (record.topic.clone(), record.partition);
        let (end, offset) = (ends[&at], record.offset);
        if offset < end {
            records.push(record);
        }
        if offset + 1 >= end {
            unread.remove(&at);
        }
    }
    Ok(json!({"records": records}))
}

/// The next record, if there is one now. What is not fatal the library mends itself.
fn poll(consumer: &BaseConsumer) -> Result<Option<Received>> {
    match consumer.poll(POLL) {
        None => Ok(None),
        Some(Ok(message)) => received(&message).map(Some),
        Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => Err(error.into()),
        Some(Err(error)) => {
            eprintln!("{error}");
            Ok(None)
        }
    }
}

fn received(message: &BorrowedMessage<'_>) -> Result<Received> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec());
    Ok(Received {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key().map(text).transpose()?,
        value: message.payload().map(text).transpose()?.unwrap_or_default(),
    })
}

struct Member {
    consumer: BaseConsumer,
    read: Vec<Received>,
}

impl Member {
    fn join(bootstrap: &str, command: &Group) -> Result<Self> {
        let mut config = config_for(bootstrap, &[("group.id", &command.group), ("auto.offset.reset", "earliest")]);
        if command.protocol == "consumer" {
            config.set("group.protocol", "consumer").set("group.remote.assignor", &command.assignor);
        } else {
            config.set("partition.assignment.strategy", &command.assignor);
        }
        let consumer: BaseConsumer = config.create()?;
        consumer.subscribe(&[&command.more.topic])?;
        Ok(Self { consumer, read: Vec::new() })
    }

    fn assigned(&self) -> Result<Vec<i32>> {
        let assigned = self.consumer.assignment()?;
        let mut partitions: Vec<i32> = assigned.elements().iter().map(|element| element.partition()).collect();
        partitions.sort_unstable();
        Ok(partitions)
    }
}

fn group(bootstrap: &str, command: &Group) -> Result<Value> {
    let mut members = vec![Member::join(bootstrap, command)?];
    poll_until(&mut members, |members| Ok(count(members) >= command.before))?;
    let partitions = usize::try_from(partitions_of(&members[0].consumer, &command.more.topic)?)?;
    if !command.more.records.is_empty() {
        members.push(Member::join(bootstrap, command)?);
        poll_until(&mut members, |members| shared(members, partitions))?;
        produce(bootstrap, &command.more)?;
    }
    let wanted = command.before + command.more.records.len();
    poll_until(&mut members, |members| {
        Ok(count(members) >= wanted && shared(members, partitions)? && committed(members)?)
    })?;
    let assigned = members.iter().map(Member::assigned).collect::<Result<Vec<_>>>()?;
    let read: Vec<Vec<Received>> = members.iter().map(|member| member.read.clone()).collect();
    // One after the other they close, and whoever is left has to go on polling for that.
    while members.len() > 1 {
        let first = members.remove(0);
        let closing = std::thread::spawn(move || drop(first));
        poll_until(&mut members, |_| Ok(closing.is_finished()))?;
    }
    Ok(json!({"read": read, "assigned": assigned}))
}

fn poll_until(members: &mut [Member], mut done: impl FnMut(&[Member]) -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !done(members)? {
        if Instant::now() > deadline {
            let assigned = members.iter().map(Member::assigned).collect::<Result<Vec<_>>>()?;
            bail!("read {} records, assigned {assigned:?}", count(members));
        }
        for member in members.iter_mut() {
            while let Some(record) = poll(&member.consumer)? {
                member.read.push(record);
            }
        }
    }
    Ok(())
}

/// Records, however often they were read.
fn count(members: &[Member]) -> usize {
    let all = members.iter().flat_map(|member| &member.read).map(|record| (record.partition, record.offset));
    all.collect::<BTreeSet<_>>().len()
}

fn shared(members: &[Member], partitions: usize) -> Result<bool> {
    let sizes = members.iter().map(|member| Ok(member.assigned()?.len())).collect::<Result<Vec<_>>>()?;
    Ok(!sizes.contains(&0) && sizes.iter().sum::<usize>() == partitions)
}

/// Commits, and says whether that is where the reading of every partition has come to. A member that had to join again may
/// be behind what others read, or be told that its generation is over.
fn committed(members: &[Member]) -> Result<bool> {
    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
    for record in members.iter().flat_map(|member| &member.read) {
        let end = ends.entry(record.partition).or_default();
        *end = (*end).max(record.offset + 1);
    }
    for member in members {
        match member.consumer.commit_consumer_state(CommitMode::Sync) {
            // It has committed all by itself before.
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => {
                eprintln!("commit: {error}");
                return Ok(false);
            }
        }
        let Ok(committed) = member.consumer.committed(QUESTION) else { return Ok(false) };
        for element in committed.elements() {
            let end = ends.get(&element.partition());
            if end.is_some_and(|end| element.offset() != Offset::Offset(*end)) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
