//! SyncGroup and Heartbeat.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidemark_model::GroupError;
use tidemark_model::group::{GroupAnswer, Member as MemberId, Sync, Synced};

use super::{Classic, MAX_MEMBER_BYTES, State};
use crate::groups::{Caller, Out, Scope};

impl Classic {
    pub(in crate::groups) fn sync(&mut self, caller: Caller, request: Sync, scope: &Scope<'_>, out: &mut Out) {
        let ticket = caller.ticket;
        if let Err(error) = self.check_sync(&request) {
            return out.answer(ticket, Err(error));
        }
        let id = request.member.member_id;
        match self.state {
            State::Empty => out.answer(ticket, Err(super::unknown(&id))),
            State::PreparingRebalance => out.answer(ticket, Err(GroupError::RebalanceInProgress)),
            State::CompletingRebalance => {
                self.has_synced(&id);
                if let Some(member) = self.members.get_mut(&id)
                    && let Some(before) = member.awaiting_sync.replace(ticket)
                {
                    out.answer(before, Err(GroupError::RebalanceInProgress));
                }
                if self.is_leader(&id) {
                    self.assign(request.assignments.into_iter().collect(), scope, out);
                }
            }
            State::Stable => {
                self.has_synced(&id);
                let assignment = self.members.get(&id).map(|member| member.assignment.clone()).unwrap_or_default();
                out.answer_settled(ticket, Ok(GroupAnswer::Sync(self.synced(assignment))));
            }
        }
    }

    pub(in crate::groups) fn heartbeat(&mut self, caller: Caller, member: MemberId, scope: &Scope<'_>, out: &mut Out) {
        let MemberId { member_id, instance_id, generation } = member;
        let current = generation == self.generation;
        let checked = self.check_member(&member_id, instance_id.as_deref());
        let checked = checked.and(if current { Ok(()) } else { Err(GroupError::IllegalGeneration) });
        let heard = checked.and_then(|()| {
            let member = self.members.get_mut(&member_id).ok_or_else(|| super::unknown(&member_id))?;
            member.heard(scope.now);
            match self.state {
                State::Empty => Err(super::unknown(&member_id)),
                State::PreparingRebalance => Err(GroupError::RebalanceInProgress),
                State::CompletingRebalance | State::Stable => Ok(GroupAnswer::Heartbeat),
            }
        });
        out.answer(caller.ticket, heard);
    }

    fn check_sync(&self, request: &Sync) -> Result<(), GroupError> {
        let MemberId { member_id, instance_id, generation } = &request.member;
        self.check_member(member_id, instance_id.as_deref())?;
        if *generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let differ = |asked: &Option<String>, ours: Option<&str>| {
            asked.as_deref().zip(ours).is_some_and(|(asked, ours)| asked != ours)
        };
        if differ(&request.protocol_type, self.protocol_type()) || differ(&request.protocol_name, self.protocol()) {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn has_synced(&mut self, id: &str) {
        self.pending_sync.remove(id);
        if self.pending_sync.is_empty() {
            self.sync_deadline = None;
        }
    }

    /// The leader's assignment makes the group stable. Who is not in it gets nothing.
    fn assign(&mut self, mut assignments: BTreeMap<String, Bytes>, scope: &Scope<'_>, out: &mut Out) {
        let too_large = self.members.iter().any(|(id, member)| {
            let assigned = assignments.get(id).map_or(0, Bytes::len);
            member.metadata_bytes() + assigned > MAX_MEMBER_BYTES
        });
        if too_large {
            // It could not be stored.
            let error = GroupError::TooLarge("an assignment is too large".to_owned());
            self.reset_assignments(&error, scope, out);
            return self.prepare_rebalance(scope, out);
        }
        self.become_state(State::Stable, scope);
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
        }
        self.store(out);
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let Some(member) = self.members.get_mut(&id) else { continue };
            let Some(ticket) = member.awaiting_sync.take() else { continue };
            member.heard(scope.now);
            let assignment = member.assignment.clone();
            out.answer_settled(ticket, Ok(GroupAnswer::Sync(self.synced(assignment))));
        }
    }

    fn synced(&self, assignment: Bytes) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_name: self.protocol.clone().unwrap_or_default(),
            assignment,
        }
    }
}
