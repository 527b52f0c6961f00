//! Topic configurations are shown with Kafka's own defaults, and changed one by one.

use rdkafka::admin::{ConfigSource, ResourceSpecifier};
use tidemark_tests::clients::*;
use tidemark_tests::raw::{self, Connection, code};
use tidemark_tests::target::target;

/// Kafka's numbers for where a value comes from.
const OF_THE_TOPIC: i8 = 1;
const DEFAULT: i8 = 5;

#[test]
fn defaults_are_kafkas() {
    let topic = topic_with("described", 1, &[("retention.ms", "3600000"), ("max.message.bytes", "2000000")]);
    raw::await_leaders(&topic, 1);
    let resource = ResourceSpecifier::Topic(&topic);
    let results = block_on(admin().describe_configs([&resource], &admin_options())).expect("an answer");
    let configs = results.into_iter().next().expect("one result").expect("the topic exists");
    let entries = configs.entry_map();
    for (name, value) in [
        ("cleanup.policy", "delete"),
        ("compression.type", "producer"),
        ("message.timestamp.type", "CreateTime"),
        ("retention.bytes", "-1"),
        ("segment.bytes", "1073741824"),
        ("message.timestamp.after.max.ms", "3600000"),
        ("unclean.leader.election.enable", "false"),
    ] {
        let entry = entries.get(name).unwrap_or_else(|| panic!("{name} is not described"));
        assert_eq!(entry.value.as_deref(), Some(value), "{name}");
        assert!(entry.is_default, "{name} is its default");
    }
    // Kafka 4 sets this one for the whole cluster, so there it is not a default.
    assert_eq!(entries["min.insync.replicas"].value.as_deref(), Some("1"), "for one replica");
    for (name, value) in [("retention.ms", "3600000"), ("max.message.bytes", "2000000")] {
        assert_eq!(entries[name].value.as_deref(), Some(value), "{name}");
        assert_eq!(entries[name].source, ConfigSource::DynamicTopic, "{name}");
        assert!(!entries[name].is_default, "{name} was set");
    }
}

#[test]
fn a_config_is_set_and_deleted() {
    let topic = topic("altered", 1);
    raw::await_leaders(&topic, 1);
    let mut connection = Connection::open(&target().bootstrap);
    let shown = |connection: &mut Connection| raw::topic_config(connection, &topic, "retention.ms");
    assert_eq!(shown(&mut connection), (Some("604800000".to_owned()), DEFAULT));
    assert_eq!(raw::alter_topic_config(&mut connection, &topic, "retention.ms", Some("60000")), 0);
    eventually("the new value", || shown(&mut connection) == (Some("60000".to_owned()), OF_THE_TOPIC));
    assert_eq!(raw::alter_topic_config(&mut connection, &topic, "retention.ms", None), 0);
    eventually("the default again", || shown(&mut connection) == (Some("604800000".to_owned()), DEFAULT));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let topic = topic("refused", 1);
    raw::await_leaders(&topic, 1);
    let mut connection = Connection::open(&target().bootstrap);
    let mut alter = |topic: &str, name, value| raw::alter_topic_config(&mut connection, topic, name, Some(value));
    assert_eq!(alter(&topic, "retention.ms", "a week"), code::INVALID_CONFIG);
    assert_eq!(alter(&topic, "retention.fortnights", "1"), code::INVALID_CONFIG);
    assert_eq!(alter(&topic, "cleanup.policy", "hoard"), code::INVALID_CONFIG);
    assert_eq!(alter(&unique("nowhere"), "retention.ms", "1"), code::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn a_changed_limit_holds_for_the_next_record() {
    let topic = topic("limited", 1);
    let producer = producer(&[]);
    let kilobytes = |count: usize| [Record::new("x".repeat(count * 1024)).to(0)];
    produce(&producer, &topic, &kilobytes(20));
    let mut connection = Connection::open(&target().bootstrap);
    assert_eq!(raw::alter_topic_config(&mut connection, &topic, "max.message.bytes", Some("10240")), 0);
    eventually("the limit to hold", || try_produce(&producer, &topic, &kilobytes(20))[0].is_err());
    produce(&producer, &topic, &kilobytes(5));
}
