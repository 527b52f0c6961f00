//! Produce: each broker gets its journals' batches, in the order in which requests came.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{self, BoxFuture};
use tidemark_model::broker::{ProducePartition, ProduceRequest as BrokerRequest};
use tidemark_model::storage::{Acks, Appended};
use tidemark_model::{Batch, BrokerError, Node, StorageError, TopicPartition};
use tidemark_wire::TopicRef;
use tidemark_wire::batch::check_produce_version;
use tidemark_wire::error::ErrorCode;
use tidemark_wire::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};

use super::Call;
use crate::connection::{Answer, Ended};
use crate::error;
use crate::route::{Misrouted, Router, Shares, add_endpoint};

/// How much longer than the client's timeout a broker may take before its answer counts as lost. The broker keeps the
/// timeout; this only ends what would hang.
const GRACE: Duration = Duration::from_secs(10);

/// Why a partition's records go no further.
enum Refused {
    Misrouted(Misrouted),
    Bad(ErrorCode, String),
}

pub(super) fn handle(call: Call, request: ProduceRequest) -> BoxFuture<'static, Answer> {
    let ProduceRequest { transactional_id, acks, timeout_ms, topics } = request;
    let router = call.gateway.router();
    let acks = match acks {
        0 => Ok(Acks::None),
        1 => Ok(Acks::Leader),
        -1 => Ok(Acks::All),
        acks => Err(acks),
    };
    let mut response = Response::new(topics.len());
    let mut shares = Shares::new(&*call.gateway.brokers);
    for topic in topics {
        let found = router.topic(&topic.topic);
        response.shape.push((topic.topic, topic.partitions.len()));
        for partition in topic.partitions {
            let index = partition.index;
            let checked = match (acks, found) {
                (Err(acks), _) => {
                    Err(Refused::Bad(ErrorCode::InvalidRequiredAcks, format!("acks is {acks}, not -1, 0 or 1")))
                }
                (Ok(_), Err(misrouted)) => Err(Refused::Misrouted(misrouted)),
                (Ok(_), Ok(topic)) => {
                    let transactional = transactional_id.is_some();
                    check(&router, topic, partition, call.version, transactional)
                }
            };
            match checked {
                Ok((broker, item)) => {
                    shares.push(broker, response.partitions.len(), item);
                    // Takes the place until the broker has answered.
                    response.partitions.push(PartitionProduceResponse::failed(index, ErrorCode::RequestTimedOut, None));
                }
                Err(Refused::Misrouted(misrouted)) => response.misrouted(&router, index, misrouted),
                Err(Refused::Bad(code, message)) => {
                    response.partitions.push(PartitionProduceResponse::failed(index, code, Some(message)));
                }
            }
        }
    }
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    let acks = acks.unwrap_or(Acks::All);
    let mut slots = Vec::new();
    let mut appends = Vec::new();
    for share in shares.into_vec() {
        let request = BrokerRequest {
            gateway: call.gateway.node,
            revision: router.state.revision,
            acks,
            timeout,
            partitions: share.items,
        };
        appends.push(share.broker.produce(request));
        slots.push(share.slots);
    }
    async move {
        match tokio::time::timeout(timeout + GRACE, future::join_all(appends)).await {
            Ok(outcomes) => {
                for (slots, outcomes) in slots.into_iter().zip(outcomes) {
                    for (slot, outcome) in slots.into_iter().zip(outcomes) {
                        response.appended(slot, outcome);
                    }
                }
            }
            Err(_) => tracing::warn!(peer = %call.peer, "a broker did not answer a produce in time"),
        }
        finish(&call, acks, response)
    }
    .boxed()
}

fn check<'a>(
    router: &'a Router,
    topic: &tidemark_model::Topic,
    partition: PartitionProduceData,
    version: i16,
    transactional: bool,
) -> Result<(&'a Node, ProducePartition), Refused> {
    let (at, broker): (TopicPartition, _) = router.broker(topic, partition.index).map_err(Refused::Misrouted)?;
    let records = partition.records.unwrap_or_default();
    check_produce_version(version, &records).map_err(|rejected| Refused::Bad(rejected.code(), rejected.message))?;
    if transactional || is_transactional(&records) {
        // A transaction that nobody could ever end would hold back every reader of committed records.
        return Err(Refused::Bad(ErrorCode::InvalidTxnState, "transactions are not available yet".to_owned()));
    }
    Ok((broker, ProducePartition { partition: at, records }))
}

fn is_transactional(records: &Bytes) -> bool {
    Batch::split_from(&mut records.clone()).is_ok_and(|batch| batch.is_transactional())
}

fn finish(call: &Call, acks: Acks, response: Response) -> Answer {
    for partition in &response.partitions {
        call.failed(partition.error);
    }
    if acks == Acks::None {
        let failed = response.partitions.iter().find(|partition| partition.error.is_error());
        return match failed {
            None => Ok(None),
            Some(partition) => {
                let message = partition.error_message.as_deref().unwrap_or_default();
                Err(Ended::UnansweredProduce(format!("{} {message}", partition.error)))
            }
        };
    }
    call.encoded(response.into_wire().encode(call.correlation_id, call.version))
}

/// A response in the making: partitions in the order of the request, and how they fall into topics.
struct Response {
    shape: Vec<(TopicRef, usize)>,
    partitions: Vec<PartitionProduceResponse>,
    endpoints: Vec<tidemark_wire::NodeEndpoint>,
}

impl Response {
    fn new(topics: usize) -> Self {
        Self { shape: Vec::with_capacity(topics), partitions: Vec::new(), endpoints: Vec::new() }
    }

    fn misrouted(&mut self, router: &Router, index: i32, misrouted: Misrouted) {
        let mut answer = PartitionProduceResponse::failed(index, misrouted.code(), misrouted.message());
        if let Misrouted::NotLeader(at) = misrouted
            && let Some((leader, endpoint)) = router.leader(at)
        {
            answer.current_leader = Some(leader);
            add_endpoint(&mut self.endpoints, endpoint);
        }
        self.partitions.push(answer);
    }

    fn appended(&mut self, slot: usize, outcome: Result<Appended, BrokerError>) {
        let index = self.partitions[slot].index;
        self.partitions[slot] = match outcome {
            Ok(Appended { base_offset, log_append_time_ms, log_start_offset }) => {
                PartitionProduceResponse::appended(index, base_offset, log_append_time_ms, log_start_offset)
            }
            Err(error) => {
                if let BrokerError::Storage(StorageError::Corrupt(reason)) = &error {
                    tracing::error!(partition = index, reason, "stored records are damaged");
                }
                PartitionProduceResponse::failed(index, error::of_produce(&error), Some(error.to_string()))
            }
        };
    }

    fn into_wire(self) -> ProduceResponse {
        let mut partitions = self.partitions.into_iter();
        let topics = self.shape.into_iter().map(|(topic, count)| {
            let partitions = partitions.by_ref().take(count).collect();
            TopicProduceResponse { topic, partitions }
        });
        ProduceResponse { topics: topics.collect(), throttle_time_ms: 0, node_endpoints: self.endpoints }
    }
}
