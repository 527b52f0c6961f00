//! The client of `cargo xtask bench`: librdkafka, with the same settings against whatever it measures. Prints
//! `name=value` lines.

#![allow(clippy::print_stdout, reason = "its output is its result")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use tidemark_tests::clients::{admin_for, create_on};

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Debug, Parser)]
struct Cli {
    #[arg(long)]
    bootstrap: String,
    #[arg(long)]
    topic: String,
    #[arg(long, default_value_t = 6)]
    partitions: i32,
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Debug, Subcommand)]
enum Measure {
    /// As fast as it goes, with `acks=all`, to a new topic.
    Produce {
        #[arg(long)]
        size: usize,
        #[arg(long)]
        messages: u64,
    },
    /// All of a topic, from its beginning.
    Consume,
    /// From send to acknowledgement and from send to receipt, at a steady rate.
    Latency {
        #[arg(long, default_value_t = 1000)]
        rate: u32,
        #[arg(long, default_value_t = 10)]
        seconds: u32,
        #[arg(long, default_value_t = 1024)]
        size: usize,
    },
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.measure {
        Measure::Produce { size, messages } => produce(&cli, size, messages),
        Measure::Consume => consume(&cli),
        Measure::Latency { rate, seconds, size } => latency(&cli, rate, seconds, size),
    }
}

/// Counts acknowledgements, and keeps the time each took where the send time is given.
#[derive(Debug, Default)]
struct Acks {
    count: AtomicU64,
    failed: AtomicU64,
    micros: Mutex<Vec<u64>>,
}

#[derive(Debug, Clone, Default)]
struct Context(Arc<Acks>);

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Option<Instant>>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Self::DeliveryOpaque) {
        let counter = if result.is_ok() { &self.0.count } else { &self.0.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(sent) = *sent {
            let took = sent.elapsed().as_micros() as u64;
            self.0.micros.lock().expect("no holder panics").push(took);
        }
    }
}

fn config(cli: &Cli) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &cli.bootstrap);
    config
}

fn create(cli: &Cli) -> Result<()> {
    let created = create_on(&admin_for(&cli.bootstrap), &cli.topic, cli.partitions, &[]);
    created.map_err(|code| anyhow::anyhow!("the topic was not created: {code}"))
}

fn produce(cli: &Cli, size: usize, messages: u64) -> Result<()> {
    create(cli)?;
    let context = Context::default();
    let producer: ThreadedProducer<Context> = config(cli)
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("batch.size", "1000000")
        .set("batch.num.messages", "100000")
        .set("queue.buffering.max.messages", "1000000")
        .set("queue.buffering.max.kbytes", "262144")
        .create_with_context(context.clone())?;
    producer.client().fetch_metadata(Some(&cli.topic), PATIENCE)?;
    let payload = noise(size);
    let began = Instant::now();
    for number in 0..messages {
        let partition = (number % cli.partitions as u64) as i32;
        loop {
            let record = BaseRecord::<(), [u8], _>::with_opaque_to(&cli.topic, Box::new(None));
            match producer.send(record.payload(&payload).partition(partition)) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    sleep(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
    producer.flush(PATIENCE)?;
    let took = began.elapsed().as_secs_f64();
    let failed = context.0.failed.load(Ordering::Relaxed);
    ensure!(failed == 0, "{failed} records were not acknowledged");
    ensure!(context.0.count.load(Ordering::Relaxed) == messages, "not everything was acknowledged");
    println!("seconds={took:.3}");
    println!("messages_per_s={:.0}", messages as f64 / took);
    println!("mb_per_s={:.1}", (messages * size as u64) as f64 / took / 1e6);
    Ok(())
}

fn consumer(cli: &Cli, from: Offset) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = config(cli)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("fetch.message.max.bytes", "4194304")
        .set("queued.max.messages.kbytes", "262144")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..cli.partitions {
        list.add_partition_offset(&cli.topic, partition, from)?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

fn consume(cli: &Cli) -> Result<()> {
    let watermarks = consumer(cli, Offset::Beginning)?;
    let mut expected = 0;
    for partition in 0..cli.partitions {
        let (low, high) = watermarks.fetch_watermarks(&cli.topic, partition, PATIENCE)?;
        expected += (high - low) as u64;
    }
    drop(watermarks);
    let began = Instant::now();
    let consumer = consumer(cli, Offset::Beginning)?;
    let (mut messages, mut bytes) = (0, 0);
    while messages < expected {
        ensure!(began.elapsed() < PATIENCE, "{messages} of {expected} within {PATIENCE:?}");
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            bytes += message.map(|message| message.payload_len()).unwrap_or_default() as u64;
            messages += 1;
        }
    }
    let took = began.elapsed().as_secs_f64();
    println!("seconds={took:.3}");
    println!("messages_per_s={:.0}", messages as f64 / took);
    println!("mb_per_s={:.1}", bytes as f64 / took / 1e6);
    Ok(())
}

fn latency(cli: &Cli, rate: u32, seconds: u32, size: usize) -> Result<()> {
    create(cli)?;
    let context = Context::default();
    let producer: ThreadedProducer<Context> =
        config(cli).set("acks", "all").set("linger.ms", "0").create_with_context(context.clone())?;
    producer.client().fetch_metadata(Some(&cli.topic), PATIENCE)?;
    let consumer = consumer(cli, Offset::Beginning)?;
    let total = u64::from(rate) * u64::from(seconds);
    // The first second finds connections and warms caches; it is not counted.
    let warm_up = u64::from(rate);
    let epoch = Instant::now();

    let receive = std::thread::spawn(move || -> Result<Vec<u64>> {
        let mut micros = Vec::new();
        let mut received = 0;
        while received < total + warm_up {
            ensure!(epoch.elapsed() < PATIENCE, "{received} of {total} within {PATIENCE:?}");
            let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
            let Ok(message) = message else { continue };
            let stamp = message.payload().and_then(|payload| payload.first_chunk()).context("a stamp")?;
            let sent = Duration::from_nanos(u64::from_le_bytes(*stamp));
            received += 1;
            if received > warm_up {
                micros.push(epoch.elapsed().saturating_sub(sent).as_micros() as u64);
            }
        }
        Ok(micros)
    });

    let mut payload = noise(size.max(8));
    let interval = Duration::from_secs(1) / rate;
    let began = Instant::now();
    for number in 0..total + warm_up {
        let due = began + interval * number as u32;
        sleep(due.saturating_duration_since(Instant::now()));
        let partition = (number % cli.partitions as u64) as i32;
        payload[..8].copy_from_slice(&(epoch.elapsed().as_nanos() as u64).to_le_bytes());
        let sent = (number >= warm_up).then(Instant::now);
        let record = BaseRecord::<(), [u8], _>::with_opaque_to(&cli.topic, Box::new(sent));
        let result = producer.send(record.payload(&payload).partition(partition));
        result.map_err(|(error, _)| error)?;
    }
    producer.flush(PATIENCE)?;
    let end_to_end = receive.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
    let acks = std::mem::take(&mut *context.0.micros.lock().expect("no holder panics"));
    for (name, mut micros) in [("ack", acks), ("end_to_end", end_to_end)] {
        micros.sort_unstable();
        for (label, part) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
            let index = ((micros.len() as f64 * part) as usize).min(micros.len().saturating_sub(1));
            println!("{name}_{label}_us={}", micros.get(index).context("nothing was measured")?);
        }
    }
    Ok(())
}

/// Bytes that no file system and no network compresses away.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(step).collect()
}
