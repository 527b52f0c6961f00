//! A broker on another node.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::{self, BoxFuture, FutureExt as _};
use prost::Message as _;
use tidemark_model::broker::{
    FetchRequest, Fetched, PartitionEpochQuery, PartitionOffsetQuery, PartitionRecordDeletion, ProduceRequest,
};
use tidemark_model::storage::{Appended, EpochEnd, FoundOffset};
use tidemark_model::{Broker, BrokerError, Entropy};
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};

use crate::convert::{all, answers, spread};
use crate::limits::{HOP_MARGIN, MAX_FETCH, READ_DEADLINE};
use crate::ordered::{Identity, Lane, Link, Outgoing, answer};
use crate::proto as wire;
use crate::scatter::{Incoming, call};
use crate::trace;
use crate::transport::{AddressError, connect, connection, endpoint};

#[derive(Debug)]
pub(crate) struct RemoteBroker {
    produce: Link<ProduceLane>,
    reads: Channel,
}

impl RemoteBroker {
    pub(crate) fn new(address: &str, entropy: Arc<dyn Entropy>) -> Result<Self, AddressError> {
        let produce = Link::new(ProduceLane { endpoint: endpoint(address)? }, entropy);
        Ok(Self { produce, reads: connection(address)? })
    }
}

#[async_trait]
impl Broker for RemoteBroker {
    fn produce(&self, request: ProduceRequest) -> BoxFuture<'static, Vec<Result<Appended, BrokerError>>> {
        let (partitions, deadline) = (request.partitions.len(), request.timeout + HOP_MARGIN);
        let mut request = wire::ProduceRequest::from(request);
        request.traceparent = trace::traceparent();
        let size = request.encoded_len();
        match self.produce.send(request, size) {
            Err(failure) => future::ready(spread(partitions, Err(failure))).boxed(),
            Ok(answered) => async move {
                let answer = answer(deadline, answered).await;
                spread(partitions, answer.and_then(|answer| Ok(answers(partitions, answer.results)?)))
            }
            .boxed(),
        }
    }

    async fn fetch(&self, mut request: FetchRequest) -> Vec<Result<Fetched, BrokerError>> {
        request.max_bytes = request.max_bytes.min(MAX_FETCH);
        let (partitions, deadline) = (request.partitions.len(), request.max_wait + HOP_MARGIN);
        let request = wire::FetchRequest::from(request);
        let messages = call::answers(self.reads.clone(), "/tidemark.v1.Broker/Fetch", request, deadline).await;
        let results = messages.and_then(|messages| {
            let results = messages.into_iter().flat_map(|wire::FetchResponse { results }| results);
            Ok(answers(partitions, results.collect())?)
        });
        spread(partitions, results)
    }

    async fn list_offsets(&self, queries: Vec<PartitionOffsetQuery>) -> Vec<Result<FoundOffset, BrokerError>> {
        let count = queries.len();
        let request = wire::BrokerListOffsetsRequest { queries: all(queries) };
        let response: Result<wire::BrokerListOffsetsResponse, _> =
            call::unary(self.reads.clone(), "/tidemark.v1.Broker/ListOffsets", request, READ_DEADLINE).await;
        spread(count, response.and_then(|response| Ok(answers(count, response.results)?)))
    }

    async fn epoch_ends(&self, queries: Vec<PartitionEpochQuery>) -> Vec<Result<EpochEnd, BrokerError>> {
        let count = queries.len();
        let request = wire::BrokerEpochEndsRequest { queries: all(queries) };
        let response: Result<wire::BrokerEpochEndsResponse, _> =
            call::unary(self.reads.clone(), "/tidemark.v1.Broker/EpochEnds", request, READ_DEADLINE).await;
        spread(count, response.and_then(|response| Ok(answers(count, response.results)?)))
    }

    async fn delete_records(&self, deletions: Vec<PartitionRecordDeletion>) -> Vec<Result<i64, BrokerError>> {
        let count = deletions.len();
        let deadline = deletions.iter().map(|deletion| deletion.timeout).max().unwrap_or_default() + HOP_MARGIN;
        let request = wire::BrokerDeleteRecordsRequest { deletions: all(deletions) };
        let response: Result<wire::BrokerDeleteRecordsResponse, _> =
            call::unary(self.reads.clone(), "/tidemark.v1.Broker/DeleteRecords", request, deadline).await;
        spread(count, response.and_then(|response| Ok(answers(count, response.results)?)))
    }
}

/// Each stream has a connection to itself: a new stream never starts on what is left of a connection that broke, and
/// does not wait behind megabytes of what is read.
#[derive(Debug)]
struct ProduceLane {
    endpoint: Endpoint,
}

impl Lane for ProduceLane {
    type Request = wire::ProduceRequest;
    type Answer = wire::ProduceResponse;
    type Requests = wire::ProduceRequests;
    type Answers = wire::ProduceResponses;

    fn pack(first_sequence: u64, requests: Vec<wire::ProduceRequest>) -> wire::ProduceRequests {
        wire::ProduceRequests { first_sequence, requests }
    }

    fn unpack(answers: wire::ProduceResponses) -> impl Iterator<Item = (u64, wire::ProduceResponse)> + Send {
        answers.responses.into_iter().map(|response| (response.sequence, response))
    }

    async fn open(
        &self,
        requests: Outgoing<Self>,
        identity: Identity,
    ) -> Result<Incoming<wire::ProduceResponses>, Status> {
        let mut metadata = MetadataMap::new();
        identity.write(&mut metadata);
        call::stream(connect(&self.endpoint).await?, "/tidemark.v1.Broker/Produce", requests, metadata).await
    }
}
