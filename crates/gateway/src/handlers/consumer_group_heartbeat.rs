//! ConsumerGroupHeartbeat (KIP-848). What a heartbeat may say is for the group's owner to judge.

use std::time::Duration;

use tidemark_model::group::{ConsumerHeartbeat, ConsumerHeartbeatAnswer, GroupAnswer, GroupRequest, TopicPartitions};
use tidemark_model::{GroupError, TopicId};
use tidemark_wire::messages::consumer_group_heartbeat_response::{self, Assignment};
use tidemark_wire::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, StrBytes, build, uuid, wire_uuid,
};

use super::Call;
use crate::connection::Answer;
use crate::error;

/// The first version in which clients make their ids (KIP-1082).
const FIRST_WITH_CLIENT_IDS: i16 = 1;
/// The epoch of a member that leaves.
const LEAVES: i32 = -1;

pub(super) async fn handle(call: Call, request: ConsumerGroupHeartbeatRequest) -> Answer {
    let group = request.group_id.to_string();
    let heartbeat = heartbeat(&call, request);
    let answered = match group.is_empty() {
        true => Err(nameless(&heartbeat)),
        false => {
            let pick = |answer| if let GroupAnswer::ConsumerHeartbeat(answer) = answer { Some(answer) } else { None };
            call.ask(&group, GroupRequest::ConsumerHeartbeat(heartbeat), pick).await
        }
    };
    call.reply(&build(|response: &mut ConsumerGroupHeartbeatResponse| match answered {
        Ok(ConsumerHeartbeatAnswer { member_id, member_epoch, heartbeat_interval, assignment }) => {
            response.member_id = Some(member_id.into());
            response.member_epoch = member_epoch;
            response.heartbeat_interval_ms = i32::try_from(heartbeat_interval.as_millis()).unwrap_or(i32::MAX);
            response.assignment = assignment.map(|topics| {
                build(|answer: &mut Assignment| answer.topic_partitions = topics.into_iter().map(assigned).collect())
            });
        }
        Err(error) => {
            response.error_code = call.failed(error::of_group(&error));
            response.error_message = Some(error.to_string().into());
        }
    }))
}

/// What Kafka misses in a heartbeat without a group: first the member's id, where it has to have one.
fn nameless(heartbeat: &ConsumerHeartbeat) -> GroupError {
    let has_id = heartbeat.client_makes_id || heartbeat.member_epoch > 0 || heartbeat.member_epoch == LEAVES;
    let missing = if has_id && heartbeat.member_id.is_empty() { "MemberId" } else { "GroupId" };
    GroupError::InvalidRequest(format!("{missing} can't be empty."))
}

fn heartbeat(call: &Call, request: ConsumerGroupHeartbeatRequest) -> ConsumerHeartbeat {
    let text = |text: Option<StrBytes>| text.map(|text| text.to_string());
    let owned = |topics: Vec<tidemark_wire::messages::consumer_group_heartbeat_request::TopicPartitions>| {
        let owned = topics.into_iter();
        owned.map(|one| TopicPartitions { topic: TopicId(uuid(one.topic_id)), partitions: one.partitions }).collect()
    };
    ConsumerHeartbeat {
        member_id: request.member_id.to_string(),
        member_epoch: request.member_epoch,
        instance_id: text(request.instance_id),
        rack: text(request.rack_id),
        // -1 says that it has not changed.
        rebalance_timeout: u64::try_from(request.rebalance_timeout_ms).ok().map(Duration::from_millis),
        subscribed_topics: request
            .subscribed_topic_names
            .map(|names| names.into_iter().map(|name| name.to_string()).collect()),
        subscribed_regex: text(request.subscribed_topic_regex),
        server_assignor: text(request.server_assignor),
        owned: request.topic_partitions.map(owned),
        client_makes_id: call.version >= FIRST_WITH_CLIENT_IDS,
    }
}

fn assigned(topic: TopicPartitions) -> consumer_group_heartbeat_response::TopicPartitions {
    build(|answer: &mut consumer_group_heartbeat_response::TopicPartitions| {
        answer.topic_id = wire_uuid(topic.topic.0);
        answer.partitions = topic.partitions;
    })
}
