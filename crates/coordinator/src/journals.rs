//! Who leads which journal.
//!
//! A storage node runs one write-ahead log, and leads exactly the journal of that log. When it opens another log (the
//! disk was replaced or emptied, or an fsync failed), the journal of the log before loses its leader, since nobody
//! else has what was acknowledged to it. It stays, with its partitions, until the old log is opened again or an
//! operator decides; new partitions do not go there.

use tidemark_model::{CoordinatorError, Journal, JournalId, NodeId, RecordKey, Replica};

use crate::counters;
use crate::error::{lost_races, unreadable};
use crate::metrics;
use crate::records::{Counter, decode_journal, encode_journal};
use crate::service::{ATTEMPTS, CATCH_UP, Shared};
use crate::store::{Commit, Entry, Txn};

/// The leader of a journal that has none, as in Kafka.
pub(crate) const NO_LEADER: NodeId = NodeId(-1);

pub(crate) async fn open(shared: &Shared, node: NodeId, incarnation: u64) -> Result<Journal, CoordinatorError> {
    let replica = Replica { node, incarnation };
    for _ in 0..ATTEMPTS {
        let (journal, txn) = plan(shared, replica).await?;
        if let Commit::Done(revision) = shared.store.commit(txn).await? {
            tracing::info!(journal = %journal.id, epoch = journal.epoch, %node, "a journal has a leader");
            shared.state.reached(revision, CATCH_UP).await;
            return Ok(journal);
        }
        metrics::write_conflict();
    }
    Err(lost_races("the journal"))
}

async fn plan(shared: &Shared, replica: Replica) -> Result<(Journal, Txn), CoordinatorError> {
    let mut txn = Txn::new();
    let mut own = None;
    for entry in shared.store.range(&shared.keys.journals()).await?.entries {
        let journal = decode_journal(&entry.value).map_err(|error| unreadable(&entry.key, error))?;
        if journal.isr.contains(&replica) {
            own = Some((journal, entry));
        } else if journal.replicas.contains(&replica) {
            let reason = format!("journal {} has gone on without this write-ahead log", journal.id);
            return Err(CoordinatorError::Fenced(reason));
        } else if journal.leader == replica.node {
            tracing::warn!(journal = %journal.id, node = %replica.node, "a journal lost its write-ahead log");
            txn = txn.and(put(shared, &lead(journal, NO_LEADER), Some(&entry)));
        }
    }
    let (journal, change) = match own {
        Some((journal, entry)) => {
            let journal = lead(journal, replica.node);
            let change = put(shared, &journal, Some(&entry));
            (journal, change)
        }
        None => {
            let (id, taken) = counters::next(shared, Counter::Journals, 1, 1).await?;
            let id = u32::try_from(id).map_err(|_| CoordinatorError::Unavailable("journal ids are used up".into()))?;
            let copies = vec![replica];
            let journal =
                Journal { id: JournalId(id), epoch: 1, leader: replica.node, replicas: copies.clone(), isr: copies };
            let change = put(shared, &journal, None).and(taken);
            (journal, change)
        }
    };
    Ok((journal, txn.and(change)))
}

fn lead(journal: Journal, leader: NodeId) -> Journal {
    Journal { epoch: journal.epoch + 1, leader, ..journal }
}

fn put(shared: &Shared, journal: &Journal, read: Option<&Entry>) -> Txn {
    let key = shared.keys.record(RecordKey::Journal(journal.id));
    Txn::new().if_still(&key, read).put(&key, encode_journal(journal))
}
