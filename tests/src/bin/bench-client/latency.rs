//! How long records take at a steady rate.

use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use rdkafka::client::ClientContext;
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use crate::Cli;
use crate::client::{PATIENCE, config, consumer, create, noise};

/// The first seconds find connections, and warm caches and the JVM. They are not counted.
const WARM_UP_SECONDS: u32 = 2;

/// Microseconds to each acknowledgement, of those that have the time of their sending.
#[derive(Debug, Clone, Default)]
struct Acks(Arc<Mutex<Vec<u64>>>);

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    type DeliveryOpaque = Box<Option<Instant>>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Self::DeliveryOpaque) {
        if let (Ok(_), Some(sent)) = (result, *sent) {
            self.0.lock().expect("no holder panics").push(sent.elapsed().as_micros() as u64);
        }
    }
}

pub(crate) fn run(cli: &Cli, rate: u32, seconds: u32, size: usize) -> Result<()> {
    create(cli, &[])?;
    let acks = Acks::default();
    let producer: ThreadedProducer<Acks> =
        config(cli).set("acks", "all").set("linger.ms", "0").create_with_context(acks.clone())?;
    producer.client().fetch_metadata(Some(&cli.topic), PATIENCE)?;
    let consumer = consumer(cli)?;
    let warm_up = u64::from(rate) * u64::from(WARM_UP_SECONDS);
    let total = u64::from(rate) * u64::from(seconds) + warm_up;
    let epoch = Instant::now();

    let receive = spawn(move || -> Result<Vec<u64>> {
        let mut micros = Vec::new();
        let mut received = 0;
        while received < total {
            ensure!(epoch.elapsed() < PATIENCE, "{received} of {total} within {PATIENCE:?}");
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
            let stamp = message.payload().and_then(|payload| payload.first_chunk()).context("a stamp")?;
            let sent = Duration::from_nanos(u64::from_le_bytes(*stamp));
            received += 1;
            if received > warm_up {
                micros.push(epoch.elapsed().saturating_sub(sent).as_micros() as u64);
            }
        }
        Ok(micros)
    });

    let mut payload = noise(size.max(8));
    let interval = Duration::from_secs(1) / rate;
    let began = Instant::now();
    for number in 0..total {
        sleep((began + interval * number as u32).saturating_duration_since(Instant::now()));
        let partition = (number % cli.partitions as u64) as i32;
        payload[..8].copy_from_slice(&(epoch.elapsed().as_nanos() as u64).to_le_bytes());
        let sent = (number >= warm_up).then(Instant::now);
        let record = BaseRecord::<(), [u8], _>::with_opaque_to(&cli.topic, Box::new(sent));
        producer.send(record.payload(&payload).partition(partition)).map_err(|(error, _)| error)?;
    }
    producer.flush(PATIENCE)?;
    let end_to_end = receive.join().map_err(|_| anyhow!("the receiver panicked"))??;
    let acks = std::mem::take(&mut *acks.0.lock().expect("no holder panics"));
    let counted = (total - warm_up) as usize;
    ensure!(acks.len() == counted, "{} of {counted} were acknowledged", acks.len());
    for (name, mut micros) in [("ack", acks), ("end_to_end", end_to_end)] {
        micros.sort_unstable();
        for (label, part) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
            let index = ((micros.len() as f64 * part) as usize).min(micros.len().saturating_sub(1));
            println!("{name}_{label}_us={}", micros.get(index).context("nothing was measured")?);
        }
    }
    Ok(())
}
