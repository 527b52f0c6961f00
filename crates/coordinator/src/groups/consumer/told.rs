//! What a member may be told before the store has it: that it is to give partitions back.
//!
//! That is the first step of every rebalance, and others wait for what follows. It gives the member nothing: an owner that
//! finds the member in the store as it was before tells it once more all that it had, and nobody else was given any of it.

use tidemark_model::group::ConsumerHeartbeat;

use super::ConsumerGroup;
use super::member::{Current, Progress, Subscription};
use crate::groups::assignor::Partitions;

/// A member before its heartbeat, as far as it has been told.
pub(super) struct Told {
    epoch: i32,
    assigned: Partitions,
    subscription: Subscription,
    /// The number of the write that has it.
    pub(super) written: u64,
}

impl ConsumerGroup {
    /// None where a heartbeat cannot become a question for partitions, which is nearly always.
    pub(super) fn told(&self, request: &ConsumerHeartbeat) -> Option<Told> {
        let member = self.members.get(&*request.member_id)?;
        let is_told = member.is_told && member.current.epoch == request.member_epoch;
        if !is_told || member.current.is_reconciled_to(self.assignment_epoch) {
            return None;
        }
        let (assigned, subscription) = (member.current.assigned.clone(), member.subscription.clone());
        Some(Told { epoch: member.current.epoch, assigned, subscription, written: member.written })
    }

    /// Whether the heartbeat has had no other effect on its member than that it has to give back some of what it has.
    pub(super) fn only_asks_back(&self, told: &Told, id: &str) -> bool {
        self.members.get(id).is_some_and(|member| {
            let Current { epoch, previous_epoch: _, progress, assigned, revoking: _ } = &member.current;
            member.written > told.written
                && *progress == Progress::UnrevokedPartitions
                && *epoch == told.epoch
                && member.subscription == told.subscription
                && assigned.iter().all(|(topic, now)| told.assigned.get(topic).is_some_and(|had| now.is_subset(had)))
        })
    }
}
