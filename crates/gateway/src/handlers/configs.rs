//! Configs as clients see them: a value, where it comes from, and what it would be otherwise.

use std::collections::BTreeMap;

use tidemark_model::Topic;
use tidemark_model::topic_config::{self, ConfigType, TABLE, TopicConfig};

/// Where a value comes from, by Kafka's number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Topic = 1,
    StaticBroker = 4,
    Default = 5,
    Group = 8,
}

/// One config of a topic, of a group or of this gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) value: Option<String>,
    pub(super) source: Source,
    pub(super) read_only: bool,
    pub(super) config_type: ConfigType,
    pub(super) documentation: &'static str,
    /// Where the value could come from, the strongest first.
    pub(super) synonyms: Vec<Synonym>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Synonym {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) source: Source,
}

impl Source {
    pub(super) fn code(self) -> i8 {
        self as i8
    }
}

/// Every config of a topic, by name.
pub(super) fn of_topic(topic: &Topic) -> impl Iterator<Item = Entry> {
    TABLE.iter().map(|config| entry(config, topic))
}

/// A config of a group of the protocol of KIP-848. All are numbers.
struct GroupConfig {
    name: &'static str,
    default: &'static str,
    documentation: &'static str,
}

/// By name. Kafka has more, of share and streams groups.
const GROUP_TABLE: &[GroupConfig] = &[
    GroupConfig {
        name: "consumer.heartbeat.interval.ms",
        default: "5000",
        documentation: "How often the members of the group are told to send a heartbeat.",
    },
    GroupConfig {
        name: "consumer.session.timeout.ms",
        default: "45000",
        documentation: "After how long without a heartbeat a member of the group is taken for dead.",
    },
];

/// Every config of a group, by name.
pub(super) fn of_group(set: &BTreeMap<String, String>) -> impl Iterator<Item = Entry> {
    GROUP_TABLE.iter().map(|config| {
        let synonym = |value: &str, source| Synonym { name: config.name, value: value.to_owned(), source };
        let set = set.get(config.name).map(|value| synonym(value, Source::Group));
        let shown = set.clone().unwrap_or_else(|| synonym(config.default, Source::Default));
        Entry {
            name: config.name,
            source: shown.source,
            value: Some(shown.value.clone()),
            read_only: false,
            config_type: ConfigType::Int,
            documentation: config.documentation,
            synonyms: vec![shown],
        }
    })
}

fn entry(config: &'static TopicConfig, topic: &Topic) -> Entry {
    let set = topic.configs.get(config.name).map(|value| topic_config::canonical(config, value));
    let default = default(config, topic);
    let mut synonyms = Vec::new();
    if let Some(value) = &set {
        synonyms.push(Synonym { name: config.name, value: value.clone(), source: Source::Topic });
    }
    for name in config.synonyms {
        let known = topic_config::lookup_broker(name).and_then(|broker| broker.default);
        if known.is_some() {
            // A topic's default is in the topic's unit, a synonym's in its own: hours, minutes.
            let same_unit = known == Some(config.default);
            let value = if same_unit { default.clone() } else { known.unwrap_or_default().to_owned() };
            synonyms.push(Synonym { name, value, source: Source::Default });
        }
    }
    Entry {
        name: config.name,
        source: if set.is_some() { Source::Topic } else { Source::Default },
        value: Some(set.unwrap_or(default)),
        read_only: false,
        config_type: config.kind.config_type(),
        documentation: config.documentation,
        synonyms,
    }
}

/// The value of a topic that sets none. One depends on the replication factor.
fn default(config: &TopicConfig, topic: &Topic) -> String {
    if config.name == "min.insync.replicas" {
        let unset = std::collections::BTreeMap::new();
        return topic_config::effective(&unset).min_insync_replicas(topic.replication_factor).to_string();
    }
    config.default.to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tidemark_model::TopicId;

    use super::*;

    fn topic(replication_factor: i16, configs: &[(&str, &str)]) -> Topic {
        let configs: BTreeMap<String, String> = configs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Topic { id: TopicId(uuid::Uuid::nil()), name: "t".into(), replication_factor, partitions: vec![], configs }
    }

    fn find(topic: &Topic, name: &str) -> Entry {
        of_topic(topic).find(|entry| entry.name == name).unwrap()
    }

    #[test]
    fn a_set_value_has_its_source_and_the_default_behind_it() {
        let entry = find(&topic(1, &[("retention.ms", "1000")]), "retention.ms");
        assert_eq!((entry.value.as_deref(), entry.source), (Some("1000"), Source::Topic));
        let synonyms: Vec<_> = entry.synonyms.iter().map(|s| (s.name, s.value.as_str(), s.source)).collect();
        assert_eq!(
            synonyms,
            [("retention.ms", "1000", Source::Topic), ("log.retention.hours", "168", Source::Default)]
        );
    }

    #[test]
    fn min_insync_replicas_is_what_it_really_is() {
        let entry = find(&topic(3, &[]), "min.insync.replicas");
        assert_eq!((entry.value.as_deref(), entry.source), (Some("2"), Source::Default));
        assert_eq!(entry.synonyms[0].value, "2");
        assert_eq!(find(&topic(1, &[]), "min.insync.replicas").value.as_deref(), Some("1"));
    }
}
