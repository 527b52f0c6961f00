//! A producer and a reader that go on while things break around them, and what must be true afterwards.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use rdkafka::Offset;
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::clients::{Acknowledged, Received, assign, config_for, consumer_for, eventually, next, read_topic_with};

/// Records that may be on their way at once. Enough that a kill always meets some.
const IN_FLIGHT: usize = 200;

/// How long a record may wait for its acknowledgement: longer than any fault lasts.
const DELIVERY_TIMEOUT_MS: &str = "180000";

/// What a producer does about a record whose acknowledgement does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Sends it again until it comes: the record is there once.
    Idempotent,
    /// Nothing: the record is there, or not.
    Plain,
}

/// A producer of numbered records that a thread keeps busy.
#[derive(Debug)]
pub struct Load {
    kind: Kind,
    topic: String,
    partitions: i32,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<Acknowledged>>,
}

impl Load {
    /// An idempotent producer.
    pub fn start(bootstrap: &str, topic: &str, partitions: i32) -> Self {
        Self::start_of(Kind::Idempotent, bootstrap, topic, partitions)
    }

    pub fn start_of(kind: Kind, bootstrap: &str, topic: &str, partitions: i32) -> Self {
        let (idempotence, retries) = match kind {
            Kind::Idempotent => ("true", "2147483647"),
            Kind::Plain => ("false", "0"),
        };
        let producer: FutureProducer = config_for(
            bootstrap,
            &[
                ("enable.idempotence", idempotence),
                ("retries", retries),
                ("acks", "all"),
                ("linger.ms", "2"),
                ("message.timeout.ms", DELIVERY_TIMEOUT_MS),
                ("reconnect.backoff.max.ms", "500"),
                ("retry.backoff.max.ms", "500"),
            ],
        )
        .create()
        .expect("a producer is made");
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let thread = {
            let (topic, stop, acknowledged) = (topic.to_owned(), Arc::clone(&stop), Arc::clone(&acknowledged));
            std::thread::spawn(move || run(kind, &producer, &topic, partitions, &stop, &acknowledged))
        };
        Self { kind, topic: topic.to_owned(), partitions, stop, acknowledged, thread }
    }

    /// How many records are acknowledged by now.
    pub fn count(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many more are acknowledged.
    pub fn progress(&self, by: usize) {
        let goal = self.count() + by;
        eventually("more records to be acknowledged", || self.count() >= goal || self.thread.is_finished());
        assert!(!self.thread.is_finished(), "the producer has given up");
    }

    /// Stops producing, and sees to it that all that was acknowledged is in the log where it was said to be, once,
    /// with nothing else beside it and every partition in the order of sending.
    pub fn verify(self, bootstrap: &str) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let acknowledged = self.thread.join().expect("the producer's thread ends well");
        let all = read_topic_with(&consumer_for(bootstrap, &[]), &self.topic, self.partitions);
        check(self.kind, &acknowledged, &all);
        acknowledged.len()
    }
}

fn run(
    kind: Kind,
    producer: &FutureProducer,
    topic: &str,
    partitions: i32,
    stop: &AtomicBool,
    count: &AtomicUsize,
) -> Vec<Acknowledged> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime of one thread starts");
    let mut in_flight = VecDeque::new();
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let stopping = stop.load(Ordering::Relaxed);
        while in_flight.len() > if stopping { 0 } else { IN_FLIGHT } {
            let Some((value, delivery)) = in_flight.pop_front() else { break };
            let result =
                runtime.block_on::<rdkafka::producer::DeliveryFuture>(delivery).expect("the producer lives on");
            let at = match result {
                Ok(at) => at,
                Err(_) if kind == Kind::Plain => continue,
                Err((error, _)) => panic!("{value} is lost: {error}"),
            };
            acknowledged.push(Acknowledged { partition: at.partition, offset: at.offset, value });
            count.fetch_add(1, Ordering::Relaxed);
        }
        if stopping {
            break;
        }
        let value = format!("{number:09}");
        let record = FutureRecord::<str, String>::to(topic).payload(&value).partition(number % partitions);
        let delivery = producer.send_result(record).unwrap_or_else(|(error, _)| panic!("not queued: {error}"));
        in_flight.push_back((value, delivery));
    }
    acknowledged
}

fn check(kind: Kind, acknowledged: &[Acknowledged], all: &[Vec<Received>]) {
    let mut seen = BTreeSet::new();
    for (partition, records) in all.iter().enumerate() {
        let values: Vec<&str> = records.iter().map(|record| record.value.as_str()).collect();
        for value in &values {
            assert!(seen.insert((*value).to_owned()), "{value} is there twice, in partition {partition}");
        }
        assert!(values.is_sorted(), "partition {partition} is out of order");
    }
    for at in acknowledged {
        let found = all.get(at.partition as usize).and_then(|records| records.get(at.offset as usize));
        let found = found.map(|record| record.value.as_str());
        // After a retry whose first attempt counted, the client may not know the offset.
        if at.offset >= 0 {
            assert_eq!(found, Some(at.value.as_str()), "partition {} offset {}", at.partition, at.offset);
        }
        assert!(seen.contains(&at.value), "{} was acknowledged and is lost", at.value);
    }
    // Of what a plain producer was told nothing, some may be there.
    let beyond = seen.len() - acknowledged.len();
    assert!(beyond == 0 || kind == Kind::Plain, "all that is there was acknowledged");
}

/// A stand-alone consumer that reads a topic as it grows, without holes and without going back.
#[derive(Debug)]
pub struct Reading {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Reading {
    pub fn start(bootstrap: &str, topic: &str, partitions: i32) -> Self {
        let consumer = consumer_for(bootstrap, &[("reconnect.backoff.max.ms", "500")]);
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let thread = {
            let (topic, stop, count) = (topic.to_owned(), Arc::clone(&stop), Arc::clone(&count));
            std::thread::spawn(move || {
                let from: Vec<_> =
                    (0..partitions).map(|partition| (topic.as_str(), partition, Offset::Beginning)).collect();
                assign(&consumer, &from);
                let mut positions = vec![0; partitions as usize];
                while !stop.load(Ordering::Relaxed) {
                    let record = next(&consumer);
                    let position = &mut positions[record.partition as usize];
                    assert_eq!(record.offset, *position, "partition {}", record.partition);
                    *position += 1;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        Self { stop, count, thread }
    }

    /// How many records have been read by now.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until so many have been read.
    pub fn reaches(&self, count: usize) {
        eventually("the reader to catch up", || self.count() >= count || self.thread.is_finished());
        assert!(!self.thread.is_finished(), "the reader has given up");
    }

    /// Stops, while records still come.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the reader's thread ends well");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of two partitions with what a producer of five records was told.
    fn log() -> (Vec<Acknowledged>, Vec<Vec<Received>>) {
        let mut all = vec![Vec::new(), Vec::new()];
        let mut acknowledged = Vec::new();
        for number in 0..5 {
            let (partition, value) = (number % 2, format!("{number:09}"));
            let records: &mut Vec<Received> = &mut all[partition as usize];
            let offset = records.len() as i64;
            acknowledged.push(Acknowledged { partition, offset, value: value.clone() });
            records.push(Received { topic: "t".into(), partition, offset, key: None, value, timestamp: 0 });
        }
        (acknowledged, all)
    }

    #[test]
    fn a_correct_log_passes() {
        let (acknowledged, all) = log();
        check(Kind::Idempotent, &acknowledged, &all);
    }

    #[test]
    #[should_panic(expected = "partition 0 offset 2")]
    fn a_lost_record_is_found() {
        let (acknowledged, mut all) = log();
        all[0].pop();
        check(Kind::Idempotent, &acknowledged, &all);
    }

    #[test]
    #[should_panic(expected = "is there twice")]
    fn a_doubled_record_is_found() {
        let (acknowledged, mut all) = log();
        let again = all[1][1].clone();
        all[1].push(again);
        check(Kind::Idempotent, &acknowledged, &all);
    }

    #[test]
    #[should_panic(expected = "out of order")]
    fn a_swap_is_found() {
        let (acknowledged, mut all) = log();
        all[0].swap(1, 2);
        check(Kind::Idempotent, &acknowledged, &all);
    }

    #[test]
    fn what_a_plain_producer_was_not_told_of_may_be_there() {
        let (mut acknowledged, all) = log();
        acknowledged.pop();
        check(Kind::Plain, &acknowledged, &all);
    }

    #[test]
    #[should_panic(expected = "all that is there was acknowledged")]
    fn a_record_from_nowhere_is_found() {
        let (mut acknowledged, all) = log();
        acknowledged.pop();
        check(Kind::Idempotent, &acknowledged, &all);
    }
}
