//! OffsetForLeaderEpoch: where an epoch ended, by which a consumer finds out that its log was truncated (KIP-320).

use std::time::Duration;

use futures::future;
use tidemark_model::BrokerError;
use tidemark_model::broker::PartitionEpochQuery;
use tidemark_model::storage::EpochEnd;
use tidemark_wire::TopicRef;
use tidemark_wire::error::ErrorCode;
use tidemark_wire::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use tidemark_wire::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, build};

use super::Call;
use super::list_offsets::epoch;
use crate::connection::Answer;
use crate::error;
use crate::route::Shares;

/// How long brokers may take.
const DEADLINE: Duration = Duration::from_secs(25);

pub(super) async fn handle(call: Call, request: OffsetForLeaderEpochRequest) -> Answer {
    let router = call.gateway.router();
    let mut results: Vec<Result<EpochEnd, ErrorCode>> = Vec::new();
    let mut shares = Shares::new(&*call.gateway.brokers);
    for topic in &request.topics {
        let found = router.topic(&TopicRef::Name(topic.topic.clone()));
        for partition in &topic.partitions {
            let routed = found.and_then(|topic| router.broker(topic, partition.partition));
            match routed {
                Ok((at, broker)) => {
                    let query = PartitionEpochQuery {
                        partition: at,
                        revision: router.state.revision,
                        current_leader_epoch: epoch(partition.current_leader_epoch),
                        leader_epoch: partition.leader_epoch,
                    };
                    shares.push(broker, results.len(), query);
                    // Stands until the broker has answered.
                    results.push(Err(error::of_read(&BrokerError::Unavailable(String::new()))));
                }
                Err(misrouted) => results.push(Err(misrouted.code())),
            }
        }
    }
    let shares = shares.into_vec();
    let asked = future::join_all(shares.iter().map(|share| share.broker.epoch_ends(share.items.clone())));
    match tokio::time::timeout(DEADLINE, asked).await {
        Ok(answers) => {
            for (share, answers) in shares.iter().zip(answers) {
                for (slot, answer) in share.slots.iter().zip(answers) {
                    results[*slot] = answer.map_err(|error| error::of_read(&error));
                }
            }
        }
        Err(_) => tracing::warn!(peer = %call.peer, "a broker did not tell the ends of epochs in time"),
    }
    let mut results = results.into_iter();
    call.reply(&build(|response: &mut OffsetForLeaderEpochResponse| {
        for topic in &request.topics {
            let partitions = topic.partitions.iter().zip(results.by_ref());
            let partitions = partitions.map(|(partition, result)| answer(&call, partition.partition, result));
            response.topics.push(build(|answered: &mut OffsetForLeaderTopicResult| {
                answered.topic = topic.topic.clone();
                answered.partitions = partitions.collect();
            }));
        }
    }))
}

fn answer(call: &Call, index: i32, result: Result<EpochEnd, ErrorCode>) -> EpochEndOffset {
    build(|partition: &mut EpochEndOffset| {
        partition.partition = index;
        (partition.leader_epoch, partition.end_offset) = (-1, -1);
        match result {
            Ok(end) => (partition.leader_epoch, partition.end_offset) = (end.leader_epoch, end.end_offset),
            Err(code) => partition.error_code = call.failed(code),
        }
    })
}
