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
    Produce {
        #[arg(long)]
        size: usize,
        #[arg(long)]
        messages: u64,
        /// A config of the topic, `name=value`.
        #[arg(long)]
        config: Vec<String>,
        /// Reads the topic meanwhile, and counts the time until everything was read.
        #[arg(long)]
        follow: bool,
    },
    /// All of a topic, from its beginning.
    Consume {
        /// Fails unless it holds so many.
        #[arg(long)]
        messages: u64,
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
        Measure::Produce { size, messages, config, follow } => produce::run(&cli, *size, *messages, config, *follow),
        Measure::Consume { messages } => consume::run(&cli, *messages),
        Measure::Latency { rate, seconds, size } => latency::run(&cli, *rate, *seconds, *size),
    }
}
