use proptest::prelude::*;

use super::*;
use crate::entry::tests::entry;
use crate::entry::{BatchEntry, Entry, EntryId};

fn apply(state: &mut State, entry: &Entry) {
    let id = EntryId { epoch: 1, index: state.last.index + 1 };
    // One that cannot follow changes nothing.
    let _ = state.apply(id, entry);
}

/// The checkpoints that a journal writes, each with its bytes.
#[derive(Default)]
struct Written {
    chain: Chain,
    bytes: Vec<bytes::Bytes>,
}

impl Written {
    fn write(&mut self, state: &mut State) -> u64 {
        let kept = self.chain.kept(state);
        self.chain.parts.truncate(kept);
        self.bytes.truncate(kept);
        let since = self.chain.parts.last().map_or(0, |base| base.name.index);
        let bytes = state.encode_since(since);
        let len = bytes.len() as u64;
        self.chain.parts.push(Base { name: CheckpointName { epoch: 1, index: state.last.index }, len });
        self.bytes.push(bytes);
        state.forget_changes(self.chain.parts[0].name.index);
        len
    }

    fn read(&self) -> State {
        let mut state = State::default();
        self.bytes.iter().for_each(|part| state.merge(part).unwrap());
        state.forget_changes(self.chain.parts[0].name.index);
        state
    }
}

/// Batches and creations of few partitions, so that entries meet.
fn few(entry: Entry, n: u8) -> Vec<Entry> {
    let at = |n: u8| {
        tidemark_model::TopicPartition::new(tidemark_model::TopicId(uuid::Uuid::from_u128(u128::from(n % 3))), 0)
    };
    match entry {
        Entry::Batch(batch) => {
            let partition = at(n);
            let mut batch = BatchEntry { partition, ..batch };
            batch.batch.base_offset = 0;
            vec![Entry::PartitionCreated { partition, revision: 1 }, Entry::Batch(batch)]
        }
        Entry::TopicDeleted { revision, .. } => vec![Entry::TopicDeleted { topic: at(n).topic, revision }],
        Entry::ManifestEdited(mut edit) => {
            edit.added.iter_mut().for_each(|(partition, run)| {
                *partition = at(n);
                edit.segment.get_or_insert((run.segment, 7));
            });
            vec![Entry::ManifestEdited(edit)]
        }
        Entry::LogStartsMoved(mut starts) => {
            starts.moves.iter_mut().for_each(|(partition, _)| *partition = at(n));
            vec![Entry::LogStartsMoved(starts)]
        }
        entry => vec![entry],
    }
}

proptest! {
    #[test]
    fn what_checkpoints_say_together_is_the_state(
        entries in proptest::collection::vec((entry(), any::<u8>(), 0..4u8, any::<bool>()), 0..60),
    ) {
        let mut state = State::default();
        let mut written = Written::default();
        for (entry, n, checkpoint, restart) in entries {
            few(entry, n).iter().for_each(|entry| apply(&mut state, entry));
            if checkpoint == 0 {
                written.write(&mut state);
                prop_assert_eq!(&written.read(), &state);
                if restart {
                    state = written.read();
                }
            }
        }
    }
}

/// 10,000 partitions of which one in a hundred is written to: what a checkpoint costs.
#[test]
fn a_checkpoint_costs_what_changed_and_few_are_needed_for_the_whole() {
    let at = |n: u32| tidemark_model::TopicPartition::new(tidemark_model::TopicId(uuid::Uuid::from_u128(5)), n as i32);
    let mut state = State::default();
    let mut offsets = std::collections::BTreeMap::new();
    let mut write = |state: &mut State, n: u32| {
        let next: &mut i64 = offsets.entry(n).or_default();
        let mut batch = crate::entry::tests::sample_batch((i64::from(n), 0, *next as i32), 1, 5, b"");
        batch.base_offset = *next;
        *next += 1;
        let route = tidemark_model::route::Route {
            generation: 1,
            gateway: tidemark_model::NodeId(1),
            broker: tidemark_model::NodeId(2),
        };
        apply(state, &Entry::Batch(BatchEntry { partition: at(n), route, batch }));
    };
    for n in 0..10_000 {
        apply(&mut state, &Entry::PartitionCreated { partition: at(n), revision: 1 });
        write(&mut state, n);
    }
    let mut written = Written::default();
    let whole = written.write(&mut state);
    let (mut bytes, mut most) = (0, 0);
    const TIMES: u64 = 200;
    for _ in 0..TIMES {
        (0..100).for_each(|n| write(&mut state, n * 100));
        bytes += written.write(&mut state);
        most = most.max(written.bytes.len());
    }
    println!("{whole} bytes in all, {} a checkpoint, of up to {most} objects", bytes / TIMES);
    assert!(whole > 1_000_000, "{whole}");
    assert!(bytes / TIMES < whole / 25, "{} of {whole}", bytes / TIMES);
    assert!(most <= MAX_BASES + 1, "{most}");
    assert_eq!(written.read(), state);
    // What is written all over is written as a whole.
    (0..10_000).for_each(|n| write(&mut state, n));
    written.write(&mut state);
    assert_eq!(written.bytes.len(), 1);
}
