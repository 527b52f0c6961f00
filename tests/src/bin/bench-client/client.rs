//! Clients as all measurements set them: cheap, because they share the machine's cores with what is measured.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use tidemark_tests::clients::{admin_for, create_on};

use crate::Cli;

/// Nothing here takes longer, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) fn config(cli: &Cli) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &cli.bootstrap);
    config
}

/// Creates the topic, with configs as `name=value`.
pub(crate) fn create(cli: &Cli, configs: &[String]) -> Result<()> {
    let split = |config| str::split_once(config, '=').with_context(|| format!("not name=value: {config}"));
    let configs = configs.iter().map(|config| split(config)).collect::<Result<Vec<_>>>()?;
    let created = create_on(&admin_for(&cli.bootstrap), &cli.topic, cli.partitions, &configs);
    created.map_err(|code| anyhow!("the topic was not created: {code}"))
}

/// A stand-alone consumer of the whole topic.
pub(crate) fn consumer(cli: &Cli) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = config(cli)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("fetch.message.max.bytes", "4194304")
        .set("queued.max.messages.kbytes", "262144")
        .set("queued.min.messages", "1000000")
        // A full queue holds a fetch back by a second otherwise.
        .set("fetch.queue.backoff.ms", "5")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..cli.partitions {
        list.add_partition_offset(&cli.topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

/// Bytes that no file system and no network compresses away.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(step).collect()
}

/// Prints what came through in how much time, and how busy that kept this process.
pub(crate) fn print_throughput(messages: u64, bytes: u64, took: Duration) {
    let seconds = took.as_secs_f64();
    println!("seconds={seconds:.3}");
    println!("messages_per_s={:.0}", messages as f64 / seconds);
    println!("mb_per_s={:.1}", bytes as f64 / seconds / 1e6);
    println!("client_cpu_s={:.2}", own_cpu().unwrap_or_default().as_secs_f64());
}

/// User and system time of this process.
fn own_cpu() -> Option<Duration> {
    /// `getconf CLK_TCK` of every Linux we know.
    const TICKS_PER_SECOND: u64 = 100;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks(11)? + ticks(12)?) * 1000 / TICKS_PER_SECOND))
}
