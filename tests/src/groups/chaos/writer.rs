//! A producer that keeps a topic growing, in records and in partitions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rdkafka::admin::NewPartitions;
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;

use crate::clients::{admin_for, admin_options, block_on, config_for};

/// Between two records: some hundreds a second, which is enough to have work everywhere.
const PACE: Duration = Duration::from_millis(4);

/// Records that may wait for their acknowledgement.
const IN_FLIGHT: usize = 500;

#[derive(Debug)]
pub(super) struct Writer {
    topic: String,
    partitions: Arc<AtomicI32>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<BTreeMap<i32, i64>>>>,
}

impl Writer {
    pub(super) fn start(bootstrap: &str, topic: &str, partitions: i32) -> Self {
        let settings = [
            ("enable.idempotence", "true"),
            ("message.timeout.ms", "180000"),
            ("topic.metadata.refresh.interval.ms", "500"),
            ("reconnect.backoff.max.ms", "500"),
        ];
        let producer = config_for(bootstrap, &settings).create().expect("a producer is made");
        let (partitions, stop) = (Arc::new(AtomicI32::new(partitions)), Arc::new(AtomicBool::new(false)));
        let thread = {
            let (topic, partitions, stop) = (topic.to_owned(), Arc::clone(&partitions), Arc::clone(&stop));
            std::thread::spawn(move || write(&producer, &topic, &partitions, &stop))
        };
        Self { topic: topic.to_owned(), partitions, stop, thread: Some(thread) }
    }

    pub(super) fn partitions(&self) -> i32 {
        self.partitions.load(Ordering::Relaxed)
    }

    /// Gives the topic some more partitions, if nothing prevents it now.
    pub(super) fn grow(&self, bootstrap: &str) -> bool {
        let more = self.partitions() + 3;
        let new = NewPartitions::new(&self.topic, more as usize);
        let grown = block_on(admin_for(bootstrap).create_partitions([&new], &admin_options()));
        let grown = grown.is_ok_and(|results| results.iter().all(Result::is_ok));
        if grown {
            self.partitions.store(more, Ordering::Relaxed);
        }
        grown
    }

    /// Stops, and returns where each partition ends.
    pub(super) fn finish(&mut self) -> Result<BTreeMap<i32, i64>> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it is finished once")?;
        thread.join().map_err(|_| anyhow!("the producer's thread has panicked"))?
    }
}

fn write(
    producer: &FutureProducer,
    topic: &str,
    partitions: &AtomicI32,
    stop: &AtomicBool,
) -> Result<BTreeMap<i32, i64>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut ends = BTreeMap::new();
    let mut in_flight = std::collections::VecDeque::new();
    let mut settle = |delivery: rdkafka::producer::DeliveryFuture| -> Result<()> {
        let at = match runtime.block_on(delivery).context("the producer lives on")? {
            Ok(at) => at,
            // It was never sent. What the producer gives up for reasons of its own is not the groups' matter.
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::PurgeQueue), _)) => return Ok(()),
            Err((error, _)) => return Err(error.into()),
        };
        let end = ends.entry(at.partition).or_insert(0);
        *end = (at.offset + 1).max(*end);
        Ok(())
    };
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let value = number.to_string();
        let record = FutureRecord::<str, String>::to(topic).payload(&value);
        let record = record.partition(number % partitions.load(Ordering::Relaxed));
        match producer.send_result(record) {
            Ok(delivery) => in_flight.push_back(delivery),
            // A partition that the producer has not heard of yet.
            Err((KafkaError::MessageProduction(_), _)) => {}
            Err((error, _)) => return Err(error.into()),
        }
        if in_flight.len() > IN_FLIGHT {
            in_flight.pop_front().map(&mut settle).transpose()?;
        }
        std::thread::sleep(PACE);
    }
    in_flight.into_iter().try_for_each(settle)?;
    Ok(ends)
}
