//! LeaveGroup, of one member or many.

use tidemark_model::GroupError;
use tidemark_model::group::{GroupAnswer, Leaving};

use super::{Classic, State};
use crate::groups::{Caller, Out, Scope};

impl Classic {
    pub(in crate::groups) fn leave(&mut self, caller: Caller, all: Vec<Leaving>, scope: &Scope<'_>, out: &mut Out) {
        let results: Vec<Result<(), GroupError>> = all.iter().map(|leaving| self.leave_one(leaving, out)).collect();
        if results.iter().any(Result::is_ok) {
            match self.state {
                State::Stable | State::CompletingRebalance => self.prepare_rebalance(scope, out),
                State::PreparingRebalance => self.complete_join_when_all_are_there(scope, out),
                State::Empty => {}
            }
        }
        out.answer_when_stored(caller.ticket, Ok(GroupAnswer::Leave(results)));
    }

    fn leave_one(&mut self, leaving: &Leaving, out: &mut Out) -> Result<(), GroupError> {
        let Leaving { member_id, instance_id, reason: _ } = leaving;
        let id = if member_id.is_empty() {
            // An operator removes a static member by its instance id.
            let current = instance_id.as_ref().and_then(|instance_id| self.static_members.get(instance_id));
            current.cloned().ok_or_else(|| super::unknown(member_id))?
        } else {
            if !self.pending_members.contains_key(member_id) {
                self.check_member(member_id, instance_id.as_deref())?;
            }
            member_id.clone()
        };
        self.remove(&id, out);
        Ok(())
    }
}
