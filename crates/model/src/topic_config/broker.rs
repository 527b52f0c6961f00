//! What a gateway shows when a client describes it as a Kafka broker.

use super::ConfigType;

/// A config of a gateway in Kafka's terms. All are read-only: a gateway is configured by its file and environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerConfig {
    pub name: &'static str,
    pub config_type: ConfigType,
    /// None where there is no value, or where it is always the gateway's own (its id and its listeners).
    pub default: Option<&'static str>,
    pub documentation: &'static str,
}

/// The broker config of this name.
pub fn lookup_broker(name: &str) -> Option<&'static BrokerConfig> {
    let at = BROKER_TABLE.binary_search_by(|config| config.name.cmp(name)).ok()?;
    BROKER_TABLE.get(at)
}

/// Kafka's broker configs that mean something here, sorted by name: the gateway puts its own values over these
/// defaults, and shows no others.
pub const BROKER_TABLE: &[BrokerConfig] = &[
    config("advertised.listeners", ConfigType::List, None, "Where clients are told to connect."),
    config(
        "auto.create.topics.enable",
        ConfigType::Boolean,
        Some("true"),
        "Whether a topic that does not exist is created when a client first asks for it.",
    ),
    config("broker.id", ConfigType::Int, None, "The id of this gateway, which clients see as a broker."),
    config("broker.rack", ConfigType::String, None, "The rack or zone of this gateway."),
    config("compression.gzip.level", ConfigType::Int, Some("-1"), "The default of topics' compression.gzip.level."),
    config("compression.lz4.level", ConfigType::Int, Some("9"), "The default of topics' compression.lz4.level."),
    config("compression.type", ConfigType::String, Some("producer"), "The default of topics' compression.type."),
    config("compression.zstd.level", ConfigType::Int, Some("3"), "The default of topics' compression.zstd.level."),
    config(
        "default.replication.factor",
        ConfigType::Int,
        Some("1"),
        "The replication factor of topics created with -1.",
    ),
    config("delete.topic.enable", ConfigType::Boolean, Some("true"), "Whether topics can be deleted."),
    config("fetch.max.bytes", ConfigType::Int, Some("57671680"), "The most bytes that one fetch returns."),
    config("listeners", ConfigType::List, None, "Where this gateway listens."),
    config(
        "log.cleaner.delete.retention.ms",
        ConfigType::Long,
        Some("86400000"),
        "The default of topics' delete.retention.ms.",
    ),
    config(
        "log.cleaner.max.compaction.lag.ms",
        ConfigType::Long,
        Some("9223372036854775807"),
        "The default of topics' max.compaction.lag.ms.",
    ),
    config(
        "log.cleaner.min.cleanable.ratio",
        ConfigType::Double,
        Some("0.5"),
        "The default of topics' min.cleanable.dirty.ratio.",
    ),
    config(
        "log.cleaner.min.compaction.lag.ms",
        ConfigType::Long,
        Some("0"),
        "The default of topics' min.compaction.lag.ms.",
    ),
    config("log.cleanup.policy", ConfigType::List, Some("delete"), "The default of topics' cleanup.policy."),
    config(
        "log.flush.interval.messages",
        ConfigType::Long,
        Some("9223372036854775807"),
        "The default of topics' flush.messages.",
    ),
    config("log.flush.interval.ms", ConfigType::Long, None, "The default of topics' flush.ms."),
    config(
        "log.flush.scheduler.interval.ms",
        ConfigType::Long,
        Some("9223372036854775807"),
        "The default of topics' flush.ms.",
    ),
    config("log.index.interval.bytes", ConfigType::Int, Some("4096"), "The default of topics' index.interval.bytes."),
    config(
        "log.index.size.max.bytes",
        ConfigType::Int,
        Some("10485760"),
        "The default of topics' segment.index.bytes.",
    ),
    config("log.local.retention.bytes", ConfigType::Long, Some("-2"), "The default of topics' local.retention.bytes."),
    config("log.local.retention.ms", ConfigType::Long, Some("-2"), "The default of topics' local.retention.ms."),
    config(
        "log.message.timestamp.after.max.ms",
        ConfigType::Long,
        Some("3600000"),
        "The default of topics' message.timestamp.after.max.ms.",
    ),
    config(
        "log.message.timestamp.before.max.ms",
        ConfigType::Long,
        Some("9223372036854775807"),
        "The default of topics' message.timestamp.before.max.ms.",
    ),
    config(
        "log.message.timestamp.type",
        ConfigType::String,
        Some("CreateTime"),
        "The default of topics' message.timestamp.type.",
    ),
    config("log.preallocate", ConfigType::Boolean, Some("false"), "The default of topics' preallocate."),
    config("log.retention.bytes", ConfigType::Long, Some("-1"), "The default of topics' retention.bytes."),
    config("log.retention.hours", ConfigType::Int, Some("168"), "The default of topics' retention.ms, in hours."),
    config("log.retention.minutes", ConfigType::Int, None, "The default of topics' retention.ms, in minutes."),
    config("log.retention.ms", ConfigType::Long, None, "The default of topics' retention.ms."),
    config("log.roll.hours", ConfigType::Int, Some("168"), "The default of topics' segment.ms, in hours."),
    config("log.roll.jitter.hours", ConfigType::Int, Some("0"), "The default of topics' segment.jitter.ms, in hours."),
    config("log.roll.jitter.ms", ConfigType::Long, None, "The default of topics' segment.jitter.ms."),
    config("log.roll.ms", ConfigType::Long, None, "The default of topics' segment.ms."),
    config("log.segment.bytes", ConfigType::Int, Some("1073741824"), "The default of topics' segment.bytes."),
    config(
        "log.segment.delete.delay.ms",
        ConfigType::Long,
        Some("60000"),
        "The default of topics' file.delete.delay.ms.",
    ),
    config(
        "max.incremental.fetch.session.cache.slots",
        ConfigType::Int,
        Some("1000"),
        "The most fetch sessions that are kept.",
    ),
    config(
        "max.request.partition.size.limit",
        ConfigType::Int,
        Some("2000"),
        "The most partitions that one DescribeTopicPartitions returns.",
    ),
    config("message.max.bytes", ConfigType::Int, Some("1048588"), "The default of topics' max.message.bytes."),
    config("min.insync.replicas", ConfigType::Int, Some("1"), "The default of topics' min.insync.replicas."),
    config("node.id", ConfigType::Int, None, "The id of this gateway, which clients see as a broker."),
    config("num.partitions", ConfigType::Int, Some("1"), "The number of partitions of topics created with -1."),
    config(
        "producer.id.expiration.ms",
        ConfigType::Int,
        Some("86400000"),
        "How long an idle producer's sequences are remembered.",
    ),
    config("socket.request.max.bytes", ConfigType::Int, Some("104857600"), "The largest request that is accepted."),
    config(
        "unclean.leader.election.enable",
        ConfigType::Boolean,
        Some("false"),
        "The default of topics' unclean.leader.election.enable.",
    ),
];

const fn config(
    name: &'static str,
    config_type: ConfigType,
    default: Option<&'static str>,
    documentation: &'static str,
) -> BrokerConfig {
    BrokerConfig { name, config_type, default, documentation }
}
