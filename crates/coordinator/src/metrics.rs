//! What the coordinator counts, one function per event.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use tidemark_model::GroupError;

/// The watch on the metadata store was cut and begins again.
pub(crate) fn watch_interrupted() {
    counter!("tidemark_coordinator_watch_interruptions_total").increment(1);
}

/// The watch on the metadata store fell behind its history, and the state was read again as a whole.
pub(crate) fn state_reread() {
    counter!("tidemark_coordinator_state_rereads_total").increment(1);
}

/// The cluster state is now this.
pub(crate) fn state_changed(revision: u64, nodes: usize, journals: usize, topics: usize, partitions: usize) {
    gauge!("tidemark_coordinator_state_revision").set(revision as f64);
    gauge!("tidemark_coordinator_nodes").set(nodes as f64);
    gauge!("tidemark_coordinator_journals").set(journals as f64);
    gauge!("tidemark_coordinator_topics").set(topics as f64);
    gauge!("tidemark_coordinator_partitions").set(partitions as f64);
}

/// A service began to follow this coordinator (1) or stopped (-1).
pub(crate) fn follower_changed(by: f64) {
    gauge!("tidemark_coordinator_followers").increment(by);
}

/// A node's lease was gone while its stream was held.
pub(crate) fn lease_lost() {
    counter!("tidemark_coordinator_leases_lost_total").increment(1);
}

/// A request of the control plane was answered: `ok`, or the kind of error.
pub(crate) fn answered(request: &'static str, outcome: &'static str) {
    counter!("tidemark_coordinator_requests_total", "request" => request, "outcome" => outcome).increment(1);
}

/// A transaction lost a race and is tried again.
pub(crate) fn write_conflict() {
    counter!("tidemark_coordinator_write_conflicts_total").increment(1);
}

/// This coordinator now owns so many slots, those that it is reading included.
pub(crate) fn slots_owned(slots: usize) {
    gauge!("tidemark_coordinator_slots_owned").set(slots as f64);
}

/// Slots without a living owner were taken.
pub(crate) fn slots_taken(slots: usize) {
    counter!("tidemark_coordinator_slot_takeovers_total").increment(slots as u64);
}

/// A slot was handed over to another coordinator.
pub(crate) fn slot_handed_over() {
    counter!("tidemark_coordinator_slot_handovers_total").increment(1);
}

/// One transaction of writes to slots came back.
pub(crate) fn slots_written(operations: usize, bytes: usize, took: Duration, answered: bool) {
    let outcome = if answered { "answered" } else { "failed" };
    counter!("tidemark_coordinator_slot_transactions_total", "outcome" => outcome).increment(1);
    histogram!("tidemark_coordinator_slot_transaction_operations").record(operations as f64);
    histogram!("tidemark_coordinator_slot_transaction_bytes").record(bytes as f64);
    histogram!("tidemark_coordinator_slot_transaction_seconds").record(took.as_secs_f64());
}

/// One read of the store is to confirm so many answers.
pub(crate) fn confirmed(answers: usize) {
    histogram!("tidemark_coordinator_slot_confirmations").record(answers as f64);
}

/// A call to a group was answered.
pub(crate) fn group_answered(request: &'static str, error: Option<&GroupError>) {
    let outcome = match error {
        None => "ok",
        Some(GroupError::NotCoordinator) => "not_coordinator",
        Some(GroupError::LoadInProgress) => "loading",
        Some(GroupError::Unavailable(_)) => "unavailable",
        Some(GroupError::TimedOut(_)) => "timed_out",
        Some(_) => "refused",
    };
    counter!("tidemark_coordinator_group_calls_total", "request" => request, "outcome" => outcome).increment(1);
}

/// The groups of a slot were read.
pub(crate) fn groups_loaded(groups: usize) {
    counter!("tidemark_coordinator_groups_loaded_total").increment(groups as u64);
}

/// A snapshot of the metadata is in the bucket.
pub(crate) fn snapshot_written(bytes: u64, took: Duration) {
    counter!("tidemark_coordinator_snapshots_total").increment(1);
    gauge!("tidemark_coordinator_snapshot_bytes").set(bytes as f64);
    histogram!("tidemark_coordinator_snapshot_write_seconds").record(took.as_secs_f64());
}

/// This coordinator has looked whether a snapshot is due, and written it if so. The age is as of then.
pub(crate) fn snapshot_checked() {
    counter!("tidemark_coordinator_snapshot_checks_total").increment(1);
}

/// A snapshot of the metadata could not be written.
pub(crate) fn snapshot_failed() {
    counter!("tidemark_coordinator_snapshot_failures_total").increment(1);
}

/// The newest snapshot is so old, and something has changed since. Zero when nothing has.
pub(crate) fn snapshot_age(age: Duration) {
    gauge!("tidemark_coordinator_snapshot_age_seconds").set(age.as_secs_f64());
}

/// The metadata store's file has so many bytes, and uses so many of them.
pub(crate) fn store_used(file: u64, used: u64) {
    gauge!("tidemark_coordinator_store_file_size").set(file as f64);
    gauge!("tidemark_coordinator_store_used_size").set(used as f64);
}

/// The metadata store's history was forgotten.
pub(crate) fn store_compacted() {
    counter!("tidemark_coordinator_store_compactions_total").increment(1);
}

/// The metadata store's files were made smaller.
pub(crate) fn store_defragmented(given_back: u64) {
    counter!("tidemark_coordinator_store_defragmentations_total").increment(1);
    counter!("tidemark_coordinator_store_given_back_total").increment(given_back);
}
