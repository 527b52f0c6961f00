//! librdkafka as the tests use it: topics of their own, everything produced is acknowledged, everything read is owned.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::target::target;

/// How long anything that should happen may take. Only failures wait that long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a future of the client to its end.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime of one thread starts").block_on(future)
}

/// A topic name that no other test and no other run has.
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("the clock is past 1970");
    format!("{prefix}-{:x}-{:x}-{}", since.as_micros(), std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A client configuration.
pub fn config_for(bootstrap: &str, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config
}

pub fn admin() -> AdminClient<DefaultClientContext> {
    admin_for(&target().bootstrap)
}

pub fn admin_for(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    config_for(bootstrap, &[]).create().expect("an admin client is made")
}

pub fn admin_options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE))
}

/// Creates a topic with a name of its own.
pub fn topic(prefix: &str, partitions: i32) -> String {
    topic_with(prefix, partitions, &[])
}

pub fn topic_with(prefix: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
    let name = unique(prefix);
    create(&name, partitions, settings).expect("the topic is created");
    name
}

/// Creates a topic, or says Kafka's reason why not.
pub fn create(name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<(), RDKafkaErrorCode> {
    create_on(&admin(), name, partitions, settings)
}

pub fn create_on(
    admin: &AdminClient<DefaultClientContext>,
    name: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) -> Result<(), RDKafkaErrorCode> {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (key, value) in settings {
        topic = topic.set(key, value);
    }
    let results = block_on(admin.create_topics([&topic], &admin_options())).expect("the request is answered");
    results.into_iter().next().expect("one result for one topic").map(drop).map_err(|(_, code)| code)
}

/// A record to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub partition: Option<i32>,
    pub key: Option<String>,
    pub value: String,
    pub timestamp: Option<i64>,
}

impl Record {
    pub fn new(value: impl Into<String>) -> Self {
        Self { partition: None, key: None, value: value.into(), timestamp: None }
    }

    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub fn to(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    pub fn at(mut self, timestamp: i64) -> Self {
        self.timestamp = Some(timestamp);
        self
    }
}

/// Where an acknowledged record went. With `acks=0` the offset is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    pub partition: i32,
    pub offset: i64,
    pub value: String,
}

pub fn producer(settings: &[(&str, &str)]) -> FutureProducer {
    producer_for(&target().bootstrap, settings)
}

pub fn producer_for(bootstrap: &str, settings: &[(&str, &str)]) -> FutureProducer {
    config_for(bootstrap, settings).create().expect("a producer is made")
}

/// Sends all, and waits until all are acknowledged.
pub fn produce(producer: &FutureProducer, topic: &str, records: &[Record]) -> Vec<Acknowledged> {
    try_produce(producer, topic, records)
        .into_iter()
        .map(|result| result.expect("the record is acknowledged"))
        .collect()
}

/// Sends all, and waits for the fate of each.
pub fn try_produce(
    producer: &FutureProducer,
    topic: &str,
    records: &[Record],
) -> Vec<Result<Acknowledged, KafkaError>> {
    block_on(async {
        let mut sent = Vec::new();
        for record in records {
            let mut message = FutureRecord::<String, String>::to(topic).payload(&record.value);
            message.key = record.key.as_ref();
            message.partition = record.partition;
            message.timestamp = record.timestamp;
            sent.push(producer.send_result(message).map_err(|(error, _)| error));
        }
        let mut results = Vec::new();
        for (record, sent) in records.iter().zip(sent) {
            results.push(match sent {
                Err(error) => Err(error),
                Ok(delivery) => match delivery.await.expect("the producer lives on") {
                    Ok(at) => {
                        Ok(Acknowledged { partition: at.partition, offset: at.offset, value: record.value.clone() })
                    }
                    Err((error, _)) => Err(error),
                },
            });
        }
        results
    })
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<String>,
    pub value: String,
    pub timestamp: i64,
}

/// A stand-alone consumer. librdkafka wants the name of a group even of one that never joins any.
pub fn consumer(settings: &[(&str, &str)]) -> BaseConsumer {
    consumer_for(&target().bootstrap, settings)
}

pub fn consumer_for(bootstrap: &str, settings: &[(&str, &str)]) -> BaseConsumer {
    let mut config = config_for(bootstrap, &[]);
    config.set("group.id", unique("alone")).set("enable.auto.commit", "false").set("check.crcs", "true");
    config.set("fetch.wait.max.ms", "100").set("enable.partition.eof", "false");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create().expect("a consumer is made")
}

pub fn assign(consumer: &BaseConsumer, from: &[(&str, i32, Offset)]) {
    let mut list = TopicPartitionList::new();
    for (topic, partition, offset) in from {
        list.add_partition_offset(topic, *partition, *offset).expect("a valid offset");
    }
    consumer.assign(&list).expect("the assignment is taken");
}

/// The next record, however many polls it takes.
pub fn next(consumer: &BaseConsumer) -> Received {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no record within {PATIENCE:?}");
        match consumer.poll(Duration::from_millis(200)) {
            None => {}
            Some(Ok(message)) => {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("the tests send text");
                return Received {
                    topic: message.topic().to_owned(),
                    partition: message.partition(),
                    offset: message.offset(),
                    key: message.key().map(text),
                    value: message.payload().map(text).unwrap_or_default(),
                    timestamp: message.timestamp().to_millis().unwrap_or(-1),
                };
            }
            // A connection that broke or was slow is the client's to mend; everything else is an answer.
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::OperationTimedOut,
            ))) => {}
            Some(Err(error)) => panic!("{error}"),
        }
    }
}

/// Low and high watermark.
pub fn watermarks(consumer: &BaseConsumer, topic: &str, partition: i32) -> (i64, i64) {
    consumer.fetch_watermarks(topic, partition, PATIENCE).expect("the watermarks are known")
}

/// Reads partitions from where `from` says up to where they end now, by partition, in the order of arrival.
pub fn read(from: &[(&str, i32, Offset)]) -> BTreeMap<(String, i32), Vec<Received>> {
    read_with(&consumer(&[]), from)
}

pub fn read_with(consumer: &BaseConsumer, from: &[(&str, i32, Offset)]) -> BTreeMap<(String, i32), Vec<Received>> {
    let mut all = BTreeMap::new();
    let mut open = BTreeMap::new();
    for (topic, partition, offset) in from {
        let at = ((*topic).to_owned(), *partition);
        let (low, high) = watermarks(consumer, topic, *partition);
        let start = match offset {
            Offset::Offset(offset) => *offset,
            Offset::End => high,
            _ => low,
        };
        if start < high {
            open.insert(at.clone(), high);
        }
        all.insert(at, Vec::new());
    }
    assign(consumer, from);
    while !open.is_empty() {
        let record = next(consumer);
        let at = (record.topic.clone(), record.partition);
        if let Some(high) = open.get(&at) {
            let offset = record.offset;
            if offset < *high {
                all.entry(at.clone()).or_default().push(record);
            }
            if offset + 1 >= *high {
                open.remove(&at);
            }
        }
    }
    all
}

/// Reads a whole topic by partition, and sees to it that offsets have no holes.
pub fn read_topic(topic: &str, partitions: i32) -> Vec<Vec<Received>> {
    read_topic_with(&consumer(&[]), topic, partitions)
}

pub fn read_topic_with(consumer: &BaseConsumer, topic: &str, partitions: i32) -> Vec<Vec<Received>> {
    let from: Vec<_> = (0..partitions).map(|partition| (topic, partition, Offset::Beginning)).collect();
    let all: Vec<Vec<Received>> = read_with(consumer, &from).into_values().collect();
    for (partition, records) in all.iter().enumerate() {
        let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
        let expected: Vec<i64> = (0..records.len() as i64).collect();
        assert_eq!(offsets, expected, "offsets of partition {partition}");
    }
    all
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    xtask::process::wait_for(what, PATIENCE, condition).unwrap_or_else(|error| panic!("{error}"));
}
