//! The client's end.

use futures::{Stream, StreamExt as _};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderValue, Method, Request, Uri, Version};
use prost::Message;
use tonic::body::Body;
use tonic::client::GrpcService as _;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstDecoder;

use super::body::Messages;
use crate::limits::MAX_MESSAGE;

/// Opens a bidirectional call.
pub(crate) async fn stream<M, A>(
    mut channel: Channel,
    method: &'static str,
    messages: impl Stream<Item = M> + Send + Unpin + 'static,
    metadata: MetadataMap,
) -> Result<Streaming<A>, Status>
where
    M: Message + 'static,
    A: Message + Default + 'static,
{
    let mut request = Request::new(Body::new(Messages::request(messages.map(Ok))));
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
    Ok(Streaming::new_response(ProstDecoder::default(), body, response.status, None, Some(MAX_MESSAGE)))
}
