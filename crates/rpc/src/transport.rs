//! Connections and listeners: HTTP/2 as measured, and found dead within seconds.

use std::future::Future;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use crate::limits::{
    CONCURRENT_STREAMS, CONNECT_TIMEOUT, CONNECTION_WINDOW, FRAME, HOP_MARGIN, PING_INTERVAL, PING_TIMEOUT,
    RESET_STREAMS, STREAM_WINDOW,
};
use crate::status::Failure;
use crate::trace;

/// A server stopped before it was told to.
#[derive(Debug, thiserror::Error)]
#[error("gRPC server: {0}")]
pub struct ServeError(#[from] tonic::transport::Error);

/// What was given is not `host:port`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{address:?} is not HOST:PORT: {reason}")]
pub struct AddressError {
    address: String,
    reason: String,
}

impl AddressError {
    pub(crate) fn none() -> Self {
        Self { address: String::new(), reason: "at least one address is needed".to_owned() }
    }
}

/// A connection whose unary calls carry the trace context.
pub(crate) type Traced = InterceptedService<Channel, fn(Request<()>) -> Result<Request<()>, Status>>;

/// A connection that is opened at the first call and again whenever it broke.
pub(crate) fn connection(address: &str) -> Result<Channel, AddressError> {
    Ok(endpoint(address)?.connect_lazy())
}

/// What a connection of its own is opened to: `host:port`, with or without `http://` before it.
pub(crate) fn endpoint(address: &str) -> Result<Endpoint, AddressError> {
    let bad = |reason: String| AddressError { address: address.to_owned(), reason };
    let authority = address.strip_prefix("http://").unwrap_or(address);
    let endpoint = Endpoint::from_shared(format!("http://{authority}")).map_err(|error| bad(error.to_string()))?;
    let parsed = endpoint.uri().authority();
    if parsed.is_none_or(|parsed| parsed.port().is_none() || parsed.as_str() != authority) {
        return Err(bad("a port belongs to it, and nothing else".to_owned()));
    }
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .http2_max_local_error_reset_streams(RESET_STREAMS))
}

pub(crate) fn traced(channel: Channel) -> Traced {
    InterceptedService::new(channel, trace::inject)
}

/// Opens a connection for one stream.
pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Channel, Status> {
    endpoint.connect().await.map_err(|error| Status::from_error(Box::new(error)))
}

/// One unary call. Dropping the future cancels it at the peer.
pub(crate) async fn unary<M, A, F>(
    deadline: Duration,
    message: M,
    method: impl FnOnce(Request<M>) -> F,
) -> Result<A, Failure>
where
    F: Future<Output = Result<Response<A>, Status>>,
{
    let mut request = Request::new(message);
    // The peer gives up a little later than we do, so that one clock decides.
    request.set_timeout(deadline + HOP_MARGIN);
    match tokio::time::timeout(deadline, method(request)).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(status.into()),
        Err(_) => Err(Failure::TimedOut(format!("no answer in {} ms", deadline.as_millis()))),
    }
}

/// Serves until `shutdown`, then finishes what is under way.
pub(crate) async fn serve(
    listener: TcpListener,
    services: Routes,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_concurrent_streams(CONCURRENT_STREAMS)
        .http2_max_pending_accept_reset_streams(Some(RESET_STREAMS))
        .http2_max_local_error_reset_streams(Some(RESET_STREAMS))
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .trace_fn(trace::serving)
        .add_routes(services)
        .serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned())
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_host_and_port_are_an_address() {
        for address in ["localhost:1", "10.0.0.1:65535", "[::1]:7000", "broker-1.default.svc:7000", "http://x:1"] {
            assert!(connection(address).is_ok(), "{address}");
        }
        for address in
            ["", "localhost", ":", "a b:1", "localhost:1/x", "user@host:1x", "https://x:1", "host:99999", "\0"]
        {
            assert!(connection(address).is_err(), "{address:?}");
        }
    }
}
