//! What a follower makes of the updates of its streams: pure, no waiting.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemark_model::{Claim, ClusterState, ClusterUpdate, NodeId, Record};

use super::FollowError;

/// The state so far, over all streams.
#[derive(Debug, Default)]
pub(super) struct Following {
    /// Who this node is, once a stream has said it.
    identity: Option<(String, NodeId)>,
    /// By what the cluster holds its bucket, as a stream said last.
    claim: Option<Claim>,
    /// What the coordinator of the present stream, or of the last, is configured with.
    settings: Arc<BTreeMap<String, String>>,
    /// The state once a whole snapshot was there.
    state: Option<Arc<ClusterState>>,
    /// The snapshot of which this stream has sent a part.
    partial: Option<Partial>,
    /// Whether this stream has said `Joined`.
    joined: bool,
}

#[derive(Debug)]
struct Partial {
    revision: u64,
    records: Vec<Record>,
}

/// What an update changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Applied {
    Nothing,
    Joined { cluster_id: String, node: NodeId },
    State { state: Arc<ClusterState>, node: NodeId },
}

/// The coordinator broke the order of updates: this stream cannot be understood any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator sent {0}")]
pub(super) struct OutOfTurn(&'static str);

impl Following {
    pub(super) fn node(&self) -> Option<NodeId> {
        self.identity.as_ref().map(|(_, node)| *node)
    }

    /// The revision after which the next stream goes on, when there is one.
    pub(super) fn resume(&self) -> Option<u64> {
        self.state.as_ref().map(|state| state.revision)
    }

    /// Forgets what the stream before left unfinished.
    pub(super) fn begin_stream(&mut self) {
        self.partial = None;
        self.joined = false;
    }

    /// Applies an update. The outer error is for good, the inner one ends the stream.
    pub(super) fn apply(&mut self, update: ClusterUpdate) -> Result<Result<Applied, OutOfTurn>, FollowError> {
        Ok(match update {
            ClusterUpdate::Joined { cluster_id, claim, node, settings } => {
                if let (Some(was), Some(now)) = (self.claim, claim.filter(|claim| self.claim != Some(*claim))) {
                    return Err(FollowError::Rebuilt { cluster: cluster_id, was, now });
                }
                self.claim = self.claim.or(claim);
                self.settings = Arc::new(settings);
                return self.joined(cluster_id, node);
            }
            ClusterUpdate::Snapshot { revision, records, last } => self.snapshot(revision, records, last),
            ClusterUpdate::Delta { revision, upserts, removals } => {
                let Some(state) = self.between_snapshots() else { return Ok(Err(OutOfTurn("a delta too early"))) };
                // A coordinator that is behind, or repeats itself: what it says is in our state already.
                if revision <= state.revision {
                    return Ok(Ok(Applied::Nothing));
                }
                let mut next = ClusterState::clone(state);
                next.revision = revision;
                removals.into_iter().for_each(|key| next.remove(key));
                upserts.into_iter().for_each(|record| next.upsert(record));
                self.advance(next)
            }
        })
    }

    fn joined(&mut self, cluster_id: String, node: NodeId) -> Result<Result<Applied, OutOfTurn>, FollowError> {
        if self.joined {
            return Ok(Err(OutOfTurn("a second Joined")));
        }
        if let Some((cluster, was)) = &self.identity
            && (*cluster != cluster_id || *was != node)
        {
            let (cluster, was) = (cluster.clone(), *was);
            return Err(FollowError::Moved { cluster, was, other: cluster_id, now: node });
        }
        self.joined = true;
        self.identity = Some((cluster_id.clone(), node));
        Ok(Ok(Applied::Joined { cluster_id, node }))
    }

    fn snapshot(&mut self, revision: u64, records: Vec<Record>, last: bool) -> Result<Applied, OutOfTurn> {
        let Some((cluster_id, _)) = self.identity.as_ref().filter(|_| self.joined) else {
            return Err(OutOfTurn("a snapshot before Joined"));
        };
        let partial = self.partial.get_or_insert_with(|| Partial { revision, records: Vec::new() });
        if partial.revision != revision {
            return Err(OutOfTurn("chunks of two snapshots as one"));
        }
        partial.records.extend(records);
        if !last {
            return Ok(Applied::Nothing);
        }
        let records = self.partial.take().map(|partial| partial.records).unwrap_or_default();
        if self.resume().is_some_and(|have| revision <= have) {
            return Ok(Applied::Nothing);
        }
        let mut next = ClusterState::new(cluster_id.clone());
        next.revision = revision;
        records.into_iter().for_each(|record| next.upsert(record));
        self.advance(next)
    }

    /// The state that a delta applies to, where one may come now.
    fn between_snapshots(&self) -> Option<&Arc<ClusterState>> {
        self.state.as_ref().filter(|_| self.joined && self.partial.is_none())
    }

    fn advance(&mut self, mut next: ClusterState) -> Result<Applied, OutOfTurn> {
        next.settings = Arc::clone(&self.settings);
        next.claim = self.claim;
        let node = self.node().ok_or(OutOfTurn("a state before Joined"))?;
        let state = Arc::new(next);
        self.state = Some(state.clone());
        Ok(Applied::State { state, node })
    }
}
