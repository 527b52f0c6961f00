//! `tidemark storage rebuild`: a cluster made again from its bucket, with whatever write-ahead logs are still there.
//!
//! First all is read and [told](report), then, unless that is all that was wanted, the bucket is claimed anew, so that nothing
//! of the cluster from before writes to it any more, and only then anything is written: what new logs begin on to the bucket, and
//! the metadata to a store that has to be empty. Cut short, it can be run again.

mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tidemark_coordinator::Metadata;
use tidemark_coordinator::rebuild::{JournalFound, Journals, Log, PartitionFound, Plan, Saved, check_empty, write};
use tidemark_model::{Claim, Clock, Entropy, JournalId};
use tidemark_runtime::seams::{OsEntropy, SystemClock};
use tidemark_segment::checkpoint::Damaged;
use tidemark_segment::{Bucket, Holder, MetadataKeys, MetadataSnapshot};
use tidemark_storage::rebuild::{Found, Objects, SurvivingLog, Survivor, surviving};

use crate::Config;

/// What is to be rebuilt, and from where.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub bucket: String,
    pub metadata: String,
    /// Needed where the bucket has more clusters than one, and no claim.
    pub cluster_id: Option<String>,
    /// Data directories of storage nodes that are still there.
    pub wal_dirs: Vec<PathBuf>,
    /// Journals whose logs are still there, on disks that this machine does not have.
    pub wals_of: Vec<u32>,
    /// Only tell what would come back.
    pub dry_run: bool,
}

impl Request {
    /// Of a standalone, by its configuration.
    pub fn standalone(config: &Config) -> anyhow::Result<Self> {
        let dir = std::path::absolute(&config.data_dir)?;
        let config = Config { data_dir: dir, ..config.clone() };
        let bucket = match config.object_store.as_str() {
            "" => format!("file://{}", config.objects_dir().display()),
            url => url.to_owned(),
        };
        let metadata = format!("file://{}", config.metadata_file().display());
        Ok(Self { bucket, metadata, wal_dirs: vec![config.storage_dir()], ..Self::default() })
    }
}

/// All that was found.
struct Inventory {
    bucket: Bucket,
    holder: Option<Holder>,
    cluster: String,
    snapshot: Option<(u64, MetadataSnapshot)>,
    /// Snapshots that are newer, and cannot be read.
    damaged: Vec<Damaged>,
    saved: Saved,
    logs: BTreeMap<JournalId, Log>,
    found: Vec<Found>,
    plan: Plan,
}

/// Rebuilds. What was found, and what was done, is told to `tell`, in lines for a person.
pub async fn run(request: Request, tell: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
    let inventory = look(&request).await?;
    tell(&report::inventory(&inventory, SystemClock.now_ms()));
    if request.dry_run {
        tell("Nothing was changed: this was a dry run.\n");
        return Ok(());
    }
    let Inventory { bucket, holder, cluster, found, plan, .. } = &inventory;
    let metadata = Metadata::parse(&request.metadata)?;
    if let Metadata::File(path) = &metadata
        && let Some(dir) = path.parent()
    {
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    let store = metadata.open().await?;
    check_empty(&*store, metadata.cluster()).await?;

    let generation = holder.as_ref().map_or(0, |holder| holder.claim.generation);
    let generation = generation.checked_add(1).context("the bucket was claimed too often")?;
    let claim = Claim { generation, id: OsEntropy.next_u64() };
    let rebuilt = Holder { cluster: cluster.clone(), claim };
    rebuilt.take(bucket).await?;
    let bucket = bucket.guarded(rebuilt.clone());
    for found in found {
        if let Some(epoch) = plan.epochs.get(&found.journal) {
            found.write(&bucket, cluster, *epoch).await?;
        }
    }
    write(&*store, metadata.cluster(), cluster, claim, plan).await?;
    tell(&report::done(&inventory, &rebuilt));
    Ok(())
}

async fn look(request: &Request) -> anyhow::Result<Inventory> {
    let bucket = Bucket::open(&request.bucket, std::env::vars(), Arc::new(OsEntropy))?;
    let holder = Holder::of(&bucket).await?;
    let cluster = match (&holder, &request.cluster_id) {
        (Some(holder), Some(id)) if holder.cluster != *id => bail!("the bucket belongs to {holder}, not to {id}"),
        (Some(Holder { cluster, .. }), _) | (None, Some(cluster)) => cluster.clone(),
        (None, None) => only_cluster(&bucket).await?,
    };
    let found = MetadataSnapshot::newest(&bucket, &MetadataKeys::new(&cluster)?).await?;
    let (snapshot, damaged) = (found.snapshot, found.damaged);
    let saved = snapshot.as_ref().map(|(_, snapshot)| Saved::read(snapshot)).transpose();
    let saved = saved.map_err(|why| anyhow::anyhow!("the snapshot of the metadata: {why}"))?.unwrap_or_default();

    let (mut logs, mut told) = (BTreeMap::new(), BTreeMap::new());
    for dir in &request.wal_dirs {
        let Some(Survivor { name, logs: there }) = surviving(dir)? else { continue };
        for SurvivingLog { journal, incarnation, told: of_log } in there {
            told.insert(journal, of_log);
            logs.insert(journal, Log::On { node: name.clone(), incarnation });
        }
    }
    for id in &request.wals_of {
        let id = JournalId(*id);
        if !saved.journals.contains_key(&id) {
            bail!(
                "the snapshot has no journal {id}, so that nobody knows which node its log is on: give its directory"
            );
        }
        logs.entry(id).or_insert(Log::Kept);
    }
    let objects = Objects::list(&bucket, &cluster).await?;
    let ids: BTreeSet<JournalId> =
        saved.journals.keys().chain(logs.keys()).copied().chain(objects.journals()).collect();
    let mut found = Vec::new();
    for id in ids {
        let mut of_journal = objects.find(&bucket, &cluster, id, !logs.contains_key(&id)).await?;
        if let Some(told) = told.get(&id) {
            of_journal.add(told);
        }
        found.push(of_journal);
    }
    let plan = Plan::of(&saved, &journals(&found, &logs));
    Ok(Inventory { bucket, holder, cluster, snapshot, damaged, saved, logs, found, plan })
}

/// The one cluster that has anything in a bucket that was never claimed.
async fn only_cluster(bucket: &Bucket) -> anyhow::Result<String> {
    let objects = bucket.list("").await?;
    let of_clusters = objects.iter().filter_map(|object| {
        let (cluster, rest) = object.key.split_once('/')?;
        (rest.starts_with("journals/") || rest.starts_with("metadata/")).then(|| cluster.to_owned())
    });
    let clusters: BTreeSet<String> = of_clusters.collect();
    match clusters.iter().next() {
        Some(only) if clusters.len() == 1 => Ok(only.clone()),
        Some(_) => bail!("the bucket {} has several clusters: {clusters:?}. Give one by --cluster-id", bucket.url()),
        None => bail!("the bucket {} has nothing of a cluster", bucket.url()),
    }
}

fn journals(found: &[Found], logs: &BTreeMap<JournalId, Log>) -> Journals {
    let journal = |found: &Found| {
        let partitions = found.partitions.iter().map(|found| PartitionFound {
            partition: found.partition,
            leader_epoch: found.leader_epoch,
            revision: found.revision,
        });
        let log = logs.get(&found.journal).cloned().unwrap_or_default();
        (found.journal, JournalFound { epoch: found.epoch, log, partitions: partitions.collect() })
    };
    Journals {
        journals: found.iter().map(journal).collect(),
        producer_id: found.iter().filter_map(|found| found.producer_id).max(),
        revision: found.iter().map(|found| found.revision).max().unwrap_or(0),
    }
}
