//! What the storage service counts, one function for each event.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

/// A group of entries was written and made durable.
pub(crate) fn group_written(entries: usize, bytes: u64, took: Duration) {
    counter!("tidemark_storage_wal_entries_total").increment(entries as u64);
    counter!("tidemark_storage_wal_bytes_total").increment(bytes);
    histogram!("tidemark_storage_wal_group_entries").record(entries as f64);
    histogram!("tidemark_storage_wal_group_bytes").record(bytes as f64);
    histogram!("tidemark_storage_wal_write_seconds").record(took.as_secs_f64());
}

/// A write or an fdatasync of the write-ahead log failed.
pub(crate) fn wal_write_failed() {
    counter!("tidemark_storage_wal_failures_total").increment(1);
}

/// A file of the write-ahead log was created, not used again.
pub(crate) fn wal_file_created() {
    counter!("tidemark_storage_wal_files_created_total").increment(1);
}

/// Bytes of the write-ahead logs changed.
pub(crate) fn wal_used(bytes: u64) {
    gauge!("tidemark_storage_wal_used_bytes").set(bytes as f64);
}

/// Appends that were under way were undone.
pub(crate) fn appends_undone() {
    counter!("tidemark_storage_appends_undone_total").increment(1);
}

/// A segment is in the object store and in the manifest.
pub(crate) fn segment_written(bytes: u64, took: Duration) {
    counter!("tidemark_storage_segments_total").increment(1);
    counter!("tidemark_storage_segment_bytes_total").increment(bytes);
    histogram!("tidemark_storage_flush_seconds").record(took.as_secs_f64());
}

/// Runs became fewer.
pub(crate) fn runs_merged(from: usize, to: usize, bytes: u64, took: Duration) {
    counter!("tidemark_storage_merges_total").increment(1);
    counter!("tidemark_storage_merged_runs_total").increment(from as u64);
    counter!("tidemark_storage_merge_written_runs_total").increment(to as u64);
    counter!("tidemark_storage_merge_written_bytes_total").increment(bytes);
    histogram!("tidemark_storage_merge_seconds").record(took.as_secs_f64());
}

/// An index object is in the object store, and lists what was in memory.
pub(crate) fn folded(folds: usize, bytes: u64) {
    counter!("tidemark_storage_folds_total").increment(folds as u64);
    counter!("tidemark_storage_index_objects_total").increment(1);
    counter!("tidemark_storage_index_object_bytes_total").increment(bytes);
}

/// A part of what a fold lists left it.
pub(crate) fn fold_opened() {
    counter!("tidemark_storage_folds_opened_total").increment(1);
}

/// A checkpoint is in the object store.
pub(crate) fn checkpoint_written(bytes: u64, bases: usize, took: Duration) {
    counter!("tidemark_storage_checkpoints_total").increment(1);
    counter!("tidemark_storage_checkpoint_bytes_total").increment(bytes);
    gauge!("tidemark_storage_checkpoint_size_bytes").set(bytes as f64);
    gauge!("tidemark_storage_checkpoint_bases").set(bases as f64);
    histogram!("tidemark_storage_checkpoint_seconds").record(took.as_secs_f64());
}

/// A flush, a checkpoint or a deletion failed, and will be tried again.
pub(crate) fn tiering_failed() {
    counter!("tidemark_storage_tiering_failures_total").increment(1);
}

/// Objects were deleted.
pub(crate) fn objects_deleted(count: usize) {
    counter!("tidemark_storage_objects_deleted_total").increment(count as u64);
}

/// A client deleted records of a partition.
pub(crate) fn records_deleted() {
    counter!("tidemark_storage_record_deletions_total").increment(1);
}

/// Retention moved the log starts of partitions.
pub(crate) fn retention_moved(partitions: usize) {
    counter!("tidemark_storage_retention_moves_total").increment(partitions as u64);
}
