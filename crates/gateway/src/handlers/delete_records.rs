//! DeleteRecords (KIP-107): moves log starts.

use std::time::Duration;

use futures::future;
use tidemark_model::BrokerError;
use tidemark_model::broker::PartitionRecordDeletion;
use tidemark_model::topic_config::effective;
use tidemark_wire::TopicRef;
use tidemark_wire::error::ErrorCode;
use tidemark_wire::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use tidemark_wire::messages::{DeleteRecordsRequest, DeleteRecordsResponse, build};

use super::Call;
use crate::connection::Answer;
use crate::error;
use crate::route::Shares;

/// What stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;
/// The low watermark of a partition that failed.
const INVALID: i64 = -1;
/// What brokers get beyond the client's own timeout before they count as gone.
const MARGIN: Duration = Duration::from_secs(5);
/// Longest wait that a client may ask for.
const MAX_TIMEOUT: Duration = Duration::from_secs(300);

pub(super) async fn handle(call: Call, request: DeleteRecordsRequest) -> Answer {
    let router = call.gateway.router();
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)).min(MAX_TIMEOUT);
    let mut results: Vec<Result<i64, ErrorCode>> = Vec::new();
    let mut shares = Shares::new(&*call.gateway.brokers);
    for topic in &request.topics {
        let found = router.topic(&TopicRef::Name(topic.name.clone()));
        for partition in &topic.partitions {
            let routed = found.map_err(|misrouted| misrouted.code()).and_then(|topic| {
                let (at, broker) = router.broker(topic, partition.partition_index).map_err(|m| m.code())?;
                let policy = effective(&topic.configs).cleanup_policy();
                if policy.compact && !policy.delete {
                    return Err(ErrorCode::PolicyViolation);
                }
                let before = (partition.offset != HIGH_WATERMARK).then_some(partition.offset);
                Ok((
                    broker,
                    PartitionRecordDeletion { partition: at, revision: router.state.revision, before, timeout },
                ))
            });
            results.push(routed.and_then(|(broker, deletion)| {
                shares.push(broker, results.len(), deletion);
                // Stands until the broker has answered.
                Err(ErrorCode::RequestTimedOut)
            }));
        }
    }
    let shares = shares.into_vec();
    let asked = future::join_all(shares.iter().map(|share| share.broker.delete_records(share.items.clone())));
    match tokio::time::timeout(timeout + MARGIN, asked).await {
        Ok(answers) => {
            for (share, answers) in shares.iter().zip(answers) {
                for (slot, answer) in share.slots.iter().zip(answers) {
                    results[*slot] = answer.map_err(|error: BrokerError| {
                        tracing::debug!(%error, "deleting records failed");
                        error::of_produce(&error)
                    });
                }
            }
        }
        Err(_) => tracing::warn!(peer = %call.peer, "a broker did not delete records in time"),
    }
    let mut results = results.into_iter();
    call.reply(&build(|response: &mut DeleteRecordsResponse| {
        for topic in &request.topics {
            let partitions = topic.partitions.iter().zip(results.by_ref());
            let partitions = partitions.map(|(partition, result)| answer(&call, partition.partition_index, result));
            response.topics.push(build(|answered: &mut DeleteRecordsTopicResult| {
                answered.name = topic.name.clone();
                answered.partitions = partitions.collect();
            }));
        }
    }))
}

fn answer(call: &Call, index: i32, result: Result<i64, ErrorCode>) -> DeleteRecordsPartitionResult {
    build(|partition: &mut DeleteRecordsPartitionResult| {
        partition.partition_index = index;
        partition.low_watermark = *result.as_ref().unwrap_or(&INVALID);
        if let Err(code) = result {
            partition.error_code = call.failed(code);
        }
    })
}
