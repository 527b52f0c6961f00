//! Large orders from a given time on, by a consumer without a group: it looks up where to begin, and assigns itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};

use crate::event::{Event, Kind, PARTITIONS, Shop};
use crate::wait_until;

/// How long the cluster may take to tell an offset.
const ANSWER: Duration = Duration::from_secs(30);

pub(crate) struct Watch {
    alerts: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Watch {
    /// Watches the orders that are not older than `from`, in milliseconds since 1970.
    pub(crate) fn start(shop: &Shop, from: i64) -> Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &shop.bootstrap)
            // librdkafka wants a name even of one that joins no group.
            .set("group.id", shop.group("alerting"))
            .set("enable.auto.commit", "false")
            .create()?;
        let topic = shop.topic(Kind::Order);
        let (mut times, mut ends) = (TopicPartitionList::new(), Vec::new());
        for partition in 0..PARTITIONS {
            ends.push(consumer.fetch_watermarks(&topic, partition, ANSWER)?.1);
            times.add_partition_offset(&topic, partition, Offset::Offset(from))?;
        }
        let starts = consumer.offsets_for_times(times, ANSWER)?;
        for (partition, end) in (0..PARTITIONS).zip(ends) {
            let mut start = starts.find_partition(&topic, partition).context("all that was asked for is answered")?;
            // Nothing was that young yet: where it ended before we asked, so that nothing is missed since.
            if start.offset() == Offset::End {
                start.set_offset(Offset::Offset(end))?;
            }
        }
        consumer.assign(&starts)?;
        let (alerts, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopping) = (Arc::clone(&alerts), Arc::clone(&stop));
        let thread = std::thread::spawn(move || watch(&consumer, from, &count, &stopping));
        Ok(Self { alerts, stop, thread })
    }

    pub(crate) fn wait_for(&self, count: usize, patience: Duration) -> Result<()> {
        wait_until("alerting", patience, || self.alerts.load(Ordering::Relaxed) >= count)
    }

    pub(crate) fn finish(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the watch has panicked"))??;
        Ok(self.alerts.load(Ordering::Relaxed))
    }
}

fn watch(consumer: &BaseConsumer, from: i64, alerts: &AtomicUsize, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message?;
        let text = message.payload_view::<str>().unwrap_or(Ok(""))?;
        let event = Event::parse(text, message.timestamp().to_millis().unwrap_or(0))?;
        // Offsets follow the order of arrival: behind the first that is young enough there may be an older one.
        if event.at >= from && event.is_large_order() {
            alerts.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
