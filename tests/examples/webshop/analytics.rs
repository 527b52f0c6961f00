//! Counts by minute and kind, by a group of the classic protocol that is scaled while it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow};
use rdkafka::Message as _;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};

use crate::event::{Event, Kind, Shop};
use crate::wait_until;

/// How many events of a kind there were in a minute.
pub(crate) type Counts = BTreeMap<(i64, &'static str), usize>;

/// Where the members bring their results together. A database would do the same: what arrives twice counts once.
type Seen = Arc<Mutex<BTreeMap<String, (i64, Kind)>>>;

pub(crate) struct Group {
    shop: Shop,
    seen: Seen,
    members: Vec<(Arc<AtomicBool>, JoinHandle<Result<()>>)>,
}

impl Group {
    pub(crate) fn new(shop: &Shop) -> Self {
        Self { shop: shop.clone(), seen: Seen::default(), members: Vec::new() }
    }

    /// Starts members, or lets some leave.
    pub(crate) fn scale_to(&mut self, count: usize) -> Result<()> {
        while self.members.len() < count {
            let (shop, seen, stop) = (self.shop.clone(), Arc::clone(&self.seen), Arc::new(AtomicBool::new(false)));
            let stopping = Arc::clone(&stop);
            self.members.push((stop, std::thread::spawn(move || count_events(&shop, &seen, &stopping))));
        }
        for (stop, thread) in self.members.split_off(count) {
            stop.store(true, Ordering::Relaxed);
            thread.join().map_err(|_| anyhow!("a member has panicked"))??;
        }
        Ok(())
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().expect("no holder panics").len()
    }

    pub(crate) fn wait_for(&self, count: usize, patience: Duration) -> Result<()> {
        wait_until("analytics", patience, || self.count() >= count)
    }

    pub(crate) fn finish(mut self) -> Result<Counts> {
        self.scale_to(0)?;
        let seen = self.seen.lock().expect("no holder panics");
        let mut counts = Counts::new();
        for (minute, kind) in seen.values() {
            *counts.entry((*minute, kind.plural())).or_default() += 1;
        }
        Ok(counts)
    }
}

/// One member: counts first, commits then, so that nothing is left out whenever it ends.
fn count_events(shop: &Shop, seen: &Seen, stop: &AtomicBool) -> Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &shop.bootstrap)
        .set("group.id", shop.group("analytics"))
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()?;
    let topics = shop.topics();
    consumer.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())?;
    while !stop.load(Ordering::Relaxed) {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message?;
        let text = message.payload_view::<str>().unwrap_or(Ok(""))?;
        let event = Event::parse(text, message.timestamp().to_millis().unwrap_or(0))?;
        seen.lock().expect("no holder panics").insert(event.id.clone(), (event.minute(), event.kind));
        consumer.commit_message(&message, CommitMode::Async)?;
    }
    Ok(())
}

pub(crate) fn expected(sent: &[Event]) -> Counts {
    let mut counts = Counts::new();
    let unique: BTreeSet<&str> = sent.iter().map(|event| event.id.as_str()).collect();
    debug_assert_eq!(unique.len(), sent.len());
    for event in sent {
        *counts.entry((event.minute(), event.kind.plural())).or_default() += 1;
    }
    counts
}
