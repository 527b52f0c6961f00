//! ListOffsets: offsets by timestamp, and the special ones (KIP-79, KIP-734, KIP-405, KIP-1005, KIP-1023).

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future;
use tidemark_model::BrokerError;
use tidemark_model::broker::PartitionOffsetQuery;
use tidemark_model::storage::{FoundOffset, OffsetSpec};
use tidemark_wire::TopicRef;
use tidemark_wire::error::ErrorCode;
use tidemark_wire::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use tidemark_wire::messages::{ListOffsetsRequest, ListOffsetsResponse, build};

use super::Call;
use crate::connection::Answer;
use crate::error;
use crate::route::Shares;

/// How long brokers may take: a search by timestamp may read the index of an object in the object store.
const DEADLINE: Duration = Duration::from_secs(25);
/// The first version that answers with the leader epoch of the record.
const FIRST_WITH_EPOCH: i16 = 4;
/// The isolation level of a consumer that reads only committed records.
const READ_COMMITTED: i8 = 1;
/// The special timestamps, each with the first version that has it and what it asks for.
const SPECIAL: &[(i64, i16, OffsetSpec)] = &[
    (-1, 1, OffsetSpec::Latest),
    (-2, 1, OffsetSpec::Earliest),
    (-3, 7, OffsetSpec::MaxTimestamp),
    (-4, 8, OffsetSpec::EarliestLocal),
    (-5, 9, OffsetSpec::LatestTiered),
    (-6, 11, OffsetSpec::EarliestPendingUpload),
];

pub(super) async fn handle(call: Call, request: ListOffsetsRequest) -> Answer {
    let router = call.gateway.router();
    let committed = request.isolation_level == READ_COMMITTED;
    let mut results: Vec<Result<FoundOffset, ErrorCode>> = Vec::new();
    let mut shares = Shares::new(&*call.gateway.brokers);
    let duplicates = duplicates(&request);
    for topic in &request.topics {
        let found = router.topic(&TopicRef::Name(topic.name.clone()));
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let routed = if duplicates.contains(&(topic.name.as_str(), index)) {
                Err(ErrorCode::InvalidRequest)
            } else {
                spec(partition.timestamp, call.version, committed).and_then(|spec| {
                    let topic = found.map_err(|misrouted| misrouted.code())?;
                    Ok((spec, router.broker(topic, index).map_err(|misrouted| misrouted.code())?))
                })
            };
            results.push(routed.and_then(|(spec, (at, broker))| {
                let query = PartitionOffsetQuery {
                    partition: at,
                    revision: router.state.revision,
                    current_leader_epoch: epoch(partition.current_leader_epoch),
                    spec,
                };
                shares.push(broker, results.len(), query);
                // Stands until the broker has answered.
                Err(error::of_read(&BrokerError::Unavailable(String::new())))
            }));
        }
    }
    let shares = shares.into_vec();
    let asked = future::join_all(shares.iter().map(|share| share.broker.list_offsets(share.items.clone())));
    match tokio::time::timeout(DEADLINE, asked).await {
        Ok(answers) => {
            for (share, answers) in shares.iter().zip(answers) {
                for (slot, answer) in share.slots.iter().zip(answers) {
                    results[*slot] = answer.map_err(|error| {
                        tracing::debug!(%error, "listing offsets failed");
                        error::of_read(&error)
                    });
                }
            }
        }
        Err(_) => tracing::warn!(peer = %call.peer, "a broker did not list offsets in time"),
    }
    let mut results = results.into_iter();
    call.reply(&build(|response: &mut ListOffsetsResponse| {
        for topic in &request.topics {
            let partitions = topic.partitions.iter().zip(results.by_ref());
            let partitions = partitions.map(|(partition, result)| answer(&call, partition.partition_index, result));
            response.topics.push(build(|answered: &mut ListOffsetsTopicResponse| {
                answered.name = topic.name.clone();
                answered.partitions = partitions.collect();
            }));
        }
    }))
}

fn answer(call: &Call, index: i32, result: Result<FoundOffset, ErrorCode>) -> ListOffsetsPartitionResponse {
    build(|partition: &mut ListOffsetsPartitionResponse| {
        partition.partition_index = index;
        (partition.offset, partition.timestamp, partition.leader_epoch) = (-1, -1, -1);
        match result {
            Ok(found) => {
                partition.offset = found.offset;
                partition.timestamp = found.timestamp;
                if call.version >= FIRST_WITH_EPOCH {
                    partition.leader_epoch = found.leader_epoch;
                }
            }
            Err(code) => partition.error_code = call.failed(code),
        }
    })
}

/// What a timestamp asks for, if the version has it.
fn spec(timestamp: i64, version: i16, committed: bool) -> Result<OffsetSpec, ErrorCode> {
    if timestamp >= 0 {
        return Ok(OffsetSpec::Timestamp(timestamp));
    }
    let known = SPECIAL.iter().find(|(special, since, _)| *special == timestamp && version >= *since);
    match known {
        Some((_, _, OffsetSpec::Latest)) if committed => Ok(OffsetSpec::LastStable),
        Some((_, _, spec)) => Ok(*spec),
        None => Err(ErrorCode::UnsupportedVersion),
    }
}

/// Partitions that are named more than once.
fn duplicates(request: &ListOffsetsRequest) -> BTreeSet<(&str, i32)> {
    let mut seen = BTreeSet::new();
    let all = request
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.name.as_str(), partition.partition_index)));
    all.filter(|key| !seen.insert(*key)).collect()
}

/// -1 stands for an epoch that is not known.
pub(super) fn epoch(epoch: i32) -> Option<i32> {
    (epoch >= 0).then_some(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_timestamps_exist_from_their_versions_on() {
        assert_eq!(spec(-1, 1, false), Ok(OffsetSpec::Latest));
        assert_eq!(spec(-1, 1, true), Ok(OffsetSpec::LastStable));
        assert_eq!(spec(-2, 1, true), Ok(OffsetSpec::Earliest));
        assert_eq!(spec(0, 1, true), Ok(OffsetSpec::Timestamp(0)));
        for (timestamp, since) in [(-3, 7), (-4, 8), (-5, 9), (-6, 11)] {
            assert_eq!(spec(timestamp, since - 1, false), Err(ErrorCode::UnsupportedVersion));
            assert!(spec(timestamp, since, false).is_ok());
        }
        assert_eq!(spec(-7, 11, false), Err(ErrorCode::UnsupportedVersion));
    }
}
