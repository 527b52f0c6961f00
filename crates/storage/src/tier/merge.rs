//! Merging: many short runs of a partition become a long one, and objects that are mostly dead are rewritten.
//!
//! [`select`] says which runs: neighbours that are short and together long enough to be done with, or so many that they
//! are to become fewer. A merge of the second kind makes the run that a byte is in at least [`FAN_IN`](select::FAN_IN) times as long, so a
//! byte is written once by the flush, at most log4 of (long enough / length of a flushed run) times on the way, and once
//! for good; with 1,000 partitions that share 50 MB/s that is twice in all. One object is written at a time, from the runs
//! of neighbouring partitions, which lie next to each other in every segment: so a source costs a read or two.

mod select;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tidemark_model::storage::AbortedTransaction;
use tidemark_model::topic_config::effective;
use tidemark_model::{Batch, TopicPartition};
use tidemark_segment::{EncodedSegment, FormatError, SegmentIndex, SegmentName, SegmentWriter, StoreError};
use tokio::time::Instant;

use super::flush::manifest_run;
use super::{TierError, Tiering};
use crate::disk::off_thread;
use crate::entry::{Entry, ManifestEdit, Run, RunRef};
use crate::metrics;
use crate::read::tiered_run;
use select::{Limits, Window, mostly_dead, windows};

/// How long runs that could be merged wait for as many as fill an object. Well below the hour after which a partition's
/// past is to be read in long runs.
const PATIENCE: Duration = Duration::from_secs(600);
/// A long run is this part of an object: 8 MiB of 128.
const RUNS_PER_OBJECT: u64 = 16;
/// Sources that are read at once.
const READS_AT_ONCE: usize = 4;
/// Bytes that nobody wants between two runs that are read with one request: cheaper than another request.
const GAP: u64 = 64 * 1024;
/// Bytes of one request.
const MAX_READ: u64 = 16 * 1024 * 1024;
/// Indexes of sources that are kept for the next object: those of a merge over all partitions.
const MAX_INDEXES: usize = 256;

/// What a merge remembers.
#[derive(Debug, Default)]
pub(super) struct Merging {
    /// When to look for something to merge.
    at: Option<Instant>,
    /// Since when there has been something, though too little for an object.
    since: Option<Instant>,
    indexes: BTreeMap<SegmentName, SegmentIndex>,
    /// Segments that could not be read: they stay as they are.
    unreadable: BTreeSet<SegmentName>,
}

/// A partition's part of the object to come.
#[derive(Default)]
struct Part {
    batches: Vec<Batch>,
    aborted: Vec<AbortedTransaction>,
}

/// What was read of one source.
type Parts = Vec<(TopicPartition, Part)>;

/// What is read of one source: its runs, in the order of their positions.
struct Source {
    name: SegmentName,
    object: String,
    runs: Vec<(TopicPartition, Run)>,
}

impl Merging {
    pub(super) fn new(now: Instant) -> Self {
        Self { at: Some(now), ..Self::default() }
    }

    /// The runs are others: look soon.
    pub(super) fn look(&mut self, at: Instant) {
        self.at = Some(self.at.map_or(at, |known| known.min(at)));
    }

    /// Whether a segment can be read, as far as is known.
    pub(super) fn reads(&self, name: SegmentName) -> bool {
        !self.unreadable.contains(&name)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.at
    }
}

impl Tiering {
    /// Merges as much as makes one object. Whether there was something to do.
    pub(super) async fn merge(&mut self) -> Result<bool, TierError> {
        let now = Instant::now();
        let selected = self.select_windows();
        let bytes: u64 = selected.iter().map(Window::bytes).sum();
        if selected.is_empty() {
            (self.merging.at, self.merging.since) = (None, None);
            return Ok(false);
        }
        let since = *self.merging.since.get_or_insert(now);
        if bytes < self.limits().object && since + PATIENCE > now {
            self.merging.at = Some(since + PATIENCE);
            return Ok(false);
        }
        self.merging.at = Some(now);
        let mut room = self.limits().object;
        let fits = |window: &Window| {
            let fits = window.bytes() <= room;
            room = room.saturating_sub(window.bytes());
            fits
        };
        let chosen: Vec<Window> = selected.into_iter().take_while(fits).collect();
        match self.write_merged(chosen).await {
            Ok(()) => self.merging.since = None,
            Err(Unmerged::Unreadable(name, error)) => {
                tracing::error!(journal = %self.journal.id, segment = %name, %error, "cannot read a segment to merge it");
                self.merging.unreadable.insert(name);
            }
            Err(Unmerged::Failed(error)) => return Err(error),
        }
        Ok(true)
    }

    /// Bytes of a run that is merged no more.
    pub(super) fn long_run(&self) -> u64 {
        self.limits().run
    }

    fn limits(&self) -> Limits {
        let object = self.policy.segment_bytes.clamp(1, super::flush::MAX_SEGMENT_BYTES);
        Limits { object, run: (object / RUNS_PER_OBJECT).max(1) }
    }

    /// What can be merged, in the order of the partitions; up to a bit more than an object.
    fn select_windows(&mut self) -> Vec<Window> {
        let limits = self.limits();
        let core = self.journal.lock();
        let unreadable = &self.merging.unreadable;
        self.merging.indexes.retain(|name, _| core.state.segments.contains_key(name));
        let rolls = |at: TopicPartition| match core.view.topic(at.topic) {
            Some(topic) => {
                let configs = effective(&topic.configs);
                (u64::try_from(configs.segment_bytes()).unwrap_or(u64::MAX), configs.segment_ms())
            }
            None => (u64::MAX, i64::MAX),
        };
        let short = windows(&core.state, limits, unreadable, rolls);
        if short.is_empty() { mostly_dead(&core.state, limits, unreadable) } else { short }
    }

    async fn write_merged(&mut self, windows: Vec<Window>) -> Result<(), Unmerged> {
        let started = Instant::now();
        // Never closed: see `flush`.
        let shared = self.shared.clone();
        let _segment = shared.segments.acquire().await.ok();
        let (sources, name) = self.sources(&windows);
        let read_runs: usize = sources.iter().map(|source| source.runs.len()).sum();
        let parts = self.read_sources(sources).await?;
        let journal = self.journal.id;
        let encode = move || -> Result<EncodedSegment, FormatError> {
            let mut writer = SegmentWriter::new(journal, name);
            for (partition, Part { batches, aborted }) in parts {
                writer.run(partition, batches, aborted)?;
            }
            writer.finish()
        };
        let EncodedSegment { chunks, size, index } = off_thread(&*self.journal.disk, encode)
            .await
            .unwrap_or(Err(FormatError::Magic("segment")))
            .map_err(TierError::from)?;
        let removed = windows
            .iter()
            .flat_map(|window| window.runs.iter().map(|run| (window.partition, run)))
            .map(|(partition, run)| RunRef { partition, first_offset: run.first_offset, segment: run.segment })
            .collect();
        let added: Vec<(TopicPartition, Run)> =
            index.runs.iter().map(|run| (run.partition, manifest_run(name, run))).collect();
        let written_runs = added.len();
        let edit = ManifestEdit { tiered_through: 0, segment: Some((name, size)), removed, added };
        self.put_and_edit(name, chunks, Entry::ManifestEdited(edit)).await?;
        self.folding.look();
        metrics::runs_merged(read_runs, written_runs, size, started.elapsed());
        Ok(())
    }

    /// What has to be read of which segment, and the name of what is made of it.
    fn sources(&mut self, windows: &[Window]) -> (Vec<Source>, SegmentName) {
        self.attempt += 1;
        let core = self.journal.lock();
        let mut name = SegmentName { epoch: core.epoch, first_index: u64::MAX, last_index: 0, attempt: self.attempt };
        let mut sources: BTreeMap<SegmentName, Source> = BTreeMap::new();
        for window in windows {
            for run in &window.runs {
                name.first_index = name.first_index.min(run.segment.first_index);
                name.last_index = name.last_index.max(run.segment.last_index);
                let new =
                    || Source { name: run.segment, object: self.store.keys.segment(run.segment), runs: Vec::new() };
                sources.entry(run.segment).or_insert_with(new).runs.push((window.partition, *run));
            }
        }
        let mut sources: Vec<Source> = sources.into_values().collect();
        sources.iter_mut().for_each(|source| source.runs.sort_by_key(|(_, run)| run.position));
        (sources, name)
    }

    /// The batches of all runs, by partition and in offset order, without those below the log start.
    async fn read_sources(&mut self, sources: Vec<Source>) -> Result<BTreeMap<TopicPartition, Part>, Unmerged> {
        for source in &sources {
            if !self.merging.indexes.contains_key(&source.name) {
                let Some((partition, run)) = source.runs.first() else { continue };
                let tiered = tiered_run(&self.journal.lock().state, *partition, run, &self.store.keys);
                let index = self.store.segment_index(&tiered).await.map_err(|error| unmerged(source.name, error))?;
                self.merging.indexes.insert(source.name, index);
            }
        }
        let (store, indexes) = (&self.store, &self.merging.indexes);
        let mut reads: Vec<BoxFuture<'_, Result<Parts, Unmerged>>> = Vec::new();
        for source in &sources {
            reads.push(read_source(store, source, &indexes[&source.name]).boxed());
        }
        let read: Vec<Parts> = stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await?;
        while self.merging.indexes.len() > MAX_INDEXES {
            self.merging.indexes.pop_first();
        }
        let mut parts: BTreeMap<TopicPartition, Vec<Part>> = BTreeMap::new();
        for (partition, part) in read.into_iter().flatten() {
            parts.entry(partition).or_default().push(part);
        }
        let core = self.journal.lock();
        let joined = parts.into_iter().map(|(partition, mut parts)| {
            let log_start = core.state.partitions.get(&partition).map_or(0, |state| state.log_start);
            parts.sort_by_key(|part| part.batches.first().map_or(0, |batch| batch.base_offset));
            let mut whole = Part::default();
            for part in parts {
                whole.batches.extend(part.batches.into_iter().filter(|batch| batch.last_offset() >= log_start));
                whole.aborted.extend(part.aborted);
            }
            (partition, whole)
        });
        Ok(joined.collect())
    }
}

/// Why nothing was merged.
enum Unmerged {
    /// This segment is not what the manifest says: leave it alone.
    Unreadable(SegmentName, StoreError),
    Failed(TierError),
}

impl<E: Into<TierError>> From<E> for Unmerged {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

fn unmerged(name: SegmentName, error: StoreError) -> Unmerged {
    match error {
        StoreError::NotFound(_) | StoreError::Corrupt { .. } => Unmerged::Unreadable(name, error),
        error => Unmerged::Failed(error.into()),
    }
}

/// Reads runs of one segment, neighbours together.
async fn read_source(store: &crate::store::Store, source: &Source, index: &SegmentIndex) -> Result<Parts, Unmerged> {
    let corrupt = |why: &str| StoreError::Corrupt { key: source.object.clone(), why: why.to_owned() };
    let mut parts = Vec::new();
    let mut next = 0;
    while next < source.runs.len() {
        let start = source.runs[next].1.position;
        let mut end = start + source.runs[next].1.length;
        let mut after = next + 1;
        while let Some((_, run)) = source.runs.get(after) {
            if run.position > end + GAP || run.position + run.length - start > MAX_READ {
                break;
            }
            end = end.max(run.position + run.length);
            after += 1;
        }
        let bytes = store.range(&source.object, start..end).await.map_err(|error| unmerged(source.name, error))?;
        for (partition, run) in &source.runs[next..after] {
            let decoded = (|| {
                let indexed = index.run(*partition).ok_or_else(|| corrupt("its index lacks a run"))?;
                let span =
                    indexed.blocks_span(0..indexed.blocks.len()).ok_or_else(|| corrupt("a run has no blocks"))?;
                if (indexed.position, indexed.length) != (run.position, run.length) {
                    return Err(corrupt("a run is not where the manifest has it"));
                }
                let at = (run.position - start) as usize;
                let batches = indexed
                    .decode(&span, &bytes.slice(at..at + run.length as usize))
                    .map_err(|why| StoreError::unreadable(&source.object, &why))?;
                Ok(Part { batches, aborted: indexed.aborted.clone() })
            })();
            parts.push((*partition, decoded.map_err(|error| unmerged(source.name, error))?));
        }
        next = after;
    }
    Ok(parts)
}
