//! The new store, written.

use bytes::Bytes;
use tidemark_model::Claim;

use super::Plan;
use crate::records::{Keys, Revisions, decode_revisions, encode_claim, encode_revisions};
use crate::store::{Commit, MetadataStore, StoreError, Txn};

/// Why a store was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error(transparent)]
    NotEmpty(#[from] NotEmpty),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("others write to the metadata store: stop all of the cluster's processes")]
    Raced,
}

/// The store is in use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the metadata store has a cluster in it ({entries} keys, {cluster}): a rebuild needs one without")]
pub struct NotEmpty {
    pub entries: usize,
    pub cluster: String,
}

/// Whether the store has nothing of a cluster of this name, but for what an earlier rebuild left that was cut short.
pub async fn check_empty(store: &dyn MetadataStore, cluster: &str) -> Result<(), WriteError> {
    let keys = Keys::new(cluster);
    let entries = store.range(keys.root()).await?.entries;
    let value = |key: String| entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
    let unfinished = |value: &Bytes| decode_revisions(value).is_ok_and(|revisions| revisions.unfinished);
    if entries.is_empty() || value(keys.revisions()).is_some_and(unfinished) {
        return Ok(());
    }
    let id = value(keys.cluster_id()).map(|id| String::from_utf8_lossy(id).into_owned());
    let cluster = id.map_or("without a cluster id".to_owned(), |id| format!("of cluster {id}"));
    Err(NotEmpty { entries: entries.len(), cluster }.into())
}

/// Writes a store that [is empty](check_empty). While it is being written, and when that is cut short, no coordinator starts
/// on it.
pub async fn write(
    store: &dyn MetadataStore,
    cluster: &str,
    cluster_id: &str,
    claim: Claim,
    plan: &Plan,
) -> Result<(), WriteError> {
    check_empty(store, cluster).await?;
    let keys = Keys::new(cluster);
    let revisions = |unfinished| encode_revisions(Revisions { base: plan.revisions, unfinished });
    let begun = store.get(&keys.revisions()).await?;
    let begin = Txn::new().if_still(keys.revisions(), begun.as_ref()).put(keys.revisions(), revisions(true));
    done(store.commit(begin).await?)?;
    let mut txn = Txn::new();
    for entry in store.range(keys.root()).await?.entries {
        if entry.key != keys.revisions() {
            txn = add(store, txn, Txn::new().delete(entry.key)).await?;
        }
    }
    done(store.commit(txn).await?)?;
    let mut txn = Txn::new().put(keys.claim(), encode_claim(claim));
    for (key, value) in &plan.entries {
        txn = add(store, txn, Txn::new().put(format!("{}{key}", keys.root()), value.clone())).await?;
    }
    let id = Bytes::from(cluster_id.to_owned());
    let end = Txn::new().put(keys.cluster_id(), id).put(keys.revisions(), revisions(false));
    txn = add(store, txn, end).await?;
    done(store.commit(txn).await?)
}

/// The transaction with one operation more, or that one alone when the transaction is full: then it is committed first.
async fn add(store: &dyn MetadataStore, txn: Txn, more: Txn) -> Result<Txn, WriteError> {
    if txn.fits_with(&more) {
        return Ok(txn.and(more));
    }
    done(store.commit(txn).await?)?;
    Ok(more)
}

fn done(commit: Commit) -> Result<(), WriteError> {
    match commit {
        Commit::Done(_) => Ok(()),
        Commit::Conflict => Err(WriteError::Raced),
    }
}
