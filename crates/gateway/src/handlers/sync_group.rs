//! SyncGroup. The answer comes when the leader has assigned.

use tidemark_model::GroupError;
use tidemark_model::group::{GroupAnswer, GroupRequest, Member, Sync, Synced};
use tidemark_wire::messages::{SyncGroupRequest, SyncGroupResponse, build};

use super::Call;
use super::groups::named;
use super::waiting::Waiting;
use crate::connection::Answer;
use crate::error;

/// The first version that has to say which protocol the member means (KIP-559).
const FIRST_WITH_PROTOCOL: i16 = 5;
/// Members that one request assigns to. Decoded they take far more memory than as bytes.
const MAX_ASSIGNMENTS: usize = 100_000;

pub(super) async fn handle(call: Call, request: SyncGroupRequest, waiting: Waiting) -> Answer {
    let group = request.group_id.to_string();
    let synced = match sync(&call, request) {
        Ok(sync) => match waiting.begin(&call.gateway) {
            Ok(_parked) => {
                let pick = |answer| if let GroupAnswer::Sync(synced) = answer { Some(synced) } else { None };
                call.ask(&group, GroupRequest::Sync(sync), pick).await
            }
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    call.reply(&build(|response: &mut SyncGroupResponse| match synced {
        Ok(Synced { protocol_type, protocol_name, assignment }) => {
            response.protocol_type = Some(protocol_type.into());
            response.protocol_name = Some(protocol_name.into());
            response.assignment = assignment;
        }
        Err(error) => response.error_code = call.failed(error::of_group(&error)),
    }))
}

fn sync(call: &Call, request: SyncGroupRequest) -> Result<Sync, GroupError> {
    let says_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if call.version >= FIRST_WITH_PROTOCOL && !says_protocol {
        return Err(GroupError::InconsistentGroupProtocol);
    }
    named(&request.group_id)?;
    if request.assignments.len() > MAX_ASSIGNMENTS {
        return Err(GroupError::InvalidRequest(format!("more than {MAX_ASSIGNMENTS} assignments")));
    }
    let assignments = request.assignments.into_iter();
    Ok(Sync {
        member: Member {
            member_id: request.member_id.to_string(),
            instance_id: request.group_instance_id.map(|id| id.to_string()),
            generation: request.generation_id,
        },
        protocol_type: request.protocol_type.map(|name| name.to_string()),
        protocol_name: request.protocol_name.map(|name| name.to_string()),
        assignments: assignments.map(|one| (one.member_id.to_string(), one.assignment)).collect(),
    })
}
