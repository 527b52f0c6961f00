//! Members that leave a consumer group, or are taken out of it.

use std::sync::Arc;

use tidemark_model::group::ConsumerHeartbeat;

use super::heartbeat::farewell;
use super::member::{Current, LEFT_FOR_NOW};
use super::{Classic, ConsumerGroup};
use crate::groups::assignor::Partitions;
use crate::groups::{Out, Scope, Ticket};

impl ConsumerGroup {
    /// ConsumerGroupHeartbeat from a member that leaves.
    pub(super) fn leave(
        &mut self,
        ticket: Ticket,
        request: &ConsumerHeartbeat,
        scope: &Scope<'_>,
        out: &mut Out,
    ) -> Option<Classic> {
        let id = match self.known(&request.member_id, request.instance_id.as_deref()) {
            Ok(id) => id,
            Err(error) => {
                out.answer(ticket, Err(error));
                return None;
            }
        };
        let answer = farewell(request.member_id.clone(), request.member_epoch);
        let left_to = match request.member_epoch {
            LEFT_FOR_NOW => {
                self.leave_for_now(&id, out);
                None
            }
            _ => self.fence(&[id], scope, out),
        };
        out.answer_settled(ticket, Ok(answer));
        left_to
    }

    /// Takes out members whose time is over.
    pub(crate) fn deadline_passed(&mut self, scope: &Scope<'_>, out: &mut Out) -> Option<Classic> {
        let is_over = |first| first <= scope.now;
        let expired: Vec<Arc<str>> = self
            .members
            .iter()
            .filter(|(_, member)| is_over(member.timers.first()))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &expired {
            tracing::info!(
                group = scope.group,
                member = &**id,
                "a member was not heard, or did not do its part in time"
            );
        }
        let left_to = self.fence(&expired, scope, out);
        let held = self.next_held().filter(|until| *until > scope.now);
        self.wake = self.members.values().map(|member| member.timers.first()).chain(held).min();
        left_to
    }

    /// Takes members out of the group. What they had is free at once. Where only members of the classic protocol are left,
    /// the group becomes a classic one.
    pub(super) fn fence(&mut self, ids: &[Arc<str>], scope: &Scope<'_>, out: &mut Out) -> Option<Classic> {
        if ids.is_empty() {
            return None;
        }
        if let Some(classic) = self.left_to_classic(ids, scope, out) {
            return Some(classic);
        }
        for id in ids {
            self.remove(id, out);
        }
        self.subscriptions.rehash(scope);
        self.raise_epoch(out);
        None
    }

    /// A static member keeps its place, and what it has, until its session is over. It has given back what it had to.
    fn leave_for_now(&mut self, id: &Arc<str>, out: &mut Out) {
        let Some(member) = self.members.get(id) else { return };
        let left = Current { epoch: LEFT_FOR_NOW, revoking: Partitions::new(), ..member.current.clone() };
        self.set_current(id, left, out);
        self.set_timers(id, |timers| timers.rebalance = None);
    }
}
