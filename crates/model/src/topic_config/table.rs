//! Every topic config of Apache Kafka 4.2, by name. Types, defaults, bounds and synonyms are what its broker reports.

use super::{Kind, TopicConfig};

/// Every topic config, sorted by name. A config that has no meaning here is taken and shown all the same, since tools
/// set it, and its documentation says so.
pub const TABLE: &[TopicConfig] = &[
    config(
        "cleanup.policy",
        Kind::List(&["compact", "delete"]),
        "delete",
        &["log.cleanup.policy"],
        "What ends the life of old records: delete (by retention), compact (by key), both, or neither.",
    ),
    config(
        "compression.gzip.level",
        Kind::GzipLevel,
        "-1",
        &["compression.gzip.level"],
        "The level to compress with where compression.type is gzip.",
    ),
    config(
        "compression.lz4.level",
        Kind::Int { min: 1, max: 17 },
        "9",
        &["compression.lz4.level"],
        "The level to compress with where compression.type is lz4.",
    ),
    config(
        "compression.type",
        Kind::Choice(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "producer",
        &["compression.type"],
        "The codec batches are stored with; producer keeps what each producer chose.",
    ),
    config(
        "compression.zstd.level",
        Kind::Int { min: -131_072, max: 22 },
        "3",
        &["compression.zstd.level"],
        "The level to compress with where compression.type is zstd.",
    ),
    config(
        "delete.retention.ms",
        long_from(0),
        "86400000",
        &["log.cleaner.delete.retention.ms"],
        "How long a compacted topic keeps the tombstones of deleted keys.",
    ),
    config(
        "file.delete.delay.ms",
        long_from(0),
        "60000",
        &["log.segment.delete.delay.ms"],
        "How long a deleted file stays on disk. Taken and shown; object grace periods are the cluster's.",
    ),
    config(
        "flush.messages",
        long_from(1),
        "9223372036854775807",
        &["log.flush.interval.messages"],
        "Records between forced fsyncs. Taken and shown; every acknowledged batch is fsynced here.",
    ),
    config(
        "flush.ms",
        long_from(0),
        "9223372036854775807",
        &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
        "Time between forced fsyncs. Taken and shown; every acknowledged batch is fsynced here.",
    ),
    config(
        "follower.replication.throttled.replicas",
        Kind::Replicas,
        "",
        &[],
        "Replicas whose replication is throttled at the follower: partition:replica,... or *.",
    ),
    config(
        "index.interval.bytes",
        int_from(0),
        "4096",
        &["log.index.interval.bytes"],
        "Bytes between entries of the offset index. Taken and shown; segments index every batch they need.",
    ),
    config(
        "leader.replication.throttled.replicas",
        Kind::Replicas,
        "",
        &[],
        "Replicas whose replication is throttled at the leader: partition:replica,... or *.",
    ),
    config(
        "local.retention.bytes",
        long_from(-2),
        "-2",
        &["log.local.retention.bytes"],
        "Bytes of a partition to keep on local disk; -2 is as retention.bytes.",
    ),
    config(
        "local.retention.ms",
        long_from(-2),
        "-2",
        &["log.local.retention.ms"],
        "How long to keep records on local disk; -2 is as retention.ms.",
    ),
    config(
        "max.compaction.lag.ms",
        long_from(1),
        "9223372036854775807",
        &["log.cleaner.max.compaction.lag.ms"],
        "The longest time a record stays out of compaction.",
    ),
    config(
        "max.message.bytes",
        int_from(0),
        "1048588",
        &["message.max.bytes"],
        "The largest record batch that is accepted, after compression.",
    ),
    config(
        "message.timestamp.after.max.ms",
        long_from(0),
        "3600000",
        &["log.message.timestamp.after.max.ms"],
        "How far a record's create time may be ahead of the server's clock.",
    ),
    config(
        "message.timestamp.before.max.ms",
        long_from(0),
        "9223372036854775807",
        &["log.message.timestamp.before.max.ms"],
        "How far a record's create time may be behind the server's clock.",
    ),
    config(
        "message.timestamp.type",
        Kind::Choice(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        &["log.message.timestamp.type"],
        "Whether a record's timestamp is the producer's or the time of the append.",
    ),
    config(
        "min.cleanable.dirty.ratio",
        Kind::Double { min: 0.0, max: 1.0 },
        "0.5",
        &["log.cleaner.min.cleanable.ratio"],
        "The share of a log that must be uncompacted before it is compacted.",
    ),
    config(
        "min.compaction.lag.ms",
        long_from(0),
        "0",
        &["log.cleaner.min.compaction.lag.ms"],
        "The shortest time a record stays out of compaction.",
    ),
    config(
        "min.insync.replicas",
        int_from(1),
        "1",
        &["min.insync.replicas"],
        "In-sync replicas without which acks=all is refused. Not set, it is 2 where there are three or more replicas.",
    ),
    config(
        "preallocate",
        Kind::Boolean,
        "false",
        &["log.preallocate"],
        "Whether files are preallocated. Taken and shown; write-ahead logs always are.",
    ),
    config(
        "remote.log.copy.disable",
        Kind::Boolean,
        "false",
        &[],
        "Whether to stop copying this topic to the object store. Taken and shown; records are always tiered.",
    ),
    config(
        "remote.log.delete.on.disable",
        Kind::Boolean,
        "false",
        &[],
        "Whether turning tiering off deletes what was tiered. Taken and shown; tiering is never off.",
    ),
    config(
        "remote.storage.enable",
        Kind::Boolean,
        "false",
        &[],
        "Whether the topic is tiered. Taken and shown; records are always tiered.",
    ),
    config(
        "retention.bytes",
        Kind::Long { min: i64::MIN, max: i64::MAX },
        "-1",
        &["log.retention.bytes"],
        "The size over which a partition's oldest records are deleted; -1 for none.",
    ),
    config(
        "retention.ms",
        long_from(-1),
        "604800000",
        &["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
        "The age over which records are deleted; -1 for none.",
    ),
    config(
        "segment.bytes",
        int_from(1_048_576),
        "1073741824",
        &["log.segment.bytes"],
        "The size at which a log's segment is closed: retention works on whole segments.",
    ),
    config(
        "segment.index.bytes",
        int_from(4),
        "10485760",
        &["log.index.size.max.bytes"],
        "The size of a segment's index file. Taken and shown; indexes are part of their segments.",
    ),
    config(
        "segment.jitter.ms",
        long_from(0),
        "0",
        &["log.roll.jitter.ms", "log.roll.jitter.hours"],
        "What is randomly taken off segment.ms so that segments do not all close at once.",
    ),
    config(
        "segment.ms",
        long_from(1),
        "604800000",
        &["log.roll.ms", "log.roll.hours"],
        "The age at which a log's segment is closed though it is not full.",
    ),
    config(
        "unclean.leader.election.enable",
        Kind::Boolean,
        "false",
        &["unclean.leader.election.enable"],
        "Whether a replica out of sync may lead. Taken and shown; only an operator's command does that.",
    ),
];

const fn config(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    synonyms: &'static [&'static str],
    documentation: &'static str,
) -> TopicConfig {
    TopicConfig { name, kind, default, synonyms, documentation }
}

const fn int_from(min: i32) -> Kind {
    Kind::Int { min, max: i32::MAX }
}

const fn long_from(min: i64) -> Kind {
    Kind::Long { min, max: i64::MAX }
}
