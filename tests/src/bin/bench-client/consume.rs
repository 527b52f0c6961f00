//! Reading all of a topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::spawn;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::Cli;
use crate::client::{PATIENCE, config, consumer, print_throughput};

pub(crate) fn run(cli: &Cli, messages: u64, consumers: usize) -> Result<()> {
    let goal = Arc::new(AtomicU64::new(messages));
    let all = (0..consumers).map(|_| consumer(cli)).collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    let reading = all.into_iter().map(|consumer| {
        let goal = goal.clone();
        spawn(move || count(&consumer, &goal).map(|bytes| (consumer, bytes)))
    });
    let reading: Vec<_> = reading.collect();
    let mut read = Vec::new();
    for one in reading {
        read.push(one.join().map_err(|_| anyhow!("a reader panicked"))??);
    }
    let took = began.elapsed();
    let bytes = read.into_iter().map(|(_, bytes)| bytes).sum();
    // Not by one of them: each answer would wait for that to a fetch.
    let asks: BaseConsumer = config(cli).create()?;
    let mut there = 0;
    for partition in 0..cli.partitions {
        let (low, high) = asks.fetch_watermarks(&cli.topic, partition, PATIENCE)?;
        there += (high - low) as u64;
    }
    ensure!(there == messages, "{there} records are there, not {messages}");
    print_throughput(messages * consumers as u64, bytes, took);
    Ok(())
}

/// Reads until there were as many records as the goal says by then, and says how many bytes their values were.
pub(crate) fn count(consumer: &BaseConsumer, goal: &AtomicU64) -> Result<u64> {
    let mut progress = Instant::now();
    let (mut received, mut bytes) = (0, 0);
    while received < goal.load(Ordering::Relaxed) {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                bytes += message.payload_len() as u64;
                received += 1;
                if received % 1024 == 0 {
                    progress = Instant::now();
                }
            }
            Some(Err(error)) => eprintln!("{error}"),
            None => ensure!(progress.elapsed() < PATIENCE, "nothing after {received} for {PATIENCE:?}"),
        }
    }
    Ok(bytes)
}
