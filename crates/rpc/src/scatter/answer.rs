//! The server's end: what generated servers do, for services whose answers are large.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::{Stream, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use prost::Message;
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;

use super::body::Messages;
use super::incoming::Incoming;

/// The methods of a service.
pub(crate) trait Methods: Send + Sync + 'static {
    /// The service's full name.
    const NAME: &'static str;

    /// Answers a call of `/NAME/method`.
    fn call(self: Arc<Self>, method: &str, request: Request<Body>) -> BoxFuture<'static, Response<Body>>;
}

/// A service that the transport can serve.
pub(crate) struct Service<M>(pub(crate) Arc<M>);

impl<M> Clone for Service<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Methods> NamedService for Service<M> {
    const NAME: &'static str = M::NAME;
}

impl<M: Methods> tower::Service<Request<Body>> for Service<M> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path().to_owned();
        let method = path.rsplit_once('/').map_or("", |(_, method)| method);
        let answer = Arc::clone(&self.0).call(method, request);
        Box::pin(async move { Ok(answer.await) })
    }
}

/// Answers one message by another.
pub(crate) async fn unary<Q, A, F>(request: Request<Body>, answer: impl FnOnce(Q) -> F) -> Response<Body>
where
    Q: Message + Default + 'static,
    A: Message + Unpin + 'static,
    F: Future<Output = Result<A, Status>>,
{
    several(request, |question| {
        let answer = answer(question);
        async move { Ok(vec![answer.await?]) }
    })
    .await
}

/// Answers one message by as many as there are.
pub(crate) async fn several<Q, A, F>(request: Request<Body>, answer: impl FnOnce(Q) -> F) -> Response<Body>
where
    Q: Message + Default + 'static,
    A: Message + Unpin + 'static,
    F: Future<Output = Result<Vec<A>, Status>>,
{
    let mut questions = Incoming::<Q>::request(request.into_body());
    let question = match questions.message().await {
        Ok(Some(question)) => question,
        Ok(None) => return Status::invalid_argument("the call has no message").into_http(),
        Err(status) => return status.into_http(),
    };
    match answer(question).await {
        Ok(answers) => respond(stream::iter(answers.into_iter().map(Ok))),
        Err(status) => status.into_http(),
    }
}

/// Answers a stream of messages by another.
pub(crate) fn streaming<Q, A, S>(
    request: Request<Body>,
    answer: impl FnOnce(&MetadataMap, Incoming<Q>) -> Result<S, Status>,
) -> Response<Body>
where
    Q: Message + Default + 'static,
    A: Message + 'static,
    S: Stream<Item = Result<A, Status>> + Send + Unpin + 'static,
{
    let (parts, body) = request.into_parts();
    match answer(&MetadataMap::from_headers(parts.headers), Incoming::request(body)) {
        Ok(answers) => respond(answers),
        Err(status) => status.into_http(),
    }
}

pub(crate) fn unknown(method: &str) -> Response<Body> {
    Status::unimplemented(format!("there is no method {method}")).into_http()
}

fn respond<A, S>(answers: S) -> Response<Body>
where
    A: Message + 'static,
    S: Stream<Item = Result<A, Status>> + Send + Unpin + 'static,
{
    let mut response = Response::new(Body::new(Messages::answer(answers)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
