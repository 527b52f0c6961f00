//! Answers gateways for the broker of this process.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tidemark_model::Broker;
use tidemark_model::broker::{FetchRequest, ProduceRequest};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;

use crate::convert::{Malformed, all, each};
use crate::limits::MAX_MESSAGE;
use crate::ordered::{Fence, Identity, Service, serve};
use crate::proto as wire;
use crate::proto::broker_server::{Broker as WireBroker, BrokerServer};
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
    let service =
        BrokerServer::new(server).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    transport::serve(listener, Routes::new(service), shutdown).await
}

struct Server {
    broker: Arc<dyn Broker>,
    fence: Fence,
    shutdown: CancellationToken,
}

#[tonic::async_trait]
impl WireBroker for Server {
    type ProduceStream = BoxStream<'static, Result<wire::ProduceResponses, Status>>;

    async fn produce(
        &self,
        request: Request<Streaming<wire::ProduceRequests>>,
    ) -> Result<Response<Self::ProduceStream>, Status> {
        let ticket = self.fence.admit(Identity::read(request.metadata())?)?;
        let service = Producing { broker: Arc::clone(&self.broker) };
        Ok(Response::new(serve(service, request.into_inner(), ticket, self.shutdown.clone())))
    }

    async fn fetch(&self, request: Request<wire::FetchRequest>) -> Result<Response<wire::FetchResponse>, Status> {
        let results = self.broker.fetch(FetchRequest::try_from(request.into_inner())?).await;
        Ok(Response::new(wire::FetchResponse { results: all(results) }))
    }

    async fn list_offsets(
        &self,
        request: Request<wire::BrokerListOffsetsRequest>,
    ) -> Result<Response<wire::BrokerListOffsetsResponse>, Status> {
        let results = self.broker.list_offsets(each(request.into_inner().queries)?).await;
        Ok(Response::new(wire::BrokerListOffsetsResponse { results: all(results) }))
    }

    async fn epoch_ends(
        &self,
        request: Request<wire::BrokerEpochEndsRequest>,
    ) -> Result<Response<wire::BrokerEpochEndsResponse>, Status> {
        let results = self.broker.epoch_ends(each(request.into_inner().queries)?).await;
        Ok(Response::new(wire::BrokerEpochEndsResponse { results: all(results) }))
    }
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
