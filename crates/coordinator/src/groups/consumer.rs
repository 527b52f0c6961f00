//! Groups of the protocol of KIP-848.

use bytes::Bytes;
use tidemark_model::GroupError;
use tidemark_model::group::{
    CommitOffsets, ConsumerHeartbeat, DescribedConsumerGroup, FetchOffsets, Join, Leaving, Member, Sync,
};
use tokio::time::Instant;

use super::{Caller, Classic, Out, Scope};
use crate::records::{BadValue, GroupKey};

/// A consumer group. Members of the classic protocol can be in it too, while it is being upgraded or downgraded.
///
/// What ends the last membership of this protocol returns the classic group that it leaves behind.
#[derive(Debug)]
pub(crate) struct ConsumerGroup {}

impl ConsumerGroup {
    /// An empty group.
    pub(crate) fn new(_scope: &Scope<'_>) -> Self {
        Self {}
    }

    /// The group that goes on with the members of a classic one. Refused where it cannot be upgraded.
    pub(crate) fn from_classic(_classic: &Classic, scope: &Scope<'_>) -> Result<Self, GroupError> {
        Err(GroupError::GroupIdNotFound(format!("Group {} is not a consumer group.", scope.group)))
    }

    pub(crate) fn load(_records: Vec<(GroupKey, Bytes)>, _scope: &Scope<'_>) -> Result<Self, BadValue> {
        Ok(Self {})
    }

    /// What is to be stored under one of [`Self::keys`]; None for what there is not.
    pub(crate) fn record(&self, _key: &GroupKey) -> Option<Bytes> {
        None
    }

    /// Every key under which something of it is stored.
    pub(crate) fn keys(&self) -> Vec<GroupKey> {
        Vec::new()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        None
    }

    pub(crate) fn deadline_passed(&mut self, _scope: &Scope<'_>, _out: &mut Out) -> Option<Classic> {
        None
    }

    /// The cluster's topics are others, or have more partitions.
    pub(crate) fn topics_changed(&mut self, _scope: &Scope<'_>, _out: &mut Out) -> Option<Classic> {
        None
    }

    pub(crate) fn heartbeat(
        &mut self,
        caller: Caller,
        _request: ConsumerHeartbeat,
        _scope: &Scope<'_>,
        out: &mut Out,
    ) -> Option<Classic> {
        out.answer(caller.ticket, Err(GroupError::Unavailable("consumer groups are not served yet".into())));
        None
    }

    /// A member of the classic protocol joins, into a group that is not empty.
    pub(crate) fn classic_join(
        &mut self,
        caller: Caller,
        _request: Join,
        _scope: &Scope<'_>,
        out: &mut Out,
    ) -> Option<Classic> {
        out.answer(caller.ticket, Err(GroupError::InconsistentGroupProtocol));
        None
    }

    pub(crate) fn classic_sync(&mut self, caller: Caller, request: Sync, _scope: &Scope<'_>, out: &mut Out) {
        out.answer(caller.ticket, Err(GroupError::UnknownMemberId(request.member.member_id)));
    }

    pub(crate) fn classic_heartbeat(&mut self, caller: Caller, request: Member, _scope: &Scope<'_>, out: &mut Out) {
        out.answer(caller.ticket, Err(GroupError::UnknownMemberId(request.member_id)));
    }

    /// LeaveGroup, also by an operator for members of either protocol.
    pub(crate) fn classic_leave(
        &mut self,
        caller: Caller,
        _request: Vec<Leaving>,
        _scope: &Scope<'_>,
        out: &mut Out,
    ) -> Option<Classic> {
        out.answer(caller.ticket, Err(GroupError::UnknownMemberId(String::new())));
        None
    }

    /// Whether the offsets may be committed by who says to be this member.
    pub(crate) fn check_commit(&self, _request: &CommitOffsets) -> Result<(), GroupError> {
        Ok(())
    }

    pub(crate) fn check_fetch(&self, _request: &FetchOffsets) -> Result<(), GroupError> {
        Ok(())
    }

    /// By name, or by a pattern.
    pub(crate) fn is_subscribed_to(&self, _topic: &str) -> bool {
        false
    }

    pub(crate) fn is_empty(&self) -> bool {
        true
    }

    pub(crate) fn state(&self) -> &'static str {
        "Empty"
    }

    pub(crate) fn describe(&self, scope: &Scope<'_>) -> Result<DescribedConsumerGroup, GroupError> {
        Err(GroupError::GroupIdNotFound(format!("Group {} not found.", scope.group)))
    }
}
