//! A flush: the oldest untiered batches, sorted by partition, become one segment, and then a part of the manifest.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidemark_model::{Batch, TopicPartition};
use tidemark_segment::{EncodedSegment, SegmentName, SegmentWriter, StoreError};
use tokio::time::Instant;

use super::{TierError, Tiering};
use crate::disk::off_thread;
use crate::entry::{Entry, ManifestEdit, Run};
use crate::journal::core::Core;
use crate::metrics;
use crate::wal::read::Wanted;

/// Bytes of batches in one segment: they are in memory while it is written. The largest that one request stores.
pub(super) const MAX_SEGMENT_BYTES: u64 = 128 * 1024 * 1024;
/// The same where objects are files of this machine: they cost no requests, and a standalone is to be small.
pub(super) const MAX_LOCAL_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// What goes into one segment.
struct Plan {
    name: SegmentName,
    runs: BTreeMap<TopicPartition, Vec<Planned>>,
}

/// A batch in memory, or where it is in the write-ahead log.
enum Planned {
    Here(Batch),
    InWal(Wanted),
}

impl Tiering {
    /// Flushes one segment.
    pub(super) async fn flush(&mut self) -> Result<(), TierError> {
        let started = Instant::now();
        self.attempt += 1;
        let max_bytes = self.policy.segment_bytes.clamp(1, self.shared.segment_bytes);
        let Some(plan) = self.journal.lock().plan(self.attempt, max_bytes) else { return Ok(()) };
        let name = plan.name;
        if plan.runs.is_empty() {
            // Only batches that are gone, with their topics or by retention.
            let edit = ManifestEdit { tiered_through: name.last_index, ..ManifestEdit::default() };
            self.journal.append_entry(Entry::ManifestEdited(edit)).await?;
            // As good as tiered: after a checkpoint the log behind it can go.
            self.tiered_since_checkpoint += self.journal.files.used();
            self.changed.get_or_insert_with(Instant::now);
            return Ok(());
        }
        // Never closed: without one the flush would go on all the same.
        let shared = self.shared.clone();
        let _segment = shared.segments.acquire().await.ok();
        let runs = self.gather(plan.runs).await?;
        let journal = self.journal.id;
        let encode = move || -> Result<EncodedSegment, tidemark_segment::FormatError> {
            let mut writer = SegmentWriter::new(journal, name);
            for (partition, batches) in runs {
                writer.run(partition, batches, Vec::new())?;
            }
            writer.finish()
        };
        let segment = off_thread(&*self.journal.disk, encode)
            .await
            .unwrap_or_else(|| Err(tidemark_segment::FormatError::Magic("segment")))?;
        let EncodedSegment { chunks, size, index } = segment;
        let added = index.runs.iter().map(|run| (run.partition, manifest_run(name, run))).collect();
        let edit =
            ManifestEdit { tiered_through: name.last_index, segment: Some((name, size)), removed: Vec::new(), added };
        self.put_and_edit(name, chunks, Entry::ManifestEdited(edit)).await?;
        self.tiered_since_checkpoint += size;
        self.merging.look(Instant::now());
        self.folding.look();
        metrics::segment_written(size, started.elapsed());
        Ok(())
    }

    /// Stores an object between the entry that intends it and the one that brings it into the manifest.
    pub(super) async fn put_and_edit(
        &mut self,
        name: SegmentName,
        chunks: Vec<Bytes>,
        edit: Entry,
    ) -> Result<(), TierError> {
        self.journal.append_entry(Entry::SegmentIntended(name)).await?;
        if let Err(error) = self.store.put_segment(name, chunks).await {
            // It may be there, or come to be: its name is not used again, and it is deleted in a while.
            self.doomed.insert(name, Instant::now() + self.policy.delete_grace);
            return Err(renamed(error));
        }
        let edited = self.journal.append_entry(edit).await;
        if edited.is_err() {
            self.doomed.insert(name, Instant::now() + self.policy.delete_grace);
        }
        edited?;
        self.changed.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Takes the batches out of memory, and out of the write-ahead log where they are not in memory any more.
    async fn gather(
        &self,
        runs: BTreeMap<TopicPartition, Vec<Planned>>,
    ) -> Result<BTreeMap<TopicPartition, Vec<Batch>>, TierError> {
        let in_wal = |planned: &Planned| match planned {
            Planned::InWal(wanted) => Some(*wanted),
            Planned::Here(_) => None,
        };
        // In the order of the log, so that neighbours are read together.
        let mut wanted: Vec<Wanted> = runs.values().flatten().filter_map(in_wal).collect();
        wanted.sort_by_key(|wanted| wanted.location);
        let indexes: Vec<u64> = wanted.iter().map(|wanted| wanted.index).collect();
        let batches = if wanted.is_empty() { Vec::new() } else { self.journal.read_wal(wanted).await? };
        let mut read: BTreeMap<u64, Batch> = indexes.into_iter().zip(batches).collect();
        let taken = runs.into_iter().map(|(at, planned)| {
            let batches = planned.into_iter().filter_map(|planned| match planned {
                Planned::Here(batch) => Some(batch),
                Planned::InWal(wanted) => read.remove(&wanted.index),
            });
            (at, batches.collect())
        });
        Ok(taken.collect())
    }
}

impl Core {
    /// The batches up to about `max_bytes` from the oldest untiered one on; nothing when there is none.
    fn plan(&self, attempt: u32, max_bytes: u64) -> Option<Plan> {
        let last_index = self.untiered_cut(max_bytes)?;
        let after = self.state.tiered_through;
        let name = SegmentName { epoch: self.epoch, first_index: after + 1, last_index, attempt };
        let mut runs = BTreeMap::new();
        for (at, slot) in &self.slots {
            let log_start = self.state.partitions.get(at).map_or(0, |state| state.log_start);
            let batches: Vec<Planned> = slot
                .log
                .of_indexes(after, last_index)
                // What was deleted before it was tiered never is.
                .skip_while(|batch| batch.last_offset < log_start)
                .map(|batch| match &batch.batch {
                    Some(batch) => Planned::Here(batch.clone()),
                    None => Planned::InWal(Wanted { index: batch.index, location: batch.location }),
                })
                .collect();
            if !batches.is_empty() {
                runs.insert(*at, batches);
            }
        }
        Some(Plan { name, runs })
    }
}

pub(crate) fn manifest_run(segment: SegmentName, run: &tidemark_segment::segment::Run) -> Run {
    Run {
        segment,
        first_offset: run.first_offset,
        last_offset: run.last_offset,
        position: run.position,
        length: run.length,
        max_timestamp: run.max_timestamp,
        leader_epoch: run.epochs.last().map_or(-1, |epoch| epoch.leader_epoch),
    }
}

/// A name that is taken is one that an earlier life used: the next attempt has another.
fn renamed(error: StoreError) -> TierError {
    match error {
        StoreError::Exists(key) => StoreError::Unavailable(format!("{key} exists already: using another name")).into(),
        error => error.into(),
    }
}
