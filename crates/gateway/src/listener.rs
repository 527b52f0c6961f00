//! Accepts connections, up to a number.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, ConnectionAdmission};
use crate::metrics;

/// How long to wait after accepting failed: the process is out of file descriptors or memory, and trying again at once
/// would only burn the processor.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Hands each connection to `serve` until shutdown.
pub(crate) async fn accept<F>(listener: TcpListener, admission: Admission, shutdown: CancellationToken, serve: F)
where
    F: Fn(ConnectionAdmission, OwnedReadHalf, OwnedWriteHalf, SocketAddr),
{
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Some(place) = admission.connection() else {
            metrics::connection_refused();
            tracing::warn!(%peer, "connection refused: there are `max_connections` already");
            continue;
        };
        if let Err(error) = configure(&stream) {
            tracing::debug!(%peer, %error, "connection lost before its first request");
            continue;
        }
        let (read, write) = stream.into_split();
        serve(place, read, write, peer);
    }
}

/// Answers leave at once, and a peer that vanished is noticed.
fn configure(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_keepalive(true)
}
