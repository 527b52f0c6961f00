//! ConsumerGroupDescribe.

use tidemark_model::GroupError;
use tidemark_model::group::{DescribedConsumer, DescribedConsumerGroup};

use super::ConsumerGroup;
use super::member::Member;
use super::reconcile::to_list;
use crate::groups::Scope;
use crate::groups::assignor::Partitions;

impl ConsumerGroup {
    pub(crate) fn state(&self) -> &'static str {
        let is_reconciled = |member: &Member| member.current.is_reconciled_to(self.assignment_epoch);
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.assignment_epoch {
            "Assigning"
        } else if self.members.values().all(is_reconciled) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    pub(crate) fn describe(&self, scope: &Scope<'_>) -> Result<DescribedConsumerGroup, GroupError> {
        Ok(DescribedConsumerGroup {
            state: self.state().to_owned(),
            epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            assignor: self.assignor().name().to_owned(),
            members: self.members.iter().map(|(id, member)| described(id, member, scope)).collect(),
        })
    }
}

fn described(id: &str, member: &Member, scope: &Scope<'_>) -> DescribedConsumer {
    // A topic that is gone has no name to show.
    let existing = |partitions: &Partitions| {
        let mut listed = to_list(partitions);
        listed.retain(|listed| scope.cluster.topic(listed.topic).is_some());
        listed
    };
    let Member { subscription, current, target, timers: _, is_told: _, is_unheard: _, written: _ } = member;
    DescribedConsumer {
        member_id: id.to_owned(),
        instance_id: subscription.instance_id.clone(),
        rack: subscription.rack.clone(),
        member_epoch: current.epoch,
        client_id: subscription.client_id.clone(),
        client_host: subscription.client_host.clone(),
        subscribed_topics: subscription.topics.iter().cloned().collect(),
        subscribed_regex: subscription.regex.clone(),
        assignment: existing(&current.assigned),
        target: existing(target),
        classic: member.uses_classic(),
    }
}
