//! Answers that wait a moment for what others give back.
//!
//! A member that waits for partitions of others would ask, hear that there is nothing yet, and ask again an interval later,
//! while nobody reads what was given back meanwhile. So its answer is held for a little while, and given as soon as there is
//! something to tell.

use std::sync::Arc;
use std::time::Duration;

use tidemark_model::group::{ConsumerHeartbeatAnswer, GroupAnswer};
use tokio::time::Instant;

use super::member::Progress;
use super::reconcile::to_list;
use super::{ConsumerGroup, heartbeat_interval, unknown_member};
use crate::groups::{Out, Scope, Ticket};

/// How soon a member asks again that waits for what others give back, for each member of its group. Kafka lets it wait for a
/// whole interval, seconds in which nobody reads those partitions. The larger the group, the longer between two questions of
/// one member, so that all of a large group ask little more often than those of a small one.
const WAITING_HEARTBEAT_INTERVAL_PER_MEMBER: Duration = Duration::from_millis(10);
const LEAST_WAITING_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);
const MOST_WAITING_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);

/// How long an answer is held at most. What the client sends behind its heartbeat on the same connection, a commit perhaps,
/// waits as long: up to a third of the time while a small group rebalances, a tenth in a large one.
pub(super) const LONGEST_HELD: Duration = Duration::from_millis(50);

/// An answer that tells nothing new, until there is something new.
#[derive(Debug)]
pub(super) struct Held {
    ticket: Ticket,
    until: Instant,
}

impl ConsumerGroup {
    /// What a member is told as it is now.
    pub(super) fn tell(&mut self, id: &Arc<str>, tells: bool, scope: &Scope<'_>) -> Option<ConsumerHeartbeatAnswer> {
        let waiting_interval = waiting_heartbeat_interval(self.members.len());
        let member = self.members.get_mut(id)?;
        member.is_told |= tells;
        let waits = member.current.progress == Progress::UnreleasedPartitions;
        let interval = heartbeat_interval(scope);
        Some(ConsumerHeartbeatAnswer {
            member_id: id.to_string(),
            member_epoch: member.current.epoch,
            heartbeat_interval: if waits { interval.min(waiting_interval) } else { interval },
            assignment: tells.then(|| to_list(&member.current.assigned)),
        })
    }

    /// Holds an answer that tells nothing new, where its member waits for others. Gives it back where it does not.
    pub(super) fn hold(
        &mut self,
        ticket: Ticket,
        answer: ConsumerHeartbeatAnswer,
        scope: &Scope<'_>,
        out: &mut Out,
    ) -> Option<ConsumerHeartbeatAnswer> {
        let Some((id, member)) = self.members.get_key_value(&*answer.member_id) else { return Some(answer) };
        // What a heartbeat has changed is acknowledged when it is stored.
        if member.current.progress != Progress::UnreleasedPartitions || !out.changes.is_empty() {
            return Some(answer);
        }
        let (id, until) = (Arc::clone(id), scope.now + LONGEST_HELD);
        self.held.insert(id, Held { ticket, until });
        self.wake_by(until);
        None
    }

    /// The member asks again, perhaps on another connection: what it is to know is told to this question and not to the one
    /// before.
    pub(super) fn asks_again(&mut self, id: &str, scope: &Scope<'_>, out: &mut Out) {
        let Some((id, held)) = self.held.remove_entry(id) else { return };
        let answer = self.tell(&id, false, scope).ok_or_else(|| unknown_member(&id));
        out.answer_when_stored(held.ticket, answer.map(GroupAnswer::ConsumerHeartbeat));
    }

    /// Answers those of whom there is something to tell now, or who have waited for long enough.
    pub(crate) fn answer_held(&mut self, scope: &Scope<'_>, out: &mut Out) {
        let moved = std::mem::take(&mut self.moved);
        let ids: Vec<Arc<str>> = self.held.keys().cloned().collect();
        for id in ids {
            let Some(epoch) = self.members.get(&id).map(|member| member.current.epoch) else {
                self.let_go(&id, out);
                continue;
            };
            // As if it had asked now, without a word about what it has.
            let assigned_others = moved && self.reconcile(&id, None, false, scope, out);
            let Some(answer) = self.tell(&id, assigned_others, scope) else { continue };
            let news = assigned_others || answer.member_epoch != epoch;
            if news && let Some(held) = self.held.remove(&id) {
                out.answer_settled(held.ticket, Ok(GroupAnswer::ConsumerHeartbeat(answer)));
            } else if self.held.get(&id).is_some_and(|held| held.until <= scope.now)
                && let Some(held) = self.held.remove(&id)
            {
                out.answer_when_stored(held.ticket, Ok(GroupAnswer::ConsumerHeartbeat(answer)));
            }
        }
        // What they were given is nothing that others wait for.
        self.moved = false;
    }

    /// Answers those who are not members any more.
    pub(crate) fn let_all_go(&mut self, out: &mut Out) {
        let ids: Vec<Arc<str>> = self.held.keys().cloned().collect();
        ids.iter().for_each(|id| self.let_go(id, out));
    }

    fn let_go(&mut self, id: &Arc<str>, out: &mut Out) {
        if let Some(held) = self.held.remove(id) {
            out.answer(held.ticket, Err(unknown_member(id)));
        }
    }

    pub(super) fn next_held(&self) -> Option<Instant> {
        self.held.values().map(|held| held.until).min()
    }
}

/// How soon a member asks again that waits for others, in a group of so many.
fn waiting_heartbeat_interval(members: usize) -> Duration {
    WAITING_HEARTBEAT_INTERVAL_PER_MEMBER
        .saturating_mul(u32::try_from(members).unwrap_or(u32::MAX))
        .clamp(LEAST_WAITING_HEARTBEAT_INTERVAL, MOST_WAITING_HEARTBEAT_INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_the_group_the_longer_its_members_wait() {
        let intervals = [1, 10, 30, 50, 51, usize::MAX].map(|members| waiting_heartbeat_interval(members).as_millis());
        assert_eq!(intervals, [100, 100, 300, 500, 500, 500]);
    }
}
