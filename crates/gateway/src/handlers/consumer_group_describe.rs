//! ConsumerGroupDescribe (KIP-848).

use tidemark_model::GroupError;
use tidemark_model::group::{DescribedConsumer, DescribedConsumerGroup, GroupAnswer, GroupRequest, TopicPartitions};
use tidemark_wire::messages::consumer_group_describe_response::{self as response, Assignment, DescribedGroup, Member};
use tidemark_wire::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, StrBytes, build};

use super::Call;
use super::groups::{GROUP_OPERATIONS, NOT_ASKED, Naming, each, named};
use crate::connection::Answer;
use crate::error;

/// The first version that tells of which protocol a member is.
const FIRST_WITH_MEMBER_TYPE: i16 = 1;
const CLASSIC_MEMBER: i8 = 0;
const CONSUMER_MEMBER: i8 = 1;

pub(super) async fn handle(call: Call, request: ConsumerGroupDescribeRequest) -> Answer {
    let described = each(&request.group_ids, |group| describe(&call, group)).await;
    // As it is now: a topic may have been created for what is described.
    let state = call.gateway.cluster.current();
    let naming = Naming { state: &state, by_id: true };
    call.reply(&build(|response: &mut ConsumerGroupDescribeResponse| {
        for (group, described) in request.group_ids.iter().zip(described) {
            response.groups.push(build(|answer: &mut DescribedGroup| {
                answer.group_id = group.clone();
                answer.authorized_operations = NOT_ASKED;
                match described {
                    Ok(DescribedConsumerGroup { state, epoch, assignment_epoch, assignor, members }) => {
                        answer.group_state = state.into();
                        answer.group_epoch = epoch;
                        answer.assignment_epoch = assignment_epoch;
                        answer.assignor_name = assignor.into();
                        answer.members = members.into_iter().map(|one| member(&call, naming, one)).collect();
                        if request.include_authorized_operations {
                            answer.authorized_operations = GROUP_OPERATIONS;
                        }
                    }
                    Err(error) => {
                        answer.error_code = call.failed(error::of_group(&error));
                        if let GroupError::GroupIdNotFound(message) = error {
                            answer.error_message = Some(message.into());
                        }
                    }
                }
            }));
        }
    }))
}

async fn describe(call: &Call, group: &str) -> Result<DescribedConsumerGroup, GroupError> {
    named(group)?;
    let pick = |answer| if let GroupAnswer::DescribeConsumer(described) = answer { Some(described) } else { None };
    call.ask(group, GroupRequest::DescribeConsumer, pick).await
}

fn member(call: &Call, naming: Naming<'_>, described: DescribedConsumer) -> Member {
    let DescribedConsumer {
        member_id,
        instance_id,
        rack,
        member_epoch,
        client_id,
        client_host,
        subscribed_topics,
        subscribed_regex,
        assignment,
        target,
        classic,
    } = described;
    build(|answer: &mut Member| {
        answer.member_id = member_id.into();
        answer.instance_id = instance_id.map(StrBytes::from);
        answer.rack_id = rack.map(StrBytes::from);
        answer.member_epoch = member_epoch;
        answer.client_id = client_id.into();
        answer.client_host = client_host.into();
        answer.subscribed_topic_names = subscribed_topics.into_iter().map(StrBytes::from).collect();
        // Kafka says an empty pattern where there is none.
        answer.subscribed_topic_regex = Some(subscribed_regex.unwrap_or_default().into());
        answer.assignment = assigned(naming, assignment);
        answer.target_assignment = assigned(naming, target);
        if call.version >= FIRST_WITH_MEMBER_TYPE {
            answer.member_type = if classic { CLASSIC_MEMBER } else { CONSUMER_MEMBER };
        }
    })
}

/// Without topics that have been deleted since.
fn assigned(naming: Naming<'_>, topics: Vec<TopicPartitions>) -> Assignment {
    let topics = topics.into_iter().filter_map(|topic| {
        let (name, id) = naming.of(topic.topic)?;
        Some(build(|answer: &mut response::TopicPartitions| {
            (answer.topic_name, answer.topic_id) = (name, id);
            answer.partitions = topic.partitions;
        }))
    });
    build(|answer: &mut Assignment| answer.topic_partitions = topics.collect())
}
