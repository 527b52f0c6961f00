//! One node's registration: its id, its record under a lease, and the lease kept alive.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tidemark_model::{CoordinatorError, Node, NodeId, RecordKey, Registration};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::counters;
use crate::error::{lost_races, unreadable};
use crate::metrics;
use crate::records::{Counter, NodeName, StoredNode, decode_node, decode_node_name, encode_node, encode_node_name};
use crate::service::{ATTEMPTS, Shared};
use crate::store::{Commit, LeaseId, StoreError, Txn};

/// A lease is kept alive this many times in its life, so that one lost request does not end it.
const KEEP_ALIVES_PER_LEASE: u32 = 3;

/// How soon to try again when a lease could not be kept alive, or is gone and could not be had anew.
const RETRY: Duration = Duration::from_millis(500);

pub(crate) struct Membership<'a> {
    shared: &'a Shared,
    registration: &'a Registration,
    id: NodeId,
    held: Mutex<Held>,
    /// Until when the lease surely lives.
    leased_until: watch::Sender<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    lease: LeaseId,
    /// The revision at which the node's record became what it is.
    since: u64,
    /// Until when the lease surely lives: its time after the request for it was sent.
    until: Instant,
}

impl<'a> Membership<'a> {
    pub(crate) async fn register(shared: &'a Shared, registration: &'a Registration) -> Result<Self, CoordinatorError> {
        let (id, held) = register(shared, registration, None).await?;
        tracing::info!(role = registration.role.as_str(), node = %id, name = registration.name, "a node joined");
        let leased_until = watch::Sender::new(held.until);
        Ok(Self { shared, registration, id, held: Mutex::new(held), leased_until })
    }

    pub(crate) fn id(&self) -> NodeId {
        self.id
    }

    /// Until when the lease surely lives, as far as this process's clock goes.
    pub(crate) fn leased_until(&self) -> watch::Receiver<Instant> {
        self.leased_until.subscribe()
    }

    /// The revision from which on the state has this node as it registered.
    pub(crate) fn since(&self) -> u64 {
        self.held().since
    }

    /// Whether the state, being newer than the registration, says that another process has taken the node over.
    pub(crate) fn replaced(&self) -> bool {
        let newer = self.shared.state.revision().is_some_and(|revision| revision >= self.since());
        let node = self.shared.state.node(self.registration.role, self.id);
        newer && node.is_some_and(|node| node.incarnation != self.registration.incarnation)
    }

    pub(crate) fn fenced(&self) -> CoordinatorError {
        fenced(self.registration)
    }

    /// Keeps the lease alive, and puts the record again when the lease is lost nevertheless. Ends when fenced.
    pub(crate) async fn keep(&self) -> CoordinatorError {
        let lifetime = self.shared.settings.lease(self.registration.role);
        let every = lifetime / KEEP_ALIVES_PER_LEASE;
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failures = 0_u32;
        loop {
            ticks.tick().await;
            let (lease, sent) = (self.held().lease, Instant::now());
            // One that is not answered must not keep the next from being tried, perhaps with another member of etcd.
            let kept = tokio::time::timeout(every, self.shared.store.keep_alive(lease)).await;
            match kept.unwrap_or_else(|_| Err(StoreError::Unavailable("no answer in time".into()))) {
                Ok(()) => {
                    self.leased_until.send_replace(sent + lifetime);
                    failures = 0;
                }
                Err(StoreError::LeaseLost(_)) => {
                    metrics::lease_lost();
                    tracing::warn!(node = %self.id, role = self.registration.role.as_str(), "a lease was lost");
                    if let Err(error) = self.register_again().await {
                        return error;
                    }
                }
                // It may live on. A member of etcd that is gone fails at once, and the next request goes to another.
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures.is_power_of_two() {
                        tracing::warn!(node = %self.id, %error, failures, "cannot keep a lease alive, trying again");
                    }
                    ticks.reset_after(RETRY);
                }
            }
        }
    }

    async fn register_again(&self) -> Result<(), CoordinatorError> {
        loop {
            match register(self.shared, self.registration, Some(self.id)).await {
                Ok((_, held)) => {
                    self.leased_until.send_replace(held.until);
                    *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
                    return Ok(());
                }
                Err(error @ CoordinatorError::Fenced(_)) => return Err(error),
                Err(error) => {
                    tracing::warn!(node = %self.id, %error, "cannot register a node again, trying");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn held(&self) -> Held {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fenced(registration: &Registration) -> CoordinatorError {
    let Registration { role, name, .. } = registration;
    CoordinatorError::Fenced(format!("{} {name} left, or another process has its name", role.as_str()))
}

/// Puts the node's record. `again` is the id that a node has whose record is to be put once more.
async fn register(
    shared: &Shared,
    registration: &Registration,
    again: Option<NodeId>,
) -> Result<(NodeId, Held), CoordinatorError> {
    for _ in 0..ATTEMPTS {
        let (id, name) = claim_name(shared, registration, again).await?;
        let Registration { role, name: node_name, incarnation, address, rack } = registration.clone();
        let key = shared.keys.record(RecordKey::Node(role, id));
        let before = shared.store.get(&key).await?;
        let lifetime = shared.settings.lease(role);
        let until = Instant::now() + lifetime;
        let node = StoredNode { node: Node { role, id, incarnation, address, rack }, name: node_name };

        // The same process, back after its stream was cut: its lease and its record are still good.
        if let Some(entry) = &before
            && let Some(lease) = entry.lease
            && decode_node(&entry.value).map_err(|error| unreadable(&key, error))? == node
            && shared.store.keep_alive(lease).await.is_ok()
        {
            return Ok((id, Held { lease, since: entry.revision, until }));
        }
        let lease = shared.store.grant(lifetime).await?;
        let txn = name.if_still(&key, before.as_ref()).put_leased(&key, encode_node(&node), lease);
        match shared.store.commit(txn).await {
            Ok(Commit::Done(since)) => {
                if let Some(old) = before.and_then(|entry| entry.lease) {
                    shared.forget_lease(old).await;
                }
                return Ok((id, Held { lease, since, until }));
            }
            Ok(Commit::Conflict) => {
                metrics::write_conflict();
                shared.forget_lease(lease).await;
            }
            Err(StoreError::LeaseLost(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(lost_races("the node"))
}

/// The id that goes with the registration's name, and the transaction that makes the name this process's.
///
/// Incarnations have no order. A process gets the name when it is the one that has it, or one that never had it; one
/// that was replaced is fenced for good.
async fn claim_name(
    shared: &Shared,
    registration: &Registration,
    again: Option<NodeId>,
) -> Result<(NodeId, Txn), CoordinatorError> {
    let Registration { role, name, incarnation, .. } = registration;
    let key = shared.keys.node_name(*role, name);
    let entry = shared.store.get(&key).await?;
    let claim = Txn::new().if_still(&key, entry.as_ref());
    let Some(entry) = entry else {
        if again.is_some() {
            return Err(fenced(registration));
        }
        let (id, taken) = counters::next(shared, Counter::Nodes(*role), 1, 1).await?;
        let id = i32::try_from(id).map_err(|_| CoordinatorError::Unavailable("node ids are used up".into()))?;
        let name = NodeName { id, incarnation: *incarnation, replaced: Vec::new() };
        return Ok((NodeId(id), claim.put(&key, encode_node_name(&name)).and(taken)));
    };
    let mut name = decode_node_name(&entry.value).map_err(|error| unreadable(&key, error))?;
    let id = NodeId(name.id);
    if name.replaced.contains(incarnation) || again.is_some_and(|again| again != id) {
        return Err(fenced(registration));
    }
    if name.incarnation == *incarnation {
        return Ok((id, claim));
    }
    name.replace(name.incarnation);
    name.incarnation = *incarnation;
    Ok((id, claim.put(&key, encode_node_name(&name))))
}
