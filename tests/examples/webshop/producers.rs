//! Visitors who click, search and order. All events of a visitor have the visitor's name as their key, and so stay in
//! order.

use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};

use crate::event::{Event, Kind, Shop, millis_now};

const VISITORS: usize = 500;

/// So many events, then a pause: a shop is not a benchmark, and the groups are to be scaled while it is open.
const BURST: usize = 100;
const PAUSE: Duration = Duration::from_millis(60);

#[derive(Debug)]
pub(crate) struct Producers {
    threads: Vec<JoinHandle<Result<Vec<Event>>>>,
}

pub(crate) fn start(shop: &Shop, count: usize, events: usize) -> Result<Producers> {
    let threads = (0..count)
        .map(|number| {
            let shop = shop.clone();
            std::thread::spawn(move || produce(&shop, number, events))
        })
        .collect();
    Ok(Producers { threads })
}

impl Producers {
    /// Waits until all is acknowledged, and returns what it was.
    pub(crate) fn finish(self) -> Result<Vec<Event>> {
        let mut all = Vec::new();
        for thread in self.threads {
            all.extend(thread.join().map_err(|_| anyhow!("a producer has panicked"))??);
        }
        Ok(all)
    }
}

fn produce(shop: &Shop, number: usize, events: usize) -> Result<Vec<Event>> {
    let producer: ThreadedProducer<Delivery> = ClientConfig::new()
        .set("bootstrap.servers", &shop.bootstrap)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .create_with_context(Delivery::default())?;
    let mut sent = Vec::with_capacity(events);
    for n in 0..events {
        // Of ten events six are clicks, three are searches, and one is an order.
        let kind = match n % 10 {
            0 => Kind::Order,
            1..=3 => Kind::Search,
            _ => Kind::Click,
        };
        let cents = if kind == Kind::Order { (n as u64 * 7919) % 100_000 } else { 0 };
        let visitor = format!("visitor-{}", (n * 31 + number) % VISITORS);
        let event = Event { id: format!("{number}-{n}"), kind, visitor, cents, at: millis_now() };
        let (topic, text) = (shop.topic(kind), event.text());
        let record = BaseRecord::to(&topic).key(&event.visitor).payload(&text).timestamp(event.at);
        producer.send(record).map_err(|(error, _)| error)?;
        sent.push(event);
        if n % BURST == BURST - 1 {
            std::thread::sleep(PAUSE);
        }
    }
    producer.flush(Duration::from_secs(60))?;
    match producer.context().failed.lock().expect("no holder panics").take() {
        None => Ok(sent),
        Some(error) => Err(error.into()),
    }
}

/// Remembers what was not delivered.
#[derive(Debug, Default)]
struct Delivery {
    failed: std::sync::Mutex<Option<rdkafka::error::KafkaError>>,
}

impl rdkafka::ClientContext for Delivery {}

impl rdkafka::producer::ProducerContext for Delivery {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &rdkafka::producer::DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            *self.failed.lock().expect("no holder panics") = Some(error.clone());
        }
    }
}
