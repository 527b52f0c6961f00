//! The manifest: which runs hold a partition's tiered offsets, and which segments the runs are in. For what is long past
//! see [`super::folds`].

use super::{Changed, SegmentState, State};
use crate::entry::{Fold, ManifestEdit, Run, RunRef};
use tidemark_model::TopicPartition;
use tidemark_segment::SegmentName;

impl State {
    /// Replaces exactly the removed runs by the added ones. When one of those to be removed is gone, only what the edit
    /// says of the tiered index stands, and its segment is garbage.
    pub(super) fn edit_manifest(&mut self, edit: &ManifestEdit, index: u64) {
        let ManifestEdit { tiered_through, segment, removed, added } = edit;
        self.tiered_through = self.tiered_through.max(*tiered_through);
        if let Some((name, size)) = segment {
            self.intents.remove(name);
            let data = added.iter().map(|(_, run)| run.length).fold(0, u64::saturating_add);
            self.segments.insert(*name, SegmentState { size: *size, data, runs: 0, live: 0 });
            self.changes.object(*name, index);
        }
        if removed.iter().all(|run| self.run_position(run).is_some()) {
            for run in removed {
                self.remove_run(run, index);
            }
            for (partition, run) in added {
                // The partition's topic may have been deleted while the segment was written.
                let Some(state) = self.partitions.get_mut(partition) else { continue };
                // Or its log start moved past the run.
                if run.last_offset < state.log_start {
                    continue;
                }
                let at = state.runs.partition_point(|other| other.first_offset < run.first_offset);
                state.runs.insert(at, *run);
                state.changed = Changed(index);
                self.changes.object(run.segment, index);
                if let Some(segment) = self.segments.get_mut(&run.segment) {
                    segment.runs += 1;
                    segment.live = segment.live.saturating_add(run.length);
                }
            }
        }
        if let Some((name, _)) = segment {
            self.drop_if_unused(*name, index);
        }
    }

    /// Moves a log start and drops the runs that lie below it whole. Whether it moved: it never goes back, nor past the
    /// high watermark.
    pub(super) fn move_log_start(&mut self, at: TopicPartition, log_start: i64, index: u64) -> bool {
        let Some(state) = self.partitions.get_mut(&at) else { return false };
        let log_start = log_start.min(state.high_watermark);
        if log_start <= state.log_start {
            return false;
        }
        state.set_log_start(log_start);
        state.changed = Changed(index);
        let below = state.runs.partition_point(|run| run.last_offset < log_start);
        let dropped: Vec<Run> = state.runs.drain(..below).collect();
        let below = state.folds.partition_point(|fold| fold.last_offset < log_start);
        let closed: Vec<Fold> = state.folds.drain(..below).collect();
        dropped.iter().for_each(|run| self.release(run.segment, run.length, index));
        closed.iter().for_each(|fold| self.close(at, fold));
        true
    }

    /// One run less, of this length, is in the segment.
    pub(super) fn release(&mut self, name: SegmentName, length: u64, index: u64) {
        self.changes.object(name, index);
        if let Some(segment) = self.segments.get_mut(&name) {
            segment.runs = segment.runs.saturating_sub(1);
            segment.live = segment.live.saturating_sub(length);
        }
        self.drop_if_unused(name, index);
    }

    pub(super) fn drop_if_unused(&mut self, name: SegmentName, index: u64) {
        if self.segments.get(&name).is_some_and(|segment| segment.runs == 0) {
            self.segments.remove(&name);
            self.changes.object(name, index);
            self.garbage.insert(name, index);
        }
    }

    fn run_position(&self, run: &RunRef) -> Option<usize> {
        let runs = &self.partitions.get(&run.partition)?.runs;
        let at = runs.partition_point(|other| other.first_offset < run.first_offset);
        (runs.get(at)?.first_offset == run.first_offset && runs[at].segment == run.segment).then_some(at)
    }

    fn remove_run(&mut self, run: &RunRef, index: u64) {
        if let (Some(at), Some(state)) = (self.run_position(run), self.partitions.get_mut(&run.partition)) {
            let removed = state.runs.remove(at);
            state.changed = Changed(index);
            self.release(removed.segment, removed.length, index);
        }
    }
}
