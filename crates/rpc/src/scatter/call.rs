//! The client's end.

use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderValue, Method, Uri, Version};
use prost::Message;
use tonic::body::Body;
use tonic::client::GrpcService as _;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::body::Messages;
use super::incoming::Incoming;
use crate::limits::{HOP_MARGIN, MAX_ANSWER};
use crate::status::Failure;
use crate::trace;

/// Opens a bidirectional call.
pub(crate) async fn stream<M, A>(
    mut channel: Channel,
    method: &'static str,
    messages: impl Stream<Item = M> + Send + Unpin + 'static,
    metadata: MetadataMap,
) -> Result<Incoming<A>, Status>
where
    M: Message + 'static,
    A: Message + Default + 'static,
{
    let mut request = http::Request::new(Body::new(Messages::request(messages.map(Ok))));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(method);
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = metadata.into_headers();
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));

    let unreachable = |error: tonic::transport::Error| Status::from_error(error.into());
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.map_err(unreachable)?;
    let (response, body) = channel.call(request).await.map_err(unreachable)?.into_parts();
    // A call that is refused is answered by headers alone.
    if let Some(status) = Status::from_header_map(&response.headers)
        && status.code() != Code::Ok
    {
        return Err(status);
    }
    Ok(Incoming::answer(body))
}

/// Opens a bidirectional call within the caller's trace.
pub(crate) async fn traced_stream<M, A>(
    channel: Channel,
    method: &'static str,
    messages: impl Stream<Item = M> + Send + Unpin + 'static,
) -> Result<Incoming<A>, Status>
where
    M: Message + 'static,
    A: Message + Default + 'static,
{
    let (metadata, ..) = trace::inject(Request::new(()))?.into_parts();
    stream(channel, method, messages, metadata).await
}

/// Asks one question that one message answers.
pub(crate) async fn unary<M, A>(
    channel: Channel,
    method: &'static str,
    question: M,
    deadline: Duration,
) -> Result<A, Failure>
where
    M: Message + Unpin + 'static,
    A: Message + Default + 'static,
{
    let mut answers = answers(channel, method, question, deadline).await?;
    answers.pop().ok_or_else(|| Failure::Unavailable("the peer answered nothing".to_owned()))
}

/// Asks one question, and gathers the messages of the answer. Dropping the future cancels the call at the peer.
pub(crate) async fn answers<M, A>(
    channel: Channel,
    method: &'static str,
    question: M,
    deadline: Duration,
) -> Result<Vec<A>, Failure>
where
    M: Message + Unpin + 'static,
    A: Message + Default + 'static,
{
    let asked = async {
        let mut request = trace::inject(Request::new(()))?;
        // The peer gives up a little later than we do, so that one clock decides.
        request.set_timeout(deadline + HOP_MARGIN);
        let (metadata, ..) = request.into_parts();
        let mut messages = stream(channel, method, stream::iter([question]), metadata).await?;
        let mut answers = Vec::new();
        while let Some(answer) = messages.message().await? {
            if messages.given() > MAX_ANSWER {
                return Err(Status::out_of_range(format!("an answer of more than {MAX_ANSWER} bytes")));
            }
            answers.push(answer);
        }
        Ok::<_, Status>(answers)
    };
    match tokio::time::timeout(deadline, asked).await {
        Ok(answers) => Ok(answers?),
        Err(_) => Err(Failure::TimedOut(format!("no answer in {} ms", deadline.as_millis()))),
    }
}
