//! LeaveGroup: of one member, or from version 3 on of several (KIP-345).

use tidemark_model::GroupError;
use tidemark_model::group::{GroupAnswer, GroupRequest, Leaving};
use tidemark_wire::messages::leave_group_request::MemberIdentity;
use tidemark_wire::messages::leave_group_response::MemberResponse;
use tidemark_wire::messages::{LeaveGroupRequest, LeaveGroupResponse, build};

use super::Call;
use super::groups::named;
use crate::connection::Answer;
use crate::error;

/// The first version in which several members leave.
const FIRST_BATCHED: i16 = 3;

pub(super) async fn handle(call: Call, request: LeaveGroupRequest) -> Answer {
    let LeaveGroupRequest { group_id, member_id, members, .. } = request;
    let members = match call.version >= FIRST_BATCHED {
        true => members,
        false => vec![build(|member: &mut MemberIdentity| member.member_id = member_id)],
    };
    let left = match leave(&call, &group_id, &members).await {
        // There is no such group.
        Err(error @ (GroupError::UnknownMemberId(_) | GroupError::GroupIdNotFound(_))) => {
            let error = GroupError::UnknownMemberId(error.to_string());
            Ok(members.iter().map(|_| Err(error.clone())).collect())
        }
        left => left,
    };
    call.reply(&build(|response: &mut LeaveGroupResponse| match left {
        Ok(results) if call.version >= FIRST_BATCHED => {
            let members = members.into_iter().zip(results).map(|(member, result)| {
                build(|answer: &mut MemberResponse| {
                    answer.member_id = member.member_id;
                    answer.group_instance_id = member.group_instance_id;
                    answer.error_code = result.err().map_or(0, |error| call.failed(error::of_group(&error)));
                })
            });
            response.members = members.collect();
        }
        Ok(results) => {
            let error = results.into_iter().find_map(Result::err);
            response.error_code = error.map_or(0, |error| call.failed(error::of_group(&error)));
        }
        Err(error) => response.error_code = call.failed(error::of_group(&error)),
    }))
}

async fn leave(
    call: &Call,
    group: &str,
    members: &[MemberIdentity],
) -> Result<Vec<Result<(), GroupError>>, GroupError> {
    named(group)?;
    let leaving = |member: &MemberIdentity| Leaving {
        member_id: member.member_id.to_string(),
        instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
        reason: member.reason.as_ref().map(ToString::to_string),
    };
    let request = GroupRequest::Leave(members.iter().map(leaving).collect());
    let pick = |answer| match answer {
        GroupAnswer::Leave(results) if results.len() == members.len() => Some(results),
        _ => None,
    };
    call.ask(group, request, pick).await
}
