//! Consumer groups and committed offsets from outside, as the end-to-end suite tests the rest: on standalone, on the four
//! services and on Apache Kafka 4.2.

mod admin;
mod classic;
mod clients;
mod consumer;
mod limits;
mod offsets;
mod statics;
