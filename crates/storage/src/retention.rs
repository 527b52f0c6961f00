//! Retention: `retention.ms` and `retention.bytes` move log starts, as in Kafka in whole segments from the oldest on.
//!
//! What Kafka calls a segment is here a run in the object store, or a piece of what is not tiered yet, cut where Kafka
//! would have rolled by `segment.bytes` or `segment.ms`. The leader decides, by its clock, and the decision is an entry of
//! the journal. `local.retention.*` bounds what is kept on the disk of a broker of Kafka that tiers; here that is what is
//! not tiered yet and no more, within any such bound.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tidemark_model::TopicPartition;
use tidemark_model::topic_config::{Effective, effective};
use tidemark_segment::StoreError;
use tokio_util::sync::CancellationToken;

use crate::entry::{Children, Entry, Fold, LogStarts, Oldest, ROUTE_LEN};
use crate::folds;
use crate::journal::Journal;
use crate::journal::core::{Core, Phase};
use crate::metrics;
use crate::state::Piece;
use crate::store::Store;
use crate::wal::format::ENTRY_HEADER_LEN;

/// The first look comes this long after the start, as Kafka's does.
const FIRST_CHECK: Duration = Duration::from_secs(30);
/// Partitions that are looked at under one lock, and moved by one entry.
const AT_ONCE: usize = 1_000;
/// Framing of a batch in the write-ahead log, which retention does not count.
const FRAMING: u64 = (ENTRY_HEADER_LEN + ROUTE_LEN) as u64;

/// What goes or stays as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    last_offset: i64,
    bytes: u64,
    /// Negative when none of its records has a timestamp.
    max_timestamp: i64,
}

/// What a topic wants of its past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rules {
    ms: Option<i64>,
    bytes: Option<u64>,
    segment_bytes: u64,
    segment_ms: i64,
}

/// What is due of some partitions.
struct Due {
    moves: Vec<(TopicPartition, i64)>,
    /// Those whose log is to start somewhere in a fold.
    folded: Vec<(TopicPartition, Folded)>,
    /// The last one, when there are more partitions.
    last: Option<TopicPartition>,
}

/// A log part of which is listed in index objects, oldest first.
struct Folded {
    items: Vec<Item>,
    log_start: i64,
    rules: Rules,
}

enum Item {
    Whole(Segment),
    Fold(Fold),
}

enum Decision {
    Keep,
    Move(i64),
    /// It depends on what this item, a fold, lists.
    Open(usize),
}

/// Looks every `interval` until shutdown.
pub(crate) async fn run(journal: Arc<Journal>, store: Store, interval: Duration, shutdown: CancellationToken) {
    let mut wait = interval.min(FIRST_CHECK);
    while shutdown.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
        if shutdown.run_until_cancelled(check(&journal, &store)).await.is_none() {
            return;
        }
        wait = interval;
    }
}

async fn check(journal: &Journal, store: &Store) {
    let mut after = Bound::Unbounded;
    loop {
        let (mut moves, folded, last, time_ms) = {
            let core = journal.lock();
            if core.phase != Phase::Serving {
                return;
            }
            let time_ms = core.clock.now_ms();
            let Due { moves, folded, last } = core.due_moves(after, time_ms);
            (moves, folded, last, time_ms)
        };
        for (at, log) in folded {
            match log.log_start(store, at, time_ms).await {
                Ok(log_start) => moves.extend(log_start.map(|log_start| (at, log_start))),
                // The next look finds the same again.
                Err(error) => tracing::debug!(journal = %journal.id, %at, %error, "retention has to wait"),
            }
        }
        if !moves.is_empty() {
            let partitions = moves.len();
            match journal.append_entry(Entry::LogStartsMoved(LogStarts { time_ms, moves })).await {
                Ok(_) => metrics::retention_moved(partitions),
                // The next look finds the same again.
                Err(error) => return tracing::debug!(journal = %journal.id, %error, "retention has to wait"),
            }
        }
        match last {
            Some(last) => after = Bound::Excluded(last),
            None => return,
        }
    }
}

impl Core {
    /// What is due of the next partitions.
    fn due_moves(&self, after: Bound<TopicPartition>, now_ms: i64) -> Due {
        let mut partitions = self.state.partitions.range((after, Bound::Unbounded));
        let (mut moves, mut folded, mut last) = (Vec::new(), Vec::new(), None);
        for (at, state) in partitions.by_ref().take(AT_ONCE) {
            last = Some(*at);
            let topic = self.view.topic(at.topic);
            let Some(rules) = topic.and_then(|topic| Rules::of(effective(&topic.configs))) else { continue };
            // Seldom needed: not made before it is.
            let tail = std::iter::once_with(|| self.tail_segments(*at, state.tiered_end(), rules)).flatten();
            if !state.folds.is_empty() {
                let pieces = state.pieces(state.log_start).map(|piece| match piece {
                    Piece::Fold(fold) => Item::Fold(*fold),
                    Piece::Run(run) => Item::Whole(Segment::of(run.oldest())),
                });
                let log =
                    Folded { items: pieces.chain(tail.map(Item::Whole)).collect(), log_start: state.log_start, rules };
                match log.decide(now_ms) {
                    Decision::Keep => {}
                    Decision::Move(log_start) => moves.push((*at, log_start)),
                    Decision::Open(_) => folded.push((*at, log)),
                }
                continue;
            }
            let tiered = state.runs.iter().map(|run| Segment::of(run.oldest()));
            if let Some(log_start) = rules.log_start(tiered.chain(tail), now_ms) {
                moves.push((*at, log_start));
            }
        }
        Due { moves, folded, last: partitions.next().and(last) }
    }

    /// What is not tiered, cut where Kafka would have rolled.
    fn tail_segments(&self, at: TopicPartition, from: i64, rules: Rules) -> Vec<Segment> {
        let mut segments: Vec<Segment> = Vec::new();
        let mut first_timestamp = 0;
        let log = self.slots.get(&at).map(|slot| &slot.log);
        for batch in log.into_iter().flat_map(|log| log.starting_at_or_after(from)) {
            let bytes = (batch.len() as u64).saturating_sub(FRAMING);
            match segments.last_mut() {
                Some(open)
                    if open.bytes + bytes <= rules.segment_bytes
                        && batch.max_timestamp.saturating_sub(first_timestamp) <= rules.segment_ms =>
                {
                    open.bytes += bytes;
                    open.last_offset = batch.last_offset;
                    open.max_timestamp = open.max_timestamp.max(batch.max_timestamp);
                }
                _ => {
                    first_timestamp = batch.max_timestamp;
                    let (last_offset, max_timestamp) = (batch.last_offset, batch.max_timestamp);
                    segments.push(Segment { last_offset, bytes, max_timestamp });
                }
            }
        }
        segments
    }
}

impl Segment {
    fn of(run: Oldest) -> Self {
        Self { last_offset: run.last_offset, bytes: run.length, max_timestamp: run.max_timestamp }
    }
}

impl Folded {
    /// Where the log is to start, by what the index objects list.
    async fn log_start(mut self, store: &Store, at: TopicPartition, now_ms: i64) -> Result<Option<i64>, StoreError> {
        loop {
            let item = match self.decide(now_ms) {
                Decision::Keep => return Ok(None),
                Decision::Move(log_start) => return Ok(Some(log_start)),
                Decision::Open(item) => item,
            };
            let Item::Fold(fold) = &self.items[item] else { return Ok(None) };
            let children: Vec<Item> = match folds::left_in(store, at, fold, self.log_start).await? {
                Children::Runs(runs) => runs.iter().map(|run| Item::Whole(Segment::of(run.oldest()))).collect(),
                Children::Folds(folds) => folds.into_iter().map(Item::Fold).collect(),
            };
            self.items.splice(item..=item, children);
        }
    }

    /// A fold is its first run and all the rest. Where the first has to go and the rest has not, what it lists decides.
    fn decide(&self, now_ms: i64) -> Decision {
        let mut segments: Vec<(Segment, Option<usize>)> = Vec::new();
        for (n, item) in self.items.iter().enumerate() {
            match item {
                Item::Whole(segment) => segments.push((*segment, None)),
                Item::Fold(fold) => {
                    let (mut bytes, last_offset) = (fold.bytes, fold.last_offset);
                    // Of one whose beginning is gone and not opened yet the first is not known: it goes late, not early.
                    if fold.oldest.last_offset >= self.log_start && fold.oldest.last_offset < last_offset {
                        segments.push((Segment::of(fold.oldest), Some(n)));
                        bytes = bytes.saturating_sub(fold.oldest.length);
                    }
                    segments.push((Segment { last_offset, bytes, max_timestamp: fold.max_timestamp }, None));
                }
            }
        }
        let Some(log_start) = self.rules.log_start(segments.iter().map(|(segment, _)| *segment), now_ms) else {
            return Decision::Keep;
        };
        let last_gone = segments.iter().find(|(segment, _)| segment.last_offset + 1 == log_start);
        match last_gone {
            Some((_, Some(fold))) => Decision::Open(*fold),
            _ => Decision::Move(log_start),
        }
    }
}

impl Rules {
    /// Nothing for a topic that keeps everything.
    fn of(configs: Effective<'_>) -> Option<Self> {
        if !configs.cleanup_policy().delete {
            return None;
        }
        let ms = (configs.retention_ms() >= 0).then(|| configs.retention_ms());
        let bytes = u64::try_from(configs.retention_bytes()).ok();
        let segment_bytes = u64::try_from(configs.segment_bytes()).unwrap_or(u64::MAX);
        (ms.is_some() || bytes.is_some()).then_some(Self { ms, bytes, segment_bytes, segment_ms: configs.segment_ms() })
    }

    /// Where the log is to start, when segments have to go. Kafka's two passes: by age, oldest first, up to one that is
    /// young enough; then by size, as many as leave at least what is to be kept.
    fn log_start(self, segments: impl Iterator<Item = Segment> + Clone, now_ms: i64) -> Option<i64> {
        let too_old = |segment: &Segment| {
            let age = now_ms.saturating_sub(segment.max_timestamp);
            segment.max_timestamp >= 0 && self.ms.is_some_and(|ms| age > ms)
        };
        let mut left = segments.clone();
        let mut last_gone = None;
        let mut rest = left.next();
        while let Some(segment) = rest.filter(too_old) {
            last_gone = Some(segment.last_offset);
            rest = left.next();
        }
        if let Some(keep) = self.bytes {
            let size: u64 = rest.iter().chain(&left.clone().collect::<Vec<_>>()).map(|segment| segment.bytes).sum();
            let mut over = size.saturating_sub(keep);
            while let Some(segment) = rest.filter(|segment| size >= keep && over >= segment.bytes) {
                over -= segment.bytes;
                last_gone = Some(segment.last_offset);
                rest = left.next();
            }
        }
        last_gone.map(|last| last + 1)
    }
}

#[cfg(test)]
mod tests;
