//! Reading what index objects list: runs that are too long past for the manifest to have them in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tidemark_model::{TieredRun, TopicPartition};
use tidemark_segment::index::{MAX_SECTION_LEN, Section};
use tidemark_segment::{Bucket, FormatError, JournalKeys, SegmentName, StoreError};

use crate::entry::{Children, Content, Fold, Run};
use crate::state::State;
use crate::store::Store;

/// Sections that a journal keeps in memory once they were read: a few kilobytes each.
const CACHED: usize = 256;

/// The sections that were read last.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    sections: BTreeMap<(SegmentName, u64), Arc<Content>>,
    /// In the order in which they came.
    order: VecDeque<(SegmentName, u64)>,
}

impl Cache {
    pub(crate) fn get(&self, fold: &Fold) -> Option<Arc<Content>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.sections.get(&(fold.object, fold.position)).cloned()
    }

    pub(crate) fn put(&self, fold: &Fold, content: Arc<Content>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (fold.object, fold.position);
        if kept.sections.insert(key, content).is_none() {
            kept.order.push_back(key);
        }
        while kept.order.len() > CACHED {
            if let Some(oldest) = kept.order.pop_front() {
                kept.sections.remove(&oldest);
            }
        }
    }
}

/// Reads what a fold lists, past any cache.
pub(crate) async fn read(
    bucket: &Bucket,
    keys: &JournalKeys,
    at: TopicPartition,
    fold: &Fold,
) -> Result<Content, StoreError> {
    let key = keys.segment(fold.object);
    let corrupt = |why: String| StoreError::Corrupt { key: key.clone(), why };
    if fold.length > MAX_SECTION_LEN {
        return Err(corrupt(format!("a section of {} bytes", fold.length)));
    }
    let bytes = bucket.get_range(&key, fold.position..fold.position.saturating_add(fold.length)).await?;
    let section = Section::parse(&bytes).map_err(|why: FormatError| StoreError::unreadable(&key, &why))?;
    if section.partition != at {
        return Err(corrupt(format!("the section is of {}, not of {at}", section.partition)));
    }
    let content = Content::decode(&section.content).map_err(|why| corrupt(why.to_string()))?;
    let leaf = matches!(content.children, Children::Runs(_));
    if leaf != (fold.level == 0) || content.children.last_offset() != Some(fold.last_offset) {
        return Err(corrupt(format!("a section that is not the fold {} to {}", fold.first_offset, fold.last_offset)));
    }
    Ok(content)
}

/// The runs from the one on that holds `offset`, as far as one section of runs has them. None when the fold has none there.
pub(crate) async fn runs_at(
    store: &Store,
    at: TopicPartition,
    fold: Fold,
    offset: i64,
) -> Result<Vec<TieredRun>, StoreError> {
    let mut fold = fold;
    loop {
        let content = store.fold(at, &fold).await?;
        match &content.children {
            Children::Runs(runs) => {
                let here = runs.iter().filter(|run| run.last_offset >= offset.max(fold.opened));
                return Ok(here.map(|run| listed_run(store, &content, at, run)).collect());
            }
            Children::Folds(folds) => {
                let wanted = folds.iter().find(|child| child.last_offset >= offset.max(fold.opened));
                let Some(child) = wanted else { return Ok(Vec::new()) };
                fold = *child;
            }
        }
    }
}

/// The first run that has a record at `from` or above and one with this timestamp or a later one.
pub(crate) fn first_run(
    store: &Store,
    at: TopicPartition,
    fold: Fold,
    from: i64,
    timestamp: i64,
) -> BoxFuture<'_, Result<Option<TieredRun>, StoreError>> {
    async move {
        let content = store.fold(at, &fold).await?;
        let from = from.max(fold.opened);
        match &content.children {
            Children::Runs(runs) => {
                let found = runs.iter().find(|run| run.last_offset >= from && run.max_timestamp >= timestamp);
                Ok(found.map(|run| listed_run(store, &content, at, run)))
            }
            Children::Folds(folds) => {
                for child in folds.iter().filter(|child| child.last_offset >= from && child.max_timestamp >= timestamp)
                {
                    // A child of which the beginning is gone may have had the timestamp there.
                    if let Some(found) = first_run(store, at, *child, from, timestamp).await? {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
        }
    }
    .boxed()
}

/// Of the runs that have a record at `from` or above the first one with the largest timestamp.
pub(crate) fn largest_run(
    store: &Store,
    at: TopicPartition,
    fold: Fold,
    from: i64,
) -> BoxFuture<'_, Result<Option<TieredRun>, StoreError>> {
    async move {
        let content = store.fold(at, &fold).await?;
        let from = from.max(fold.opened);
        match &content.children {
            Children::Runs(runs) => {
                let above = runs.iter().filter(|run| run.last_offset >= from);
                let largest = above.reduce(|best, run| if run.max_timestamp > best.max_timestamp { run } else { best });
                Ok(largest.map(|run| listed_run(store, &content, at, run)))
            }
            Children::Folds(folds) => {
                let mut best: Option<TieredRun> = None;
                for child in folds.iter().filter(|child| child.last_offset >= from) {
                    // What it says of itself is a bound, and of one whose beginning is gone no more than that.
                    if best.as_ref().is_none_or(|best| child.max_timestamp > best.max_timestamp)
                        && let Some(run) = largest_run(store, at, *child, from).await?
                        && best.as_ref().is_none_or(|best| run.max_timestamp > best.max_timestamp)
                    {
                        best = Some(run);
                    }
                }
                Ok(best)
            }
        }
    }
    .boxed()
}

/// What is left in a fold of a log that starts here.
pub(crate) async fn left_in(
    store: &Store,
    at: TopicPartition,
    fold: &Fold,
    log_start: i64,
) -> Result<Children, StoreError> {
    let content = store.fold(at, fold).await?;
    let from = fold.opened.max(log_start);
    Ok(match &content.children {
        Children::Runs(runs) => Children::Runs(runs.iter().filter(|run| run.last_offset >= from).copied().collect()),
        Children::Folds(folds) => {
            Children::Folds(folds.iter().filter(|child| child.last_offset >= from).copied().collect())
        }
    })
}

/// The names of all objects that a state refers to, those included that only its index objects know.
pub async fn objects(bucket: &Bucket, keys: &JournalKeys, state: &State) -> Result<BTreeSet<SegmentName>, StoreError> {
    let mut objects: BTreeSet<SegmentName> = state.segments.keys().copied().collect();
    let of_partitions =
        state.partitions.iter().flat_map(|(at, partition)| partition.folds.iter().map(|fold| (*at, *fold)));
    let closing = state.closing.iter().map(|((_, at), fold)| (*at, *fold));
    let mut folds: Vec<(TopicPartition, Fold)> = of_partitions.chain(closing).collect();
    while let Some((at, fold)) = folds.pop() {
        objects.insert(fold.object);
        match read(bucket, keys, at, &fold).await?.children {
            Children::Runs(runs) => {
                objects.extend(runs.iter().filter(|run| run.last_offset >= fold.opened).map(|run| run.segment));
            }
            Children::Folds(children) => {
                folds
                    .extend(children.iter().filter(|child| child.last_offset >= fold.opened).map(|child| (at, *child)));
            }
        }
    }
    Ok(objects)
}

/// A run as readers of the object store need it.
fn listed_run(store: &Store, content: &Content, at: TopicPartition, run: &Run) -> TieredRun {
    let object_size = content.object(run.segment).map_or(0, |object| object.size);
    crate::read::tiered(at, run, object_size, &store.keys)
}
