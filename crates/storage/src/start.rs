//! The start: from what a data directory and the bucket hold to a journal that is served.

use std::sync::Arc;
use std::time::Duration;

use tidemark_model::{ClusterState, JournalId};
use tidemark_segment::{Bucket, JournalKeys};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::disk::off_thread;
use crate::error::StartError;
use crate::journal::core::Phase;
use crate::journal::supervise::Opener;
use crate::journal::{Journal, Parts};
use crate::retention;
use crate::service::{Dependencies, Service};
use crate::state::State;
use crate::store::Store;
use crate::tier::{Policy, Tiering};
use crate::wal::Location;
use crate::wal::files::Files;
use crate::wal::recovery::{Expected, Recovered, RecoveryError, Survey, survey};
use crate::wal::writer::{Named, Writer};

/// A checkpoint is due when this part of the log's size could be freed by it, in percent: rarely enough for the object
/// store's bill, in time for the log...
const CHECKPOINT_PERCENT: u64 = 25;
/// ...or this long after anything changed: a restart then has little to replay.
const CHECKPOINT_AGE: Duration = Duration::from_secs(600);
/// The part of the log's size from which on tiering does not wait for anything, in percent.
const PRESSURE_PERCENT: u64 = 60;

/// What recovery brings back.
struct Restored {
    state: State,
    /// Batches that are not in the object store, and where they are.
    batches: Vec<(Named, Location)>,
    recovered: Recovered,
}

/// `store` makes the journal's part of the bucket.
pub(crate) async fn start(
    config: &Config,
    deps: Dependencies,
    store: impl FnOnce(Bucket, JournalKeys) -> Store,
) -> Result<Arc<Service>, StartError> {
    let Dependencies { node, mut data_dir, bucket, coordinator, view, clock, entropy, shutdown } = deps;
    let disk = data_dir.disk.clone();
    let files = Arc::new(Files::new(disk.clone(), data_dir.wal(), config.wal_file_bytes));
    let survey = find_log(&mut data_dir, &files, &*entropy)?;
    let wal_incarnation = data_dir.wal_incarnation();
    let opener = Opener { coordinator, entropy: entropy.clone(), node, wal_incarnation };
    let opened = opener.open_first(&shutdown).await?;
    if let Some(found) = survey.journal().filter(|found| *found != opened.id) {
        return Err(StartError::OtherJournal { given: opened.id.0, found: found.0 });
    }
    let store = store(bucket, keys(&view, opened.id)?);
    let restored = restore(&store, survey, &files, wal_incarnation).await?;
    let Restored { state, batches, recovered } = restored;
    if opened.epoch <= state.last.epoch {
        return Err(StartError::OldEpoch { journal: opened.id.0, got: opened.epoch, last: state.last.epoch });
    }
    check_complete(&state, &batches)?;

    let journal = Journal::new(
        Parts {
            id: opened.id,
            node,
            wal_incarnation,
            state,
            files: files.clone(),
            disk,
            view,
            clock,
            wal_max_bytes: config.wal_max_bytes,
            memory_bytes: config.memory_bytes,
            tier_at: config.segment_bytes,
        },
        &batches,
    );
    drop(batches);
    let writer = Writer::new(files, opened.id, wal_incarnation, recovered.end);
    journal.start(writer).map_err(|cause| StartError::Io { path: data_dir.wal(), cause })?;
    if let Err(error) = journal.open(opened.epoch).await {
        // A disk that is full now may have room later, and reads go on meanwhile: the supervisor opens it then.
        if !matches!(journal.lock().phase, Phase::Reopening(_)) {
            return Err(StartError::Open(error));
        }
        tracing::warn!(%error, "the journal cannot be appended to yet");
    }
    if data_dir.journal().is_none() {
        data_dir.log_created(opened.id)?;
    }
    let tiering = Tiering::new(journal.clone(), store.clone(), policy(config), entropy);
    let tier_health = tiering.health();
    let stop = CancellationToken::new();
    let retention = retention::run(journal.clone(), Duration::from_millis(config.retention_check_ms), stop.clone());
    let tasks = vec![
        tokio::spawn(journal.clone().supervise(opener, stop.clone())),
        tokio::spawn(tiering.run(stop.clone())),
        tokio::spawn(retention),
    ];
    Ok(Arc::new(Service { journal, store, tier_health, tasks: Mutex::new(tasks), stop, _data_dir: data_dir }))
}

/// Reads the headers of the log, and gives it another incarnation when it was emptied.
fn find_log(
    data_dir: &mut DataDir,
    files: &Files,
    entropy: &dyn tidemark_model::Entropy,
) -> Result<Survey, StartError> {
    let expected = data_dir.wal_incarnation();
    let survey = survey(files, expected)?;
    match (survey.journal(), data_dir.journal(), survey.other) {
        (Some(_), _, _) | (None, None, None) => Ok(survey),
        (None, _, Some((_, found))) => Err(StartError::ForeignLog { dir: data_dir.wal(), found, expected }),
        (None, Some(journal), None) => {
            tracing::warn!(%journal, "the write-ahead log is gone: this node starts with a new one");
            data_dir.log_lost(entropy)?;
            Ok(survey)
        }
    }
}

fn keys(view: &watch::Receiver<Arc<ClusterState>>, journal: JournalId) -> Result<JournalKeys, StartError> {
    let cluster = view.borrow().cluster_id.clone();
    JournalKeys::new(&cluster, journal).map_err(|error| StartError::ClusterId(error.0))
}

/// The state of the newest checkpoint, and the entries of the log after it.
async fn restore(
    store: &Store,
    survey: Survey,
    files: &Arc<Files>,
    wal_incarnation: u64,
) -> Result<Restored, StartError> {
    let journal = store.keys.journal();
    let newest = store.newest_checkpoint().await?;
    for damaged in &newest.damaged {
        tracing::error!(key = damaged.key, why = damaged.why, "a checkpoint is damaged, using an older one");
    }
    let base = match newest.checkpoint {
        None => State::default(),
        Some(checkpoint) => State::decode(&checkpoint.state)
            .map_err(|error| StartError::Checkpoint { journal: journal.0, why: error.to_string() })?,
    };
    let expected =
        Expected { journal: Some(journal), wal_incarnation, needed: base.last.index.min(base.tiered_through) + 1 };
    let wal_dir = files.dir().display().to_string();
    let disk = files.disk.clone();
    let files = files.clone();
    let replay = move || -> Result<Restored, RecoveryError> {
        let mut state = base;
        let mut batches = Vec::new();
        let recovered = survey.recover(&files, expected, &mut |named, location| {
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
        Ok(Restored { state, batches, recovered })
    };
    let restored = off_thread(&*disk, replay).await.ok_or(StartError::Stopped)??;
    let Restored { state, batches, recovered } = &restored;
    if recovered.last < state.last {
        let (dir, first) = (wal_dir, recovered.last.index + 1);
        return Err(RecoveryError::Missing { dir, first, needed: state.last.index }.into());
    }
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

fn policy(config: &Config) -> Policy {
    Policy {
        segment_bytes: config.segment_bytes,
        segment_age: Duration::from_millis(config.segment_ms),
        checkpoint_bytes: config.wal_max_bytes / 100 * CHECKPOINT_PERCENT,
        checkpoint_age: CHECKPOINT_AGE,
        delete_grace: Duration::from_millis(config.delete_grace_ms),
        wal_pressure_bytes: config.wal_max_bytes / 100 * PRESSURE_PERCENT,
    }
}
