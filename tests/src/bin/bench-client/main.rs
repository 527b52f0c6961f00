//! The client of `cargo xtask bench`: librdkafka, with the same settings against whatever it measures. Prints
//! `name=value` lines.

#![allow(clippy::print_stdout, reason = "its output is its result")]

mod client;
mod consume;
mod latency;
mod produce;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// What all measurements need.
#[derive(Debug, Parser)]
struct Cli {
    #[arg(long)]
    bootstrap: String,
    #[arg(long)]
    topic: String,
    #[arg(long, default_value_t = 6)]
    partitions: i32,
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Debug, Subcommand)]
enum Measure {
    /// As fast as it goes, with `acks=all`, to a new topic.
    Produce(produce::Args),
    /// All of a topic, from its beginning.
    Consume {
        /// Fails unless it holds so many.
        #[arg(long)]
        messages: u64,
        /// So many consumers read all of it at the same time.
        #[arg(long, default_value_t = 1)]
        consumers: usize,
    },
    /// From send to acknowledgement and from send to receipt, at a steady rate, with a new topic.
    Latency {
        #[arg(long, default_value_t = 1000)]
        rate: u32,
        #[arg(long, default_value_t = 10)]
        seconds: u32,
        #[arg(long, default_value_t = 1024)]
        size: usize,
    },
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match &cli.measure {
        Measure::Produce(args) => produce::run(&cli, args),
        Measure::Consume { messages, consumers } => consume::run(&cli, *messages, *consumers),
        Measure::Latency { rate, seconds, size } => latency::run(&cli, *rate, *seconds, *size),
    }
}
