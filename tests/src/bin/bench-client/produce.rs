//! Producing as fast as it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use rdkafka::client::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

use crate::client::{PATIENCE, config, consumer, create, noise, print_throughput};
use crate::{Cli, consume};

/// Counts what was not acknowledged, which is all that librdkafka is told to report.
#[derive(Debug, Clone, Default)]
struct Failures(Arc<AtomicU64>);

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        self.0.fetch_add(u64::from(result.is_err()), Ordering::Relaxed);
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    size: usize,
    /// So many messages, unless the seconds are over before.
    #[arg(long, default_value_t = u64::MAX)]
    messages: u64,
    #[arg(long, required_unless_present = "messages")]
    seconds: Option<u64>,
    /// Bytes of a batch at most.
    #[arg(long, default_value_t = 1_000_000)]
    batch_bytes: usize,
    /// A config of the topic, `name=value`.
    #[arg(long)]
    config: Vec<String>,
    /// Reads the topic meanwhile, and counts the time until everything was read.
    #[arg(long)]
    follow: bool,
}

/// Messages between two looks at the clock.
const LOOK_EVERY: u64 = 1024;

pub(crate) fn run(cli: &Cli, args: &Args) -> Result<()> {
    let Args { size, follow, batch_bytes, .. } = *args;
    create(cli, &args.config)?;
    let failures = Failures::default();
    let producer: ThreadedProducer<Failures> = config(cli)
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("batch.size", batch_bytes.to_string())
        .set("batch.num.messages", "100000")
        .set("queue.buffering.max.messages", "2000000")
        .set("queue.buffering.max.kbytes", "262144")
        .set("delivery.report.only.error", "true")
        .create_with_context(failures.clone())?;
    producer.client().fetch_metadata(Some(&cli.topic), PATIENCE)?;
    let follower = if follow { Some(consumer(cli)?) } else { None };
    let payload = noise(size);

    let began = Instant::now();
    // How many there are is known at the end.
    let goal = Arc::new(AtomicU64::new(u64::MAX));
    let reading = follower.map(|consumer| {
        let goal = goal.clone();
        spawn(move || consume::count(&consumer, &goal))
    });
    let over = |number: u64| {
        let looks = number.is_multiple_of(LOOK_EVERY);
        number == args.messages || looks && args.seconds.is_some_and(|seconds| began.elapsed().as_secs() >= seconds)
    };
    let mut messages = 0;
    for number in (0..).take_while(|number| !over(*number)) {
        messages = number + 1;
        let partition = (number % cli.partitions as u64) as i32;
        loop {
            let record = BaseRecord::<(), [u8]>::to(&cli.topic).payload(&payload).partition(partition);
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    sleep(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
    producer.flush(PATIENCE)?;
    goal.store(messages, Ordering::Relaxed);
    if let Some(reading) = reading {
        reading.join().map_err(|_| anyhow!("the reader panicked"))??;
    }
    let took = began.elapsed();
    let failed = failures.0.load(Ordering::Relaxed);
    ensure!(failed == 0, "{failed} records were not acknowledged");
    print_throughput(messages, messages * size as u64, took);
    Ok(())
}
