//! Deleting objects: those that the manifest dropped, and those that never got into it.

use tidemark_segment::SegmentName;
use tokio::time::Instant;

use super::{TierError, Tiering};
use crate::entry::Entry;
use crate::metrics;

impl Tiering {
    /// Deletes the objects whose time has come, and says whether there were any.
    pub(super) async fn clean_up(&mut self) -> Result<bool, TierError> {
        let now = Instant::now();
        if self.chain.alone && self.strays_until.is_some_and(|until| until <= now) {
            self.store.delete_checkpoints_but(&self.chain.names()).await?;
            self.strays_until = None;
            return Ok(true);
        }
        {
            let core = self.journal.lock();
            let state = &core.state;
            let checkpointed = state.checkpoint.map_or(0, |checkpoint| checkpoint.index);
            // A checkpoint that still has the run could be where the next leader starts from.
            let droppable = state.garbage.iter().filter(|(_, dropped_at)| **dropped_at <= checkpointed);
            for (name, _) in droppable {
                self.doomed.entry(*name).or_insert(now + self.policy.delete_grace);
            }
            if state.garbage.values().any(|dropped_at| *dropped_at > checkpointed) {
                self.changed.get_or_insert(now);
                self.garbage_since.get_or_insert(now);
            } else {
                self.garbage_since = None;
            }
            // What was doomed because its outcome was unknown may have turned out well.
            self.doomed.retain(|name, _| state.intents.contains(name) || state.garbage.contains_key(name));
        }
        let due: Vec<SegmentName> = self.doomed.iter().filter(|(_, at)| **at <= now).map(|(name, _)| *name).collect();
        if due.is_empty() {
            return Ok(false);
        }
        self.store.delete_segments(&due).await?;
        self.journal.append_entry(Entry::ObjectsDeleted(due.clone())).await?;
        for name in &due {
            self.doomed.remove(name);
        }
        metrics::objects_deleted(due.len());
        Ok(true)
    }
}
