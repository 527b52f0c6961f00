//! Reading from any offset and any timestamp, in stand-alone mode.

use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use tidemark_tests::clients::*;
use tidemark_tests::raw::{self, Connection};

/// An arbitrary time, well in the past and to the second.
const TIME: i64 = 1_700_000_000_000;

/// A topic of one partition with `count` records, one second apart, in batches of ten.
fn numbered(prefix: &str, count: usize) -> String {
    let topic = topic(prefix, 1);
    let producer = producer(&[("batch.num.messages", "10"), ("linger.ms", "20")]);
    let records: Vec<_> = (0..count).map(|n| Record::new(format!("{n}")).to(0).at(TIME + 1000 * n as i64)).collect();
    for batch in records.chunks(10) {
        produce(&producer, &topic, batch);
    }
    topic
}

fn offset_at(consumer: &BaseConsumer, topic: &str, time: i64) -> Offset {
    let mut times = TopicPartitionList::new();
    times.add_partition_offset(topic, 0, Offset::Offset(time)).expect("a valid offset");
    let offsets = consumer.offsets_for_times(times, PATIENCE).expect("an answer");
    let found = offsets.find_partition(topic, 0).expect("the partition that was asked for");
    assert!(found.error().is_ok());
    found.offset()
}

#[test]
fn from_any_offset() {
    let topic = numbered("offsets", 100);
    // Starts, middles and ends of batches.
    for start in [0, 1, 9, 10, 11, 55, 98, 99] {
        let all = read(&[(&topic, 0, Offset::Offset(start))]);
        let offsets: Vec<i64> = all.values().flatten().map(|record| record.offset).collect();
        assert_eq!(offsets, (start..100).collect::<Vec<_>>(), "from {start}");
        assert!(all.values().flatten().all(|record| record.value == record.offset.to_string()));
    }
}

#[test]
fn from_any_timestamp() {
    let topic = numbered("times", 50);
    let consumer = consumer(&[]);
    for (time, expected) in [
        (0, Offset::Offset(0)),
        (TIME, Offset::Offset(0)),
        (TIME + 1, Offset::Offset(1)),
        (TIME + 9_000, Offset::Offset(9)),
        (TIME + 9_001, Offset::Offset(10)),
        (TIME + 33_500, Offset::Offset(34)),
        (TIME + 49_000, Offset::Offset(49)),
        (TIME + 49_001, Offset::End),
    ] {
        assert_eq!(offset_at(&consumer, &topic, time), expected, "at {}", time - TIME);
    }
    let all = read_with(&consumer, &[(&topic, 0, offset_at(&consumer, &topic, TIME + 40_000))]);
    let first = &all.values().next().expect("a partition")[0];
    assert_eq!((first.offset, first.timestamp), (40, TIME + 40_000));
}

#[test]
fn the_first_record_at_or_after_a_time_is_found_when_times_are_out_of_order() {
    let topic = topic("shuffled", 1);
    let producer = producer(&[("linger.ms", "20")]);
    let at = |seconds: &[i64]| {
        let records = seconds.iter().map(|second| Record::new("x").to(0).at(TIME + second * 1000));
        produce(&producer, &topic, &records.collect::<Vec<_>>());
    };
    at(&[5, 1, 9]);
    at(&[3, 2]);
    at(&[20, 8]);
    let consumer = consumer(&[]);
    let found: Vec<Offset> =
        [1, 5, 6, 9, 10, 20].map(|second| offset_at(&consumer, &topic, TIME + second * 1000)).into();
    assert_eq!(found, [0, 0, 2, 2, 5, 5].map(Offset::Offset));
}

#[test]
fn special_timestamps() {
    let topic = topic("special", 1);
    let leader = raw::await_leaders(&topic, 1).leaders.remove(0).0;
    let mut connection = Connection::open(&leader);
    let mut offset = |time| raw::list_offsets(&mut connection, 9, &topic, 0, time);
    // Of an empty partition: the latest, the earliest, the one with the largest timestamp, the earliest local one.
    assert_eq!(offset(-1), (0, -1, 0));
    assert_eq!(offset(-2), (0, -1, 0));
    assert_eq!(offset(-3), (0, -1, -1));
    assert_eq!(offset(-4), (0, -1, 0));

    let producer = producer(&[]);
    for seconds in [1, 7, 4] {
        produce(&producer, &topic, &[Record::new("x").to(0).at(TIME + seconds * 1000)]);
    }
    assert_eq!(offset(-1), (0, -1, 3));
    assert_eq!(offset(-2), (0, -1, 0));
    assert_eq!(offset(-3), (0, TIME + 7000, 1));
    assert_eq!(offset(-4), (0, -1, 0));
    assert_eq!(offset(TIME + 2000), (0, TIME + 7000, 1));
    assert_eq!(offset(TIME + 8000), (0, -1, -1));
}

#[test]
fn watermarks_follow_what_is_produced() {
    let topic = topic("watermarks", 2);
    let consumer = consumer(&[]);
    raw::await_leaders(&topic, 2);
    assert_eq!(watermarks(&consumer, &topic, 0), (0, 0));
    produce(&producer(&[]), &topic, &[Record::new("a").to(0), Record::new("b").to(0), Record::new("c").to(1)]);
    assert_eq!(watermarks(&consumer, &topic, 0), (0, 2));
    assert_eq!(watermarks(&consumer, &topic, 1), (0, 1));
}

#[test]
fn an_offset_beyond_the_end_is_out_of_range() {
    let topic = numbered("beyond", 10);
    let consumer = consumer(&[("auto.offset.reset", "error")]);
    assign(&consumer, &[(&topic, 0, Offset::Offset(11))]);
    let deadline = std::time::Instant::now() + PATIENCE;
    let error = loop {
        assert!(std::time::Instant::now() < deadline, "no error");
        match consumer.poll(std::time::Duration::from_millis(100)) {
            Some(Err(KafkaError::MessageConsumption(Code::BrokerTransportFailure | Code::CoordinatorNotAvailable))) => {
            }
            Some(Err(error)) => break error,
            Some(Ok(_)) => panic!("a record from beyond the end"),
            None => {}
        }
    };
    assert_eq!(error, KafkaError::MessageConsumption(Code::AutoOffsetReset));
}

#[test]
fn reset_to_the_earliest_and_to_the_latest() {
    let topic = numbered("reset", 10);
    let earliest = consumer(&[("auto.offset.reset", "earliest")]);
    assign(&earliest, &[(&topic, 0, Offset::Offset(1000))]);
    assert_eq!(next(&earliest).offset, 0);

    let latest = consumer(&[("auto.offset.reset", "latest")]);
    assign(&latest, &[(&topic, 0, Offset::End)]);
    // Until the consumer has found the end, what is produced may lie before it: so produce until one arrives.
    let producer = producer(&[]);
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut first = None;
    while first.is_none() {
        assert!(std::time::Instant::now() < deadline, "nothing from the end on");
        produce(&producer, &topic, &[Record::new("later").to(0)]);
        first = latest.poll(std::time::Duration::from_millis(200)).and_then(Result::ok).map(|message| {
            use rdkafka::Message as _;
            message.offset()
        });
    }
    assert!(first >= Some(10), "{first:?}");
}

#[test]
fn a_reader_at_the_tail_gets_each_record_as_it_comes() {
    let topic = topic("tail", 1);
    let producer = producer(&[]);
    let consumer = consumer(&[]);
    raw::await_leaders(&topic, 1);
    assign(&consumer, &[(&topic, 0, Offset::Beginning)]);
    for n in 0..50 {
        produce(&producer, &topic, &[Record::new(format!("{n}")).to(0)]);
        let record = next(&consumer);
        assert_eq!((record.offset, record.value), (n, n.to_string()));
    }
}

#[test]
fn many_readers_of_one_partition_read_the_same() {
    let topic = numbered("many", 60);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..8).map(|_| scope.spawn(|| read_topic(&topic, 1).remove(0))).collect();
        let read: Vec<_> = readers.into_iter().map(|reader| reader.join().expect("the reader reads")).collect();
        assert_eq!(read[0].len(), 60);
        assert!(read.iter().all(|records| *records == read[0]));
    });
}
