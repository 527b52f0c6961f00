//! The start: from what a data directory and the bucket hold to journals that are served.
//!
//! First the disk says which logs there are; a log that failed is [copied](copy) to a new one. Then the coordinator opens the
//! journal of each, all are [recovered](restore()) side by side, and each begins its epoch.

mod copy;
pub(crate) mod restore;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemark_model::{ClusterState, JournalId, Role};
use tidemark_segment::{Bucket, JournalKeys};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::data_dir::{DataDir, Log};
use crate::error::StartError;
use crate::health::Health;
use crate::journal::core::Phase;
use crate::journal::expire::Memory as Remembered;
use crate::journal::supervise::{Opener, follow};
use crate::journal::{Journal, Parts};
use crate::retention;
use crate::service::{Dependencies, Served, Service};
use crate::store::Store;
use crate::tier::{FoldLimits, Policy, Shared, Tiering};
use crate::wal::files::{Files, Usage};
use crate::wal::recovery::{Survey, survey};
use crate::wal::writer::Writer;
use restore::{Restored, restore};

/// Journals that one node may have. Each costs a thread, and files and memory of its own.
pub(crate) const MAX_JOURNALS: usize = 64;
/// Bytes that may be named and not committed, of all journals of a node. A safety net: those who call bound what they
/// have under way.
const MAX_AHEAD_BYTES: u64 = 256 * 1024 * 1024;
/// Producers that are remembered in all partitions of a node: about 200 bytes each.
const MAX_PRODUCERS: usize = 400_000;
/// A checkpoint is due when this part of the log's size could be freed by it, in percent: rarely enough for the object
/// store's bill, in time for the log...
const CHECKPOINT_PERCENT: u64 = 25;
/// ...or this long after anything changed: a restart then has little to replay.
const CHECKPOINT_AGE: Duration = Duration::from_secs(600);
/// The part of the logs' size from which on tiering does not wait for anything, in percent.
const PRESSURE_PERCENT: u64 = 60;

/// A log as the disk has it.
struct Found {
    log: Log,
    files: Arc<Files>,
    survey: Survey,
}

/// A journal that is recovered and not yet open.
struct Ready {
    opened: tidemark_model::Journal,
    opener: Opener,
    files: Arc<Files>,
    store: Store,
    restored: Restored,
}

/// `store` makes a journal's part of the bucket.
pub(crate) async fn start(
    config: &Config,
    deps: Dependencies,
    folds: FoldLimits,
    store: impl Fn(Bucket, JournalKeys) -> Store,
) -> Result<Arc<Service>, StartError> {
    let Dependencies { node, data_dir, bucket, coordinator, view, clock, entropy, shutdown } = deps;
    let data_dir = Arc::new(data_dir);
    let waiting = waiting_journals(&view.borrow());
    data_dir.add_logs(config.journals.max(waiting).clamp(1, MAX_JOURNALS), &*entropy)?;
    let store = |journal| Ok::<_, StartError>(store(bucket.clone(), keys(&view, journal)?));
    let usage = Arc::new(Usage::default());
    let mut found = Vec::new();
    for mut log in data_dir.logs() {
        if log.failed.is_some() {
            let store = log.journal.map(store).transpose()?;
            log = copy::copy(&data_dir, log, store, config.wal_file_bytes, &*entropy).await?;
        }
        found.push(find(&data_dir, log, config, &usage, &*entropy)?);
    }
    let count = found.len();
    let logs: Arc<[u64]> = found.iter().map(|found| found.log.incarnation).collect();

    let mut opening = Vec::new();
    for Found { log, files, survey } in found {
        let (coordinator, entropy, logs) = (coordinator.clone(), entropy.clone(), logs.clone());
        let (wal_incarnation, succeeds) = (log.incarnation, log.succeeds);
        let opener = Opener { coordinator, entropy, node, wal_incarnation, logs, succeeds };
        let opened = opener.open_first(&shutdown).await?;
        if let Some(found) = survey.journal().filter(|found| *found != opened.id) {
            return Err(StartError::OtherJournal { given: opened.id.0, found: found.0 });
        }
        let store = store(opened.id)?;
        opening.push(async move {
            let restored = restore(&store, survey, &files, wal_incarnation).await?;
            let last = restored.state.last.epoch;
            if opened.epoch <= last {
                return Err(StartError::OldEpoch { journal: opened.id.0, got: opened.epoch, last });
            }
            Ok(Ready { opened, opener, files, store, restored })
        });
    }
    let ready = futures::future::try_join_all(opening).await?;

    let (wal_health, tier_health) = (Arc::new(Health::default()), Arc::new(Health::default()));
    let share = count as u64;
    let policy = policy(config, share, folds);
    let shared = Arc::new(Shared::new(share, bucket.is_local(), tier_health.clone()));
    let stop = CancellationToken::new();
    let mut served = BTreeMap::new();
    let mut running = Vec::new();
    for Ready { opened, opener, files, store, restored } in ready {
        let Restored { state, checkpoints, batches, recovered } = restored;
        let wal_incarnation = opener.wal_incarnation;
        let path = files.dir().to_owned();
        let journal = Journal::new(
            Parts {
                id: opened.id,
                node,
                wal_incarnation,
                state,
                files: files.clone(),
                data_dir: &data_dir,
                view: view.clone(),
                clock: clock.clone(),
                wal_max_bytes: config.wal_max_bytes,
                ahead_max_bytes: MAX_AHEAD_BYTES / share,
                memory_bytes: config.memory_bytes / share,
                producers: Remembered {
                    expiration_ms: i64::try_from(config.producer_id_expiration_ms).unwrap_or(i64::MAX),
                    max: MAX_PRODUCERS / count,
                },
                tier_at: policy.segment_bytes,
                health: wal_health.clone(),
            },
            &batches,
        );
        drop(batches);
        let writer = Writer::new(files, opened.id, wal_incarnation, recovered.end);
        journal.start(writer).map_err(|cause| StartError::Io { path, cause })?;
        if let Err(error) = journal.open(opened.epoch).await {
            // A disk that is full now may have room later, and reads go on meanwhile: the supervisor opens it then.
            if !matches!(journal.lock().phase, Phase::Reopening(_)) {
                return Err(StartError::Open(error));
            }
            tracing::warn!(journal = %opened.id, %error, "the journal cannot be appended to yet");
        }
        if let Some(succeeded) = opener.succeeds {
            copy::remove_log(&Files::new(data_dir.disk.clone(), data_dir.wal(succeeded), 0))?;
        }
        running.push((journal.clone(), opener, store.clone(), checkpoints));
        served.insert(opened.id, Served { journal, store });
    }
    let opened: Vec<_> = running.iter().map(|(journal, opener, ..)| (opener.wal_incarnation, journal.id)).collect();
    data_dir.logs_opened(&opened)?;

    let retention_check = Duration::from_millis(config.retention_check_ms);
    let journals = running.iter().map(|(journal, ..)| journal.clone()).collect();
    let mut tasks = vec![tokio::spawn(follow(view, journals, stop.clone()))];
    for (journal, opener, store, checkpoints) in running {
        tasks.push(tokio::spawn(journal.clone().supervise(opener, stop.clone())));
        tasks.push(tokio::spawn(retention::run(journal.clone(), store.clone(), retention_check, stop.clone())));
        let tiering = Tiering::new(journal, store, policy, entropy.clone(), shared.clone(), checkpoints);
        tasks.push(tokio::spawn(tiering.run(stop.clone())));
    }
    let tasks = Mutex::new(tasks);
    Ok(Arc::new(Service { journals: Arc::new(served), wal_health, tier_health, tasks, stop, _data_dir: data_dir }))
}

/// How many journals wait for a log after a rebuild, for each storage node that is there.
fn waiting_journals(state: &ClusterState) -> usize {
    let waiting = state.journals().filter(|journal| journal.replicas.is_empty()).count();
    waiting.div_ceil(state.nodes(Role::Storage).count().max(1))
}

/// Reads the headers of a log, and gives it another incarnation when it was emptied.
fn find(
    data_dir: &DataDir,
    mut log: Log,
    config: &Config,
    usage: &Arc<Usage>,
    entropy: &dyn tidemark_model::Entropy,
) -> Result<Found, StartError> {
    loop {
        let dir = data_dir.wal(log.incarnation);
        data_dir.disk.create_dir(&dir).map_err(|cause| StartError::NotWritable { dir: dir.clone(), cause })?;
        let files = Files::new(data_dir.disk.clone(), dir.clone(), config.wal_file_bytes).counted_in(usage.clone());
        let survey = survey(&files, log.incarnation)?;
        match (survey.journal(), log.journal, survey.other) {
            (Some(_), _, _) | (None, None, None) => return Ok(Found { log, files: Arc::new(files), survey }),
            (None, _, Some((_, found))) => {
                return Err(StartError::ForeignLog { dir, found, expected: log.incarnation });
            }
            (None, Some(journal), None) => {
                tracing::warn!(%journal, "the write-ahead log is gone: this node starts with a new one");
                let incarnation = data_dir.log_lost(log.incarnation, entropy)?;
                log = Log::new(incarnation);
            }
        }
    }
}

fn keys(view: &watch::Receiver<Arc<ClusterState>>, journal: JournalId) -> Result<JournalKeys, StartError> {
    let cluster = view.borrow().cluster_id.clone();
    JournalKeys::new(&cluster, journal).map_err(|error| StartError::ClusterId(error.0))
}

fn policy(config: &Config, journals: u64, folds: FoldLimits) -> Policy {
    let wal_pressure_bytes = config.wal_max_bytes / 100 * PRESSURE_PERCENT;
    Policy {
        // Not so late that the journals together fill the logs before any of them is due.
        segment_bytes: config.segment_bytes.min(wal_pressure_bytes / journals),
        segment_age: Duration::from_millis(config.segment_ms),
        checkpoint_bytes: config.wal_max_bytes / 100 * CHECKPOINT_PERCENT / journals,
        checkpoint_age: CHECKPOINT_AGE,
        delete_grace: Duration::from_millis(config.delete_grace_ms),
        wal_pressure_bytes,
        folds,
    }
}
