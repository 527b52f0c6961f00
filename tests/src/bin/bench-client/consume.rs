//! Reading all of a topic.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::Cli;
use crate::client::{PATIENCE, consumer, print_throughput};

pub(crate) fn run(cli: &Cli, messages: u64) -> Result<()> {
    let began = Instant::now();
    let consumer = consumer(cli)?;
    let bytes = count(&consumer, messages)?;
    let took = began.elapsed();
    let mut there = 0;
    for partition in 0..cli.partitions {
        let (low, high) = consumer.fetch_watermarks(&cli.topic, partition, PATIENCE)?;
        there += (high - low) as u64;
    }
    ensure!(there == messages, "{there} records are there, not {messages}");
    print_throughput(messages, bytes, took);
    Ok(())
}

/// Reads so many records, and says how many bytes their values were.
pub(crate) fn count(consumer: &BaseConsumer, messages: u64) -> Result<u64> {
    let began = Instant::now();
    let (mut received, mut bytes) = (0, 0);
    while received < messages {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                bytes += message.payload_len() as u64;
                received += 1;
            }
            Some(Err(error)) => eprintln!("{error}"),
            None => ensure!(began.elapsed() < PATIENCE, "{received} of {messages} within {PATIENCE:?}"),
        }
    }
    Ok(bytes)
}
