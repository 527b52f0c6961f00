//! Who leads which journal.
//!
//! A storage node has several write-ahead logs, and leads the journal of each. Whenever it opens one it says which it
//! has: the journal of a log that it has no more (the disk was replaced or emptied) loses its leader, since nobody
//! else has what was acknowledged to it. It stays, with its partitions, until that log is opened again or an
//! operator decides; new partitions do not go there.
//!
//! A rebuild from the bucket ([`crate::rebuild`]) leaves journals without any log, for which the bucket has all that is to be had:
//! they go to the first new logs that there are.
//!
//! A log of which an fdatasync failed is not written to again: the node copies what was acknowledged to a new one, which
//! takes its place in the journal, unless other logs are in sync.

use tidemark_model::coordinator::OpenJournal;
use tidemark_model::{CoordinatorError, Journal, JournalId, NodeId, RecordKey, Replica};

use crate::counters;
use crate::error::{lost_races, unreadable};
use crate::metrics;
use crate::records::{Counter, decode_journal, encode_journal};
use crate::service::{ATTEMPTS, CATCH_UP, Shared};
use crate::store::{Commit, Entry, Txn};

/// The leader of a journal that has none, as in Kafka.
pub(crate) const NO_LEADER: NodeId = NodeId(-1);

pub(crate) async fn open(shared: &Shared, open: OpenJournal) -> Result<Journal, CoordinatorError> {
    let node = open.node;
    for _ in 0..ATTEMPTS {
        let (journal, txn) = plan(shared, &open).await?;
        if let Commit::Done(revision) = shared.store.commit(txn).await? {
            tracing::info!(journal = %journal.id, epoch = journal.epoch, %node, "a journal has a leader");
            shared.state.reached(revision, CATCH_UP).await;
            return Ok(journal);
        }
        metrics::write_conflict();
    }
    Err(lost_races("the journal"))
}

async fn plan(shared: &Shared, open: &OpenJournal) -> Result<(Journal, Txn), CoordinatorError> {
    let OpenJournal { node, wal_incarnation, logs, succeeds } = open;
    let of_node = |incarnation: u64| Replica { node: *node, incarnation };
    let replica = of_node(*wal_incarnation);
    let has = |other: &Replica| other.node == *node && (*other == replica || logs.contains(&other.incarnation));
    let mut txn = Txn::new();
    let mut own = None;
    // One that a rebuild brought back from the bucket, and whose log was lost. The first that asks with a new log has it.
    let mut waiting = None;
    for entry in shared.store.range(&shared.keys.journals()).await?.entries {
        let journal = decode_journal(&entry.value).map_err(|error| unreadable(&entry.key, error))?;
        if journal.replicas.is_empty() {
            waiting = waiting.or(Some((journal, entry)));
        } else if journal.isr.contains(&replica) {
            own = Some((journal, entry));
        } else if journal.replicas.contains(&replica) {
            let reason = format!("journal {} has gone on without this write-ahead log", journal.id);
            return Err(CoordinatorError::Fenced(reason));
        } else if let Some(failed) = succeeds.map(of_node).filter(|failed| journal.replicas.contains(failed)) {
            own = Some((succeeded(journal, failed, replica)?, entry));
        } else if journal.leader == *node && !journal.isr.iter().any(has) {
            tracing::warn!(journal = %journal.id, %node, "a journal lost its write-ahead log");
            txn = txn.and(put(shared, &lead(journal, NO_LEADER), Some(&entry)));
        }
    }
    let (journal, change) = match (own, succeeds) {
        (Some((journal, entry)), _) => {
            let journal = lead(journal, *node);
            let change = put(shared, &journal, Some(&entry));
            (journal, change)
        }
        (None, Some(failed)) => {
            let reason = format!("no journal has the write-ahead log {failed:016x} of node {node}");
            return Err(CoordinatorError::Fenced(reason));
        }
        (None, None) if let Some((journal, entry)) = waiting => {
            let copies = vec![replica];
            let journal = lead(Journal { replicas: copies.clone(), isr: copies, ..journal }, *node);
            let change = put(shared, &journal, Some(&entry));
            (journal, change)
        }
        (None, None) => {
            let (id, taken) = counters::next(shared, Counter::Journals, 1, 1).await?;
            let id = u32::try_from(id).map_err(|_| CoordinatorError::Unavailable("journal ids are used up".into()))?;
            let copies = vec![replica];
            let journal = Journal { id: JournalId(id), epoch: 1, leader: *node, replicas: copies.clone(), isr: copies };
            let change = put(shared, &journal, None).and(taken);
            (journal, change)
        }
    };
    Ok((journal, txn.and(change)))
}

/// The journal with one log in the place of another, which failed.
fn succeeded(mut journal: Journal, failed: Replica, replica: Replica) -> Result<Journal, CoordinatorError> {
    if journal.isr != [failed] {
        let reason = format!("journal {} has other logs in sync than the one that failed", journal.id);
        return Err(CoordinatorError::Fenced(reason));
    }
    for copy in journal.replicas.iter_mut().chain(&mut journal.isr).filter(|copy| **copy == failed) {
        *copy = replica;
    }
    Ok(journal)
}

fn lead(journal: Journal, leader: NodeId) -> Journal {
    Journal { epoch: journal.epoch + 1, leader, ..journal }
}

fn put(shared: &Shared, journal: &Journal, read: Option<&Entry>) -> Txn {
    let key = shared.keys.record(RecordKey::Journal(journal.id));
    Txn::new().if_still(&key, read).put(&key, encode_journal(journal))
}
