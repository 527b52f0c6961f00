//! What the broker counts, by event.

use metrics::{counter, gauge, histogram};

pub(crate) fn batch_accepted(bytes: usize) {
    counter!("tidemark_broker_produced_batches_total").increment(1);
    counter!("tidemark_broker_produced_bytes_total").increment(bytes as u64);
}

pub(crate) fn batch_rejected() {
    counter!("tidemark_broker_rejected_batches_total").increment(1);
}

/// `source` is `memory`, `leader` or `object_store`.
pub(crate) fn served(source: &'static str, bytes: usize) {
    counter!("tidemark_broker_fetched_bytes_total", "source" => source).increment(bytes as u64);
}

pub(crate) fn leader_read() {
    counter!("tidemark_broker_leader_reads_total").increment(1);
}

pub(crate) fn tail_received(bytes: usize) {
    counter!("tidemark_broker_tail_received_bytes_total").increment(bytes as u64);
}

pub(crate) fn tail_stream_opened() {
    counter!("tidemark_broker_tail_streams_opened_total").increment(1);
}

pub(crate) fn observe_followed_partitions(count: usize) {
    gauge!("tidemark_broker_followed_partitions").set(count as f64);
}

pub(crate) fn cold_block_fetched(bytes: usize, seconds: f64) {
    counter!("tidemark_broker_cold_fetched_bytes_total").increment(bytes as u64);
    histogram!("tidemark_broker_cold_fetch_seconds").record(seconds);
}

pub(crate) fn cold_block_corrupt() {
    counter!("tidemark_broker_cold_corrupt_blocks_total").increment(1);
}

/// A batch was compressed again, as its topic wants it.
pub(crate) fn batch_recompressed(from: usize, to: usize) {
    counter!("tidemark_broker_recompressed_batches_total").increment(1);
    counter!("tidemark_broker_recompressed_from_bytes_total").increment(from as u64);
    counter!("tidemark_broker_recompressed_to_bytes_total").increment(to as u64);
}
