//! JoinGroup.

use tidemark_model::GroupError;
use tidemark_model::group::{GroupAnswer, Join, Joined};

use super::{Classic, MAX_GROUP_BYTES, MAX_MEMBER_BYTES, MAX_PENDING_MEMBERS, Member, NEW_MEMBER_JOIN_TIMEOUT, State};
use crate::groups::{Caller, Out, Scope, Ticket};

impl Classic {
    pub(in crate::groups) fn join(&mut self, caller: Caller, request: Join, scope: &Scope<'_>, out: &mut Out) {
        let ticket = caller.ticket;
        if let Err(error) = self.admit(&request, scope) {
            return out.answer(ticket, Err(error));
        }
        if !self.accepts(&request.member_id, scope.settings.max_size) {
            self.remove(&request.member_id, out);
            out.answer(ticket, Err(GroupError::GroupMaxSizeReached));
            return self.complete_join_when_all_are_there(scope, out);
        }
        if !self.supports(&request) {
            return out.answer(ticket, Err(GroupError::InconsistentGroupProtocol));
        }
        if request.member_id.is_empty() {
            self.join_new(caller, request, scope, out);
        } else {
            self.join_known(caller, request, scope, out);
        }
    }

    /// Bounds that keep a member that lies from harming others.
    fn admit(&self, request: &Join, scope: &Scope<'_>) -> Result<(), GroupError> {
        let bytes: usize = request.protocols.iter().map(|known| known.name.len() + known.metadata.len()).sum();
        let others: usize = self.members.values().map(Member::metadata_bytes).sum();
        if bytes > MAX_MEMBER_BYTES || others.saturating_add(bytes) > MAX_GROUP_BYTES {
            return Err(GroupError::TooLarge(format!("{bytes} bytes of metadata are too many")));
        }
        let known = !request.member_id.is_empty() || request.instance_id.is_some();
        if !known && self.pending_members.len() >= MAX_PENDING_MEMBERS.min(scope.settings.max_size) {
            return Err(GroupError::GroupMaxSizeReached);
        }
        Ok(())
    }

    /// Whether the group has room for the member.
    fn accepts(&self, member_id: &str, max_size: usize) -> bool {
        let member = self.members.get(member_id);
        match self.state {
            State::Empty => true,
            // Who has not come again yet may never do so, and leaves its place to who comes first.
            State::PreparingRebalance => {
                member.is_some_and(|member| member.awaiting_join.is_some()) || self.awaiting_join() < max_size
            }
            State::CompletingRebalance | State::Stable => member.is_some() || self.members.len() < max_size,
        }
    }

    /// Whether the member can be in one group with those who are there.
    fn supports(&self, request: &Join) -> bool {
        if self.is_empty() {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        let common = |name: &str| self.members.values().all(|member| member.supports(name));
        self.protocol_type() == Some(&*request.protocol_type)
            && request.protocols.iter().any(|protocol| common(&protocol.name))
    }

    fn join_new(&mut self, caller: Caller, request: Join, scope: &Scope<'_>, out: &mut Out) {
        let id = scope.new_member_id(request.instance_id.as_ref().unwrap_or(&caller.client_id));
        match &request.instance_id {
            Some(instance_id) => match self.static_members.get(instance_id).cloned() {
                Some(old) => self.replace_static_member(caller.ticket, &old, id, request, scope, out),
                None => self.add_member(caller, id, request, scope, out),
            },
            None if request.requires_member_id => {
                self.pending_members.insert(id.clone(), scope.now + request.session_timeout);
                out.answer(caller.ticket, Err(GroupError::MemberIdRequired(id)));
            }
            None => self.add_member(caller, id, request, scope, out),
        }
    }

    fn join_known(&mut self, caller: Caller, request: Join, scope: &Scope<'_>, out: &mut Out) {
        let id = request.member_id.clone();
        // No static member is ever told to come again.
        if self.pending_members.contains_key(&id) && request.instance_id.is_none() {
            return self.add_member(caller, id, request, scope, out);
        }
        if let Err(error) = self.check_member(&id, request.instance_id.as_deref()) {
            return out.answer(caller.ticket, Err(error));
        }
        let unchanged = self.members.get(&id).is_some_and(|member| member.protocols == request.protocols);
        match self.state {
            // Its answer to the join got lost.
            State::CompletingRebalance if unchanged => {
                out.answer(caller.ticket, Ok(GroupAnswer::Join(self.joined(&id))));
            }
            // Nothing has changed: it may go on. Only the leader may ask for a rebalance so.
            State::Stable if unchanged && !self.is_leader(&id) => {
                let joined = self.joined_as_follower(&id, self.leader.clone());
                out.answer(caller.ticket, Ok(GroupAnswer::Join(joined)));
            }
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                self.update_member(caller.ticket, &id, request, out);
                self.rebalance_or_complete(scope, out);
            }
            State::Empty => out.answer(caller.ticket, Err(super::unknown(&id))),
        }
    }

    fn add_member(&mut self, caller: Caller, id: String, request: Join, scope: &Scope<'_>, out: &mut Out) {
        let Join { instance_id, protocol_type, protocols, session_timeout, rebalance_timeout, .. } = request;
        let Caller { ticket, client_id, client_host } = caller;
        let member = Member {
            instance_id: instance_id.clone(),
            session_timeout,
            rebalance_timeout,
            awaiting_join: Some(ticket),
            is_new: true,
            session_deadline: Some(scope.now + NEW_MEMBER_JOIN_TIMEOUT),
            ..Member::new(client_id, client_host, protocols)
        };
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type);
        }
        self.gathering.iter_mut().for_each(|gathering| gathering.more_came = true);
        self.static_members.extend(instance_id.map(|instance_id| (instance_id, id.clone())));
        self.pending_members.remove(&id);
        self.leader.get_or_insert_with(|| id.clone());
        self.members.insert(id, member);
        self.rebalance_or_complete(scope, out);
    }

    /// A static member is back, as another process. It takes the place of the one that was, which is fenced.
    fn replace_static_member(
        &mut self,
        ticket: Ticket,
        old: &str,
        id: String,
        request: Join,
        scope: &Scope<'_>,
        out: &mut Out,
    ) {
        let Some(mut member) = self.members.remove(old) else { return out.answer(ticket, Err(super::unknown(old))) };
        member.dismiss(&GroupError::FencedInstanceId, out);
        member.heard(scope.now);
        self.static_members.extend(member.instance_id.clone().map(|instance_id| (instance_id, id.clone())));
        if self.pending_sync.remove(old) {
            self.pending_sync.insert(id.clone());
        }
        let leader_before = self.leader.clone();
        if self.is_leader(old) {
            self.leader = Some(id.clone());
        }
        self.members.insert(id.clone(), member);
        let can_skip_assignment = request.can_skip_assignment;
        self.update_member(ticket, &id, request, out);

        match self.state {
            // It has what the one before had, and nobody else is disturbed.
            State::Stable if self.chosen_protocol() == self.protocol => {
                self.members.get_mut(&id).into_iter().for_each(|member| member.awaiting_join = None);
                self.store(out);
                let joined = match can_skip_assignment {
                    true => Joined { skip_assignment: self.is_leader(&id), ..self.joined(&id) },
                    // An old leader would assign. It is told that another leads, and so takes what it is given (KIP-814).
                    false => self.joined_as_follower(&id, leader_before),
                };
                out.answer_settled(ticket, Ok(GroupAnswer::Join(joined)));
            }
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(scope, out),
            State::PreparingRebalance | State::Empty => self.complete_join_when_all_are_there(scope, out),
        }
    }

    /// Takes over what the member says now. It waits for the next generation.
    fn update_member(&mut self, ticket: Ticket, id: &str, request: Join, out: &mut Out) {
        let Some(member) = self.members.get_mut(id) else { return };
        let Join { protocols, session_timeout, rebalance_timeout, .. } = request;
        member.protocols = protocols;
        member.session_timeout = session_timeout;
        member.rebalance_timeout = rebalance_timeout;
        // It has asked before, and no longer waits for that answer.
        if let Some(before) = member.awaiting_join.replace(ticket) {
            out.answer(before, Err(GroupError::RebalanceInProgress));
        }
    }

    pub(super) fn awaiting_join(&self) -> usize {
        self.members.values().filter(|member| member.awaiting_join.is_some()).count()
    }
}
