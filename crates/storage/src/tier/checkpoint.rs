//! A checkpoint: the state in the object store, after which the write-ahead log behind it and the manifest can go.

use tidemark_segment::{Checkpoint, CheckpointName};
use tokio::time::Instant;

use super::{TierError, Tiering};
use crate::entry::Entry;
use crate::metrics;

impl Tiering {
    pub(super) async fn checkpoint(&mut self) -> Result<(), TierError> {
        let started = Instant::now();
        let (name, state) = {
            let core = self.journal.lock();
            let last = core.state.last;
            (CheckpointName { epoch: last.epoch, index: last.index }, core.state.encode())
        };
        // What changes from here on is for the next one.
        let (changed, tiered) = (self.changed.take(), std::mem::take(&mut self.tiered_since_checkpoint));
        let size = state.len();
        let checkpoint = Checkpoint { journal: self.journal.id, name, state };
        if let Err(error) = self.store.put_checkpoint(&checkpoint).await {
            (self.changed, self.tiered_since_checkpoint) = (changed, self.tiered_since_checkpoint + tiered);
            self.strays_until = Some(Instant::now() + self.policy.delete_grace);
            return Err(error.into());
        }
        self.journal.append_entry(Entry::CheckpointWritten(name)).await?;
        // What the checkpoint has need not be replayed, and what is tiered need not be read.
        let needed = name.index.min(self.journal.lock().state.tiered_through) + 1;
        let freed = self.journal.files.trim(needed);
        metrics::checkpoint_written(size as u64, started.elapsed());
        tracing::debug!(journal = %self.journal.id, index = name.index, bytes = size, freed, "checkpoint");
        // What earlier lives left behind is found by a listing, and so is what could not be deleted.
        match self.last_checkpoint.take() {
            Some(last) => self.store.delete_checkpoint(last).await?,
            None => self.store.delete_checkpoints_before(name).await?,
        }
        self.last_checkpoint = Some(name);
        // Log starts may have moved, and left objects mostly dead.
        self.merging.look(Instant::now());
        self.folding.look();
        Ok(())
    }
}
