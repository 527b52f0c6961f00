//! A topic's configs with the defaults filled in.

use std::collections::BTreeMap;

use super::list_values;

/// A topic's configs with the defaults filled in. Free to make; an accessor costs one look-up in a map that is most
/// often empty.
#[derive(Debug, Clone, Copy)]
pub struct Effective<'a> {
    configs: &'a BTreeMap<String, String>,
}

/// `cleanup.policy`. Neither: the log is kept for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    pub delete: bool,
    pub compact: bool,
}

/// `message.timestamp.type` (KIP-32).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// `compression.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionType {
    /// What the producer chose.
    Producer,
    Uncompressed,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Reads the configs that are set on a topic, with the defaults filled in.
pub fn effective(configs: &BTreeMap<String, String>) -> Effective<'_> {
    Effective { configs }
}

impl Effective<'_> {
    pub fn cleanup_policy(&self) -> CleanupPolicy {
        match self.configs.get("cleanup.policy") {
            None => CleanupPolicy { delete: true, compact: false },
            Some(value) => CleanupPolicy {
                delete: list_values(value).any(|policy| policy == "delete"),
                compact: list_values(value).any(|policy| policy == "compact"),
            },
        }
    }

    pub fn compression_type(&self) -> CompressionType {
        match self.configs.get("compression.type").map(|value| value.trim()) {
            Some("uncompressed") => CompressionType::Uncompressed,
            Some("gzip") => CompressionType::Gzip,
            Some("snappy") => CompressionType::Snappy,
            Some("lz4") => CompressionType::Lz4,
            Some("zstd") => CompressionType::Zstd,
            _ => CompressionType::Producer,
        }
    }

    pub fn compression_gzip_level(&self) -> i32 {
        self.number("compression.gzip.level", -1)
    }

    pub fn compression_lz4_level(&self) -> i32 {
        self.number("compression.lz4.level", 9)
    }

    pub fn compression_zstd_level(&self) -> i32 {
        self.number("compression.zstd.level", 3)
    }

    pub fn delete_retention_ms(&self) -> i64 {
        self.number("delete.retention.ms", 86_400_000)
    }

    /// -2: as [`retention_bytes`](Self::retention_bytes).
    pub fn local_retention_bytes(&self) -> i64 {
        self.number("local.retention.bytes", -2)
    }

    /// -2: as [`retention_ms`](Self::retention_ms).
    pub fn local_retention_ms(&self) -> i64 {
        self.number("local.retention.ms", -2)
    }

    pub fn max_compaction_lag_ms(&self) -> i64 {
        self.number("max.compaction.lag.ms", i64::MAX)
    }

    /// The largest batch, as the producer sent it.
    pub fn max_message_bytes(&self) -> i32 {
        self.number("max.message.bytes", 1_048_588)
    }

    /// How far a batch's timestamps may be ahead of the clock, where the type is create time.
    pub fn message_timestamp_after_max_ms(&self) -> i64 {
        self.number("message.timestamp.after.max.ms", 3_600_000)
    }

    /// How far a batch's timestamps may be behind the clock, where the type is create time.
    pub fn message_timestamp_before_max_ms(&self) -> i64 {
        self.number("message.timestamp.before.max.ms", i64::MAX)
    }

    pub fn message_timestamp_type(&self) -> TimestampType {
        match self.configs.get("message.timestamp.type").map(|value| value.trim()) {
            Some("LogAppendTime") => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        }
    }

    pub fn min_cleanable_dirty_ratio(&self) -> f64 {
        self.number("min.cleanable.dirty.ratio", 0.5)
    }

    pub fn min_compaction_lag_ms(&self) -> i64 {
        self.number("min.compaction.lag.ms", 0)
    }

    /// What was set, else 2 where there are three or more replicas, else 1.
    pub fn min_insync_replicas(&self, replication_factor: i16) -> i32 {
        self.number("min.insync.replicas", if replication_factor >= 3 { 2 } else { 1 })
    }

    /// Negative: without a bound.
    pub fn retention_bytes(&self) -> i64 {
        self.number("retention.bytes", -1)
    }

    /// -1: without a bound.
    pub fn retention_ms(&self) -> i64 {
        self.number("retention.ms", 604_800_000)
    }

    pub fn segment_bytes(&self) -> i32 {
        self.number("segment.bytes", 1_073_741_824)
    }

    pub fn segment_ms(&self) -> i64 {
        self.number("segment.ms", 604_800_000)
    }

    // Values were validated before they were stored: one that does not parse counts as not set.
    fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> T {
        self.configs.get(name).and_then(|value| value.trim().parse().ok()).unwrap_or(default)
    }
}
