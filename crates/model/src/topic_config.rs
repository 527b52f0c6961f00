//! Topic configs: Kafka's names, types, defaults and bounds.
