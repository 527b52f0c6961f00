//! Storage on another node.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures::future::{self, BoxFuture, FutureExt as _};
use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use prost::Message as _;
use tidemark_model::storage::{
    AppendRequest, Appended, EpochEnd, EpochQuery, FoundOffset, OffsetQuery, Read, ReadRequest, RecordDeletion,
    TailCommand, TailEvent,
};
use tidemark_model::{Entropy, Storage, StorageError};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};

use crate::coalesce::coalesce;
use crate::convert::{all, answers, each, spread};
use crate::limits::{HOP_MARGIN, MAX_FETCH, READ_DEADLINE};
use crate::ordered::{Identity, Lane, Link, Outgoing, answer};
use crate::proto as wire;
use crate::scatter::{Incoming, call};
use crate::status::Failure;
use crate::trace;
use crate::transport::{AddressError, connect, connection, endpoint};

#[derive(Debug)]
pub(crate) struct RemoteStorage {
    append: Link<AppendLane>,
    reads: Channel,
}

impl RemoteStorage {
    pub(crate) fn new(address: &str, entropy: Arc<dyn Entropy>) -> Result<Self, AddressError> {
        let append = Link::new(AppendLane { endpoint: endpoint(address)? }, entropy);
        Ok(Self { append, reads: connection(address)? })
    }
}

#[async_trait]
impl Storage for RemoteStorage {
    fn append(&self, request: AppendRequest) -> BoxFuture<'static, Vec<Result<Appended, StorageError>>> {
        let (appends, deadline) = (request.appends.len(), request.timeout + HOP_MARGIN);
        let mut request = wire::AppendRequest::from(request);
        request.traceparent = trace::traceparent();
        let size = request.encoded_len();
        match self.append.send(request, size) {
            Err(failure) => future::ready(spread(appends, Err(failure))).boxed(),
            Ok(answered) => async move {
                let answer = answer(deadline, answered).await;
                spread(appends, answer.and_then(|answer| Ok(answers(appends, answer.results)?)))
            }
            .boxed(),
        }
    }

    async fn read(&self, mut request: ReadRequest) -> Result<Read, StorageError> {
        request.max_bytes = request.max_bytes.min(MAX_FETCH);
        let request = wire::ReadRequest::from(request);
        let response: wire::ReadResponse =
            call::unary(self.reads.clone(), "/tidemark.v1.Storage/Read", request, READ_DEADLINE).await?;
        Result::try_from(response).map_err(Failure::from)?
    }

    async fn list_offsets(&self, queries: Vec<OffsetQuery>) -> Vec<Result<FoundOffset, StorageError>> {
        let count = queries.len();
        let request = wire::StorageListOffsetsRequest { queries: all(queries) };
        let response: Result<wire::StorageListOffsetsResponse, _> =
            call::unary(self.reads.clone(), "/tidemark.v1.Storage/ListOffsets", request, READ_DEADLINE).await;
        spread(count, response.and_then(|response| Ok(answers(count, response.results)?)))
    }

    async fn epoch_ends(&self, queries: Vec<EpochQuery>) -> Vec<Result<EpochEnd, StorageError>> {
        let count = queries.len();
        let request = wire::StorageEpochEndsRequest { queries: all(queries) };
        let response: Result<wire::StorageEpochEndsResponse, _> =
            call::unary(self.reads.clone(), "/tidemark.v1.Storage/EpochEnds", request, READ_DEADLINE).await;
        spread(count, response.and_then(|response| Ok(answers(count, response.results)?)))
    }

    async fn delete_records(&self, deletions: Vec<RecordDeletion>) -> Vec<Result<i64, StorageError>> {
        let count = deletions.len();
        let deadline = deletions.iter().map(|deletion| deletion.timeout).max().unwrap_or_default() + HOP_MARGIN;
        let request = wire::StorageDeleteRecordsRequest { deletions: all(deletions) };
        let response: Result<wire::StorageDeleteRecordsResponse, _> =
            call::unary(self.reads.clone(), "/tidemark.v1.Storage/DeleteRecords", request, deadline).await;
        spread(count, response.and_then(|response| Ok(answers(count, response.results)?)))
    }

    fn tail(&self, commands: BoxStream<'static, TailCommand>) -> BoxStream<'static, Result<TailEvent, StorageError>> {
        // HTTP/2 keeps a stream as long as either side of it is held: the commands must end with the events.
        let dropped = CancellationToken::new();
        let ending = dropped.clone().drop_guard();
        let messages = coalesce(commands.map(wire::TailCommand::from)).map(|commands| wire::TailCommands { commands });
        let messages = Commands(messages.take_until(dropped.cancelled_owned()).boxed());
        let tailing = Tailing::Opening { channel: self.reads.clone(), messages };
        stream::unfold((tailing, ending), |(mut tailing, ending)| async move {
            let event = tailing.next().await?;
            if event.is_err() {
                tailing = Tailing::Ended;
            }
            Some((event, (tailing, ending)))
        })
        .boxed()
    }
}

/// A tail stream's life. Nothing is read ahead of whoever polls it: HTTP/2's window holds the peer back.
enum Tailing {
    Opening { channel: Channel, messages: Commands },
    Open { events: Incoming<wire::TailEvents>, ready: VecDeque<Result<TailEvent, StorageError>> },
    Ended,
}

impl Tailing {
    async fn next(&mut self) -> Option<Result<TailEvent, StorageError>> {
        loop {
            match self {
                Self::Opening { .. } => {
                    if let Err(failure) = self.open().await {
                        return Some(Err(failure.into()));
                    }
                }
                Self::Open { events, ready } => {
                    if let Some(event) = ready.pop_front() {
                        return Some(event);
                    }
                    match events.message().await {
                        Ok(Some(wire::TailEvents { events })) => match each(events) {
                            Ok(events) => *ready = VecDeque::from(events),
                            Err(malformed) => return Some(Err(Failure::from(malformed).into())),
                        },
                        Ok(None) => return None,
                        Err(status) => return Some(Err(Failure::from(status).into())),
                    }
                }
                Self::Ended => return None,
            }
        }
    }

    async fn open(&mut self) -> Result<(), Failure> {
        let Self::Opening { channel, messages } = std::mem::replace(self, Self::Ended) else { return Ok(()) };
        let events = call::traced_stream(channel, "/tidemark.v1.Storage/Tail", messages).await?;
        *self = Self::Open { events, ready: VecDeque::new() };
        Ok(())
    }
}

/// What the broker asks of a tail stream. A type of its own, since the compiler cannot prove that a future which holds
/// the boxed stream itself is `Send`.
struct Commands(BoxStream<'static, wire::TailCommands>);

impl Stream for Commands {
    type Item = wire::TailCommands;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

/// Each stream has a connection to itself: a new stream never starts on what is left of a connection that broke, and
/// does not wait behind megabytes of what is read.
#[derive(Debug)]
struct AppendLane {
    endpoint: Endpoint,
}

impl Lane for AppendLane {
    type Request = wire::AppendRequest;
    type Answer = wire::AppendResponse;
    type Requests = wire::AppendRequests;
    type Answers = wire::AppendResponses;

    fn pack(first_sequence: u64, requests: Vec<wire::AppendRequest>) -> wire::AppendRequests {
        wire::AppendRequests { first_sequence, requests }
    }

    fn unpack(answers: wire::AppendResponses) -> impl Iterator<Item = (u64, wire::AppendResponse)> + Send {
        answers.responses.into_iter().map(|response| (response.sequence, response))
    }

    async fn open(
        &self,
        requests: Outgoing<Self>,
        identity: Identity,
    ) -> Result<Incoming<wire::AppendResponses>, Status> {
        let mut metadata = MetadataMap::new();
        identity.write(&mut metadata);
        call::stream(connect(&self.endpoint).await?, "/tidemark.v1.Storage/Append", requests, metadata).await
    }
}
