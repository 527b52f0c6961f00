//! The Kafka protocol front end. What Kafka clients see as brokers are gateways.
//!
//! It keeps connections and nothing else: the log is the brokers' and the storage nodes', everything that lasts is the
//! coordinators'. A request meets the modules in this order: the `listener` accepts its connection, `admission`
//! bounds what it may hold, `connection` reads frames, dispatches them in order and writes the answers in order,
//! `handlers` has one file for each API, `fetch_session` remembers what a consumer fetches, `metadata` says what clients
//! see of the cluster, `route` which broker serves a partition, and `owner` asks the coordinator that owns a group. Errors of the other services become Kafka's in
//! `error`, and nowhere else.

mod admission;
pub mod config;
mod connection;
mod error;
mod fetch_session;
mod handlers;
mod listener;
mod metadata;
mod metrics;
mod owner;
mod route;
pub mod service;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use service::{Deps, Service, Settings};
