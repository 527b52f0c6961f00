//! Calls to a group, each to the part that it concerns.

use tidemark_model::coordinator::ConfigChange;
use tidemark_model::group::{
    CommitOffsets, ConsumerHeartbeat, DescribedConsumerGroup, DescribedGroup, FetchOffsets, GroupAnswer, GroupCall,
    GroupRequest, Join,
};
use tidemark_model::{GroupError, TopicPartition};

use super::{Caller, Classic, ConsumerGroup, Context, Group, Kind, Out, Scope, Ticket, configs};
use crate::records::GroupKey;

impl Group {
    pub(super) fn call(&mut self, ticket: Ticket, call: GroupCall, context: &Context<'_>, out: &mut Out) {
        let GroupCall { group: _, client_id, client_host, request } = call;
        let caller = Caller { ticket, client_id, client_host };
        match request {
            GroupRequest::Join(request) => self.join(caller, request, context, out),
            GroupRequest::Sync(request) => {
                self.on_existing(caller, context, out, |kind, caller, scope, out| match kind {
                    Kind::Classic(classic) => {
                        classic.sync(caller, request, scope, out);
                        None
                    }
                    Kind::Consumer(group) => {
                        group.classic_sync(caller, request, scope, out);
                        None
                    }
                });
            }
            GroupRequest::Heartbeat(request) => {
                self.on_existing(caller, context, out, |kind, caller, scope, out| match kind {
                    Kind::Classic(classic) => {
                        classic.heartbeat(caller, request, scope, out);
                        None
                    }
                    Kind::Consumer(group) => {
                        group.classic_heartbeat(caller, request, scope, out);
                        None
                    }
                });
            }
            GroupRequest::Leave(request) => {
                self.on_existing(caller, context, out, |kind, caller, scope, out| match kind {
                    Kind::Classic(classic) => {
                        classic.leave(caller, request, scope, out);
                        None
                    }
                    Kind::Consumer(group) => group.classic_leave(caller, request, scope, out),
                });
            }
            GroupRequest::ConsumerHeartbeat(request) => self.consumer_heartbeat(caller, request, context, out),
            GroupRequest::CommitOffsets(request) => match self.check_commit(&request, context, out) {
                Ok(()) => {
                    let results = self.offsets.commit(request, self.writes, context, out);
                    out.answer_settled(ticket, Ok(GroupAnswer::CommitOffsets(results)));
                }
                Err(error) => out.answer(ticket, Err(error)),
            },
            GroupRequest::FetchOffsets(request) => {
                let fetched = self.check_fetch(&request).map(|()| self.offsets.fetch(&request));
                out.answer_settled(ticket, fetched.map(GroupAnswer::FetchOffsets));
            }
            GroupRequest::DeleteOffsets(partitions) => {
                let answer = self.delete_offsets(&partitions, context, out);
                out.answer_settled(ticket, answer.map(GroupAnswer::DeleteOffsets));
            }
            GroupRequest::Describe => out.answer_settled(ticket, self.describe().map(GroupAnswer::Describe)),
            GroupRequest::DescribeConsumer => {
                let described = self.describe_consumer(context).map(GroupAnswer::DescribeConsumer);
                out.answer_settled(ticket, described);
            }
            GroupRequest::Delete => {
                let deleted = self.delete(out).map(|()| GroupAnswer::Delete);
                out.answer_settled(ticket, deleted);
            }
            GroupRequest::AlterConfigs { changes, validate_only } => {
                let altered = self.alter_configs(&changes, validate_only, context, out);
                out.answer_settled(ticket, altered.map(|()| GroupAnswer::AlterConfigs));
            }
            GroupRequest::DescribeConfigs => {
                out.answer_settled(ticket, Ok(GroupAnswer::DescribeConfigs(self.configs.clone())));
            }
        }
    }
}

impl Group {
    /// For members only: where there is no group, there is no member.
    fn on_existing(
        &mut self,
        caller: Caller,
        context: &Context<'_>,
        out: &mut Out,
        serve: impl FnOnce(&mut Kind, Caller, &Scope<'_>, &mut Out) -> Option<Classic>,
    ) {
        if self.kind.is_none() {
            return out.answer(caller.ticket, Err(unknown_member("")));
        }
        self.on_kind(context, out, |kind, scope, out| serve(kind, caller, scope, out));
    }

    /// JoinGroup. An empty group becomes what is asked of it.
    fn join(&mut self, caller: Caller, request: Join, context: &Context<'_>, out: &mut Out) {
        let scope = Scope { group: &self.id, configs: &self.configs, context };
        let timeouts = context.settings.min_session_timeout..=context.settings.max_session_timeout;
        if !timeouts.contains(&request.session_timeout) {
            return out.answer(caller.ticket, Err(GroupError::InvalidSessionTimeout));
        }
        let becomes_classic = match &self.kind {
            None => true,
            Some(Kind::Consumer(group)) => group.is_empty(),
            Some(Kind::Classic(_)) => false,
        };
        if becomes_classic {
            if self.kind.is_none() && !request.member_id.is_empty() {
                return out.answer(caller.ticket, Err(unknown_member(&request.member_id)));
            }
            let classic = Classic::new(&scope);
            self.become_kind(Some(Kind::Classic(Box::new(classic))), out);
        }
        self.on_kind(context, out, |kind, scope, out| match kind {
            Kind::Classic(classic) => {
                classic.join(caller, request, scope, out);
                None
            }
            Kind::Consumer(group) => group.classic_join(caller, request, scope, out),
        });
    }

    fn consumer_heartbeat(&mut self, caller: Caller, request: ConsumerHeartbeat, context: &Context<'_>, out: &mut Out) {
        let scope = Scope { group: &self.id, configs: &self.configs, context };
        let existing = match &self.kind {
            Some(Kind::Consumer(group)) => Some(&**group),
            Some(Kind::Classic(_)) | None => None,
        };
        let checked = match ConsumerGroup::check(existing, &request, &scope) {
            Ok(checked) => checked,
            Err(error) => return out.answer(caller.ticket, Err(error)),
        };
        let joins = request.member_epoch == 0;
        let becomes = match &mut self.kind {
            Some(Kind::Consumer(_)) => None,
            // Only who joins makes a group.
            None if !joins => {
                return out.answer(caller.ticket, Err(not_found(format!("Group {} not found.", self.id))));
            }
            None => Some(ConsumerGroup::new(&scope)),
            Some(Kind::Classic(classic)) if classic.is_unused() && joins => Some(ConsumerGroup::new(&scope)),
            Some(Kind::Classic(classic)) => {
                let upgraded = match joins {
                    true => ConsumerGroup::from_classic(classic, out.write, &scope),
                    false => Err(not_found(format!("Group {} is not a consumer group.", self.id))),
                };
                match upgraded {
                    // Who waits for the classic group's rebalance comes again, and meets the consumer group.
                    Ok(group) => {
                        classic.abandon(out);
                        Some(group)
                    }
                    Err(error) => return out.answer(caller.ticket, Err(error)),
                }
            }
        };
        if let Some(group) = becomes {
            self.become_kind(Some(Kind::Consumer(Box::new(group))), out);
        }
        self.on_kind(context, out, |kind, scope, out| match kind {
            Kind::Consumer(group) => group.heartbeat(caller, request, checked, scope, out),
            Kind::Classic(_) => None,
        });
    }

    /// Whether the offsets may be committed. A commit without a membership makes a group of the offsets alone.
    fn check_commit(
        &mut self,
        request: &CommitOffsets,
        context: &Context<'_>,
        out: &mut Out,
    ) -> Result<(), GroupError> {
        let scope = Scope { group: &self.id, configs: &self.configs, context };
        match &mut self.kind {
            Some(Kind::Classic(classic)) => classic.check_commit(request, &scope),
            Some(Kind::Consumer(group)) => group.check_commit(request),
            None if request.generation_or_epoch < 0 => {
                let classic = Classic::new(&scope);
                self.become_kind(Some(Kind::Classic(Box::new(classic))), out);
                Ok(())
            }
            None if request.understands_epochs => Err(not_found(format!("Group {} not found.", self.id))),
            None => Err(GroupError::IllegalGeneration),
        }
    }

    fn check_fetch(&self, request: &FetchOffsets) -> Result<(), GroupError> {
        match &self.kind {
            Some(Kind::Consumer(group)) => group.check_fetch(request),
            // There are no offsets, or there is no fencing.
            Some(Kind::Classic(_)) | None => Ok(()),
        }
    }

    fn delete_offsets(
        &mut self,
        partitions: &[TopicPartition],
        context: &Context<'_>,
        out: &mut Out,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let kind = self.kind.as_ref().ok_or_else(|| not_found(format!("Group {} not found.", self.id)))?;
        if let Kind::Classic(classic) = kind {
            classic.check_delete_offsets()?;
        }
        let subscribed = |at: &TopicPartition| {
            context.cluster.topic(at.topic).is_some_and(|topic| match kind {
                Kind::Classic(classic) => classic.is_subscribed_to(&topic.name),
                Kind::Consumer(group) => group.is_subscribed_to(&topic.name),
            })
        };
        let results = partitions.iter().map(|at| match subscribed(at) {
            true => Err(GroupError::GroupSubscribedToTopic),
            false => {
                self.offsets.remove(*at, self.writes, out);
                Ok(())
            }
        });
        Ok(results.collect())
    }

    fn describe(&self) -> Result<DescribedGroup, GroupError> {
        match &self.kind {
            Some(Kind::Classic(classic)) => Ok(classic.describe()),
            Some(Kind::Consumer(_)) => Err(not_found(format!("Group {} is not a classic group.", self.id))),
            None => Err(not_found(format!("Group {} not found.", self.id))),
        }
    }

    fn describe_consumer(&self, context: &Context<'_>) -> Result<DescribedConsumerGroup, GroupError> {
        let scope = Scope { group: &self.id, configs: &self.configs, context };
        match &self.kind {
            Some(Kind::Consumer(group)) => group.describe(&scope),
            Some(Kind::Classic(_)) => Err(not_found(format!("Group {} is not a consumer group.", self.id))),
            None => Err(not_found(format!("Group {} not found.", self.id))),
        }
    }

    /// DeleteGroups. The offsets go with the group, its configs stay.
    fn delete(&mut self, out: &mut Out) -> Result<(), GroupError> {
        let empty = match &self.kind {
            None => return Err(not_found(format!("Group {} not found.", self.id))),
            Some(Kind::Classic(classic)) => classic.is_empty(),
            Some(Kind::Consumer(group)) => group.is_empty(),
        };
        if !empty {
            return Err(GroupError::NonEmptyGroup);
        }
        self.offsets.remove_all(self.writes, out);
        self.become_kind(None, out);
        Ok(())
    }

    fn alter_configs(
        &mut self,
        changes: &[ConfigChange],
        validate_only: bool,
        context: &Context<'_>,
        out: &mut Out,
    ) -> Result<(), GroupError> {
        let configs = configs::changed(&self.configs, changes, context.settings)?;
        if !validate_only && configs != self.configs {
            self.configs = configs;
            out.changed(GroupKey::Configs);
        }
        Ok(())
    }
}

fn not_found(message: String) -> GroupError {
    GroupError::GroupIdNotFound(message)
}

fn unknown_member(member: &str) -> GroupError {
    GroupError::UnknownMemberId(format!("{member} is not a member of the group."))
}
