//! What the end-to-end tests are made of: something to test, librdkafka's clients, and Kafka's protocol by hand for
//! what no client would send. Nothing here knows Tidemark's crates: a test proven on Apache Kafka means the same here.

pub mod clients;
pub mod collector;
pub mod groups;
pub mod load;
pub mod metrics;
pub mod proxy;
pub mod raw;
pub mod target;
