//! The end-to-end suite: written once against a bootstrap address, and run on `tidemark standalone` (plain `cargo
//! test`), on the four services (`cargo xtask integration`) and on Apache Kafka 4.2 (`cargo xtask e2e --kafka`).

mod batches;
mod busy;
mod compression;
mod configs;
mod deletion;
mod fetch;
mod frames;
mod idempotence;
mod produce;
mod read;
mod topics;
