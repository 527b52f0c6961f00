//! A producer that keeps a topic growing, in records and in partitions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use rdkafka::admin::NewPartitions;
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
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
    /// The topic is being given more partitions.
    growing: Option<JoinHandle<()>>,
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
        Self { topic: topic.to_owned(), partitions, stop, thread: Some(thread), growing: None }
    }

    pub(super) fn partitions(&self) -> i32 {
        self.partitions.load(Ordering::Relaxed)
    }

    pub(super) fn is_growing(&self) -> bool {
        self.growing.as_ref().is_some_and(|growing| !growing.is_finished())
    }

    /// Begins to give the topic some more partitions, unless that is under way. It lasts as long as no coordinator is there, and
    /// whoever brings one back is not to wait for it.
    pub(super) fn grow(&mut self, bootstrap: &str) -> bool {
        if self.is_growing() {
            return false;
        }
        let (partitions, topic, bootstrap) = (Arc::clone(&self.partitions), self.topic.clone(), bootstrap.to_owned());
        self.growing = Some(std::thread::spawn(move || {
            let more = partitions.load(Ordering::Relaxed) + 3;
            let new = NewPartitions::new(&topic, more as usize);
            let grown = block_on(admin_for(&bootstrap).create_partitions([&new], &admin_options()));
            if grown.is_ok_and(|results| results.iter().all(Result::is_ok)) {
                partitions.store(more, Ordering::Relaxed);
            }
        }));
        true
    }

    /// Stops, and returns where each partition ends. The topic is not to be growing any more.
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
            // After a fatal error the library gives up all that is queued.
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::PurgeQueue), _)) => {
                let fatal = producer.client().fatal_error();
                let (code, why) = fatal.context("the producer purged its queue, and tells no fatal error")?;
                bail!("the producer's fatal error {code}: {why}");
            }
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
