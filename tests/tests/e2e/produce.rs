//! Every way to produce: by key, round-robin or to a partition, with every `acks`, in every codec, read back whole.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use tidemark_tests::clients::*;

const PARTITIONS: i32 = 6;
const RECORDS: usize = 240;
const KEYS: usize = 20;

/// The three ways to choose a partition. Values are numbered, so that order can be seen.
fn records(run: &str) -> [(&'static str, Vec<Record>); 3] {
    let value = |way: &str, n: usize| Record::new(format!("{run} {way} {n:04} {}", "tide ".repeat(n % 50)));
    let all = |way: &'static str, with: &dyn Fn(Record, usize) -> Record| {
        (way, (0..RECORDS).map(|n| with(value(way, n), n)).collect())
    };
    [
        all("by-key", &|record, n| record.key(format!("key-{}", n % KEYS))),
        all("round-robin", &|record, _| record),
        all("to-partition", &|record, n| record.to(n as i32 % PARTITIONS)),
    ]
}

fn round_trip(codec: &str) {
    let topic = topic(codec, PARTITIONS);
    let mut sent_values = BTreeSet::new();
    let mut partitions_of_keys: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for acks in ["0", "1", "all"] {
        let settings = [
            ("acks", acks),
            ("compression.type", codec),
            ("linger.ms", "2"),
            // Spreads records without a key over all partitions, one by one.
            ("partitioner", "consistent_random"),
            ("sticky.partitioning.linger.ms", "0"),
        ];
        for (way, records) in records(acks) {
            let acknowledged = produce(&producer(&settings), &topic, &records);
            for (record, at) in records.iter().zip(&acknowledged) {
                assert!(sent_values.insert(record.value.clone()));
                if let Some(key) = &record.key {
                    partitions_of_keys.entry(key.clone()).or_default().insert(at.partition);
                }
                assert!(record.partition.is_none_or(|wanted| wanted == at.partition), "{way}: another partition");
            }
            if way == "round-robin" {
                let used: BTreeSet<i32> = acknowledged.iter().map(|at| at.partition).collect();
                assert_eq!(used.len(), PARTITIONS as usize, "records without a key are spread");
            }
        }
    }
    for (key, partitions) in &partitions_of_keys {
        assert_eq!(partitions.len(), 1, "{key} went to {partitions:?}");
    }

    // What was sent with acks=0 is on its way still, perhaps.
    let reader = consumer(&[]);
    eventually("everything to be in the log", || {
        let ends = (0..PARTITIONS).map(|partition| watermarks(&reader, &topic, partition).1);
        ends.sum::<i64>() as usize >= sent_values.len()
    });
    let all = read_topic(&topic, PARTITIONS);
    let mut received = BTreeSet::new();
    for record in all.iter().flatten() {
        assert!(received.insert(record.value.clone()), "doubled: {}", record.value);
    }
    assert_eq!(received, sent_values);
    for (partition, records) in all.iter().enumerate() {
        in_order(records);
        for key in records.iter().filter_map(|record| record.key.as_ref()) {
            assert_eq!(partitions_of_keys[key].first(), Some(&(partition as i32)), "{key} is where it was sent");
        }
    }
}

/// Within a partition, and so for each key, records of one producer are in the order in which it sent them.
fn in_order(records: &[Received]) {
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    for record in records {
        let run: String = record.value.split(' ').take(2).collect::<Vec<_>>().join(" ");
        if let Some(before) = last.insert(run, record.value.clone()) {
            assert!(before < record.value, "{before} came before {}", record.value);
        }
    }
}

#[test]
fn uncompressed() {
    round_trip("none");
}

#[test]
fn gzip() {
    round_trip("gzip");
}

#[test]
fn snappy() {
    round_trip("snappy");
}

#[test]
fn lz4() {
    round_trip("lz4");
}

#[test]
fn zstd() {
    round_trip("zstd");
}

#[test]
fn one_producer_serves_several_topics_at_once() {
    let topics = ["clicks", "searches", "orders"].map(|name| topic(name, 3));
    let producer = producer(&[("linger.ms", "5"), ("enable.idempotence", "true")]);
    std::thread::scope(|scope| {
        for topic in &topics {
            let producer = &producer;
            scope.spawn(move || {
                let records: Vec<_> =
                    (0..300).map(|n| Record::new(format!("{topic} {n:03}")).key(format!("{}", n % 7))).collect();
                produce(producer, topic, &records);
            });
        }
    });
    let from: Vec<_> = topics
        .iter()
        .flat_map(|topic| (0..3).map(move |partition| (topic.as_str(), partition, rdkafka::Offset::Beginning)))
        .collect();
    let all = read(&from);
    for topic in &topics {
        let mine = all.iter().filter(|((name, _), _)| name == topic).flat_map(|(_, records)| records);
        let mut values: Vec<&str> = mine.map(|record| record.value.as_str()).collect();
        values.sort_unstable();
        let expected: Vec<String> = (0..300).map(|n| format!("{topic} {n:03}")).collect();
        assert_eq!(values, expected);
    }
}

#[test]
fn keys_headers_timestamps_and_empty_values_come_back_as_they_went() {
    use rdkafka::Message as _;
    use rdkafka::message::{Header, Headers as _, OwnedHeaders};
    use rdkafka::producer::FutureRecord;
    // The record is from 2009: retention would take it with its next look.
    let topic = topic_with("whole", 1, &[("retention.ms", "-1")]);
    let headers = OwnedHeaders::new()
        .insert(Header { key: "trace", value: Some("abc") })
        .insert(Header { key: "empty", value: None::<&str> });
    let record =
        FutureRecord::<str, str>::to(&topic).key("k").timestamp(1_234_567_890_123).headers(headers).partition(0);
    let producer = producer(&[]);
    block_on(producer.send_result(record).map_err(|(error, _)| error).expect("queued")).expect("alive").expect("acked");

    let consumer = consumer(&[]);
    assign(&consumer, &[(&topic, 0, rdkafka::Offset::Beginning)]);
    let deadline = std::time::Instant::now() + PATIENCE;
    let message = loop {
        assert!(std::time::Instant::now() < deadline, "no record");
        if let Some(Ok(message)) = consumer.poll(std::time::Duration::from_millis(100)) {
            break message.detach();
        }
    };
    assert_eq!((message.key(), message.payload()), (Some(&b"k"[..]), None));
    assert_eq!(message.timestamp().to_millis(), Some(1_234_567_890_123));
    let headers = message.headers().expect("headers");
    assert_eq!((headers.get(0).key, headers.get(0).value), ("trace", Some(&b"abc"[..])));
    assert_eq!((headers.get(1).key, headers.get(1).value), ("empty", None));
}

#[test]
fn large_records_pass_up_to_the_limit_of_the_topic() {
    let topic = topic("large", 1);
    let producer = producer(&[("message.max.bytes", "10000000")]);
    let fits = Record::new("f".repeat(1_000_000)).to(0);
    let too_large = Record::new("t".repeat(1_100_000)).to(0);
    let results = try_produce(&producer, &topic, std::slice::from_ref(&too_large));
    assert_eq!(results[0], Err(KafkaError::MessageProduction(Code::MessageSizeTooLarge)));
    assert_eq!(produce(&producer, &topic, std::slice::from_ref(&fits))[0].offset, 0);
    let all = read_topic(&topic, 1);
    assert_eq!(all[0].len(), 1);
    assert_eq!(all[0][0].value, fits.value);
}

#[test]
fn a_partition_that_is_not_there_is_unknown_to_the_producer() {
    let topic = topic("two", 2);
    let results = try_produce(&producer(&[("message.timeout.ms", "5000")]), &topic, &[Record::new("lost").to(9)]);
    assert_eq!(results[0], Err(KafkaError::MessageProduction(Code::UnknownPartition)));
}
