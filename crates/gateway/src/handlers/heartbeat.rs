//! Heartbeat, of the classic protocol.

use tidemark_model::GroupError;
use tidemark_model::group::{GroupAnswer, GroupRequest, Member};
use tidemark_wire::messages::{HeartbeatRequest, HeartbeatResponse, build};

use super::Call;
use super::groups::named;
use crate::connection::Answer;
use crate::error;

pub(super) async fn handle(call: Call, request: HeartbeatRequest) -> Answer {
    let beaten = beat(&call, &request).await;
    call.reply(&build(|response: &mut HeartbeatResponse| match beaten {
        // While a group is being read its members live on, as in Kafka.
        Ok(()) | Err(GroupError::LoadInProgress) => {}
        Err(error) => response.error_code = call.failed(error::of_group(&error)),
    }))
}

async fn beat(call: &Call, request: &HeartbeatRequest) -> Result<(), GroupError> {
    named(&request.group_id)?;
    let member = Member {
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_ref().map(ToString::to_string),
        generation: request.generation_id,
    };
    let pick = |answer| matches!(answer, GroupAnswer::Heartbeat).then_some(());
    call.ask(&request.group_id, GroupRequest::Heartbeat(member), pick).await
}
