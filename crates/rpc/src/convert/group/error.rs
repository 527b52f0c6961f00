//! Why a group did not do it.

use tidemark_model::GroupError;

use super::super::Malformed;
use crate::proto as wire;

impl From<GroupError> for wire::GroupError {
    fn from(error: GroupError) -> Self {
        use wire::group_error::Error as W;
        let nothing = wire::Nothing {};
        let error = match error {
            GroupError::NotCoordinator => W::NotCoordinator(nothing),
            GroupError::LoadInProgress => W::LoadInProgress(nothing),
            GroupError::Unavailable(text) => W::Unavailable(text),
            GroupError::TimedOut(text) => W::TimedOut(text),
            GroupError::InvalidGroupId => W::InvalidGroupId(nothing),
            GroupError::GroupIdNotFound(text) => W::GroupIdNotFound(text),
            GroupError::NonEmptyGroup => W::NonEmptyGroup(nothing),
            GroupError::GroupSubscribedToTopic => W::GroupSubscribedToTopic(nothing),
            GroupError::GroupMaxSizeReached => W::GroupMaxSizeReached(nothing),
            GroupError::UnknownMemberId(text) => W::UnknownMemberId(text),
            GroupError::MemberIdRequired(id) => W::MemberIdRequired(id),
            GroupError::IllegalGeneration => W::IllegalGeneration(nothing),
            GroupError::RebalanceInProgress => W::RebalanceInProgress(nothing),
            GroupError::InconsistentGroupProtocol => W::InconsistentGroupProtocol(nothing),
            GroupError::InvalidSessionTimeout => W::InvalidSessionTimeout(nothing),
            GroupError::FencedInstanceId => W::FencedInstanceId(nothing),
            GroupError::FencedMemberEpoch(text) => W::FencedMemberEpoch(text),
            GroupError::StaleMemberEpoch(text) => W::StaleMemberEpoch(text),
            GroupError::UnreleasedInstanceId(text) => W::UnreleasedInstanceId(text),
            GroupError::UnsupportedAssignor(text) => W::UnsupportedAssignor(text),
            GroupError::InvalidRegularExpression(text) => W::InvalidRegularExpression(text),
            GroupError::OffsetMetadataTooLarge => W::OffsetMetadataTooLarge(nothing),
            GroupError::UnstableOffset => W::UnstableOffset(nothing),
            GroupError::UnknownTopicOrPartition => W::UnknownTopicOrPartition(nothing),
            GroupError::InvalidConfig(text) => W::InvalidConfig(text),
            GroupError::InvalidRequest(text) => W::InvalidRequest(text),
            GroupError::TooLarge(text) => W::TooLarge(text),
            GroupError::UnsupportedVersion(text) => W::UnsupportedVersion(text),
        };
        Self { error: Some(error) }
    }
}

impl TryFrom<wire::GroupError> for GroupError {
    type Error = Malformed;

    fn try_from(wire::GroupError { error }: wire::GroupError) -> Result<Self, Malformed> {
        use wire::group_error::Error as W;
        Ok(match error.ok_or(Malformed::Missing("error"))? {
            W::NotCoordinator(wire::Nothing {}) => Self::NotCoordinator,
            W::LoadInProgress(wire::Nothing {}) => Self::LoadInProgress,
            W::Unavailable(text) => Self::Unavailable(text),
            W::TimedOut(text) => Self::TimedOut(text),
            W::InvalidGroupId(wire::Nothing {}) => Self::InvalidGroupId,
            W::GroupIdNotFound(text) => Self::GroupIdNotFound(text),
            W::NonEmptyGroup(wire::Nothing {}) => Self::NonEmptyGroup,
            W::GroupSubscribedToTopic(wire::Nothing {}) => Self::GroupSubscribedToTopic,
            W::GroupMaxSizeReached(wire::Nothing {}) => Self::GroupMaxSizeReached,
            W::UnknownMemberId(text) => Self::UnknownMemberId(text),
            W::MemberIdRequired(id) => Self::MemberIdRequired(id),
            W::IllegalGeneration(wire::Nothing {}) => Self::IllegalGeneration,
            W::RebalanceInProgress(wire::Nothing {}) => Self::RebalanceInProgress,
            W::InconsistentGroupProtocol(wire::Nothing {}) => Self::InconsistentGroupProtocol,
            W::InvalidSessionTimeout(wire::Nothing {}) => Self::InvalidSessionTimeout,
            W::FencedInstanceId(wire::Nothing {}) => Self::FencedInstanceId,
            W::FencedMemberEpoch(text) => Self::FencedMemberEpoch(text),
            W::StaleMemberEpoch(text) => Self::StaleMemberEpoch(text),
            W::UnreleasedInstanceId(text) => Self::UnreleasedInstanceId(text),
            W::UnsupportedAssignor(text) => Self::UnsupportedAssignor(text),
            W::InvalidRegularExpression(text) => Self::InvalidRegularExpression(text),
            W::OffsetMetadataTooLarge(wire::Nothing {}) => Self::OffsetMetadataTooLarge,
            W::UnstableOffset(wire::Nothing {}) => Self::UnstableOffset,
            W::UnknownTopicOrPartition(wire::Nothing {}) => Self::UnknownTopicOrPartition,
            W::InvalidConfig(text) => Self::InvalidConfig(text),
            W::InvalidRequest(text) => Self::InvalidRequest(text),
            W::TooLarge(text) => Self::TooLarge(text),
            W::UnsupportedVersion(text) => Self::UnsupportedVersion(text),
        })
    }
}
