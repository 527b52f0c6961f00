//! Answers gateways for the broker of this process.

use std::sync::Arc;

use futures::future::{self, BoxFuture, FutureExt as _};
use futures::stream::BoxStream;
use http::{Request, Response};
use prost::Message as _;
use tidemark_model::Broker;
use tidemark_model::broker::{FetchRequest, ProduceRequest};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tracing::Instrument as _;

use crate::convert::{Malformed, all, each};
use crate::limits::COALESCED_BYTES;
use crate::ordered::{Fence, Identity, Service, serve};
use crate::proto as wire;
use crate::scatter::Incoming;
use crate::scatter::answer::{self, Methods, several, streaming, unary};
use crate::trace;
use crate::transport::{self, ServeError};

/// Serves until `shutdown`, then finishes what is under way. Produce streams end as soon as what they started is
/// answered; a long poll is the broker's to end.
pub async fn serve_broker(
    listener: TcpListener,
    broker: Arc<dyn Broker>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let server = Server { broker, fence: Fence::default(), shutdown: shutdown.clone() };
    transport::serve(listener, Routes::new(answer::Service(Arc::new(server))), shutdown).await
}

struct Server {
    broker: Arc<dyn Broker>,
    fence: Fence,
    shutdown: CancellationToken,
}

impl Methods for Server {
    const NAME: &'static str = "tidemark.v1.Broker";

    fn call(self: Arc<Self>, method: &str, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        match method {
            "Produce" => future::ready(streaming(request, |metadata, stream| self.produce(metadata, stream))).boxed(),
            "Fetch" => several(request, async move |request| self.fetch(request).await).boxed(),
            "ListOffsets" => unary(request, async move |request| self.list_offsets(request).await).boxed(),
            "EpochEnds" => unary(request, async move |request| self.epoch_ends(request).await).boxed(),
            "DeleteRecords" => unary(request, async move |request| self.delete_records(request).await).boxed(),
            unknown => future::ready(answer::unknown(unknown)).boxed(),
        }
    }
}

impl Server {
    fn produce(
        &self,
        metadata: &MetadataMap,
        requests: Incoming<wire::ProduceRequests>,
    ) -> Result<BoxStream<'static, Result<wire::ProduceResponses, Status>>, Status> {
        let ticket = self.fence.admit(Identity::read(metadata)?)?;
        let service = Producing { broker: Arc::clone(&self.broker) };
        Ok(serve(service, requests, ticket, self.shutdown.clone()))
    }

    async fn fetch(&self, request: wire::FetchRequest) -> Result<Vec<wire::FetchResponse>, Status> {
        Ok(in_messages(all(self.broker.fetch(FetchRequest::try_from(request)?).await)))
    }

    async fn list_offsets(
        &self,
        request: wire::BrokerListOffsetsRequest,
    ) -> Result<wire::BrokerListOffsetsResponse, Status> {
        let results = self.broker.list_offsets(each(request.queries)?).await;
        Ok(wire::BrokerListOffsetsResponse { results: all(results) })
    }

    async fn epoch_ends(&self, request: wire::BrokerEpochEndsRequest) -> Result<wire::BrokerEpochEndsResponse, Status> {
        let results = self.broker.epoch_ends(each(request.queries)?).await;
        Ok(wire::BrokerEpochEndsResponse { results: all(results) })
    }

    async fn delete_records(
        &self,
        request: wire::BrokerDeleteRecordsRequest,
    ) -> Result<wire::BrokerDeleteRecordsResponse, Status> {
        let results = self.broker.delete_records(each(request.deletions)?).await;
        Ok(wire::BrokerDeleteRecordsResponse { results: all(results) })
    }
}

/// Results in messages of about [`COALESCED_BYTES`], but for one that is larger by itself.
fn in_messages(results: Vec<wire::FetchResult>) -> Vec<wire::FetchResponse> {
    let mut messages = vec![wire::FetchResponse::default()];
    let mut bytes = 0;
    for result in results {
        let size = result.encoded_len();
        if bytes > 0 && bytes + size > COALESCED_BYTES {
            messages.push(wire::FetchResponse::default());
            bytes = 0;
        }
        bytes += size;
        if let Some(last) = messages.last_mut() {
            last.results.push(result);
        }
    }
    messages
}

struct Producing {
    broker: Arc<dyn Broker>,
}

impl Service for Producing {
    type Request = wire::ProduceRequest;
    type Answer = Vec<wire::ProduceResult>;
    type Requests = wire::ProduceRequests;
    type Answers = wire::ProduceResponses;
    type Running = BoxFuture<'static, Vec<wire::ProduceResult>>;

    fn unpack(requests: wire::ProduceRequests) -> (u64, Vec<wire::ProduceRequest>) {
        let wire::ProduceRequests { first_sequence, requests } = requests;
        (first_sequence, requests)
    }

    fn start(&self, request: wire::ProduceRequest) -> Result<(Self::Running, usize), Malformed> {
        let size = request.partitions.iter().map(|partition| partition.records.len()).sum();
        let span = tracing::debug_span!("serve", method = "produce");
        trace::follow(&span, &request.traceparent);
        let request = ProduceRequest::try_from(request)?;
        let produced = span.in_scope(|| self.broker.produce(request));
        Ok((Box::pin(async move { all(produced.await) }.instrument(span)), size))
    }

    fn pack(answers: Vec<(u64, Vec<wire::ProduceResult>)>) -> wire::ProduceResponses {
        let response = |(sequence, results)| wire::ProduceResponse { sequence, results };
        wire::ProduceResponses { responses: answers.into_iter().map(response).collect() }
    }
}
