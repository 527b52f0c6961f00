use std::collections::BTreeMap;

use super::*;

fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_tables_are_sorted_and_their_defaults_are_valid_and_canonical() {
    assert!(TABLE.is_sorted_by(|a, b| a.name < b.name));
    assert!(BROKER_TABLE.is_sorted_by(|a, b| a.name < b.name));
    assert_eq!(TABLE.len(), 33, "Apache Kafka 4.2 shows 33 configs of a topic");
    for config in TABLE {
        assert_eq!(validate(config.name, config.default), Ok(()));
        assert_eq!(canonical(config, config.default), config.default);
        for synonym in config.synonyms {
            assert!(lookup_broker(synonym).is_some(), "{synonym} is a default of topics, so a gateway shows it");
        }
    }
}

#[test]
fn an_accessor_without_a_value_gives_the_default_of_the_table() {
    let none = BTreeMap::new();
    let defaults: BTreeMap<_, _> = TABLE.iter().map(|c| (c.name.to_owned(), c.default.to_owned())).collect();
    let (bare, full) = (effective(&none), effective(&defaults));
    macro_rules! same {
        ($($accessor:ident),*) => { $(assert_eq!(bare.$accessor(), full.$accessor(), stringify!($accessor));)* };
    }
    same!(
        cleanup_policy,
        compression_type,
        compression_gzip_level,
        compression_lz4_level,
        compression_zstd_level,
        delete_retention_ms,
        local_retention_bytes,
        local_retention_ms,
        max_compaction_lag_ms,
        max_message_bytes,
        message_timestamp_after_max_ms,
        message_timestamp_before_max_ms,
        message_timestamp_type,
        min_cleanable_dirty_ratio,
        min_compaction_lag_ms,
        retention_bytes,
        retention_ms,
        segment_bytes,
        segment_ms
    );
    assert_eq!(bare.min_insync_replicas(1), 1);
    assert_eq!(bare.min_insync_replicas(3), 2);
    assert_eq!(full.min_insync_replicas(3), 1, "set to 1, it is 1");
}

#[test]
fn an_accessor_reads_what_was_set() {
    let configs = set(&[
        ("cleanup.policy", "compact, delete"),
        ("compression.type", "zstd"),
        ("max.message.bytes", " 100 "),
        ("message.timestamp.type", "LogAppendTime"),
        ("retention.ms", "-1"),
    ]);
    let effective = effective(&configs);
    assert_eq!(effective.cleanup_policy(), CleanupPolicy { delete: true, compact: true });
    assert_eq!(effective.compression_type(), CompressionType::Zstd);
    assert_eq!(effective.max_message_bytes(), 100);
    assert_eq!(effective.message_timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(effective.retention_ms(), -1);
}

/// What Apache Kafka 4.2.0 answered to CreateTopics with each of these.
#[test]
fn bad_values_get_the_words_of_kafka() {
    let said = [
        ("retention.ms", "-2", "Invalid value -2 for configuration retention.ms: Value must be at least -1"),
        ("retention.ms", "abc", "Invalid value abc for configuration retention.ms: Not a number of type LONG"),
        ("retention.ms", "", "Invalid value  for configuration retention.ms: Not a number of type LONG"),
        (
            "max.message.bytes",
            "99999999999",
            "Invalid value 99999999999 for configuration max.message.bytes: Not a number of type INT",
        ),
        (
            "cleanup.policy",
            "foo",
            "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete",
        ),
        ("cleanup.policy", "delete,", "Configuration 'cleanup.policy' values must not be empty."),
        (
            "compression.type",
            "GZIP",
            "Invalid value GZIP for configuration compression.type: String must be one of: uncompressed, zstd, lz4, \
             snappy, gzip, producer",
        ),
        (
            "compression.gzip.level",
            "0",
            "Invalid value 0 for configuration compression.gzip.level: Value must be between 1 and 9 or equal to -1",
        ),
        (
            "compression.zstd.level",
            "23",
            "Invalid value 23 for configuration compression.zstd.level: Value must be no more than 22",
        ),
        (
            "message.timestamp.type",
            "foo",
            "Invalid value foo for configuration message.timestamp.type: String must be one of: CreateTime, \
             LogAppendTime",
        ),
        (
            "min.cleanable.dirty.ratio",
            "1.5",
            "Invalid value 1.5 for configuration min.cleanable.dirty.ratio: Value must be no more than 1",
        ),
        (
            "min.cleanable.dirty.ratio",
            "x",
            "Invalid value x for configuration min.cleanable.dirty.ratio: Not a number of type DOUBLE",
        ),
        (
            "preallocate",
            "maybe",
            "Invalid value maybe for configuration preallocate: Expected value to be either true or false",
        ),
        ("segment.bytes", "100", "Invalid value 100 for configuration segment.bytes: Value must be at least 1048576"),
        (
            "leader.replication.throttled.replicas",
            "none",
            "Invalid value [none] for configuration leader.replication.throttled.replicas: \
             leader.replication.throttled.replicas must be the literal '*' or a list of replicas in the following \
             format: [partitionId]:[brokerId],[partitionId]:[brokerId],...",
        ),
        ("unknown.config", "1", "Unknown topic config name: unknown.config"),
        ("message.format.version", "2.0", "Unknown topic config name: message.format.version"),
    ];
    for (name, value, words) in said {
        assert_eq!(validate(name, value), Err(words.to_owned()));
    }
    let taken = [
        ("retention.ms", " 5 "),
        ("cleanup.policy", ""),
        ("cleanup.policy", "delete,delete"),
        ("preallocate", "TRUE"),
        ("leader.replication.throttled.replicas", "*"),
        ("leader.replication.throttled.replicas", "0:1,1:2"),
        ("retention.bytes", "-100"),
        ("min.insync.replicas", "5"),
    ];
    for (name, value) in taken {
        assert_eq!(validate(name, value), Ok(()), "{name}={value}");
    }
}

#[test]
fn configs_that_contradict_each_other_are_refused() {
    let said = "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)";
    let configs = set(&[("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")]);
    assert_eq!(validate_all(&configs), Err(said.to_owned()));
    let configs = set(&[("zzz", "1"), ("aaa", "2"), ("retention.ms", "x")]);
    assert_eq!(validate_all(&configs), Err("Unknown topic config name: aaa".to_owned()));
}

#[test]
fn values_are_shown_as_kafka_shows_them() {
    let shown = |name, value| canonical(lookup(name).unwrap(), value);
    assert_eq!(shown("preallocate", "TRUE"), "true");
    assert_eq!(shown("min.cleanable.dirty.ratio", "0.250"), "0.25");
    assert_eq!(shown("min.cleanable.dirty.ratio", "1"), "1.0");
    assert_eq!(shown("retention.ms", " 5 "), "5");
    assert_eq!(shown("cleanup.policy", "compact, delete"), "compact,delete");
    assert_eq!(shown("cleanup.policy", ""), "");
}
