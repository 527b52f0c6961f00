//! Answers brokers for the storage of this process.

use std::sync::{Arc, OnceLock};

use futures::future::{self, BoxFuture, FutureExt as _};
use futures::stream::{self, BoxStream, StreamExt as _};
use http::{Request, Response};
use tidemark_model::Storage;
use tidemark_model::storage::{AppendRequest, ReadRequest, TailCommand};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tracing::Instrument as _;

use crate::coalesce::coalesce;
use crate::convert::{Malformed, all, each};
use crate::ordered::{Fence, Identity, Service, serve};
use crate::proto as wire;
use crate::scatter::Incoming;
use crate::scatter::answer::{self, Methods, streaming, unary};
use crate::trace;
use crate::transport::{self, ServeError};

/// Serves until `shutdown`, then finishes what is under way. Append streams end as soon as what they started is
/// answered, tail streams at once.
pub async fn serve_storage(
    listener: TcpListener,
    storage: Arc<dyn Storage>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let server = Server { storage, fence: Fence::default(), shutdown: shutdown.clone() };
    transport::serve(listener, Routes::new(answer::Service(Arc::new(server))), shutdown).await
}

struct Server {
    storage: Arc<dyn Storage>,
    fence: Fence,
    shutdown: CancellationToken,
}

impl Methods for Server {
    const NAME: &'static str = "tidemark.v1.Storage";

    fn call(self: Arc<Self>, method: &str, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        match method {
            "Append" => future::ready(streaming(request, |metadata, stream| self.append(metadata, stream))).boxed(),
            "Tail" => future::ready(streaming(request, |_, commands| Ok(self.tail(commands)))).boxed(),
            "Read" => unary(request, async move |request| self.read(request).await).boxed(),
            "ListOffsets" => unary(request, async move |request| self.list_offsets(request).await).boxed(),
            "EpochEnds" => unary(request, async move |request| self.epoch_ends(request).await).boxed(),
            "DeleteRecords" => unary(request, async move |request| self.delete_records(request).await).boxed(),
            unknown => future::ready(answer::unknown(unknown)).boxed(),
        }
    }
}

impl Server {
    fn append(
        &self,
        metadata: &MetadataMap,
        requests: Incoming<wire::AppendRequests>,
    ) -> Result<BoxStream<'static, Result<wire::AppendResponses, Status>>, Status> {
        let ticket = self.fence.admit(Identity::read(metadata)?)?;
        let service = Appending { storage: Arc::clone(&self.storage) };
        Ok(serve(service, requests, ticket, self.shutdown.clone()))
    }

    async fn read(&self, request: wire::ReadRequest) -> Result<wire::ReadResponse, Status> {
        Ok(self.storage.read(ReadRequest::try_from(request)?).await.into())
    }

    async fn list_offsets(
        &self,
        request: wire::StorageListOffsetsRequest,
    ) -> Result<wire::StorageListOffsetsResponse, Status> {
        let results = self.storage.list_offsets(each(request.queries)?).await;
        Ok(wire::StorageListOffsetsResponse { results: all(results) })
    }

    async fn epoch_ends(
        &self,
        request: wire::StorageEpochEndsRequest,
    ) -> Result<wire::StorageEpochEndsResponse, Status> {
        let results = self.storage.epoch_ends(each(request.queries)?).await;
        Ok(wire::StorageEpochEndsResponse { results: all(results) })
    }

    async fn delete_records(
        &self,
        request: wire::StorageDeleteRecordsRequest,
    ) -> Result<wire::StorageDeleteRecordsResponse, Status> {
        let results = self.storage.delete_records(each(request.deletions)?).await;
        Ok(wire::StorageDeleteRecordsResponse { results: all(results) })
    }

    fn tail(&self, messages: Incoming<wire::TailCommands>) -> BoxStream<'static, Result<wire::TailEvents, Status>> {
        let broken = Arc::new(OnceLock::new());
        let commands = commands(messages, Arc::clone(&broken));
        let events = self.storage.tail(commands.take_until(self.shutdown.clone().cancelled_owned()).boxed());
        let messages = coalesce(events.map(wire::TailEvent::from)).map(|events| Ok(wire::TailEvents { events }));
        // The storage ends its events with the commands. Only then is it told why those ended.
        let status = stream::once(future::lazy(move |_| broken.get().cloned().map(Err))).filter_map(future::ready);
        messages.take_until(self.shutdown.clone().cancelled_owned()).chain(status).boxed()
    }
}

/// The commands up to the first that makes no sense, which is put in `broken`.
fn commands(messages: Incoming<wire::TailCommands>, broken: Arc<OnceLock<Status>>) -> BoxStream<'static, TailCommand> {
    stream::unfold((messages, broken), |(mut messages, broken)| async move {
        let commands = match messages.message().await {
            Ok(Some(wire::TailCommands { commands })) => each(commands).map_err(Status::from),
            Ok(None) => return None,
            Err(status) => Err(status),
        };
        match commands {
            Ok(commands) => Some((stream::iter::<Vec<TailCommand>>(commands), (messages, broken))),
            Err(status) => {
                let _ = broken.set(status);
                None
            }
        }
    })
    .flatten()
    .boxed()
}

struct Appending {
    storage: Arc<dyn Storage>,
}

impl Service for Appending {
    type Request = wire::AppendRequest;
    type Answer = Vec<wire::AppendResult>;
    type Requests = wire::AppendRequests;
    type Answers = wire::AppendResponses;
    type Running = BoxFuture<'static, Vec<wire::AppendResult>>;

    fn unpack(requests: wire::AppendRequests) -> (u64, Vec<wire::AppendRequest>) {
        let wire::AppendRequests { first_sequence, requests } = requests;
        (first_sequence, requests)
    }

    fn start(&self, request: wire::AppendRequest) -> Result<(Self::Running, usize), Malformed> {
        let bodies = request.appends.iter().filter_map(|append| append.batch.as_ref());
        let size = bodies.map(|batch| batch.body.len()).sum();
        let span = tracing::debug_span!("serve", method = "append");
        trace::follow(&span, &request.traceparent);
        let request = AppendRequest::try_from(request)?;
        let appended = span.in_scope(|| self.storage.append(request));
        Ok((Box::pin(async move { all(appended.await) }.instrument(span)), size))
    }

    fn pack(answers: Vec<(u64, Vec<wire::AppendResult>)>) -> wire::AppendResponses {
        let response = |(sequence, results)| wire::AppendResponse { sequence, results };
        wire::AppendResponses { responses: answers.into_iter().map(response).collect() }
    }
}
