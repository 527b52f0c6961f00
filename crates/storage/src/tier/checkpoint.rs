//! A checkpoint: the state in the object store, after which the write-ahead log behind it and the manifest can go.
//!
//! It says what changed since the one before, and builds on that and what that builds on, so that it costs what changed.
//! A reader needs all of them: one takes in those before it that are not much longer than itself. So each is at least
//! twice as long as the next, they are few, and what is rewritten is a few times what changes. All is one object, one PUT.

use tidemark_segment::checkpoint::Base;
use tidemark_segment::{Checkpoint, CheckpointName};
use tokio::time::Instant;

use super::{TierError, Tiering};
use crate::entry::Entry;
use crate::metrics;
use crate::state::State;

/// Most that a checkpoint builds on: a start reads them.
const MAX_BASES: usize = 12;

/// The newest checkpoint and those that it builds on, oldest first.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) parts: Vec<Base>,
    /// Whether there is none in the object store but these.
    pub(super) alone: bool,
}

impl Chain {
    pub(super) fn names(&self) -> Vec<CheckpointName> {
        self.parts.iter().map(|part| part.name).collect()
    }

    /// How many of the parts the next one builds on.
    fn kept(&self, state: &State) -> usize {
        let mut kept = self.parts.len();
        while let Some(last) = kept.checked_sub(1).and_then(|last| self.parts.get(last)) {
            if kept <= MAX_BASES && last.len > 2 * state.len_since(last.name.index) {
                break;
            }
            kept -= 1;
        }
        kept
    }
}

impl Tiering {
    pub(super) async fn checkpoint(&mut self) -> Result<(), TierError> {
        let started = Instant::now();
        let (name, bases, state) = {
            let core = self.journal.lock();
            let last = core.state.last;
            let bases = self.chain.parts[..self.chain.kept(&core.state)].to_vec();
            let since = bases.last().map_or(0, |base| base.name.index);
            (CheckpointName { epoch: last.epoch, index: last.index }, bases, core.state.encode_since(since))
        };
        // What changes from here on is for the next one.
        let (changed, tiered) = (self.changed.take(), std::mem::take(&mut self.tiered_since_checkpoint));
        let (len, kept) = (state.len() as u64, bases.len());
        let checkpoint = Checkpoint { journal: self.journal.id, name, bases, state };
        if let Err(error) = self.store.put_checkpoint(&checkpoint).await {
            (self.changed, self.tiered_since_checkpoint) = (changed, self.tiered_since_checkpoint + tiered);
            self.strays_until = Some(Instant::now() + self.policy.delete_grace);
            return Err(error.into());
        }
        if let Err(error) = self.journal.append_entry(Entry::CheckpointWritten(name)).await {
            // It is there all the same, and the next one does not build on it.
            self.chain.alone = false;
            return Err(error.into());
        }
        let replaced: Vec<CheckpointName> = self.chain.parts.drain(kept..).map(|part| part.name).collect();
        self.chain.parts.push(Base { name, len });
        let needed = {
            let mut core = self.journal.lock();
            core.state.forget_changes(self.chain.parts[0].name.index);
            // What the checkpoint has need not be replayed, and what is tiered need not be read.
            name.index.min(core.state.tiered_through) + 1
        };
        let freed = self.journal.files.trim(needed);
        metrics::checkpoint_written(len, kept, started.elapsed());
        tracing::debug!(journal = %self.journal.id, index = name.index, bytes = len, bases = kept, freed, "checkpoint");
        // What earlier lives left behind is found by a listing, and so is what could not be deleted.
        let alone = std::mem::take(&mut self.chain.alone);
        match alone {
            true => self.store.delete_checkpoints(&replaced).await?,
            false => self.store.delete_checkpoints_but(&self.chain.names()).await?,
        }
        self.chain.alone = true;
        // Log starts may have moved, and left objects mostly dead.
        self.merging.look(Instant::now());
        self.folding.look();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
