//! A member of a consumer group.

use std::collections::BTreeSet;
use std::time::Duration;

use tidemark_model::group::{ConsumerHeartbeat, Protocol};
use tokio::time::Instant;

use crate::groups::Caller;
use crate::groups::assignor::{Assignor, Partitions};

/// Of a static member that said it will come back.
pub(super) const LEFT_FOR_NOW: i32 = -2;
/// Of a member that leaves for good.
pub(super) const LEFT: i32 = -1;

#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) subscription: Subscription,
    pub(super) current: Current,
    /// What it is to have, as of the group's assignment epoch.
    pub(super) target: Partitions,
    pub(super) timers: Timers,
    /// Whether this coordinator has told it what it is assigned.
    pub(super) is_told: bool,
    /// Whether it is assigned something that it has not said it has: the answer that told it may have been lost.
    pub(super) is_unheard: bool,
    /// The number of the group's write that has `current`: 0 for what was loaded.
    pub(super) written: u64,
}

/// What a member says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) instance_id: Option<String>,
    pub(super) rack: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) rebalance_timeout: Duration,
    pub(super) topics: BTreeSet<String>,
    /// Not empty.
    pub(super) regex: Option<String>,
    pub(super) assignor: Option<Assignor>,
    /// Of a member that speaks the classic protocol.
    pub(super) classic: Option<ClassicSide>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClassicSide {
    pub(super) session_timeout: Duration,
    /// Not empty, by the member's preference.
    pub(super) protocols: Vec<Protocol>,
}

/// What a member has, on its way to its target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Current {
    pub(super) epoch: i32,
    pub(super) previous_epoch: i32,
    pub(super) progress: Progress,
    pub(super) assigned: Partitions,
    /// No longer assigned, and not yet given back.
    pub(super) revoking: Partitions,
}

/// Kafka's state of a member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Progress {
    /// It has all of its target, as of its epoch.
    #[default]
    Stable,
    /// It has to give partitions back before it gets any.
    UnrevokedPartitions,
    /// It gets the rest when others have given it back.
    UnreleasedPartitions,
}

/// When a member is taken out of the group unless something happens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timers {
    /// Nothing was heard.
    pub(super) session: Instant,
    /// It did not give partitions back.
    pub(super) rebalance: Option<Instant>,
    /// Of the classic protocol: it did not join, or sync.
    pub(super) join: Option<Instant>,
    pub(super) sync: Option<Instant>,
}

impl Member {
    pub(super) fn uses_classic(&self) -> bool {
        self.subscription.classic.is_some()
    }
}

impl Subscription {
    /// As it is after a heartbeat. None where nothing changes, which is nearly always.
    pub(super) fn updated(&self, request: &ConsumerHeartbeat, caller: &Caller) -> Option<Self> {
        if self.is_as(request, caller) {
            return None;
        }
        let mut new = self.clone();
        new.client_id.clone_from(&caller.client_id);
        new.client_host.clone_from(&caller.client_host);
        new.classic = None;
        if request.instance_id.is_some() {
            new.instance_id.clone_from(&request.instance_id);
        }
        if request.rack.is_some() {
            new.rack.clone_from(&request.rack);
        }
        if let Some(timeout) = request.rebalance_timeout {
            new.rebalance_timeout = timeout;
        }
        if let Some(topics) = &request.subscribed_topics {
            new.topics = topics.iter().cloned().collect();
        }
        if let Some(regex) = &request.subscribed_regex {
            new.regex = Some(regex.clone()).filter(|regex| !regex.is_empty());
        }
        if let Some(name) = &request.server_assignor {
            new.assignor = Assignor::named(name);
        }
        Some(new)
    }

    /// What is not given has not changed.
    fn is_as(&self, request: &ConsumerHeartbeat, caller: &Caller) -> bool {
        let topics: Option<BTreeSet<&String>> =
            request.subscribed_topics.as_ref().map(|topics| topics.iter().collect());
        let regex = request.subscribed_regex.as_deref();
        self.classic.is_none()
            && (&self.client_id, &self.client_host) == (&caller.client_id, &caller.client_host)
            && (request.instance_id.is_none() || request.instance_id == self.instance_id)
            && (request.rack.is_none() || request.rack == self.rack)
            && request.rebalance_timeout.is_none_or(|timeout| timeout == self.rebalance_timeout)
            && topics.is_none_or(|topics| topics.into_iter().eq(&self.topics))
            && regex.is_none_or(|regex| regex == self.regex.as_deref().unwrap_or_default())
            && request.server_assignor.as_deref().is_none_or(|name| Assignor::named(name) == self.assignor)
    }
}

impl Current {
    /// Whether there is nothing to do until there is a newer target.
    pub(super) fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.progress == Progress::Stable && self.epoch == epoch
    }

    /// All that nobody else may have.
    pub(super) fn held(&self) -> impl Iterator<Item = (tidemark_model::TopicId, i32)> {
        let topics = self.assigned.iter().chain(&self.revoking);
        topics.flat_map(|(topic, partitions)| partitions.iter().map(|partition| (*topic, *partition)))
    }
}

impl Timers {
    pub(super) fn new(session: Instant) -> Self {
        Self { session, rebalance: None, join: None, sync: None }
    }

    pub(super) fn first(&self) -> Instant {
        let others = [self.rebalance, self.join, self.sync].into_iter().flatten();
        others.fold(self.session, Instant::min)
    }
}
