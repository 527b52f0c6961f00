//! From one generation to the next.

use std::time::Duration;

use tidemark_model::GroupError;
use tidemark_model::group::GroupAnswer;
use tokio::time::Instant;

use super::{Classic, Member, State};
use crate::groups::{Out, Scope};

/// Members come again, and new ones come, until all are there or it has taken too long.
#[derive(Debug)]
pub(super) struct Gathering {
    pub(super) until: Instant,
    /// The first rebalance of an empty group waits for more members, for as long as more come.
    first: Option<First>,
    /// Since the wait began.
    pub(super) more_came: bool,
}

#[derive(Debug)]
struct First {
    /// How long this wait is.
    delay: Duration,
    /// How much longer it can be made, in all.
    remaining: Duration,
}

impl Member {
    /// Tells a member that waits for the group why it need not.
    pub(super) fn dismiss(&mut self, error: &GroupError, out: &mut Out) {
        for ticket in self.awaiting_join.take().into_iter().chain(self.awaiting_sync.take()) {
            out.answer(ticket, Err(error.clone()));
        }
    }
}

impl Classic {
    pub(super) fn rebalance_or_complete(&mut self, scope: &Scope<'_>, out: &mut Out) {
        match self.state {
            State::PreparingRebalance => self.complete_join_when_all_are_there(scope, out),
            State::Empty | State::CompletingRebalance | State::Stable => self.prepare_rebalance(scope, out),
        }
    }

    pub(crate) fn prepare_rebalance(&mut self, scope: &Scope<'_>, out: &mut Out) {
        if self.state == State::CompletingRebalance {
            self.reset_assignments(&GroupError::RebalanceInProgress, scope, out);
        }
        self.sync_deadline = None;
        let first = (self.state == State::Empty).then(|| {
            let delay = scope.settings.initial_rebalance_delay;
            First { delay, remaining: self.rebalance_timeout().saturating_sub(delay) }
        });
        let wait = first.as_ref().map_or_else(|| self.rebalance_timeout(), |first| first.delay);
        let is_first = first.is_some();
        self.gathering = Some(Gathering { until: scope.now + wait, first, more_came: false });
        self.become_state(State::PreparingRebalance, scope);
        if !is_first && self.all_have_joined() {
            self.complete_join(scope, out);
        }
    }

    /// Goes on when nobody is waited for, except in a first rebalance, which waits for those whom nobody knows.
    pub(super) fn complete_join_when_all_are_there(&mut self, scope: &Scope<'_>, out: &mut Out) {
        let waits_for_more = self.gathering.as_ref().is_some_and(|gathering| gathering.first.is_some());
        if self.state == State::PreparingRebalance && !waits_for_more && self.all_have_joined() {
            self.complete_join(scope, out);
        }
    }

    /// The wait for members is over.
    pub(super) fn gathered(&mut self, scope: &Scope<'_>, out: &mut Out) {
        let Some(gathering) = &mut self.gathering else { return };
        match &mut gathering.first {
            Some(first) if gathering.more_came && !first.remaining.is_zero() => {
                let delay = scope.settings.initial_rebalance_delay.min(first.remaining);
                first.remaining = first.remaining.saturating_sub(first.delay);
                first.delay = delay;
                gathering.more_came = false;
                gathering.until = scope.now + delay;
            }
            Some(_) | None => self.complete_join(scope, out),
        }
    }

    /// Makes a generation of those who are there. Dynamic members who are not are removed.
    pub(super) fn complete_join(&mut self, scope: &Scope<'_>, out: &mut Out) {
        let missing = self.members.iter().filter(|(_, m)| m.awaiting_join.is_none() && m.instance_id.is_none());
        let missing: Vec<String> = missing.map(|(id, _)| id.clone()).collect();
        missing.iter().for_each(|id| self.remove(id, out));
        if !self.members.is_empty() && !self.elect_leader() {
            // Only static members that have not come again: they are waited for as long as their sessions last.
            let until = scope.now + self.rebalance_timeout();
            self.gathering.iter_mut().for_each(|gathering| gathering.until = until);
            return;
        }
        self.gathering = None;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.protocol = self.chosen_protocol();
        self.subscribed = self.subscribed_topics();
        self.pending_sync.clear();
        if self.members.is_empty() {
            self.become_state(State::Empty, scope);
            return self.store(out);
        }
        self.become_state(State::CompletingRebalance, scope);
        self.pending_sync = self.members.keys().cloned().collect();
        self.sync_deadline = Some(scope.now + self.rebalance_timeout());
        for id in self.pending_sync.clone() {
            let joined = self.joined(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.heard(scope.now);
            member.is_new = false;
            if let Some(ticket) = member.awaiting_join.take() {
                out.answer(ticket, Ok(GroupAnswer::Join(joined)));
            }
        }
    }

    pub(in crate::groups) fn deadline_passed(&mut self, scope: &Scope<'_>, out: &mut Out) {
        let due = |deadline: &Instant| *deadline <= scope.now;
        if self.sync_deadline.as_ref().is_some_and(due) {
            self.sync_expired(scope, out);
        }
        let late = self.pending_members.iter().filter(|(_, deadline)| due(deadline));
        for id in late.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.pending_members.remove(&id);
            self.complete_join_if_preparing(scope, out);
        }
        let late = self.members.iter().filter(|(_, member)| member.session_deadline.as_ref().is_some_and(due));
        for id in late.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.session_expired(&id, scope, out);
        }
        if self.gathering.as_ref().is_some_and(|gathering| due(&gathering.until)) {
            self.gathered(scope, out);
        }
    }

    fn session_expired(&mut self, id: &str, scope: &Scope<'_>, out: &mut Out) {
        // What was due before it may have changed it.
        let Some(member) = self.members.get_mut(id) else { return };
        if member.session_deadline.is_none_or(|deadline| deadline > scope.now) {
            return;
        }
        if !member.is_new && (member.awaiting_join.is_some() || member.awaiting_sync.is_some()) {
            // It cannot be heard while the group keeps it waiting.
            member.session_deadline = None;
            return;
        }
        self.remove(id, out);
        match self.state {
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(scope, out),
            State::PreparingRebalance => self.complete_join_if_preparing(scope, out),
            State::Empty => {}
        }
    }

    /// Members that have not asked for their assignment in time are removed.
    fn sync_expired(&mut self, scope: &Scope<'_>, out: &mut Out) {
        self.sync_deadline = None;
        let late = std::mem::take(&mut self.pending_sync);
        if late.is_empty() || !matches!(self.state, State::CompletingRebalance | State::Stable) {
            return;
        }
        late.iter().for_each(|id| self.remove(id, out));
        self.prepare_rebalance(scope, out);
    }

    fn complete_join_if_preparing(&mut self, scope: &Scope<'_>, out: &mut Out) {
        if self.state == State::PreparingRebalance && self.all_have_joined() {
            self.complete_join(scope, out);
        }
    }

    /// Takes a member, or one that was to come, out of the group.
    pub(super) fn remove(&mut self, id: &str, out: &mut Out) {
        self.pending_members.remove(id);
        self.pending_sync.remove(id);
        let Some(mut member) = self.members.remove(id) else { return };
        member.dismiss(&super::unknown(id), out);
        if let Some(instance_id) = &member.instance_id
            && self.static_members.get(instance_id).is_some_and(|current| current == id)
        {
            self.static_members.remove(instance_id);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Nobody has an assignment, and who waits for one is told why.
    pub(super) fn reset_assignments(&mut self, error: &GroupError, scope: &Scope<'_>, out: &mut Out) {
        for member in self.members.values_mut() {
            member.assignment.clear();
            if let Some(ticket) = member.awaiting_sync.take() {
                member.heard(scope.now);
                out.answer(ticket, Err(error.clone()));
            }
        }
    }

    pub(super) fn become_state(&mut self, state: State, scope: &Scope<'_>) {
        self.state = state;
        self.since_ms = scope.wall_ms;
    }

    fn all_have_joined(&self) -> bool {
        self.awaiting_join() == self.members.len() && self.pending_members.is_empty()
    }

    /// Whether one who is there leads, after another was chosen where the one before is not.
    fn elect_leader(&mut self) -> bool {
        let is_there = |(_, member): &(&String, &Member)| member.awaiting_join.is_some();
        let leader = self.leader.as_ref().and_then(|leader| self.members.get_key_value(leader));
        let Some(leader) = leader.filter(is_there).or_else(|| self.members.iter().find(is_there)) else { return false };
        self.leader = Some(leader.0.clone());
        true
    }

    /// As long as the slowest of them takes.
    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }
}
