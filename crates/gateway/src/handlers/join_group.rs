//! JoinGroup. The answer comes when all members have joined.

use std::time::Duration;

use tidemark_model::GroupError;
use tidemark_model::group::{GroupAnswer, GroupRequest, Join, Joined, Protocol};
use tidemark_wire::messages::join_group_response::JoinGroupResponseMember;
use tidemark_wire::messages::{JoinGroupRequest, JoinGroupResponse, StrBytes, build};

use super::Call;
use super::groups::named;
use super::waiting::Waiting;
use crate::connection::Answer;
use crate::error;

/// The first version with a rebalance timeout of its own.
const FIRST_WITH_REBALANCE_TIMEOUT: i16 = 1;
/// The first version in which a new member is given an id and asked to come again with it (KIP-394).
const FIRST_REQUIRING_MEMBER_ID: i16 = 4;
/// The first version in which the name of no protocol is null.
const FIRST_WITH_NULL_PROTOCOL: i16 = 7;
/// The first version in which the leader may be told to skip the assignment (KIP-814).
const FIRST_SKIPPING_ASSIGNMENT: i16 = 9;
/// Protocols of one member. A consumer has one or two. Decoded they take far more memory than as bytes, for minutes.
const MAX_PROTOCOLS: usize = 1_000;

pub(super) async fn handle(call: Call, request: JoinGroupRequest, waiting: Waiting) -> Answer {
    let (group, member_id) = (request.group_id.to_string(), request.member_id.to_string());
    let joined = match join(&call, request) {
        Ok(join) => match waiting.begin(&call.gateway) {
            Ok(_parked) => {
                let pick = |answer| if let GroupAnswer::Join(joined) = answer { Some(joined) } else { None };
                call.ask(&group, GroupRequest::Join(join), pick).await
            }
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    call.reply(&match joined {
        Ok(joined) => succeeded(&call, joined),
        Err(error) => failed(&call, member_id, error),
    })
}

fn join(call: &Call, request: JoinGroupRequest) -> Result<Join, GroupError> {
    named(&request.group_id)?;
    if request.protocols.len() > MAX_PROTOCOLS {
        return Err(GroupError::InvalidRequest(format!("more than {MAX_PROTOCOLS} protocols")));
    }
    // Kafka takes a negative time for one that is out of bounds; so is none.
    let time = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    let session_timeout = time(request.session_timeout_ms);
    let rebalance_timeout = match call.version >= FIRST_WITH_REBALANCE_TIMEOUT {
        true => time(request.rebalance_timeout_ms),
        false => session_timeout,
    };
    let protocol = |protocol: tidemark_wire::messages::join_group_request::JoinGroupRequestProtocol| Protocol {
        name: protocol.name.to_string(),
        metadata: protocol.metadata,
    };
    Ok(Join {
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.map(|id| id.to_string()),
        protocol_type: request.protocol_type.to_string(),
        protocols: request.protocols.into_iter().map(protocol).collect(),
        session_timeout,
        rebalance_timeout,
        requires_member_id: call.version >= FIRST_REQUIRING_MEMBER_ID,
        can_skip_assignment: call.version >= FIRST_SKIPPING_ASSIGNMENT,
        reason: request.reason.map(|reason| reason.to_string()),
    })
}

fn succeeded(call: &Call, joined: Joined) -> JoinGroupResponse {
    let Joined { generation, protocol_type, protocol_name, leader, skip_assignment, member_id, members } = joined;
    build(|response: &mut JoinGroupResponse| {
        response.generation_id = generation;
        response.protocol_type = Some(protocol_type.into());
        response.protocol_name = protocol(call, protocol_name);
        response.leader = leader.into();
        response.skip_assignment = skip_assignment;
        response.member_id = member_id.into();
        let members = members.into_iter().map(|member| {
            build(|answer: &mut JoinGroupResponseMember| {
                answer.member_id = member.member_id.into();
                answer.group_instance_id = member.instance_id.map(StrBytes::from);
                answer.metadata = member.metadata;
            })
        });
        response.members = members.collect();
    })
}

fn failed(call: &Call, member_id: String, error: GroupError) -> JoinGroupResponse {
    build(|response: &mut JoinGroupResponse| {
        response.error_code = call.failed(error::of_group(&error));
        response.generation_id = -1;
        response.protocol_name = protocol(call, String::new());
        response.member_id = match error {
            GroupError::MemberIdRequired(id) => id.into(),
            GroupError::GroupMaxSizeReached => StrBytes::default(),
            _ => member_id.into(),
        };
    })
}

fn protocol(call: &Call, name: String) -> Option<StrBytes> {
    if name.is_empty() && call.version >= FIRST_WITH_NULL_PROTOCOL { None } else { Some(name.into()) }
}
