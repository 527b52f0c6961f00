//! A web shop on Kafka's protocol, from end to end.
//!
//! ```text
//! producers (3)  ──▶ clicks, searches, orders ──▶ analytics: counts by minute, one member, later four, later two
//!   keyed by visitor                          ├─▶ storage: every event into a file, two members (KIP-848)
//!                                             └─▶ alerting: large orders from a given time on, no group
//! ```
//!
//! In the end each consumer's totals are compared with what the producers sent. Run it with `cargo xtask example
//! webshop`, or on any Kafka with `--bootstrap`.

#![allow(clippy::print_stdout, reason = "an example tells what it does")]

mod alerting;
mod analytics;
mod event;
mod producers;
mod storage;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

use event::{Shop, millis_now};

#[derive(Debug, Parser)]
struct Cli {
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    /// Events of each of the three producers.
    #[arg(long, default_value_t = 10_000)]
    events: usize,
    /// How long the consumers may take once everything is produced.
    #[arg(long, default_value_t = 120)]
    patience_seconds: u64,
}

const PRODUCERS: usize = 3;

fn main() -> Result<()> {
    let cli = Cli::parse();
    // Names of their own, so that the example can run again and again on one cluster.
    let shop = Shop::new(&cli.bootstrap, millis_now());
    create_topics(&shop)?;
    println!("topics: {}", shop.topics().join(", "));

    // Consumers first: one member of analytics, two of storage.
    let mut analytics = analytics::Group::new(&shop);
    analytics.scale_to(1)?;
    let storage = storage::Group::start(&shop, 2)?;

    let producers = producers::start(&shop, PRODUCERS, cli.events)?;
    let total = PRODUCERS * cli.events;
    analytics.wait_for(total / 4, cli.patience())?;
    analytics.scale_to(4)?;
    println!("analytics: scaled from 1 to 4 members at {} events", analytics.count());
    // From here on somebody watches the orders, who cares only for what is newer than this.
    let watched_from = millis_now();
    let alerting = alerting::Watch::start(&shop, watched_from)?;
    analytics.wait_for(total / 2, cli.patience())?;
    analytics.scale_to(2)?;
    println!("analytics: scaled down to 2 members at {} events", analytics.count());

    let sent = producers.finish()?;
    println!(
        "producers: {} events, {} of them orders",
        sent.len(),
        sent.iter().filter(|event| event.is_order()).count()
    );
    analytics.wait_for(sent.len(), cli.patience())?;
    storage.wait_for(sent.len(), cli.patience())?;
    let large = sent.iter().filter(|event| event.is_large_order() && event.at >= watched_from).count();
    alerting.wait_for(large, cli.patience())?;

    // Each has seen every event, and knows no other. A rebalance may repeat some, which ids tell.
    let counts = analytics.finish()?;
    ensure!(counts == analytics::expected(&sent), "analytics counted {counts:?}, not what was sent");
    for ((minute, topic), count) in &counts {
        println!("analytics: minute {minute}: {count} {topic}");
    }
    let stored = storage.finish()?;
    ensure!(stored == sent.iter().map(|event| event.id.clone()).collect(), "the files do not hold what was sent");
    println!("storage: {} events in files", stored.len());
    let alerts = alerting.finish()?;
    ensure!(alerts == large, "{alerts} alerts, and {large} large orders since {watched_from}");
    println!("alerting: {alerts} large orders since it began to watch");
    println!("webshop: all totals are as they should be");
    Ok(())
}

impl Cli {
    fn patience(&self) -> Duration {
        Duration::from_secs(self.patience_seconds)
    }
}

fn create_topics(shop: &Shop) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &shop.bootstrap).create()?;
    let topics = shop.topics();
    let new: Vec<NewTopic<'_>> =
        topics.iter().map(|topic| NewTopic::new(topic, event::PARTITIONS, TopicReplication::Fixed(1))).collect();
    let created = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(admin.create_topics(&new, &AdminOptions::new()))?;
    for result in created {
        result.map_err(|(topic, error)| anyhow::anyhow!("{topic} is not created: {error}"))?;
    }
    Ok(())
}

/// Waits until a consumer has seen so many.
fn wait_until(what: &str, patience: Duration, done: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + patience;
    while !done() {
        ensure!(Instant::now() < deadline, "{what} did not get there within {patience:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
