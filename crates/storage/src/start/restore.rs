//! Recovery of one journal: the newest checkpoint in the bucket, and what its log has after that.

use std::sync::Arc;

use tidemark_segment::checkpoint::Base;

use crate::disk::off_thread;
use crate::error::StartError;
use crate::state::{PartitionState, State};
use crate::store::Store;
use crate::wal::Location;
use crate::wal::files::Files;
use crate::wal::recovery::{Expected, Recovered, RecoveryError, Survey};
use crate::wal::writer::Named;

/// What recovery brings back.
pub(super) struct Restored {
    pub(super) state: State,
    /// The checkpoints that it began with.
    pub(super) checkpoints: Vec<Base>,
    /// Batches that are not in the object store, and where they are.
    pub(super) batches: Vec<(Named, Location)>,
    pub(super) recovered: Recovered,
}

/// The state of the newest checkpoint, and what that is made of; the empty state when there is none.
pub(crate) async fn newest_state(store: &Store) -> Result<(State, Vec<Base>), StartError> {
    let newest = store.newest_checkpoint().await?;
    for damaged in &newest.damaged {
        tracing::error!(key = damaged.key, why = damaged.why, "a checkpoint is damaged, using an older one");
    }
    Ok((newest.found.map(|(_, state)| state).unwrap_or_default(), newest.parts))
}

/// The first entry that has to be in the log behind a checkpoint of this state.
pub(super) fn needed(base: &State) -> u64 {
    base.last.index.min(base.tiered_through) + 1
}

/// Whether all that the state has is in the object store, so that no log is needed to go on from it.
fn is_whole(base: &State) -> bool {
    let tiered = |partition: &PartitionState| partition.tiered_end() == partition.high_watermark;
    base.tiered_through >= base.last.index && base.partitions.values().all(tiered)
}

/// Replays the log behind the newest checkpoint.
pub(super) async fn restore(
    store: &Store,
    survey: Survey,
    files: &Arc<Files>,
    wal_incarnation: u64,
) -> Result<Restored, StartError> {
    let journal = store.keys.journal();
    let (base, checkpoints) = newest_state(store).await?;
    // A log that is new, of a journal that was rebuilt from the bucket. A log that was lost is none of the journal's.
    let begins = survey.journal().is_none() && is_whole(&base);
    let needed = if begins { 1 } else { needed(&base) };
    let expected = Expected { journal: Some(journal), wal_incarnation, needed };
    let wal_dir = files.dir().display().to_string();
    let disk = files.disk.clone();
    let files = files.clone();
    let replay = move || -> Result<Restored, StartError> {
        let mut state = base;
        let mut batches = Vec::new();
        let mut recovered = survey.recover(&files, expected, &mut |named, location| {
            if named.id.index > state.last.index {
                state.apply(named.id, &named.entry).map_err(|error| error.to_string())?;
            }
            if named.id.index > state.tiered_through && matches!(named.entry, crate::entry::Entry::Batch(_)) {
                batches.push((forget_records(named), location));
            }
            Ok(())
        })?;
        let still_untiered = |named: &Named| match &named.entry {
            crate::entry::Entry::Batch(entry) => {
                let partition = state.partitions.get(&entry.partition);
                let above = partition.is_some_and(|partition| entry.batch.last_offset() >= partition.log_start);
                named.id.index > state.tiered_through && above
            }
            _ => false,
        };
        batches.retain(|(named, _)| still_untiered(named));
        if begins {
            recovered.last = state.last;
        }
        if recovered.last < state.last {
            let (dir, first) = (wal_dir, recovered.last.index + 1);
            return Err(RecoveryError::Missing { dir, first, needed: state.last.index }.into());
        }
        check_complete(&state, &batches)?;
        Ok(Restored { state, checkpoints, batches, recovered })
    };
    let restored = off_thread(&*disk, replay).await.ok_or(StartError::Stopped)??;
    let Restored { state, batches, recovered, .. } = &restored;
    if let Some((path, position)) = &recovered.torn {
        tracing::info!(path, position, "cut off a torn tail, which was never acknowledged");
    }
    tracing::info!(%journal, last = state.last.index, epoch = state.last.epoch, untiered = batches.len(), "recovered");
    Ok(restored)
}

/// The batch with a copy of its header only, so that it does not hold the whole file in memory.
fn forget_records(mut named: Named) -> Named {
    if let crate::entry::Entry::Batch(entry) = &mut named.entry {
        let body = entry.batch.body();
        let header = bytes::Bytes::copy_from_slice(&body[..crate::wal::format::COVERED_BODY_LEN]);
        let (base_offset, leader_epoch) = (entry.batch.base_offset, entry.batch.leader_epoch);
        entry.batch = tidemark_model::Batch::from_body(base_offset, leader_epoch, header).expect("a whole header");
    }
    named
}

/// Every offset up to the high watermark must be in the object store or in the log.
fn check_complete(state: &State, batches: &[(Named, Location)]) -> Result<(), StartError> {
    let mut ends = std::collections::BTreeMap::new();
    let gap = |partition: tidemark_model::TopicPartition, from, to| {
        Err(StartError::Gap { partition: partition.to_string(), from, to })
    };
    for (named, _) in batches {
        if let crate::entry::Entry::Batch(entry) = &named.entry {
            let tiered = || state.partitions.get(&entry.partition).map_or(0, |partition| partition.tiered_end());
            let begins = !ends.contains_key(&entry.partition);
            let end = ends.entry(entry.partition).or_insert_with(tiered);
            // The first may hold the log start.
            let holds = begins && entry.batch.base_offset < *end && *end < entry.batch.next_offset();
            if entry.batch.base_offset != *end && !holds {
                return gap(entry.partition, *end, entry.batch.base_offset);
            }
            *end = entry.batch.next_offset();
        }
    }
    for (at, partition) in &state.partitions {
        let end = ends.get(at).copied().unwrap_or_else(|| partition.tiered_end());
        if end != partition.high_watermark {
            return gap(*at, end, partition.high_watermark);
        }
    }
    Ok(())
}
