//! Who is in the cluster: registration, liveness, and the state that each node follows.

mod feed;
mod membership;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt};
use tidemark_model::{ClusterUpdate, CoordinatorError, NodeId, RecordKey, Registration, Role};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

pub(crate) use self::membership::Membership;
use crate::error::{lost_races, unreadable};
use crate::metrics;
use crate::records::{NodeName, decode_node, decode_node_name, encode_node_name};
use crate::service::{ATTEMPTS, Shared};
use crate::store::{Commit, StoreError, Txn};

/// Updates that wait for one follower, each a snapshot's chunk at most. A slower one stops us from reading more for it.
const UPDATES_IN_FLIGHT: usize = 4;

/// How many of the processes that had a node's name before are remembered, to refuse them when they wake up.
const REMEMBERED_INCARNATIONS: usize = 16;

type Update = Result<ClusterUpdate, CoordinatorError>;

/// Registers a node and feeds it, for as long as the stream is held.
pub(crate) fn join(shared: Arc<Shared>, registration: Registration, resume: Option<u64>) -> BoxStream<'static, Update> {
    let (updates, received) = mpsc::channel(UPDATES_IN_FLIGHT);
    tokio::spawn(async move {
        metrics::follower_changed(1.0);
        let stopping = shared.shutdown.cancelled();
        let session = session(&shared, &registration, resume, &updates);
        let ended = tokio::select! {
            biased;
            () = updates.closed() => None,
            () = stopping => Some(CoordinatorError::Unavailable("this coordinator is stopping".into())),
            error = session => Some(error),
        };
        if let Some(error) = ended {
            let (role, name) = (registration.role.as_str(), &registration.name);
            tracing::info!(role, name, %error, "a node's stream ends");
            // It fails when the node is gone, which is as well.
            let _ = updates.send(Err(error)).await;
        }
        metrics::follower_changed(-1.0);
    });
    ReceiverStream::new(received).boxed()
}

/// Ends only with a reason to end the stream.
async fn session(
    shared: &Shared,
    registration: &Registration,
    resume: Option<u64>,
    updates: &mpsc::Sender<Update>,
) -> CoordinatorError {
    if let Err(error) = shared.wait_until_loaded().await {
        return error;
    }
    let membership = match Membership::register(shared, registration).await {
        Ok(membership) => membership,
        Err(error) => return error,
    };
    let (cluster_id, claim) = shared.state.identity();
    let (node, settings) = (membership.id(), shared.settings.as_kafka_names());
    let joined = ClusterUpdate::Joined { cluster_id, claim, node, settings };
    // The receiver is only gone when nobody holds the stream, and then nobody waits for this future either.
    let _ = updates.send(Ok(joined)).await;
    tokio::select! {
        biased;
        error = membership.keep() => error,
        error = feed::feed(shared, &membership, resume, updates) => error,
    }
}

/// Takes a node out of the cluster state at once.
pub(crate) async fn leave(shared: &Shared, role: Role, id: NodeId, incarnation: u64) -> Result<(), CoordinatorError> {
    for _ in 0..ATTEMPTS {
        let key = shared.keys.record(RecordKey::Node(role, id));
        let Some(entry) = shared.store.get(&key).await? else { return Ok(()) };
        let stored = decode_node(&entry.value).map_err(|error| unreadable(&key, error))?;
        if stored.node.incarnation != incarnation {
            return Err(CoordinatorError::Fenced(format!("{} {id} was replaced by another process", role.as_str())));
        }
        let name_key = shared.keys.node_name(role, &stored.name);
        let name_entry = shared.store.get(&name_key).await?;
        let mut txn = Txn::new().if_still(&key, Some(&entry)).delete(&key).if_still(&name_key, name_entry.as_ref());
        if let Some(name_entry) = &name_entry {
            let mut name = decode_node_name(&name_entry.value).map_err(|error| unreadable(&name_key, error))?;
            // A broker's name is a random one that never comes again: nothing is kept of it.
            txn = if role == Role::Broker {
                txn.delete(&name_key)
            } else {
                name.replace(incarnation);
                txn.put(&name_key, encode_node_name(&name))
            };
        }
        if let Commit::Done(_) = shared.store.commit(txn).await? {
            tracing::info!(role = role.as_str(), node = %id, "a node left");
            if let Some(lease) = entry.lease {
                shared.forget_lease(lease).await;
            }
            return Ok(());
        }
        metrics::write_conflict();
    }
    Err(lost_races("the node"))
}

/// Forgets brokers that ended without leaving. Their names are random ones, so nobody else would.
///
/// `away` has the names without a node that the sweep before found: what is away for two sweeps is gone for good.
pub(crate) async fn sweep(shared: &Shared, away: &mut BTreeSet<String>) -> Result<(), StoreError> {
    let before = std::mem::take(away);
    for entry in shared.store.range(&shared.keys.node_names(Role::Broker)).await?.entries {
        let Ok(name) = decode_node_name(&entry.value) else { continue };
        let id = NodeId(name.id);
        if shared.state.node(Role::Broker, id).is_some() {
            continue;
        }
        if before.contains(&entry.key) {
            let node = shared.keys.record(RecordKey::Node(Role::Broker, id));
            let txn = Txn::new().if_absent(node).if_still(&entry.key, Some(&entry)).delete(&entry.key);
            // In a conflict it has come back.
            let _ = shared.store.commit(txn).await?;
        } else {
            away.insert(entry.key);
        }
    }
    Ok(())
}

impl NodeName {
    /// Notes that this process must not get the name again.
    fn replace(&mut self, incarnation: u64) {
        if !self.replaced.contains(&incarnation) {
            self.replaced.push(incarnation);
        }
        let too_many = self.replaced.len().saturating_sub(REMEMBERED_INCARNATIONS);
        self.replaced.drain(..too_many);
    }
}
