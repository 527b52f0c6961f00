//! DescribeGroups: groups of the classic protocol.

use tidemark_model::GroupError;
use tidemark_model::group::{DescribedGroup, GroupAnswer, GroupRequest};
use tidemark_wire::messages::describe_groups_response::{self, DescribedGroupMember};
use tidemark_wire::messages::{DescribeGroupsRequest, DescribeGroupsResponse, StrBytes, build};

use super::Call;
use super::groups::{DEAD, GROUP_OPERATIONS, NOT_ASKED, each};
use crate::connection::Answer;
use crate::error;

/// The first version that may ask for what is allowed.
const FIRST_WITH_OPERATIONS: i16 = 3;
/// The first version in which a group that there is not is an error (KIP-1043). Before, it is a dead one.
const FIRST_MISSING: i16 = 6;

pub(super) async fn handle(call: Call, request: DescribeGroupsRequest) -> Answer {
    // The empty name too is a group here, as in Kafka.
    let described = each(&request.groups, |group| describe(&call, group)).await;
    let asked = call.version >= FIRST_WITH_OPERATIONS && request.include_authorized_operations;
    call.reply(&build(|response: &mut DescribeGroupsResponse| {
        let groups = request.groups.iter().zip(described);
        response.groups = groups.map(|(group, described)| answer(&call, group, described, asked)).collect();
    }))
}

async fn describe(call: &Call, group: &str) -> Result<DescribedGroup, GroupError> {
    let pick = |answer| if let GroupAnswer::Describe(described) = answer { Some(described) } else { None };
    call.ask(group, GroupRequest::Describe, pick).await
}

fn answer(
    call: &Call,
    group: &StrBytes,
    described: Result<DescribedGroup, GroupError>,
    asked: bool,
) -> describe_groups_response::DescribedGroup {
    build(|answer: &mut describe_groups_response::DescribedGroup| {
        answer.group_id = group.clone();
        let operations = if asked { GROUP_OPERATIONS } else { NOT_ASKED };
        answer.authorized_operations = operations;
        match described {
            Ok(DescribedGroup { state, protocol_type, protocol, members }) => {
                answer.group_state = state.into();
                answer.protocol_type = protocol_type.into();
                answer.protocol_data = protocol.into();
                let members = members.into_iter().map(|member| {
                    build(|answer: &mut DescribedGroupMember| {
                        answer.member_id = member.member_id.into();
                        answer.group_instance_id = member.instance_id.map(StrBytes::from);
                        answer.client_id = member.client_id.into();
                        answer.client_host = member.client_host.into();
                        answer.member_metadata = member.metadata;
                        answer.member_assignment = member.assignment;
                    })
                });
                answer.members = members.collect();
            }
            Err(GroupError::GroupIdNotFound(_)) if call.version < FIRST_MISSING => answer.group_state = DEAD.into(),
            Err(error) => {
                answer.error_code = call.failed(error::of_group(&error));
                answer.authorized_operations = NOT_ASKED;
                if let GroupError::GroupIdNotFound(message) = error {
                    answer.group_state = DEAD.into();
                    if call.version >= FIRST_MISSING {
                        answer.error_message = Some(message.into());
                    }
                }
            }
        }
    })
}
