//! What a follower is sent: a snapshot in chunks where it needs one, then every change.

use tidemark_model::coordinator::FEED_INTERVAL;
use tidemark_model::{ClusterState, ClusterUpdate, CoordinatorError, Record};
use tokio::sync::mpsc;

use super::Update;
use super::membership::Membership;
use crate::service::{CATCH_UP, Shared};
use crate::state::Next;

/// The bytes of a snapshot's chunk, about: what gRPC carries well in one message.
const CHUNK_BYTES: usize = 1 << 20;

/// Feeds a follower that has the state of revision `resume`, if any. Ends only with a reason to end the stream.
pub(super) async fn feed(
    shared: &Shared,
    membership: &Membership<'_>,
    resume: Option<u64>,
    updates: &mpsc::Sender<Update>,
) -> CoordinatorError {
    let state = &shared.state;
    let mut revisions = state.revisions();
    // So that a node finds itself in what it is sent, and never gets what is older than what it has.
    if !state.reached(resume.unwrap_or(0).max(membership.since()), CATCH_UP).await {
        return CoordinatorError::Unavailable("this coordinator is behind".into());
    }
    let mut sent = resume.filter(|resume| !matches!(state.after(*resume), Next::TooOld | Next::Ahead));
    loop {
        revisions.mark_unchanged();
        if membership.replaced() {
            return membership.fenced();
        }
        let batch = match sent {
            None => {
                let cluster = state.cluster();
                sent = Some(cluster.revision);
                chunks(&cluster)
            }
            Some(revision) => match state.after(revision) {
                Next::Deltas(deltas) => {
                    sent = deltas.last().map(|delta| delta.revision);
                    deltas.iter().map(|delta| delta.to_update()).collect()
                }
                Next::Nothing => {
                    if tokio::time::timeout(FEED_INTERVAL, revisions.changed()).await.is_ok() {
                        continue;
                    }
                    vec![ClusterUpdate::Delta { revision, upserts: Vec::new(), removals: Vec::new() }]
                }
                // It joins again, and is sent a snapshot.
                Next::TooOld | Next::Ahead => return CoordinatorError::Unavailable("the follower is too slow".into()),
            },
        };
        for update in batch {
            // The receiver is only gone when nobody holds the stream, and then nobody waits for this future either.
            let _ = updates.send(Ok(update)).await;
        }
    }
}

/// The whole state, in chunks of about [`CHUNK_BYTES`]; at least one.
fn chunks(cluster: &ClusterState) -> Vec<ClusterUpdate> {
    let revision = cluster.revision;
    let mut chunks = Vec::new();
    let (mut records, mut bytes) = (Vec::new(), 0);
    for record in cluster.records() {
        let size = size(&record);
        if bytes + size > CHUNK_BYTES && !records.is_empty() {
            chunks.push(ClusterUpdate::Snapshot { revision, records: std::mem::take(&mut records), last: false });
            bytes = 0;
        }
        bytes += size;
        records.push(record);
    }
    chunks.push(ClusterUpdate::Snapshot { revision, records, last: true });
    chunks
}

/// About the bytes of a record on the wire.
fn size(record: &Record) -> usize {
    const FIXED: usize = 64;
    const PARTITION: usize = 12;
    const REPLICA: usize = 16;
    FIXED
        + match record {
            Record::Node(node) => node.address.len() + node.rack.as_ref().map_or(0, String::len),
            Record::Journal(journal) => REPLICA * (journal.replicas.len() + journal.isr.len()),
            Record::Slot(_) => 0,
            Record::Topic(topic) => {
                let configs: usize = topic.configs.iter().map(|(name, value)| name.len() + value.len()).sum();
                topic.name.len() + PARTITION * topic.partitions.len() + configs
            }
        }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tidemark_model::{JournalId, Partition, Topic, TopicId};
    use uuid::Uuid;

    use super::*;

    fn state(topics: u128, partitions: usize) -> ClusterState {
        let mut state = ClusterState::new("c".into());
        state.revision = 7;
        for id in 0..topics {
            state.upsert(Record::Topic(Topic {
                id: TopicId(Uuid::from_u128(id)),
                name: format!("topic-{id}"),
                replication_factor: 1,
                partitions: vec![Partition { journal: JournalId(1), epoch_base: 0 }; partitions],
                configs: BTreeMap::new(),
            }));
        }
        state
    }

    #[test]
    fn a_snapshot_goes_in_chunks_of_bounded_size_of_which_one_is_the_last() {
        let state = state(100, 5_000);
        let chunks = chunks(&state);
        let mut all = Vec::new();
        for (at, chunk) in chunks.iter().enumerate() {
            let ClusterUpdate::Snapshot { revision: 7, records, last } = chunk else { panic!("{chunk:?}") };
            assert_eq!(*last, at + 1 == chunks.len());
            assert!(records.iter().map(size).sum::<usize>() <= CHUNK_BYTES);
            all.extend(records.iter().cloned());
        }
        assert!(chunks.len() > 4);
        assert_eq!(all, state.records().collect::<Vec<_>>());
    }

    #[test]
    fn an_empty_state_is_one_chunk() {
        let nothing = ClusterUpdate::Snapshot { revision: 7, records: vec![], last: true };
        assert_eq!(chunks(&state(0, 0)), [nothing]);
    }
}
