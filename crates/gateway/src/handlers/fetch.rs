//! Fetch: what a session wants is asked of the brokers, waiting until there is enough, and what changed is answered.

mod collect;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidemark_model::broker::{FetchPartition as BrokerPartition, Fetched, Isolation};
use tidemark_model::{Batch, BrokerError, StorageError};
use tidemark_wire::error::ErrorCode;
use tidemark_wire::fetch::{
    FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse, ForgottenTopic, PartitionData,
};
use tidemark_wire::messages::StrBytes;
use tidemark_wire::{NodeEndpoint, TopicRef};
use tokio::time::Instant;

use super::Call;
use crate::admission::LEAST_ANSWER;
use crate::connection::Answer;
use crate::error;
use crate::fetch_session::{SessionRequest, Summary, TopicKey, Wanted};
use crate::route::{Misrouted, Router, Shares, add_endpoint};

/// The most bytes that one fetch returns, whatever it asks for (`fetch.max.bytes`, which is 55 MiB in Kafka). A client
/// that does not read holds this much memory, and to one that does a larger answer is not faster.
pub(super) const MAX_BYTES: usize = 16 << 20;
/// The first version that names topics by id.
const FIRST_BY_ID: i16 = 13;
/// How long an answer without records is held back when what it reports is an outage: Java's consumer asks again at
/// once. Not longer than the client was ready to wait.
const OUTAGE_PAUSE: Duration = Duration::from_millis(100);

/// One partition's place in the answer.
enum Outcome {
    Misrouted(Misrouted),
    /// A Kafka broker that wants to replicate: there is nothing here for it.
    NotReplicated,
    Asked(Result<Fetched, BrokerError>),
}

pub(super) async fn handle(call: Call, request: FetchRequest, at_the_tail: &AtomicBool) -> Answer {
    let session =
        SessionRequest { id: request.session_id, epoch: request.session_epoch, by_id: call.version >= FIRST_BY_ID };
    let started = Instant::now();
    let max_wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let forgotten = forgotten(&request.forgotten);
    let context = match call.gateway.sessions.begin(session, wanted(&request.topics), &forgotten) {
        Ok(context) => context,
        Err(error) => return failed(&call, error::of_session(error)),
    };

    let router = call.gateway.router();
    let mut outcomes = Vec::with_capacity(context.partitions.len());
    let mut shares = Shares::new(&*call.gateway.brokers);
    for (slot, wanted) in context.partitions.iter().enumerate() {
        outcomes.push(match route(&router, wanted) {
            Err(misrouted) => Outcome::Misrouted(misrouted),
            Ok(_) if request.replica_id >= 0 => Outcome::NotReplicated,
            Ok((broker, item)) => {
                shares.push(broker, slot, item);
                Outcome::Asked(Err(BrokerError::Unavailable("not asked".to_owned())))
            }
        });
    }
    // An error is told at once.
    let all_asked = outcomes.iter().all(|outcome| matches!(outcome, Outcome::Asked(_)));
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(MAX_BYTES);
    let wait = collect::Wait {
        deadline: if all_asked { started + max_wait } else { started },
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
        max_bytes,
        isolation: request.isolation,
        revision: router.state.revision,
    };
    let waits_first = at_the_tail.load(Ordering::Relaxed);
    let asked = collect::collect(&wait, &shares.into_vec(), waits_first, &call.gateway).await;
    let collect::Collected { results, mut room } = asked;
    for (slot, result) in results {
        outcomes[slot] = Outcome::Asked(result);
    }
    let bytes = limit(&mut outcomes, max_bytes.min(room.bytes()));
    room.shrink_to(bytes);
    // More than half of the least is there also when the next batch did not fit, or the next answer begins with that.
    at_the_tail.store(bytes < LEAST_ANSWER / 2, Ordering::Relaxed);
    if is_outage(&outcomes) {
        let pause = OUTAGE_PAUSE.min(max_wait.saturating_sub(started.elapsed()));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = call.gateway.shutdown.cancelled() => {}
        }
    }
    let answer = answer(&call, &router, &request, context, outcomes)?;
    Ok(answer.map(|frame| frame.keeping(room)))
}

fn answer(
    call: &Call,
    router: &Router,
    request: &FetchRequest,
    context: crate::fetch_session::Context,
    outcomes: Vec<Outcome>,
) -> Answer {
    let mut endpoints = Vec::new();
    let mut partitions: Vec<(TopicKey, PartitionData)> = Vec::with_capacity(outcomes.len());
    for (wanted, outcome) in context.partitions.iter().zip(outcomes) {
        let data = partition(call, router, wanted, outcome, request.isolation, &mut endpoints);
        partitions.push((wanted.topic.clone(), data));
    }
    let summaries: Vec<Summary> = partitions.iter().map(|(_, data)| summary(data)).collect();
    let finished = match call.gateway.sessions.finish(context, &summaries) {
        Ok(finished) => finished,
        Err(error) => return failed(call, error::of_session(error)),
    };
    let mut topics: Vec<FetchableTopicResponse> = Vec::new();
    let mut last = None;
    for ((topic, data), _) in partitions.into_iter().zip(finished.include).filter(|(_, include)| *include) {
        if last.as_ref() != Some(&topic) {
            topics.push(FetchableTopicResponse { topic: topic_ref(&topic), partitions: Vec::new() });
            last = Some(topic);
        }
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(data);
        }
    }
    let response = FetchResponse {
        throttle_time_ms: 0,
        error: ErrorCode::None,
        session_id: finished.session_id,
        topics,
        node_endpoints: endpoints,
    };
    call.encoded(response.encode(call.correlation_id, call.version))
}

/// An answer that is about the whole request.
fn failed(call: &Call, error: ErrorCode) -> Answer {
    call.failed(error);
    call.encoded(FetchResponse { error, ..FetchResponse::default() }.encode(call.correlation_id, call.version))
}

fn route<'a>(router: &'a Router, wanted: &Wanted) -> Result<(&'a tidemark_model::Node, BrokerPartition), Misrouted> {
    let topic = match &wanted.topic {
        TopicKey::Name(name) => router.state.topic_named(name).ok_or(Misrouted::UnknownTopic)?,
        TopicKey::Id(id) => router.state.topic(tidemark_model::TopicId(*id)).ok_or(Misrouted::UnknownTopicId)?,
    };
    let (partition, broker) = router.broker(topic, wanted.partition)?;
    let item = BrokerPartition {
        partition,
        offset: wanted.offset,
        max_bytes: usize::try_from(wanted.max_bytes).unwrap_or(0),
        current_leader_epoch: wanted.current_leader_epoch,
        last_fetched_epoch: wanted.last_fetched_epoch,
    };
    Ok((broker, item))
}

fn partition(
    call: &Call,
    router: &Router,
    wanted: &Wanted,
    outcome: Outcome,
    isolation: Isolation,
    endpoints: &mut Vec<NodeEndpoint>,
) -> PartitionData {
    let (code, at) = match outcome {
        Outcome::Asked(Ok(fetched)) => return with_records(wanted.partition, fetched, isolation),
        Outcome::Asked(Err(error)) => {
            if let BrokerError::Storage(StorageError::Corrupt(reason)) = &error {
                tracing::error!(topic = ?wanted.topic, partition = wanted.partition, reason, "stored records are damaged");
            } else {
                tracing::debug!(topic = ?wanted.topic, partition = wanted.partition, %error, "fetch failed");
            }
            (error::of_read(&error), None)
        }
        Outcome::Misrouted(misrouted) => {
            let at = if let Misrouted::NotLeader(at) = misrouted { Some(at) } else { None };
            (misrouted.code(), at)
        }
        Outcome::NotReplicated => (ErrorCode::NotLeaderOrFollower, None),
    };
    call.failed(code);
    let mut data = PartitionData::failed(wanted.partition, code);
    if let Some((leader, endpoint)) = at.and_then(|at| router.leader(at)) {
        data.current_leader = Some(leader);
        add_endpoint(endpoints, endpoint);
    }
    data
}

fn with_records(index: i32, fetched: Fetched, isolation: Isolation) -> PartitionData {
    let Fetched { leader_epoch: _, log_start_offset, high_watermark, last_stable_offset, aborted, diverging, batches } =
        fetched;
    PartitionData {
        index,
        error: ErrorCode::None,
        high_watermark,
        last_stable_offset,
        log_start_offset,
        diverging_epoch: diverging,
        current_leader: None,
        aborted: (isolation == Isolation::ReadCommitted).then_some(aborted),
        preferred_read_replica: -1,
        batches,
    }
}

fn summary(data: &PartitionData) -> Summary {
    Summary {
        error: data.error.is_error(),
        diverging: data.diverging_epoch.is_some(),
        high_watermark: data.high_watermark,
        log_start_offset: data.log_start_offset,
        bytes: data.batches.iter().map(Batch::wire_len).sum(),
    }
}

/// Cuts what several brokers gave together down to what was asked for, and says how much it is. The first batch always
/// stays (KIP-74).
fn limit(outcomes: &mut [Outcome], max_bytes: usize) -> usize {
    let mut left = max_bytes;
    let mut first = true;
    let mut kept = 0;
    for outcome in outcomes {
        let Outcome::Asked(Ok(fetched)) = outcome else { continue };
        let fits = fetched.batches.iter().take_while(|batch| {
            let fits = first || batch.wire_len() <= left;
            first = false;
            left = left.saturating_sub(batch.wire_len());
            fits
        });
        let fits = fits.count();
        if fits < fetched.batches.len() {
            fetched.batches.truncate(fits);
            left = 0;
        }
        kept += fetched.batches.iter().map(Batch::wire_len).sum::<usize>();
    }
    kept
}

/// Whether there is nothing to tell but that partitions cannot be read now.
fn is_outage(outcomes: &[Outcome]) -> bool {
    let mut outage = false;
    for outcome in outcomes {
        match outcome {
            Outcome::Asked(Ok(fetched)) if !fetched.batches.is_empty() || fetched.diverging.is_some() => return false,
            Outcome::Asked(Err(error)) if !error::is_outage(error) => return false,
            Outcome::Asked(Err(_)) | Outcome::Misrouted(Misrouted::NoBroker) => outage = true,
            Outcome::Asked(Ok(_)) => {}
            Outcome::Misrouted(_) | Outcome::NotReplicated => return false,
        }
    }
    outage
}

fn wanted(topics: &[FetchTopic]) -> Vec<Wanted> {
    let mut all = Vec::new();
    for topic in topics {
        let key = topic_key(&topic.topic);
        all.extend(topic.partitions.iter().map(|partition| Wanted {
            topic: key.clone(),
            partition: partition.index,
            offset: partition.fetch_offset,
            max_bytes: partition.max_bytes,
            current_leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
        }));
    }
    all
}

fn forgotten(topics: &[ForgottenTopic]) -> Vec<(TopicKey, i32)> {
    let mut all = Vec::new();
    for topic in topics {
        let key = topic_key(&topic.topic);
        all.extend(topic.partitions.iter().map(|partition| (key.clone(), *partition)));
    }
    all
}

/// A session outlives its request, so it must not hold on to the request's memory.
fn topic_key(topic: &TopicRef) -> TopicKey {
    match topic {
        TopicRef::Name(name) => TopicKey::Name(Arc::from(name.as_str())),
        TopicRef::Id(id) => TopicKey::Id(*id),
    }
}

fn topic_ref(topic: &TopicKey) -> TopicRef {
    match topic {
        TopicKey::Name(name) => TopicRef::Name(StrBytes::from(&**name)),
        TopicKey::Id(id) => TopicRef::Id(*id),
    }
}
