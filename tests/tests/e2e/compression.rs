//! `compression.type`: a topic's batches are stored as it wants them, whatever the producer sent.

use rdkafka::Offset;
use tidemark_tests::clients::*;
use tidemark_tests::raw::{self, Connection, Fetch};

/// Kafka's numbers of the codecs, by their names as values of `compression.type`.
const CODECS: [(&str, u8); 5] = [("uncompressed", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)];

/// The codec of the first batch of a topic of one partition.
fn stored_codec(topic: &str) -> u8 {
    let leader = raw::await_leaders(topic, 1).leaders.remove(0).0;
    let fetched = Fetch::patient().call(&mut Connection::open(&leader), topic, &[(0, 0)]);
    // The low byte of the attributes, of which three bits name the codec.
    fetched.partitions[0].records[22] & 0x07
}

#[test]
fn batches_are_stored_in_the_codec_of_their_topic() {
    for (wanted, number) in CODECS {
        for sent in ["none", "zstd", "lz4"] {
            let topic = topic_with("compressed", 1, &[("compression.type", wanted)]);
            raw::await_leaders(&topic, 1);
            let producer = producer(&[("compression.type", sent), ("linger.ms", "50"), ("enable.idempotence", "true")]);
            let values: Vec<String> = (0..300).map(|n| format!("{n} is much like the one before it")).collect();
            let records: Vec<_> = values.iter().map(|value| Record::new(value.clone()).to(0)).collect();
            produce(&producer, &topic, &records);
            assert_eq!(stored_codec(&topic), number, "{wanted} from {sent}");
            let all = read(&[(&topic, 0, Offset::Beginning)]);
            let read: Vec<_> = all.values().flatten().map(|record| record.value.clone()).collect();
            assert_eq!(read, values, "{wanted} from {sent}");
        }
    }
}

#[test]
fn by_default_a_batch_stays_as_its_producer_compressed_it() {
    for (sent, number) in [("none", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)] {
        let topic = topic("as-sent", 1);
        raw::await_leaders(&topic, 1);
        let producer = producer(&[("compression.type", sent), ("linger.ms", "50")]);
        let records: Vec<_> = (0..300).map(|n| Record::new(format!("{n} is much like the others")).to(0)).collect();
        produce(&producer, &topic, &records);
        assert_eq!(stored_codec(&topic), number, "{sent}");
    }
}
