//! Commit: what is durable becomes state, is kept for readers, and is answered.

use tidemark_model::StorageError;

use super::core::{Answers, Core};
use super::log::BatchRef;
use crate::entry::Entry;
use crate::state::ApplyError;
use crate::wal::Location;
use crate::wal::format::entry_len;
use crate::wal::writer::Named;

impl Core {
    /// Commits a group that is durable. An error means that the journal's state is not what was admitted: a bug, after
    /// which nothing may be answered.
    pub(crate) fn commit(
        &mut self,
        group: &[Named],
        locations: &[Location],
        answers: &mut Answers,
    ) -> Result<(), ApplyError> {
        for (Named { id, entry }, location) in group.iter().zip(locations) {
            let effects = self.state.apply(*id, entry)?;
            self.ahead_bytes = self.ahead_bytes.saturating_sub(entry_len(entry) as u64);
            match entry {
                Entry::Batch(batch) => {
                    let slot = self.slots.entry(batch.partition).or_default();
                    slot.log.push(BatchRef::new(*id, &batch.batch, *location, true));
                    slot.committed_one();
                    slot.readers.iter().for_each(|reader| answers.mark(reader, batch.partition));
                    self.memory.admit(batch.partition, location.length);
                    self.untiered.push(id.index, location.length);
                }
                Entry::PartitionCreated { partition, .. } => {
                    self.slots.entry(*partition).or_default().committed_one();
                }
                Entry::ManifestEdited(_) => self.forget_tiered(),
                Entry::ProducersExpired { .. } => self.expired(id.index),
                _ => {}
            }
            self.starts_moved += u64::from(!effects.log_starts_moved.is_empty());
            for at in effects.log_starts_moved {
                let readers = self.slots.get(&at).into_iter().flat_map(|slot| &slot.readers);
                readers.for_each(|reader| answers.mark(reader, at));
            }
            for at in effects.removed {
                for reader in self.slots.remove(&at).into_iter().flat_map(|slot| slot.readers) {
                    reader.end(at, StorageError::UnknownPartition(at));
                }
            }
        }
        while let Some(partition) = self.memory.next_to_leave() {
            if let Some(slot) = self.slots.get_mut(&partition) {
                slot.log.evict_one();
            }
        }
        let committed = self.state.last.index;
        while self.waiters.front().is_some_and(|waiter| waiter.index <= committed) {
            if let Some(waiter) = self.waiters.pop_front() {
                answers.add(waiter.reply, None);
            }
        }
        Ok(())
    }

    /// A batch that recovery found. It is not kept in memory.
    pub(crate) fn recovered(&mut self, named: &Named, location: Location) {
        if let Entry::Batch(batch) = &named.entry {
            let slot = self.slots.entry(batch.partition).or_default();
            slot.log.push(BatchRef::new(named.id, &batch.batch, location, false));
            self.untiered.push(named.id.index, location.length);
        }
    }

    /// The manifest says that more is in the object store.
    pub(crate) fn forget_tiered(&mut self) {
        let index = self.state.tiered_through;
        self.untiered.tiered_through(index);
        self.slots.values_mut().for_each(|slot| slot.log.tiered_through(index));
    }
}
