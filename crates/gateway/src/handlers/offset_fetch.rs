//! OffsetFetch: of one group, or from version 8 on of several (KIP-709); topics by name, or from version 10 on by id.

use std::collections::BTreeMap;

use tidemark_model::group::{CommittedOffset, FetchOffsets, FetchedOffset, GroupAnswer, GroupRequest, TopicPartitions};
use tidemark_model::{GroupError, Topic, TopicId, TopicPartition};
use tidemark_wire::error::ErrorCode;
use tidemark_wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use tidemark_wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use tidemark_wire::messages::{OffsetFetchRequest, OffsetFetchResponse, build};

use super::Call;
use super::groups::{Naming, each};
use crate::connection::Answer;
use crate::error;

/// The first version in which an error of the group is told once for all.
const FIRST_WITH_GROUP_ERROR: i16 = 2;
const FIRST_BATCHED: i16 = 8;
const FIRST_BY_ID: i16 = 10;
/// What stands for no committed offset, and for no leader epoch.
const NOTHING: i64 = -1;
const NO_EPOCH: i32 = -1;

type Fetched = BTreeMap<TopicPartition, Result<Option<CommittedOffset>, GroupError>>;

pub(super) async fn handle(call: Call, request: OffsetFetchRequest) -> Answer {
    let state = call.gateway.cluster.current();
    let naming = Naming { state: &state, by_id: call.version >= FIRST_BY_ID };
    let require_stable = request.require_stable;
    let asked = if call.version >= FIRST_BATCHED { request.groups } else { vec![single(request)] };
    let groups = each(&asked, |asked| fetch(&call, naming, asked, require_stable)).await;
    call.reply(&build(|response: &mut OffsetFetchResponse| {
        if call.version >= FIRST_BATCHED {
            response.groups = groups;
        } else if let Some(group) = groups.into_iter().next() {
            response.error_code = group.error_code;
            response.topics = group.topics.into_iter().map(unbatched).collect();
        }
    }))
}

/// The group of a request of one, as one of several.
fn single(request: OffsetFetchRequest) -> OffsetFetchRequestGroup {
    build(|group: &mut OffsetFetchRequestGroup| {
        group.group_id = request.group_id;
        let topics = request.topics.map(|topics| {
            let topics = topics.into_iter().map(|topic| {
                build(|asked: &mut OffsetFetchRequestTopics| {
                    asked.name = topic.name;
                    asked.partition_indexes = topic.partition_indexes;
                })
            });
            topics.collect()
        });
        group.topics = topics;
    })
}

fn unbatched(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    build(|answer: &mut OffsetFetchResponseTopic| {
        answer.name = topic.name;
        let partitions = topic.partitions.into_iter().map(|partition| {
            build(|answer: &mut OffsetFetchResponsePartition| {
                answer.partition_index = partition.partition_index;
                answer.committed_offset = partition.committed_offset;
                answer.committed_leader_epoch = partition.committed_leader_epoch;
                answer.metadata = partition.metadata;
                answer.error_code = partition.error_code;
            })
        });
        answer.partitions = partitions.collect();
    })
}

async fn fetch(
    call: &Call,
    naming: Naming<'_>,
    asked: &OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let fetched = offsets(call, naming, asked, require_stable).await;
    build(|group: &mut OffsetFetchResponseGroup| {
        group.group_id = asked.group_id.clone();
        match (fetched, &asked.topics) {
            (Ok(fetched), Some(topics)) => {
                group.topics = topics.iter().map(|topic| named(call, naming, topic, &fetched)).collect();
            }
            (Ok(fetched), None) => group.topics = all(call, naming, fetched),
            (Err(error), Some(topics)) if call.version < FIRST_WITH_GROUP_ERROR => {
                let code = error::of_offset_fetch(&error);
                group.topics = topics.iter().map(|topic| refused(call, topic, code)).collect();
            }
            (Err(error), _) => group.error_code = call.failed(error::of_offset_fetch(&error)),
        }
    })
}

async fn offsets(
    call: &Call,
    naming: Naming<'_>,
    asked: &OffsetFetchRequestGroup,
    require_stable: bool,
) -> Result<Fetched, GroupError> {
    let known = |topic: &OffsetFetchRequestTopics| {
        let found = naming.find(&topic.name, topic.topic_id).ok()?;
        Some(TopicPartitions { topic: found.id, partitions: topic.partition_indexes.clone() })
    };
    let request = FetchOffsets {
        member_id: asked.member_id.as_ref().map(ToString::to_string),
        member_epoch: asked.member_epoch,
        topics: asked.topics.as_ref().map(|topics| topics.iter().filter_map(known).collect()),
        require_stable,
    };
    let pick = |answer| if let GroupAnswer::FetchOffsets(offsets) = answer { Some(offsets) } else { None };
    // The empty name too is a group here, as in Kafka.
    let offsets = call.ask(&asked.group_id, GroupRequest::FetchOffsets(request), pick).await?;
    Ok(offsets.into_iter().map(|FetchedOffset { partition, result }| (partition, result)).collect())
}

/// A topic that was asked for. One that has no such name has nothing committed; one that has no such id is an error.
fn named(
    call: &Call,
    naming: Naming<'_>,
    topic: &OffsetFetchRequestTopics,
    fetched: &Fetched,
) -> OffsetFetchResponseTopics {
    let found: Option<&Topic> = match naming.find(&topic.name, topic.topic_id) {
        Ok(found) => Some(found),
        Err(ErrorCode::UnknownTopicOrPartition) => None,
        Err(code) => return refused(call, topic, code),
    };
    build(|answer: &mut OffsetFetchResponseTopics| {
        (answer.name, answer.topic_id) = (topic.name.clone(), topic.topic_id);
        let partitions = topic.partition_indexes.iter().map(|&index| {
            let committed = found.and_then(|found| fetched.get(&TopicPartition::new(found.id, index)));
            partition(call, index, committed.cloned().unwrap_or(Ok(None)))
        });
        answer.partitions = partitions.collect();
    })
}

fn refused(call: &Call, topic: &OffsetFetchRequestTopics, code: ErrorCode) -> OffsetFetchResponseTopics {
    build(|answer: &mut OffsetFetchResponseTopics| {
        (answer.name, answer.topic_id) = (topic.name.clone(), topic.topic_id);
        let partitions = topic.partition_indexes.iter().map(|&index| nothing(index, call.failed(code)));
        answer.partitions = partitions.collect();
    })
}

/// Everything that the group has committed, but for topics that have been deleted since.
fn all(call: &Call, naming: Naming<'_>, fetched: Fetched) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: BTreeMap<TopicId, Vec<OffsetFetchResponsePartitions>> = BTreeMap::new();
    for (at, result) in fetched {
        topics.entry(at.topic).or_default().push(partition(call, at.partition, result));
    }
    let topics = topics.into_iter().filter_map(|(id, partitions)| {
        let (name, id) = naming.of(id)?;
        Some(build(|answer: &mut OffsetFetchResponseTopics| {
            if naming.by_id {
                answer.topic_id = id;
            } else {
                answer.name = name;
            }
            answer.partitions = partitions;
        }))
    });
    topics.collect()
}

fn partition(
    call: &Call,
    index: i32,
    result: Result<Option<CommittedOffset>, GroupError>,
) -> OffsetFetchResponsePartitions {
    match result {
        Ok(None) => nothing(index, ErrorCode::None.code()),
        Ok(Some(CommittedOffset { offset, leader_epoch, metadata })) => {
            build(|answer: &mut OffsetFetchResponsePartitions| {
                answer.partition_index = index;
                answer.committed_offset = offset;
                answer.committed_leader_epoch = leader_epoch;
                answer.metadata = Some(metadata.into());
            })
        }
        Err(error) => nothing(index, call.failed(error::of_offset_fetch(&error))),
    }
}

fn nothing(index: i32, error_code: i16) -> OffsetFetchResponsePartitions {
    build(|answer: &mut OffsetFetchResponsePartitions| {
        answer.partition_index = index;
        answer.committed_offset = NOTHING;
        answer.committed_leader_epoch = NO_EPOCH;
        answer.metadata = Some(Default::default());
        answer.error_code = error_code;
    })
}
