//! Topic configs: Kafka's names, types, defaults and bounds.
//!
//! [`TABLE`] has every config that Apache Kafka 4.2 shows for a topic. A topic stores only what was set on it
//! ([`Topic::configs`](crate::Topic)); [`effective()`] reads such a map with the defaults filled in. What a gateway shows
//! for itself as a Kafka broker is in [`BROKER_TABLE`].

mod broker;
mod check;
mod effective;
mod table;

pub use broker::{BROKER_TABLE, BrokerConfig, lookup_broker};
pub use check::{canonical, list_values, validate, validate_all};
pub use effective::{CleanupPolicy, CompressionType, Effective, TimestampType, effective};
pub use table::TABLE;

/// A config of a topic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopicConfig {
    pub name: &'static str,
    pub kind: Kind,
    /// The value of a topic that sets none, as Kafka shows it.
    pub default: &'static str,
    /// The broker configs that give a topic's default, the strongest first. Kafka calls them synonyms.
    pub synonyms: &'static [&'static str],
    pub documentation: &'static str,
}

/// What values a config takes. Bounds are inclusive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Boolean,
    Int {
        min: i32,
        max: i32,
    },
    Long {
        min: i64,
        max: i64,
    },
    Double {
        min: f64,
        max: f64,
    },
    /// One of these.
    Choice(&'static [&'static str]),
    /// Any number of these, with commas between.
    List(&'static [&'static str]),
    /// `*`, or `partition:replica` any number of times, with commas between.
    Replicas,
    /// 1 to 9, or -1 for the codec's own default.
    GzipLevel,
    /// Any text.
    Text,
}

/// The type of a config as DescribeConfigs reports it (KIP-569). The numbers are those of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

impl Kind {
    pub fn config_type(self) -> ConfigType {
        match self {
            Self::Boolean => ConfigType::Boolean,
            Self::Int { .. } | Self::GzipLevel => ConfigType::Int,
            Self::Long { .. } => ConfigType::Long,
            Self::Double { .. } => ConfigType::Double,
            Self::Choice(_) | Self::Text => ConfigType::String,
            Self::List(_) | Self::Replicas => ConfigType::List,
        }
    }

    /// Whether IncrementalAlterConfigs may append to it and subtract from it.
    pub fn is_list(self) -> bool {
        self.config_type() == ConfigType::List
    }
}

/// The config of this name. [`TABLE`] is sorted by name.
pub fn lookup(name: &str) -> Option<&'static TopicConfig> {
    let at = TABLE.binary_search_by(|config| config.name.cmp(name)).ok()?;
    TABLE.get(at)
}

#[cfg(test)]
mod tests;
